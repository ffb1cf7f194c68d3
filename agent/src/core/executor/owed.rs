//! What became of commands and has not been told for want of room: all of it after a restart.

use std::collections::BTreeMap;

use carriageway_proto::{Class, ClassMap, CommandKey, Outcome};

use super::{Executor, Stage};

/// Settled entries whose outcome is still to be told. No more of them than commands are remembered.
#[derive(Debug)]
pub(super) struct Owed {
    by_number: ClassMap<BTreeMap<u64, CommandKey>>,
    numbers: BTreeMap<CommandKey, (Class, u64)>,
    last: u64,
}

impl Owed {
    pub(super) fn nothing() -> Self {
        Self { by_number: ClassMap::from_fn(|_| BTreeMap::new()), numbers: BTreeMap::new(), last: 0 }
    }

    /// `key` is the newest now.
    pub(super) fn add(&mut self, class: Class, key: CommandKey) {
        self.remove(&key);
        self.last += 1;
        self.by_number[class].insert(self.last, key.clone());
        self.numbers.insert(key, (class, self.last));
    }

    pub(super) fn remove(&mut self, key: &CommandKey) {
        if let Some((class, number)) = self.numbers.remove(key) {
            self.by_number[class].remove(&number);
        }
    }

    pub(super) fn contains(&self, key: &CommandKey) -> bool {
        self.numbers.contains_key(key)
    }

    fn newest(&self, class: Class) -> Option<&CommandKey> {
        self.by_number[class].last_key_value().map(|(_, key)| key)
    }
}

impl Executor {
    /// An outcome of `class` that was not told yet, to be told now; the newest first, since somebody may still wait
    /// for that. Ask for it while there is room for it on its way: what is not asked for is kept.
    pub fn next_owed(&mut self, class: Class) -> Option<Outcome> {
        let key = self.owed.newest(class)?.clone();
        self.owed.remove(&key);
        let record = &self.entries[&key].record;
        let verdict = record.verdict.as_ref().expect("only what has ended is owed");
        Some(record.outcome(verdict))
    }

    /// Outcomes that [`Executor::next_owed`] has still to give, of every class.
    pub fn owed(&self) -> usize {
        self.owed.numbers.len()
    }

    /// What became of a remembered command is told later; progress and answers to what is not remembered are not.
    pub(super) fn on_untold(&mut self, outcome: &Outcome) {
        let end = self.entries.get(&outcome.key).filter(|entry| entry.stage == Stage::Settled);
        let told = end.and_then(|entry| Some(entry.record.outcome(entry.record.verdict.as_ref()?)));
        match end {
            Some(entry) if told.as_ref() == Some(outcome) => {
                self.owed.add(entry.record.class(), outcome.key.clone());
            }
            Some(_) | None => self.counts.dropped += 1,
        }
    }
}
