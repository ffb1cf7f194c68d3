//! What is remembered, for how long, and how it is taken up again.

use std::time::Duration;

use carriageway_proto::{Class, Command, CommandKey, Moment};

use super::{Entry, Executor, LONGEST_TTL, Output, Record, Stage, Verdict};
use crate::core::vehicle::Target;

impl Executor {
    pub(super) fn take_up(&mut self, record: Record) {
        let (key, verdict) = (record.key().clone(), record.verdict.clone());
        let admitted = verdict.as_ref().is_none_or(|verdict| !verdict.is_refusal());
        if admitted && Target::from(&record.command).is_emergency_stop() {
            self.latch.get_or_insert_with(|| key.clone());
        }
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Settled, admitted });
        if verdict.is_some() {
            self.settled(&key);
        } else {
            let why = "the vehicle's agent restarted between its intent and its result";
            self.settle(&key, Verdict::unknown(why), true);
        }
    }

    pub(super) fn on_arrived(&mut self, key: CommandKey) {
        let Some(entry) = self.entries.get(&key) else { return };
        if entry.stage == Stage::Settled && self.latch.as_ref() != Some(&key) {
            self.dying.insert((entry.record.forget_at(self.judge.boot), key));
        }
    }

    pub(super) fn forget_due(&mut self, now: Moment) {
        while self.dying.first().is_some_and(|(due, _)| *due <= now) {
            let (_, key) = self.dying.pop_first().expect("it has a first");
            self.entries.remove(&key);
            self.outputs.push_back(Output::Forget(key));
        }
    }

    /// DEDUP-BOUND: a record outlives every copy that was seen, whatever a gateway wrote into it.
    pub(super) fn keep_beyond(&mut self, key: &CommandKey, copy: &Command) {
        let boot = self.judge.boot;
        let entry = self.entries.get_mut(key).expect("the caller has looked it up");
        let (forget_at, fresh_until) = (entry.record.forget_at(boot), copy.stamp.clock + copy.ttl);
        if copy.stamp.boot != boot || copy.ttl > LONGEST_TTL || fresh_until < forget_at {
            return;
        }
        let longer = forget_at.until(fresh_until) + Duration::from_millis(1);
        entry.record.keep_for += longer;
        if self.dying.remove(&(forget_at, key.clone())) {
            self.dying.insert((forget_at + longer, key.clone()));
        }
        if !self.broken {
            self.write(key);
        }
    }

    pub(super) fn count(&self, class: Class, counts: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| entry.record.command.class == class && counts(entry)).count()
    }

    /// No room for another command of `class` that is let in. The latch is beside the limit.
    pub(super) fn is_full(&self, class: Class) -> bool {
        let counts =
            |entry: &Entry| entry.admitted && self.latch.as_ref().is_none_or(|key| key != entry.record.key());
        self.count(class, counts) >= self.limits.admitted
    }
}
