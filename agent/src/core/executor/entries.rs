//! What is remembered, with its numbers kept beside it: an admission asks for them, and there may be many thousands.

use std::collections::BTreeMap;
use std::ops::Index;

use carriageway_proto::{Class, ClassMap, CommandKey};

use super::{Record, Stage};

/// One remembered key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) stage: Stage,
    /// Let in, as opposed to remembered as refused.
    pub(super) admitted: bool,
}

/// How many entries of one class there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Not settled.
    pub(super) under_way: usize,
    /// Let in.
    pub(super) admitted: usize,
    /// Came, and were refused.
    pub(super) refused: usize,
    /// Withdrawn before they came.
    pub(super) withdrawn: usize,
}

impl Tally {
    fn of(entry: &Entry) -> Self {
        let withdrawn = entry.record.is_withdrawn();
        Self {
            under_way: usize::from(entry.stage != Stage::Settled),
            admitted: usize::from(entry.admitted),
            refused: usize::from(!entry.admitted && !withdrawn),
            withdrawn: usize::from(withdrawn),
        }
    }

    fn add(&mut self, one: Self) {
        self.under_way += one.under_way;
        self.admitted += one.admitted;
        self.refused += one.refused;
        self.withdrawn += one.withdrawn;
    }

    fn take(&mut self, one: Self) {
        self.under_way -= one.under_way;
        self.admitted -= one.admitted;
        self.refused -= one.refused;
        self.withdrawn -= one.withdrawn;
    }
}

/// Every remembered key. What a tally depends on changes through this alone.
#[derive(Debug)]
pub(super) struct Entries {
    by_key: BTreeMap<CommandKey, Entry>,
    tallies: ClassMap<Tally>,
}

impl Entries {
    pub(super) fn new() -> Self {
        Self { by_key: BTreeMap::new(), tallies: ClassMap::from_fn(|_| Tally::default()) }
    }

    /// Remembers `entry` in place of whatever had its key.
    pub(super) fn insert(&mut self, entry: Entry) {
        let key = entry.record.key().clone();
        self.remove(&key);
        self.tallies[entry.record.class()].add(Tally::of(&entry));
        self.by_key.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &CommandKey) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.tallies[entry.record.class()].take(Tally::of(&entry));
        Some(entry)
    }

    /// Panics where `key` is not remembered.
    pub(super) fn set_stage(&mut self, key: &CommandKey, stage: Stage) {
        let entry = self.by_key.get_mut(key).expect("the caller has looked it up");
        let tally = &mut self.tallies[entry.record.class()];
        tally.take(Tally::of(entry));
        entry.stage = stage;
        tally.add(Tally::of(entry));
    }

    /// What became of `key`, to write more into: its wish stays as it came. Panics where it is not remembered.
    pub(super) fn record_mut(&mut self, key: &CommandKey) -> &mut Record {
        &mut self.by_key.get_mut(key).expect("the caller has looked it up").record
    }

    pub(super) fn get(&self, key: &CommandKey) -> Option<&Entry> {
        self.by_key.get(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.by_key.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn tally(&self, class: Class) -> Tally {
        self.tallies[class]
    }

    /// True where the numbers are those of the entries.
    #[cfg(test)]
    pub(super) fn are_counted(&self) -> bool {
        let mut counted = ClassMap::from_fn(|_| Tally::default());
        self.values().for_each(|entry| counted[entry.record.class()].add(Tally::of(entry)));
        counted.iter().eq(self.tallies.iter())
    }

    /// Not settled, of every class.
    pub(super) fn under_way(&self) -> usize {
        self.tallies.iter().map(|(_, tally)| tally.under_way).sum()
    }
}

impl Index<&CommandKey> for Entries {
    type Output = Entry;

    /// Panics where `key` is not remembered.
    fn index(&self, key: &CommandKey) -> &Entry {
        &self.by_key[key]
    }
}
