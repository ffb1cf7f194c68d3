//! The thread that owns the disk, and everybody's access to it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use super::{Change, Disk, StoreError};

/// Writes that may wait for the thread; beyond it the newest is refused.
const QUEUE: usize = 1_024;

/// Most writes made durable by one `fsync`: what a disk is slow at is shared by those who wait.
const BATCH: usize = 1_024;

/// How one write ended.
pub type Outcome = Result<(), Arc<StoreError>>;

type Then = Box<dyn FnOnce(Outcome) + Send>;

struct Write {
    changes: Vec<Change>,
    then: Then,
}

/// Access to the thread that writes the disk. The thread ends when the last clone is gone, after
/// everything given to it is written.
#[derive(Clone)]
pub struct Store {
    writes: SyncSender<Write>,
}

impl Store {
    /// Starts the thread.
    pub fn start(disk: impl Disk) -> Result<Self, StoreError> {
        let (writes, waiting) = sync_channel(QUEUE);
        let keeper = thread::Builder::new().name("store".into());
        keeper.spawn(move || keep(disk, &waiting)).map_err(|e| StoreError::Stopped(Some(e)))?;
        Ok(Self { writes })
    }

    /// Hands changes to the thread, without waiting for anything. `then` is called on that thread once
    /// they are durable, all of them, or none is; never where this write is refused.
    pub fn write(
        &self,
        changes: Vec<Change>,
        then: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.writes.try_send(Write { changes, then: Box::new(then) }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Stopped(None),
        })
    }

    /// Makes changes durable, all or none.
    pub async fn commit(&self, changes: Vec<Change>) -> Outcome {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may be gone.
        self.write(changes, |outcome| drop(answer.send(outcome))).map_err(Arc::new)?;
        answered.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Stopped(None))))
    }
}

/// Serves writes, as many as wait to one commit, until nobody can make any more.
fn keep(mut disk: impl Disk, waiting: &Receiver<Write>) {
    while let Ok(first) = waiting.recv() {
        let (mut changes, mut thens) = (first.changes, vec![first.then]);
        for more in waiting.try_iter().take(BATCH - 1) {
            changes.extend(more.changes);
            thens.push(more.then);
        }
        let outcome = if changes.is_empty() { Ok(()) } else { disk.commit(&changes).map_err(Arc::new) };
        for then in thens {
            then(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    type Gate = Arc<(Mutex<bool>, Condvar)>;

    /// Counts the changes of each commit; waits at a gate, and fails every second time.
    #[derive(Clone, Default)]
    struct Paper {
        commits: Arc<Mutex<Vec<usize>>>,
        gate: Gate,
    }

    impl Paper {
        fn open(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }

        fn written(&self) -> usize {
            self.commits.lock().unwrap().iter().sum()
        }
    }

    impl Disk for Paper {
        fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
            let (open, bell) = &*self.gate;
            drop(bell.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            let mut commits = self.commits.lock().unwrap();
            commits.push(changes.len());
            if commits.len().is_multiple_of(2) { Err(StoreError::Busy) } else { Ok(()) }
        }
    }

    fn forget() -> Vec<Change> {
        vec![Change::ForgetCommand([0; 16])]
    }

    #[tokio::test]
    async fn writes_that_wait_share_one_commit_and_one_failure_is_not_the_end() {
        let paper = Paper::default();
        let store = Store::start(paper.clone()).unwrap();
        let answers: Vec<_> = (0..50)
            .map(|_| {
                let (answer, answered) = oneshot::channel();
                store.write(forget(), |outcome| drop(answer.send(outcome))).unwrap();
                answered
            })
            .collect();
        paper.open();
        for answer in answers {
            drop(answer.await.unwrap());
        }
        assert_eq!(paper.written(), 50);
        assert!(paper.commits.lock().unwrap().len() <= 2, "group commit");
        let (one, two) = (store.commit(forget()).await, store.commit(forget()).await);
        assert_ne!(one.is_ok(), two.is_ok(), "every second commit of this disk works");
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_says_so() {
        let paper = Paper::default();
        let store = Store::start(paper.clone()).unwrap();
        let is_busy = |_: &usize| matches!(store.write(forget(), drop), Err(StoreError::Busy));
        let refused = (0..2 * QUEUE + 2).filter(is_busy).count();
        assert!(refused > 0);
        paper.open();
        drop(store.commit(Vec::new()).await);
        assert!(paper.written() <= 2 * QUEUE + 2 - refused);
    }
}
