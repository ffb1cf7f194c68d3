//! The newest value of each signal of one vehicle.
//!
//! LATEST: a value from an older session, or one sampled before the value shown, changes nothing.
//! Versions let each watcher fetch what changed since it last looked, at its own pace: what it did
//! not fetch in time is replaced, not queued.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::{Epoch, Moment, SignalPath, Value};

/// A value as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Of what.
    pub path: SignalPath,
    /// The value.
    pub value: Value,
    /// Its age on arrival, as estimated by the session.
    pub age: Duration,
}

/// A value as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Of what.
    pub path: SignalPath,
    /// The value.
    pub value: Value,
    /// When it was sampled, on the gateway's clock.
    pub sampled: Moment,
}

/// How an update went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Values now shown.
    pub shown: u64,
    /// Values of an older session, or older than what is shown.
    pub older: u64,
    /// Values of paths beyond the limit.
    pub beyond: u64,
}

/// All signals of one vehicle.
#[derive(Debug)]
pub struct Board {
    limit: usize,
    epoch: Epoch,
    version: u64,
    signals: BTreeMap<SignalPath, Kept>,
}

#[derive(Debug)]
struct Kept {
    value: Value,
    sampled: Moment,
    epoch: Epoch,
    version: u64,
}

impl Board {
    /// An empty board of at most `limit` paths.
    pub fn new(limit: usize) -> Self {
        Self { limit, epoch: Epoch::NONE, version: 0, signals: BTreeMap::new() }
    }

    /// Takes in values that came over the session of `epoch`, in the order of their arrival.
    pub fn apply(&mut self, now: Moment, epoch: Epoch, updates: impl IntoIterator<Item = Update>) -> Applied {
        let mut applied = Applied::default();
        let stale = epoch < self.epoch;
        self.epoch = self.epoch.max(epoch);
        self.version += 1;
        for update in updates {
            if stale {
                applied.older += 1;
            } else if self.signals.len() >= self.limit && !self.signals.contains_key(&update.path) {
                applied.beyond += 1;
            } else {
                self.show(now, update);
                applied.shown += 1;
            }
        }
        applied
    }

    /// The session delivers each path newest last, so the newest to arrive is shown. Estimated
    /// sampling times jitter with the estimate and must not run backwards within a session.
    fn show(&mut self, now: Moment, Update { path, value, age }: Update) {
        let (epoch, version) = (self.epoch, self.version);
        let estimate = now - age;
        let sampled = match self.signals.get(&path) {
            Some(kept) if kept.epoch == epoch => estimate.max(kept.sampled),
            Some(_) | None => estimate,
        };
        self.signals.insert(path, Kept { value, sampled, epoch, version });
    }

    /// Rises with every update.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The newest value of one path, and when it was sampled.
    pub fn newest(&self, path: &SignalPath) -> Option<(Value, Moment)> {
        self.signals.get(path).map(|kept| (kept.value.clone(), kept.sampled))
    }

    /// What changed after `version`, by path; everything after 0.
    pub fn since(&self, version: u64) -> impl Iterator<Item = Shown> {
        self.signals.iter().filter(move |(_, kept)| kept.version > version).map(|(path, kept)| Shown {
            path: path.clone(),
            value: kept.value.clone(),
            sampled: kept.sampled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_micros(10_000_000) + Duration::from_millis(ms)
    }

    fn update(path: &str, value: i64, age_ms: u64) -> Update {
        Update { path: path.parse().unwrap(), value: Value::Int(value), age: Duration::from_millis(age_ms) }
    }

    fn shown(board: &Board, version: u64) -> Vec<(String, Value)> {
        board.since(version).map(|shown| (shown.path.to_string(), shown.value)).collect()
    }

    #[test]
    fn a_watcher_fetches_what_changed_since_it_looked() {
        let mut board = Board::new(8);
        board.apply(at(0), Epoch::new(1), [update("A", 1, 0), update("B", 1, 0)]);
        let seen = board.version();
        board.apply(at(1), Epoch::new(1), [update("B", 2, 0)]);
        board.apply(at(2), Epoch::new(1), [update("B", 3, 0)]);
        assert_eq!(shown(&board, seen), [("B".into(), Value::Int(3))]);
        assert_eq!(shown(&board, 0).len(), 2);
    }

    #[test]
    fn an_older_session_changes_nothing() {
        let mut board = Board::new(8);
        board.apply(at(0), Epoch::new(2), [update("A", 2, 0)]);
        let applied = board.apply(at(1), Epoch::new(1), [update("A", 1, 0), update("B", 1, 0)]);
        assert_eq!(applied, Applied { older: 2, ..Applied::default() });
        assert_eq!(shown(&board, 0), [("A".into(), Value::Int(2))]);
    }

    #[test]
    fn paths_are_bounded_and_known_ones_go_on() {
        let mut board = Board::new(1);
        board.apply(at(0), Epoch::new(1), [update("A", 1, 0)]);
        let applied = board.apply(at(1), Epoch::new(1), [update("B", 1, 0), update("A", 2, 0)]);
        assert_eq!(applied, Applied { shown: 1, beyond: 1, older: 0 });
        assert_eq!(shown(&board, 0), [("A".into(), Value::Int(2))]);
    }

    #[test]
    fn an_age_counts_from_sampling_not_from_arrival() {
        let mut board = Board::new(1);
        board.apply(at(100), Epoch::new(1), [update("A", 1, 40)]);
        assert_eq!(board.since(0).next().unwrap().sampled, at(60));
        board.apply(at(110), Epoch::new(1), [update("A", 2, 80)]);
        assert_eq!(board.since(0).next().unwrap().sampled, at(60), "a newer value is never shown as older");
    }
}
