//! What waits at one end until its subject takes it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::message::{Kind, Message};

/// Messages that may wait for a subject that takes none: minutes of the whole load.
const MOST_WAITING: usize = 100_000;

/// How what is due waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// In one queue: what came first goes first. What an application does that gives no thought to it.
    AsTheyCome,
    /// Of a state only the newest waits; it goes first, then what must arrive, by class.
    NewestFirst,
}

/// What never reached the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shed {
    /// States that a newer one replaced while they waited.
    pub replaced: u64,
    /// Messages beyond the bound.
    pub overflowed: u64,
}

impl Add for Shed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { replaced: self.replaced + other.replaced, overflowed: self.overflowed + other.overflowed }
    }
}

/// One end's messages for its subject. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Message>,
    /// Files that are being transferred, with the number of the next piece.
    files: BTreeMap<Kind, u32>,
    /// Numbers go on where a transfer ended.
    pieces: BTreeMap<Kind, u32>,
    shed: Shed,
}

impl Feed {
    /// An empty one.
    pub fn new(manner: Manner) -> Self {
        Self { shared: Arc::new(Shared { manner, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Something is due.
    pub fn offer(&self, message: Message) {
        let mut state = self.state();
        let newest_first = self.shared.manner == Manner::NewestFirst;
        if newest_first && message.kind.is_state() {
            let before = state.queue.len();
            state.queue.retain(|waiting| waiting.kind != message.kind);
            state.shed.replaced += (before - state.queue.len()) as u64;
        }
        if state.queue.len() >= MOST_WAITING {
            state.shed.overflowed += 1;
            return;
        }
        let place = if newest_first {
            state.queue.partition_point(|waiting| rank(*waiting) <= rank(message))
        } else {
            state.queue.len()
        };
        state.queue.insert(place, message);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// A file is transferred from now on, or no longer.
    pub fn transfer(&self, kind: Kind, on: bool) {
        let mut state = self.state();
        if on {
            let next = state.pieces.get(&kind).copied().unwrap_or_default();
            state.files.entry(kind).or_insert(next);
        } else if let Some(next) = state.files.remove(&kind) {
            state.pieces.insert(kind, next);
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// The next message that is no piece of a file. Cancel safe.
    pub async fn next(&self) -> Message {
        self.when(Self::try_next).await
    }

    /// The same, where one waits.
    pub fn try_next(&self) -> Option<Message> {
        self.state().queue.pop_front()
    }

    /// The next message of the kinds that are wanted, for subjects with several ways. Cancel safe.
    pub async fn next_of(&self, is_wanted: impl Fn(Kind) -> bool) -> Message {
        self.when(|feed| feed.try_next_of(&is_wanted)).await
    }

    /// The same, where one waits.
    pub fn try_next_of(&self, is_wanted: impl Fn(Kind) -> bool) -> Option<Message> {
        let mut state = self.state();
        let place = state.queue.iter().position(|waiting| is_wanted(waiting.kind))?;
        state.queue.remove(place)
    }

    /// The next piece of a file that is being transferred. Cancel safe.
    pub async fn piece(&self) -> Message {
        self.when(Self::try_piece).await
    }

    /// The same, while a file is being transferred.
    pub fn try_piece(&self) -> Option<Message> {
        let mut state = self.state();
        let (kind, next) = state.files.iter_mut().next()?;
        let message = Message::new(*kind, *next);
        *next += 1;
        Some(message)
    }

    /// Waits until this one differs from what it was. Cancel safe only as far as `take` is.
    async fn when(&self, mut take: impl FnMut(&Self) -> Option<Message>) -> Message {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(message) = take(self) {
                return message;
            }
            changed.await;
        }
    }

    /// What never reached the subject.
    pub fn shed(&self) -> Shed {
        self.state().shed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder of a feed panics")
    }
}

/// Smaller goes first.
fn rank(message: Message) -> (u8, usize) {
    let class = carriageway_proto::Class::ALL.iter().position(|class| *class == message.class);
    let class = class.expect("the list has all");
    match message.kind {
        Kind::Control => (0, 0),
        Kind::Command | Kind::Ack => (1, class),
        Kind::Telemetry => (2, 0),
        Kind::Snapshot => (3, 0),
        Kind::Camera => (4, 0),
        Kind::Log | Kind::Map => (5, 0),
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::Class;

    use super::*;

    fn taken(feed: &Feed) -> Vec<(Kind, u32)> {
        std::iter::from_fn(|| feed.try_next()).map(|message| (message.kind, message.number)).collect()
    }

    fn offered(manner: Manner) -> Feed {
        let feed = Feed::new(manner);
        for (kind, number) in [
            (Kind::Telemetry, 0),
            (Kind::Command, 0),
            (Kind::Control, 0),
            (Kind::Control, 1),
            (Kind::Command, 1),
        ] {
            feed.offer(Message::new(kind, number));
        }
        feed
    }

    #[test]
    fn as_they_come_is_one_queue() {
        let feed = offered(Manner::AsTheyCome);
        let all = [
            (Kind::Telemetry, 0),
            (Kind::Command, 0),
            (Kind::Control, 0),
            (Kind::Control, 1),
            (Kind::Command, 1),
        ];
        assert_eq!(taken(&feed), all);
        assert_eq!(feed.shed(), Shed::default());
    }

    #[test]
    fn newest_first_keeps_one_of_each_state_and_every_command() {
        let feed = offered(Manner::NewestFirst);
        let urgent = Message { kind: Kind::Command, class: Class::Safety, number: 2 };
        feed.offer(urgent);
        let all = [
            (Kind::Control, 1),
            (Kind::Command, 2),
            (Kind::Command, 0),
            (Kind::Command, 1),
            (Kind::Telemetry, 0),
        ];
        assert_eq!(taken(&feed), all);
        assert_eq!(feed.shed().replaced, 1);
    }

    #[test]
    fn each_way_takes_its_own_kinds_and_leaves_the_rest_in_order() {
        let feed = offered(Manner::AsTheyCome);
        let take = |kind| feed.try_next_of(|wanted| wanted == kind).map(|message| message.number);
        assert_eq!([take(Kind::Command), take(Kind::Ack), take(Kind::Control)], [Some(0), None, Some(0)]);
        assert_eq!(taken(&feed), [(Kind::Telemetry, 0), (Kind::Control, 1), (Kind::Command, 1)]);
    }

    #[tokio::test]
    async fn pieces_come_while_a_file_is_transferred_and_go_on_where_they_were() {
        let feed = Feed::new(Manner::NewestFirst);
        assert_eq!(feed.try_piece(), None);
        feed.transfer(Kind::Log, true);
        assert_eq!(feed.piece().await, Message::new(Kind::Log, 0));
        feed.transfer(Kind::Log, false);
        assert_eq!(feed.try_piece(), None);
        feed.transfer(Kind::Log, true);
        assert_eq!(feed.piece().await, Message::new(Kind::Log, 1));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let feed = Feed::new(Manner::AsTheyCome);
        let offering = async {
            tokio::task::yield_now().await;
            feed.offer(Message::new(Kind::Ack, 4));
        };
        let (message, ()) = tokio::join!(feed.next(), offering);
        assert_eq!(message, Message::new(Kind::Ack, 4));
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let feed = Feed::new(Manner::AsTheyCome);
        for number in 0..100_002 {
            feed.offer(Message::new(Kind::Command, number));
        }
        assert_eq!(feed.shed().overflowed, 2);
    }
}
