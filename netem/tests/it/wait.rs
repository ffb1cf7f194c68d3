//! Real time in tests: waiting for a condition under a deadline, and measuring.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Measures real time.
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(monotonic())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        monotonic().saturating_sub(self.0)
    }
}

fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Asks until there is an answer; fails after `patience`.
pub(crate) fn until<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(watch.elapsed() < patience, "still waiting after {patience:?}");
        std::thread::yield_now();
    }
}
