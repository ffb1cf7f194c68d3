//! The thread that owns a store, and each vehicle's access to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use carriageway_proto::{CommandKey, Epoch, SignalPath, Token, VehicleId};
use tokio::sync::{mpsc, oneshot};

use super::{Change, JournalError, Loaded, Store};
use crate::core::executor::{Record, WriteId};

/// Requests that may wait for the thread; beyond it vehicles hold theirs back.
const QUEUE: usize = 256;

/// Most requests made durable by one `fsync`: what a disk is slow at is shared by those who wait.
const BATCH: usize = 256;

/// Writes of one vehicle that may be under way to the thread.
const UNDER_WAY: usize = 32;

/// Records that may be forgotten before their deletion is written by itself; usually it rides with a write.
const FORGOTTEN: usize = 64;

/// Numbers the write that begins a session; the executor's own count from 1.
pub const SESSION: WriteId = WriteId(0);

/// Numbers every write of a lease token; they are answered in the order they were queued.
pub const TOKEN: WriteId = WriteId(u64::MAX);

/// How one write ended.
pub type Outcome = Result<(), Arc<JournalError>>;

struct Reply {
    id: WriteId,
    outcome: Outcome,
}

enum Request {
    Load(VehicleId, oneshot::Sender<Result<Loaded, JournalError>>),
    Change { changes: Vec<(VehicleId, Change)>, reply: Option<(WriteId, mpsc::Sender<Reply>)> },
}

/// Owns the thread that reads and writes a store. The thread ends when the last clone and the last
/// [`Journal`] are gone, after everything given to it is written.
#[derive(Clone)]
pub struct Keeper {
    requests: mpsc::Sender<Request>,
}

impl Keeper {
    /// Starts the thread.
    pub fn start(store: impl Store) -> Result<Self, JournalError> {
        let (requests, waiting) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || keep(store, waiting))
            .map_err(|e| JournalError::Stopped(Some(e)))?;
        Ok(Self { requests })
    }

    /// One vehicle's journal, and what it holds. Open each vehicle once.
    pub async fn open(&self, vehicle: VehicleId) -> Result<(Journal, Loaded), JournalError> {
        let (answer, loaded) = oneshot::channel();
        let asked = self.requests.send(Request::Load(vehicle.clone(), answer)).await;
        asked.map_err(|_| JournalError::Stopped(None))?;
        let loaded = loaded.await.map_err(|_| JournalError::Stopped(None))??;
        let (reply, replies) = mpsc::channel(UNDER_WAY);
        let file =
            File { vehicle, requests: self.requests.clone(), reply, replies, waiting: VecDeque::new() };
        let file = Backing::File { file, under_way: 0, forgotten: Vec::new() };
        Ok((Journal { backing: file }, loaded))
    }
}

/// One vehicle's access to its journal.
pub struct Journal {
    backing: Backing,
}

enum Backing {
    /// Nothing is kept; each write is answered at once.
    Nowhere {
        written: VecDeque<WriteId>,
    },
    File {
        file: File,
        under_way: usize,
        forgotten: Vec<CommandKey>,
    },
}

/// Changes on their way to the thread; with a number where somebody waits for them.
type Waiting = (Option<WriteId>, Vec<(VehicleId, Change)>);

struct File {
    vehicle: VehicleId,
    requests: mpsc::Sender<Request>,
    reply: mpsc::Sender<Reply>,
    replies: mpsc::Receiver<Reply>,
    waiting: VecDeque<Waiting>,
}

impl Journal {
    /// A journal that keeps nothing: after a restart ONCE does not hold, and an emergency stop is
    /// released. For simulations.
    pub fn volatile() -> Self {
        Self { backing: Backing::Nowhere { written: VecDeque::new() } }
    }

    /// Queues a record to be made durable; [`Journal::written`] tells how it went. Callers bound
    /// what they have queued.
    pub fn put(&mut self, id: WriteId, record: Box<Record>) {
        match &mut self.backing {
            Backing::Nowhere { written } => written.push_back(id),
            Backing::File { file, forgotten, .. } => {
                let mut changes = file.deletions(forgotten);
                changes.push((file.vehicle.clone(), Change::Put(record)));
                file.waiting.push_back((Some(id), changes));
            }
        }
    }

    /// Queues the deletion of a record. It is written some time later.
    pub fn forget(&mut self, key: CommandKey) {
        match &mut self.backing {
            Backing::Nowhere { .. } => {}
            Backing::File { file, forgotten, .. } => {
                forgotten.push(key);
                if forgotten.len() >= FORGOTTEN {
                    let changes = file.deletions(forgotten);
                    file.waiting.push_back((None, changes));
                }
            }
        }
    }

    /// Queues that no version of `path` up to this one is decided on any more, as write `id`.
    pub fn decide(&mut self, id: WriteId, path: SignalPath, version: u64) {
        match &mut self.backing {
            Backing::Nowhere { written } => written.push_back(id),
            Backing::File { file, .. } => {
                let changes = vec![(file.vehicle.clone(), Change::Desired { path, version })];
                file.waiting.push_back((Some(id), changes));
            }
        }
    }

    /// Queues that `path` is not kept any more, and ended up to `floor` as all that are not. Nobody waits for it.
    pub fn undesire(&mut self, path: SignalPath, floor: u64) {
        match &mut self.backing {
            Backing::Nowhere { .. } => {}
            Backing::File { file, .. } => {
                let changes = vec![(file.vehicle.clone(), Change::Undesired { path, floor })];
                file.waiting.push_back((None, changes));
            }
        }
    }

    /// Queues that a session of `epoch` begins, as write [`SESSION`]. What is queued later is durable only if
    /// this is: no command of the session acts before it.
    pub fn begin_session(&mut self, epoch: Epoch) {
        self.queue(SESSION, Change::Epoch(epoch));
    }

    /// Queues that a lease of `token` was seen, as write [`TOKEN`]: it is obeyed once that is durable.
    pub fn keep_token(&mut self, token: Token) {
        self.queue(TOKEN, Change::Token(token));
    }

    fn queue(&mut self, id: WriteId, change: Change) {
        match &mut self.backing {
            Backing::Nowhere { written } => written.push_back(id),
            Backing::File { file, .. } => {
                let changes = vec![(file.vehicle.clone(), change)];
                file.waiting.push_back((Some(id), changes));
            }
        }
    }

    /// How the next write went, in the order they were queued. Waits for ever while none is queued. Hands
    /// queued changes to the thread meanwhile. Cancel safe.
    pub async fn written(&mut self) -> (WriteId, Outcome) {
        match &mut self.backing {
            Backing::Nowhere { written } => match written.pop_front() {
                Some(id) => (id, Ok(())),
                None => std::future::pending().await,
            },
            Backing::File { file, under_way, .. } => file.written(under_way).await,
        }
    }
}

impl File {
    async fn written(&mut self, under_way: &mut usize) -> (WriteId, Outcome) {
        loop {
            let has_room = *under_way < UNDER_WAY && !self.waiting.is_empty();
            tokio::select! {
                biased;
                reply = self.replies.recv() => {
                    let Reply { id, outcome } = reply.expect("this side holds a sender");
                    *under_way -= 1;
                    return (id, outcome);
                }
                place = self.requests.reserve(), if has_room => {
                    let Some((id, changes)) = self.waiting.pop_front() else { continue };
                    match place {
                        Ok(place) => {
                            *under_way += usize::from(id.is_some());
                            let reply = id.map(|id| (id, self.reply.clone()));
                            place.send(Request::Change { changes, reply });
                        }
                        Err(_) => if let Some(id) = id { return (id, Err(stopped())) },
                    }
                }
            }
        }
    }

    fn deletions(&self, forgotten: &mut Vec<CommandKey>) -> Vec<(VehicleId, Change)> {
        forgotten.drain(..).map(|key| (self.vehicle.clone(), Change::Forget(key))).collect()
    }
}

fn stopped() -> Arc<JournalError> {
    Arc::new(JournalError::Stopped(None))
}

/// Serves requests, as many as wait to one commit, until nobody can make any more.
fn keep(mut store: impl Store, mut requests: mpsc::Receiver<Request>) {
    let mut failed: Option<Arc<JournalError>> = None;
    while let Some(first) = requests.blocking_recv() {
        let more = std::iter::from_fn(|| requests.try_recv().ok()).take(BATCH - 1);
        let batch: Vec<Request> = std::iter::once(first).chain(more).collect();
        let (mut changes, mut replies) = (Vec::new(), Vec::new());
        for request in batch {
            match request {
                Request::Load(vehicle, answer) => drop(answer.send(store.load(&vehicle))),
                Request::Change { changes: more, reply } => {
                    changes.extend(more);
                    replies.extend(reply);
                }
            }
        }
        if failed.is_none() && !changes.is_empty() {
            failed = store.commit(&changes).err().map(Arc::new);
        }
        // After one failure nobody knows what is on the disk: whatever follows fails, too.
        for (id, reply) in replies {
            let outcome = failed.clone().map_or(Ok(()), Err);
            // A vehicle has at most as many writes under way as its channel has places; it may be gone.
            let _ = reply.try_send(Reply { id, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use carriageway_proto::{BootId, Class, Command, Moment, Stamp, Value};

    use super::*;
    use crate::core::executor::Wish;

    fn record(key: &str) -> Box<Record> {
        let stamp = Stamp { boot: BootId::from_bytes([7; 16]), clock: Moment::ZERO };
        let command = Command {
            key: key.parse().unwrap(),
            class: Class::Body,
            path: "Vehicle.Body.Horn.IsActive".parse().unwrap(),
            value: Value::Bool(true),
            stamp,
            ttl: Duration::from_secs(5),
            operator: String::new(),
            token: None,
            order: 0,
        };
        let keep_for = Duration::from_secs(5);
        Box::new(Record {
            wish: Wish::Command(command),
            received: stamp,
            keep_for,
            acted: None,
            verdict: None,
            released: false,
        })
    }

    /// Remembers commits; fails from a certain one on.
    struct Paper {
        commits: Arc<Mutex<Vec<Vec<Change>>>>,
        good: usize,
    }

    impl Store for Paper {
        fn load(&mut self, _: &VehicleId) -> Result<Loaded, JournalError> {
            Ok(Loaded::default())
        }

        fn commit(&mut self, changes: &[(VehicleId, Change)]) -> Result<(), JournalError> {
            let mut commits = self.commits.lock().unwrap();
            if commits.len() >= self.good {
                return Err(JournalError::Stopped(None));
            }
            commits.push(changes.iter().map(|(_, change)| change.clone()).collect());
            Ok(())
        }
    }

    fn paper(good: usize) -> (Keeper, Arc<Mutex<Vec<Vec<Change>>>>) {
        let commits = Arc::new(Mutex::new(Vec::new()));
        (Keeper::start(Paper { commits: Arc::clone(&commits), good }).unwrap(), commits)
    }

    #[tokio::test]
    async fn writes_are_answered_in_order_and_share_commits() {
        let (keeper, commits) = paper(usize::MAX);
        let (mut journal, _) = keeper.open("a".parse().unwrap()).await.unwrap();
        for number in 1..=100 {
            journal.put(WriteId(number), record(&format!("k{number}")));
        }
        for number in 1..=100 {
            let (id, outcome) = journal.written().await;
            assert!(id == WriteId(number) && outcome.is_ok());
        }
        assert!(commits.lock().unwrap().len() <= 100);
    }

    #[tokio::test]
    async fn a_deletion_rides_with_the_next_write() {
        let (keeper, commits) = paper(usize::MAX);
        let (mut journal, _) = keeper.open("a".parse().unwrap()).await.unwrap();
        journal.forget("old".parse().unwrap());
        journal.put(WriteId(1), record("new"));
        assert!(journal.written().await.1.is_ok());
        let first = commits.lock().unwrap()[0].clone();
        assert_eq!(first, [Change::Forget("old".parse().unwrap()), Change::Put(record("new"))]);
    }

    #[tokio::test]
    async fn after_one_failure_every_write_fails() {
        let (keeper, commits) = paper(1);
        let (mut journal, _) = keeper.open("a".parse().unwrap()).await.unwrap();
        journal.begin_session(Epoch::new(1));
        assert!(matches!(journal.written().await, (SESSION, Ok(()))));
        journal.put(WriteId(1), record("a"));
        assert!(journal.written().await.1.is_err());
        journal.put(WriteId(2), record("b"));
        assert!(journal.written().await.1.is_err());
        journal.begin_session(Epoch::new(2));
        assert!(matches!(journal.written().await, (SESSION, Err(_))));
        assert_eq!(commits.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_volatile_journal_answers_at_once() {
        let mut journal = Journal::volatile();
        journal.put(WriteId(3), record("a"));
        assert_eq!(journal.written().await.0, WriteId(3));
        journal.begin_session(Epoch::new(1));
        assert_eq!(journal.written().await.0, SESSION);
    }
}
