//! Which commands are let in, and how the others are answered.

use carriageway_proto::rate::refill_time;
use carriageway_proto::{Class, Command, Moment, Outcome, Phase, Reason, Stamp};

use super::record::{life, no_command_class};
use super::{Entry, Executor, LONGEST_TTL, Output, Record, Stage, Verdict, too_many};

use crate::core::vehicle::Target;

impl Executor {
    pub(super) fn on_command(&mut self, now: Moment, lane: Class, command: Command) {
        if lane != command.class {
            let why = format!("a command of class {} on the lane of {lane}", command.class);
            return self.refuse_unrecorded(lane, Verdict::rejected(Reason::Malformed, why).outcome(&command));
        }
        if !command.class.is_command() {
            return self.refuse_unrecorded(lane, no_command_class(lane).outcome(&command));
        }
        if self.entries.contains_key(&command.key) {
            return self.on_repeat(&command);
        }
        if command.ttl > LONGEST_TTL {
            let why = "a ttl of more than seven days";
            return self
                .refuse_unrecorded(lane, Verdict::rejected(Reason::OutOfRange, why).outcome(&command));
        }
        let record = self.record_of(now, command);
        match self.judge.too_old(now, &record.command) {
            Some(verdict) => self.refuse(record, verdict),
            None if Target::from(&record.command).is_emergency_stop() => self.stop(record),
            None => match self.obstacle(now, lane) {
                Some(verdict) => self.refuse(record, verdict),
                None => self.admit(record),
            },
        }
    }

    fn record_of(&self, now: Moment, command: Command) -> Record {
        // Kept until its bucket is full again, too: after a restart no record then means a full bucket.
        let keep_for = life(command.ttl).max(refill_time(&self.policy[command.class]));
        Record { received: Stamp { boot: self.judge.boot, clock: now }, keep_for, verdict: None, command }
    }

    fn on_repeat(&mut self, copy: &Command) {
        let key = &copy.key;
        let entry = self.entries.get(key).expect("the caller has looked it up");
        if !entry.record.is_same_wish(copy) {
            let why = "this key was used with another command";
            return self
                .refuse_unrecorded(copy.class, Verdict::rejected(Reason::KeyConflict, why).outcome(copy));
        }
        self.counts.repeats += 1;
        let phase = match entry.stage {
            // What is not durable yet is told when it is.
            Stage::Intending(_) | Stage::Settling { acted: false, .. } => None,
            Stage::Ready => Some(Phase::Received),
            Stage::Acting(_) | Stage::Settling { acted: true, .. } => Some(Phase::Executing),
            Stage::Settled => entry.record.verdict.as_ref().map(|verdict| verdict.phase),
        };
        if let Some(phase) = phase {
            self.tell_as(key, phase);
        }
        self.keep_beyond(key, copy);
    }

    /// Why a fresh new command of `class` cannot be let in now.
    fn obstacle(&mut self, now: Moment, class: Class) -> Option<Verdict> {
        if self.broken {
            let why = "the vehicle's journal cannot be written; only the emergency stop acts";
            return Some(Verdict::rejected(Reason::Busy, why));
        }
        if self.stopping {
            return Some(Verdict::rejected(Reason::Busy, "the vehicle's agent is stopping"));
        }
        let under_way = self.count(class, |entry| entry.stage != Stage::Settled);
        if under_way >= self.policy[class].in_flight as usize {
            return Some(Verdict::rejected(
                Reason::Busy,
                format!("{under_way} of class {class} are under way"),
            ));
        }
        if self.is_full(class) {
            return Some(Verdict::rejected(Reason::Busy, "the vehicle's journal is full"));
        }
        (!self.buckets[class].allows(&self.policy[class], now)).then(|| too_many(class))
    }

    fn admit(&mut self, mut record: Record) {
        record.keep_for = record.keep_for.max(self.limits.remember);
        let key = record.key().clone();
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Ready, admitted: true });
        let id = self.write(&key);
        self.set_stage(&key, Stage::Intending(id));
    }

    /// Refuses for a reason that may pass: remembered, so that no copy acts afterwards.
    fn refuse(&mut self, record: Record, verdict: Verdict) {
        self.counts.refused += 1;
        if self.count(record.command.class, |entry| !entry.admitted) >= self.limits.refused {
            self.counts.unanswered += 1;
            return;
        }
        let key = record.key().clone();
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Settled, admitted: false });
        self.settle(&key, verdict, false);
    }

    /// Refuses for a reason that lies in the command and does not pass.
    pub(super) fn refuse_unrecorded(&mut self, lane: Class, outcome: Outcome) {
        self.counts.refused += 1;
        self.outputs.push_back(Output::Tell { class: lane, outcome });
    }

    fn stop(&mut self, mut record: Record) {
        record.keep_for = record.keep_for.max(self.limits.remember);
        let key = record.key().clone();
        let actuation = self.next_actuation();
        self.stops.push_back(actuation);
        self.counts.acted += 1;
        // The first is recorded even in a full journal: it holds the latch.
        if self.latch.is_some() && self.is_full(Class::Safety) {
            let why = "the emergency stop is carried out; the vehicle's journal has no room to record it";
            let outcome = Verdict::unknown(why).outcome(&record.command);
            self.outputs.push_back(Output::Tell { class: Class::Safety, outcome });
            return;
        }
        // Writes become durable in order: no later stop's record outlives a crash that this one does not.
        self.latch.get_or_insert_with(|| key.clone());
        self.expect_end(record.received.clock, actuation, key.clone(), record.command.ttl);
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Acting(actuation), admitted: true });
        if !self.broken {
            self.write(&key);
        }
        self.tell_as(&key, Phase::Executing);
    }
}
