//! Connections come and go: the newest counts, and a vehicle that is cut off dials again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use carriageway_netem::clock;
use tokio::sync::watch;

use super::super::End;

/// From the end of a connection to the next dial, at first. It doubles with each failure.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
/// And at most. Who was connected for longer than this begins anew.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Works again each time it has ended, until the run is over.
pub(in crate::compare::subjects) async fn again<F>(end: &End, mut work: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut backoff = Backoff { wait: SHORTEST_WAIT };
    loop {
        let began = clock::now();
        tokio::select! {
            () = end.stopped() => return Ok(()),
            ended = work() => end.note(match ended {
                Ok(()) => "the vehicle dials again: the gateway has ended the connection".into(),
                Err(error) => format!("the vehicle dials again: {error:#}"),
            }),
        }
        let wait = backoff.after(clock::now().since(began));
        tokio::select! {
            () = end.stopped() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long to wait before the next dial.
#[derive(Debug)]
struct Backoff {
    wait: Duration,
}

impl Backoff {
    /// After a dial and a connection that took so long together.
    fn after(&mut self, lasted: Duration) -> Duration {
        if lasted > LONGEST_WAIT {
            self.wait = SHORTEST_WAIT;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

/// Who was connected last: what is due goes there and nowhere else. All clones are one.
#[derive(Clone, Debug)]
pub(in crate::compare::subjects) struct Newest(Arc<watch::Sender<u64>>);

/// The time of one connection.
#[derive(Debug)]
pub(in crate::compare::subjects) struct Turn {
    number: u64,
    newest: watch::Receiver<u64>,
}

impl Newest {
    pub(in crate::compare::subjects) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Ends the turn of the one before.
    pub(in crate::compare::subjects) fn begin(&self) -> Turn {
        let mut number = 0;
        self.0.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        Turn { number, newest: self.0.subscribe() }
    }

    /// Works until a newer one begins.
    pub(in crate::compare::subjects) async fn alone(
        &self,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut turn = self.begin();
        tokio::select! {
            ended = work => ended,
            () = turn.over() => bail!("a newer connection took its place"),
        }
    }
}

impl Turn {
    /// Returns when a newer one has begun. Cancel safe.
    pub(in crate::compare::subjects) async fn over(&mut self) {
        let is_last = self.newest.wait_for(|newest| *newest > self.number).await.is_err();
        if is_last {
            // Nobody is left who could begin.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::lone_end;
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_begin_anew_after_a_connection() {
        let mut backoff = Backoff { wait: SHORTEST_WAIT };
        let mut after = |seconds| backoff.after(Duration::from_secs(seconds)).as_millis();
        assert_eq!([0, 0, 0, 0, 1, 2, 0].map(&mut after), [200, 400, 800, 1_000, 1_000, 200, 400]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_connection_ends_the_one_before() {
        let newest = Newest::new();
        let first = newest.alone(std::future::pending());
        let second = async {
            tokio::task::yield_now().await;
            newest.alone(async { Ok(()) }).await
        };
        let both = async { tokio::join!(first, second) };
        let (first, second) = tokio::time::timeout(LONGEST_WAIT, both).await.expect("both end");
        assert!(first.is_err() && second.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_works_again_until_it_is_stopped() {
        let (end, stop) = lone_end();
        let mut count = 0;
        let work = again(&end, || {
            count += 1;
            if count == 5 {
                stop.send_replace(true);
            }
            async { Ok(()) }
        });
        work.await.unwrap();
        assert_eq!(count, 5);
        assert_eq!(end.notes.all().len(), 1, "each is kept once");
    }
}
