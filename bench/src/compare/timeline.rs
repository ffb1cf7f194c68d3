//! The one clock of a run: from the start of the workload, by CLOCK_MONOTONIC, which is one for all namespaces; or by virtual time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carriageway_netem::clock;
use carriageway_netem::core::Moment;
use carriageway_transport::clock::BootClock;

/// Counts from the start of the workload. Clones agree.
#[derive(Clone, Debug)]
pub struct Timeline(Start);

#[derive(Clone, Debug)]
enum Start {
    /// By the kernel's clock; empty until it is known.
    Kernel(Arc<OnceLock<Moment>>),
    /// By a clock that the whole run goes by, which may be virtual.
    Virtual(BootClock, carriageway_proto::Moment),
}

impl Timeline {
    /// The workload starts now.
    pub fn starting_now() -> Self {
        Self::starting_at(clock::now())
    }

    /// The workload starts in so long.
    pub fn starting_in(wait: Duration) -> Self {
        Self::starting_at(clock::now() + wait)
    }

    /// The workload starts at this moment of the emulator's clock.
    pub fn starting_at(start: Moment) -> Self {
        let timeline = Self::not_yet();
        timeline.start_at(start);
        timeline
    }

    /// When the workload starts is said later, by [`Self::start_at`]: it has not, until then.
    pub fn not_yet() -> Self {
        Self(Start::Kernel(Arc::default()))
    }

    /// Says when the workload starts; the first word counts, and none where it was known from the beginning.
    pub fn start_at(&self, start: Moment) {
        if let Start::Kernel(known) = &self.0 {
            known.get_or_init(|| start);
        }
    }

    /// The workload starts in so long, by this clock.
    pub fn following(clock: BootClock, wait: Duration) -> Self {
        let start = clock.now() + wait;
        Self(Start::Virtual(clock, start))
    }

    /// Time since the start; `None` before it.
    pub fn elapsed(&self) -> Option<Duration> {
        match &self.0 {
            Start::Kernel(start) => {
                let (start, now) = (*start.get()?, clock::now());
                (now >= start).then(|| now.since(start))
            }
            Start::Virtual(clock, start) => {
                let now = clock.now();
                (now >= *start).then(|| now.since(*start))
            }
        }
    }

    /// Time left until `at`; zero once it has come, for ever while nobody has said when the workload starts.
    pub fn until(&self, at: Duration) -> Duration {
        match &self.0 {
            Start::Kernel(start) => {
                start.get().map_or(Duration::MAX, |start| (*start + at).since(clock::now()))
            }
            Start::Virtual(clock, start) => (*start + at).since(clock.now()),
        }
    }

    /// Time since `at`; zero before it has come.
    pub fn since(&self, at: Duration) -> Duration {
        self.elapsed().unwrap_or_default().saturating_sub(at)
    }
}
