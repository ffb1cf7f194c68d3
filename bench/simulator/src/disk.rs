//! A vehicle's disk: what is not synced yet is lost in a crash, and it may fail.

use std::collections::{BTreeMap, VecDeque};

use carriageway_agent::core::executor::{Record, WriteId};
use carriageway_agent::core::reconciler::Past;
use carriageway_proto::{BootId, Class, CommandKey, Epoch, Moment, SignalPath, Token};

use crate::chance::Chance;

/// Something to keep, or not to keep any longer.
#[derive(Debug)]
pub(crate) enum Change {
    Put(Box<Record>),
    Forget(CommandKey),
    Epoch(Epoch),
    Token(Token),
    /// No version of a path up to this one is decided on any more.
    Decided(SignalPath, u64),
    /// A path is not kept any more, and ended up to this version.
    Undesired(SignalPath, u64),
}

/// A change, with its number where somebody waits for it.
pub(crate) type Write = (Option<WriteId>, Change);

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// In the order they were first written.
    records: BTreeMap<CommandKey, (u64, Record)>,
    pub(crate) epoch: Epoch,
    /// The highest token of a lease.
    pub(crate) token: Option<Token>,
    /// How far it has come with what is desired.
    pub(crate) past: Past,
    written: u64,
    waiting: VecDeque<Write>,
    syncing: Vec<Write>,
    /// Writes fail from now on.
    pub(crate) is_bad: bool,
}

impl Disk {
    pub(crate) fn write(&mut self, id: Option<WriteId>, change: Change) {
        self.waiting.push_back((id, change));
    }

    /// Begins a commit of all that waits; false where one is under way or nothing waits.
    pub(crate) fn begin(&mut self) -> bool {
        if !self.syncing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.syncing.extend(self.waiting.drain(..));
        true
    }

    /// The commit is done: what was written, or has failed.
    pub(crate) fn finish(&mut self) -> Vec<Write> {
        let writes = std::mem::take(&mut self.syncing);
        if !self.is_bad {
            self.keep(&writes);
        }
        writes
    }

    /// The process is gone. A commit under way is whole on the disk or not there at all; nobody knows about one
    /// that was to fail. What it held.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Vec<Write> {
        self.waiting.clear();
        self.is_bad = false;
        let writes = std::mem::take(&mut self.syncing);
        if chance.percent(50) {
            return Vec::new();
        }
        self.keep(&writes);
        writes
    }

    fn keep(&mut self, writes: &[Write]) {
        for (_, change) in writes {
            match change {
                Change::Put(record) => {
                    self.written += 1;
                    let number = self.records.get(record.key()).map_or(self.written, |(number, _)| *number);
                    self.records.insert(record.key().clone(), (number, Record::clone(record)));
                }
                Change::Forget(key) => {
                    self.records.remove(key);
                }
                Change::Epoch(epoch) => self.epoch = self.epoch.max(*epoch),
                Change::Token(token) => self.token = self.token.max(Some(*token)),
                Change::Decided(path, version) => {
                    let kept = self.past.decided.entry(path.clone()).or_default();
                    *kept = (*kept).max(*version);
                }
                Change::Undesired(path, floor) => {
                    self.past.decided.remove(path);
                    self.past.floor = self.past.floor.max(*floor);
                }
            }
        }
    }

    /// How many records of commands of a class it holds, and how many of them may have acted.
    pub(crate) fn records_of(&self, class: Class) -> (usize, usize) {
        let of_class = || self.records.values().map(|(_, record)| record).filter(|one| one.class() == class);
        (of_class().count(), of_class().filter(|record| record.may_have_acted()).count())
    }

    /// The latest reading of the clock of `boot` that its records show.
    pub(crate) fn latest(&self, boot: BootId) -> Option<Moment> {
        let here =
            self.records.values().map(|(_, record)| record).filter(|record| record.received.boot == boot);
        here.map(|record| record.acted.unwrap_or(record.received.clock).max(record.received.clock)).max()
    }

    /// Everything it holds, oldest first.
    pub(crate) fn load(&self) -> Vec<Record> {
        let mut records: Vec<_> = self.records.values().collect();
        records.sort_by_key(|(number, _)| *number);
        records.into_iter().map(|(_, record)| record.clone()).collect()
    }
}
