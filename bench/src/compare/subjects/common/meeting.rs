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
    let mut wait = SHORTEST_WAIT;
    loop {
        let began = clock::now();
        tokio::select! {
            () = end.stopped() => return Ok(()),
            ended = work() => end.note(match ended {
                Ok(()) => "the vehicle dials again: the gateway has ended the connection".into(),
                Err(error) => format!("the vehicle dials again: {error:#}"),
            }),
        }
        if clock::now().since(began) > LONGEST_WAIT {
            wait = SHORTEST_WAIT;
        }
        tokio::select! {
            () = end.stopped() => return Ok(()),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
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
