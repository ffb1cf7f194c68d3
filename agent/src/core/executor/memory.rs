//! What is remembered, for how long, and how it is taken up again.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Command, CommandKey, Moment};

use super::{Entry, Executor, LONGEST_TTL, Output, Record, Stage, Verdict};
use crate::core::freshness::TooOld;

impl Executor {
    pub(super) fn take_up(&mut self, record: Record) {
        let (key, verdict) = (record.key().clone(), record.verdict.clone());
        let admitted = record.may_have_acted();
        let is_retried = verdict.is_none() && sabotage::on(Sabotage::UnknownRetried);
        if admitted && record.holds_the_latch() {
            self.latch.get_or_insert_with(|| key.clone());
        } else if let Some(command) = record.command().filter(|_| admitted && !is_retried) {
            // None of these is about to be forgotten: nothing has arrived yet.
            let _older = self.marks.raise(command);
        }
        self.entries.insert(Entry { record, stage: Stage::Settled, admitted });
        if verdict.is_some() {
            self.owed.add(self.entries[&key].record.class(), key);
        } else if is_retried {
            self.entries.set_stage(&key, Stage::Ready);
            self.ready.push_back(key);
        } else if sabotage::on(Sabotage::UnknownCalledExpired) {
            let why = TooOld { reason: None, detail: "the agent restarted".into() };
            self.settle(&key, Verdict::expired(why), true);
        } else {
            let why = "the vehicle's agent restarted between its intent and its result";
            self.settle(&key, Verdict::unknown(why), true);
        }
    }

    pub(super) fn on_arrived(&mut self, key: CommandKey) {
        let Some(entry) = self.entries.get(&key) else { return };
        // What is still owed has not: that was another answer under its key.
        let has_ended = entry.stage == Stage::Settled && !self.owed.contains(&key);
        if has_ended && self.latch.as_ref() != Some(&key) {
            let early = sabotage::on(Sabotage::YoungEviction);
            let due = if early { Moment::ZERO } else { entry.record.forget_at(self.judge.boot()) };
            self.dying.insert((due, key));
        }
    }

    pub(super) fn forget_due(&mut self, now: Moment) {
        while self.dying.first().is_some_and(|(due, _)| *due <= now) {
            let (_, key) = self.dying.pop_first().expect("it has a first");
            let Some(entry) = self.entries.get(&key) else { continue };
            if self.marks.is_held_by(entry.record.class(), &key) {
                // ORDER: a restart knows it from this record alone.
                self.spared.insert(key);
                continue;
            }
            if let Some(command) = entry.record.command() {
                self.effects.void(command);
            }
            self.entries.remove(&key);
            self.owed.remove(&key);
            self.outputs.push_back(Output::Forget(key));
        }
    }

    /// `command` has an effect from `now` on.
    pub(super) fn note_effect(&mut self, now: Moment, key: &CommandKey) {
        let record = self.entries.record_mut(key);
        record.acted = Some(now);
        let command = record.command().expect("only a command acts").clone();
        self.effects.note(now, &command);
        if let Some(older) = self.marks.raise(&command)
            && self.spared.remove(&older)
        {
            let forget_at = self.entries[&older].record.forget_at(self.judge.boot());
            self.dying.insert((forget_at, older));
        }
    }

    /// DEDUP-BOUND: a record outlives every copy that was seen, whatever a gateway wrote into it.
    pub(super) fn keep_beyond(&mut self, key: &CommandKey, copy: &Command) {
        let boot = self.judge.boot();
        let record = self.entries.record_mut(key);
        let (forget_at, fresh_until) = (record.forget_at(boot), copy.stamp.clock + copy.ttl);
        if copy.stamp.boot != boot || copy.ttl > LONGEST_TTL || fresh_until < forget_at {
            return;
        }
        let longer = forget_at.until(fresh_until) + Duration::from_millis(1);
        record.keep_for += longer;
        if self.dying.remove(&(forget_at, key.clone())) {
            self.dying.insert((forget_at + longer, key.clone()));
        }
        if !self.broken {
            self.write(key);
        }
    }

    /// No room for another command of `class` that is let in. The latch is beside the limit, and so is what is
    /// kept for the order alone.
    pub(super) fn is_full(&self, class: Class) -> bool {
        let is_beside = |key: &&CommandKey| {
            self.entries.get(key).is_some_and(|entry| entry.admitted && entry.record.class() == class)
        };
        let latch = self.latch.as_ref().filter(|key| !self.spared.contains(*key));
        let beside = self.spared.iter().chain(latch).filter(is_beside).count();
        self.entries.tally(class).admitted - beside >= self.limits.admitted
    }
}
