//! Waiting for what must come true, under a deadline.

use std::time::Duration;

use carriageway_proto::Moment;
use carriageway_transport::clock::BootClock;

/// Longer than anything here takes on a busy machine, shorter than the runner's own patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `holds`, and says what it waited for if it never does.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "still waiting for this after {PATIENCE:?}: {what}");
}

/// Lets time pass where the passing is what is tested: a ttl runs out, a process runs on for a while.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Measures real time, for figures and generous bounds.
pub(crate) struct Stopwatch(BootClock, Moment);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let clock = BootClock::system().unwrap();
        let now = clock.now();
        Self(clock, now)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.now().since(self.1)
    }
}
