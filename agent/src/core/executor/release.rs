//! Releases the latch of emergency stops, after the vehicle was re-armed.
//!
//! Every record of a stop that was let in is marked, since any that is not would latch the vehicle again at
//! the next start: a crash between the writes keeps it latched. A stop that comes before the last of them is
//! durable takes the latch, and is not released with them.

use std::collections::BTreeSet;

use carriageway_proto::CommandKey;

use super::{Executor, Output, Stage, WriteId};

impl Executor {
    /// True while an emergency stop is latched.
    pub fn is_latched(&self) -> bool {
        self.latch.is_some() || !self.releasing.is_empty()
    }

    pub(super) fn release(&mut self) {
        if self.broken {
            return self.outputs.push_back(Output::Released(false));
        }
        self.latch = None;
        let holding = |entry: &&super::Entry| entry.admitted && entry.record.holds_the_latch();
        let keys: Vec<CommandKey> =
            self.entries.values().filter(holding).map(|entry| entry.record.key().clone()).collect();
        for key in keys {
            self.entries.record_mut(&key).released = true;
            let id = self.write(&key);
            self.releasing.insert(id);
        }
        self.end_release();
    }

    pub(super) fn on_release_written(&mut self, id: WriteId) {
        if self.releasing.remove(&id) {
            self.end_release();
        }
    }

    /// Nobody knows what is on the disk: the vehicle stays stopped.
    pub(super) fn on_release_failed(&mut self) {
        if std::mem::take(&mut self.releasing).is_empty() {
            return;
        }
        let mut stops = self.entries.values().filter(|entry| entry.admitted && entry.record.released);
        self.latch = self.latch.take().or_else(|| stops.next().map(|entry| entry.record.key().clone()));
        self.outputs.push_back(Output::Released(false));
    }

    fn end_release(&mut self) {
        if self.releasing.is_empty() && self.latch.is_none() {
            self.outputs.push_back(Output::Released(true));
            self.tell_released();
        }
    }

    /// What held the latch was kept although its outcome may have arrived: told again, it can be forgotten.
    fn tell_released(&mut self) {
        let dying: BTreeSet<&CommandKey> = self.dying.iter().map(|(_, key)| key).collect();
        let is_told = |key: &CommandKey| dying.contains(key) || self.owed.contains(key);
        let settled =
            self.entries.values().filter(|entry| entry.record.released && entry.stage == Stage::Settled);
        let untold: Vec<_> = settled
            .map(|entry| (entry.record.class(), entry.record.key().clone()))
            .filter(|(_, key)| !is_told(key))
            .collect();
        for (class, key) in untold {
            self.owed.add(class, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use carriageway_proto::{BootId, Class, Command, Moment, PolicyTable, Stamp, Value};

    use super::super::{Input, Limits, Record};
    use super::*;
    use crate::core::vehicle::EMERGENCY_STOP;

    /// A vehicle that is stopped and released, and its disk.
    struct Stopped {
        executor: Executor,
        now: Moment,
        disk: BTreeMap<CommandKey, Record>,
        writes: Vec<(WriteId, Record)>,
        stops: usize,
        released: Vec<bool>,
        forgotten: usize,
    }

    impl Stopped {
        fn new(disk: BTreeMap<CommandKey, Record>, now: Moment) -> Self {
            let here = Stamp { boot: BootId::from_bytes([1; 16]), clock: now };
            let records = disk.values().cloned().collect();
            let executor = Executor::recover(here, PolicyTable::defaults(), Limits::default(), records);
            let (writes, released) = (Vec::new(), Vec::new());
            let mut new = Self { executor, now, disk, writes, stops: 0, released, forgotten: 0 };
            new.settle();
            new
        }

        fn restart(self) -> Self {
            Self::new(self.disk, self.now)
        }

        fn give(&mut self, input: Input) {
            self.executor.handle(self.now, input);
            self.settle();
        }

        fn settle(&mut self) {
            loop {
                match self.executor.poll(self.now) {
                    Output::Wait(_) => match self.executor.next_owed(Class::Safety) {
                        Some(outcome) => self.executor.handle(self.now, Input::Arrived(outcome.key)),
                        None => return,
                    },
                    Output::Stop(actuation) => {
                        self.stops += 1;
                        self.executor.handle(self.now, Input::Finished { actuation, result: Ok(()) });
                    }
                    Output::Write { id, record } => self.writes.push((id, *record)),
                    Output::Released(released) => self.released.push(released),
                    Output::Tell { outcome, .. } => {
                        if outcome.phase.is_terminal() {
                            self.executor.handle(self.now, Input::Arrived(outcome.key));
                        }
                    }
                    Output::Forget(_) => self.forgotten += 1,
                    Output::Apply { target, .. } => panic!("{target:?}"),
                }
            }
        }

        fn sync(&mut self, writes: usize) {
            for _ in 0..writes.min(self.writes.len()) {
                let (id, record) = self.writes.remove(0);
                self.disk.insert(record.key().clone(), record);
                self.give(Input::Written(id));
            }
        }

        fn stop(&mut self, key: &str) {
            let command = Command {
                key: key.parse().unwrap(),
                class: Class::Safety,
                path: EMERGENCY_STOP.parse().unwrap(),
                value: Value::Bool(true),
                stamp: Stamp { boot: BootId::from_bytes([1; 16]), clock: self.now },
                ttl: Duration::from_secs(2),
                operator: String::new(),
                token: None,
                order: 0,
            };
            self.give(Input::Command { lane: Class::Safety, command });
        }
    }

    fn stopped(keys: &[&str]) -> Stopped {
        let mut vehicle = Stopped::new(BTreeMap::new(), Moment::from_micros(9_000_000));
        for key in keys {
            vehicle.stop(key);
        }
        vehicle.sync(usize::MAX);
        assert!(vehicle.executor.is_latched());
        vehicle
    }

    #[test]
    fn a_released_stop_stays_released_and_can_be_forgotten() {
        let mut vehicle = stopped(&["a"]);
        vehicle.give(Input::Release);
        assert!(vehicle.released.is_empty() && vehicle.executor.is_latched(), "not before it is durable");
        vehicle.sync(1);
        assert_eq!((vehicle.released.as_slice(), vehicle.executor.is_latched()), (&[true][..], false));
        vehicle.now = vehicle.now + Duration::from_hours(2);
        vehicle.settle();
        assert_eq!(vehicle.forgotten, 1);
        let next = vehicle.restart();
        assert_eq!((next.stops, next.executor.is_latched()), (0, false));
    }

    #[test]
    fn a_crash_between_keeps_it_stopped() {
        let mut vehicle = stopped(&["a", "b"]);
        vehicle.give(Input::Release);
        vehicle.sync(1);
        assert!(vehicle.released.is_empty(), "one of two");
        let vehicle = vehicle.restart();
        assert_eq!((vehicle.stops, vehicle.executor.is_latched()), (1, true));
    }

    #[test]
    fn a_stop_that_comes_meanwhile_takes_the_latch() {
        let mut vehicle = stopped(&["a"]);
        vehicle.give(Input::Release);
        vehicle.stop("b");
        vehicle.sync(usize::MAX);
        assert!(vehicle.released.is_empty() && vehicle.executor.is_latched());
        let mut vehicle = vehicle.restart();
        assert_eq!(vehicle.stops, 1);
        vehicle.give(Input::Release);
        vehicle.sync(usize::MAX);
        assert_eq!(vehicle.released, [true]);
    }

    #[test]
    fn a_disk_that_fails_keeps_it_stopped() {
        let mut vehicle = stopped(&["a"]);
        vehicle.give(Input::Release);
        let (id, _) = vehicle.writes.remove(0);
        vehicle.give(Input::WriteFailed(id));
        assert_eq!((vehicle.released.as_slice(), vehicle.executor.is_latched()), (&[false][..], true));
        vehicle.give(Input::Release);
        assert_eq!(vehicle.released, [false, false], "a broken journal releases nothing");
    }

    #[test]
    fn without_a_stop_there_is_nothing_to_wait_for() {
        let mut vehicle = Stopped::new(BTreeMap::new(), Moment::ZERO);
        vehicle.give(Input::Release);
        assert_eq!((vehicle.released.as_slice(), vehicle.writes.len()), (&[true][..], 0));
    }
}
