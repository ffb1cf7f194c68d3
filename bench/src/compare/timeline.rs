//! The one clock of a run: from the start of the workload, by CLOCK_MONOTONIC, which is one for all namespaces; or by virtual time.

use std::time::Duration;

use carriageway_netem::clock;
use carriageway_netem::core::Moment;
use carriageway_transport::clock::BootClock;

/// Counts from the start of the workload. Clones agree.
#[derive(Clone, Debug)]
pub struct Timeline(Start);

#[derive(Clone, Debug)]
enum Start {
    /// By the kernel's clock.
    Kernel(Moment),
    /// By a clock that the whole run goes by, which may be virtual.
    Virtual(BootClock, carriageway_proto::Moment),
}

impl Timeline {
    /// The workload starts now.
    pub fn starting_now() -> Self {
        Self(Start::Kernel(clock::now()))
    }

    /// The workload starts in so long.
    pub fn starting_in(wait: Duration) -> Self {
        Self::starting_at(clock::now() + wait)
    }

    /// The workload starts at this moment of the emulator's clock.
    pub const fn starting_at(start: Moment) -> Self {
        Self(Start::Kernel(start))
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
                let now = clock::now();
                (now >= *start).then(|| now.since(*start))
            }
            Start::Virtual(clock, start) => {
                let now = clock.now();
                (now >= *start).then(|| now.since(*start))
            }
        }
    }

    /// Time left until `at`; zero once it has come.
    pub fn until(&self, at: Duration) -> Duration {
        match &self.0 {
            Start::Kernel(start) => (*start + at).since(clock::now()),
            Start::Virtual(clock, start) => (*start + at).since(clock.now()),
        }
    }

    /// Time since `at`; zero before it has come.
    pub fn since(&self, at: Duration) -> Duration {
        self.elapsed().unwrap_or_default().saturating_sub(at)
    }
}
