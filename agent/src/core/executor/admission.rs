//! Which commands are let in, and how the others are answered.

use std::time::Duration;

use carriageway_proto::rate::refill_time;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Command, CommandKey, Moment, Outcome, Phase, Reason, Stamp};

use super::record::{Wish, life, no_command_class};
use super::{Entry, Executor, LONGEST_TTL, Output, Record, Stage, Verdict, too_many};
use crate::core::vehicle::Target;

impl Executor {
    pub(super) fn on_command(&mut self, now: Moment, lane: Class, mut command: Command) {
        if sabotage::on(Sabotage::TtlFromReceipt) {
            command.stamp = Stamp { boot: self.judge.boot(), clock: now };
        }
        if lane != command.class {
            let why = format!("a command of class {} on the lane of {lane}", command.class);
            return self.refuse_unrecorded(lane, Verdict::rejected(Reason::Malformed, why).outcome(&command));
        }
        if !command.class.is_command() {
            return self.refuse_unrecorded(lane, no_command_class(lane).outcome(&command));
        }
        let is_stop = Target::from(&command).is_emergency_stop();
        let too_old = self.judge.too_old(now, command.stamp, Some(command.ttl)).map(Verdict::expired);
        if let Some(entry) = self.entries.get(&command.key) {
            // ESTOP: whoever withdrew something under this key did not mean a stop.
            if !(is_stop && too_old.is_none() && entry.record.is_withdrawn()) {
                return self.on_repeat(&command);
            }
        }
        if command.ttl > LONGEST_TTL {
            let why = "a ttl of more than seven days";
            return self
                .refuse_unrecorded(lane, Verdict::rejected(Reason::OutOfRange, why).outcome(&command));
        }
        let is_exempt = is_stop && !sabotage::on(Sabotage::StopWaitsForRoom);
        let obstacle = too_old.or_else(|| if is_exempt { None } else { self.obstacle(now, &command) });
        let record = self.record_of(now, command);
        match obstacle {
            Some(verdict) => self.refuse(record, verdict),
            None if is_stop => self.stop(record),
            None => self.admit(record),
        }
    }

    fn record_of(&self, now: Moment, command: Command) -> Record {
        let policy = &self.policy[command.class];
        // Kept until its bucket is full again, too: after a restart no record then means a full bucket. And for
        // as long as it can make another one a duplicate.
        let keep_for = life(command.ttl).max(refill_time(policy)).max(policy.duplicate_window);
        let received = Stamp { boot: self.judge.boot(), clock: now };
        Record {
            wish: Wish::Command(command),
            received,
            keep_for,
            acted: None,
            verdict: None,
            released: false,
        }
    }

    fn on_repeat(&mut self, copy: &Command) {
        let key = &copy.key;
        let entry = self.entries.get(key).expect("the caller has looked it up");
        if !entry.record.is_same_wish(copy) && !sabotage::on(Sabotage::ConflictUnnoticedByVehicle) {
            let why = "this key was used with another command";
            return self
                .refuse_unrecorded(copy.class, Verdict::rejected(Reason::KeyConflict, why).outcome(copy));
        }
        self.counts.repeats += 1;
        self.tell_again(key);
        self.keep_beyond(key, copy);
    }

    /// Why a fresh new command cannot be let in now.
    fn obstacle(&mut self, now: Moment, command: &Command) -> Option<Verdict> {
        let class = command.class;
        if self.broken {
            let why = "the vehicle's journal cannot be written; only the emergency stop acts";
            return Some(Verdict::rejected(Reason::Busy, why));
        }
        if self.stopping {
            return Some(Verdict::rejected(Reason::Busy, "the vehicle's agent is stopping"));
        }
        if let Some(verdict) = self.forbids(now, command) {
            return Some(verdict);
        }
        let under_way = self.entries.tally(class).under_way;
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

    /// FENCE, ORDER and the duplicate window: judged when a command comes, and again when it is about to act.
    pub(super) fn forbids(&self, now: Moment, command: &Command) -> Option<Verdict> {
        let window = self.policy[command.class].duplicate_window;
        let duplicate = || self.effects.duplicated_by(now, command, window).map(Verdict::duplicate);
        let late = || self.marks.refuses(command);
        self.fence.refuses(now, command).or_else(late).or_else(duplicate)
    }

    fn admit(&mut self, mut record: Record) {
        record.keep_for = record.keep_for.max(self.limits.remember);
        let key = record.key().clone();
        self.entries.insert(Entry { record, stage: Stage::Ready, admitted: true });
        let id = self.write(&key);
        self.entries.set_stage(&key, Stage::Intending(id));
        if sabotage::on(Sabotage::AckBeforeDurable) {
            self.tell_as(&key, Phase::Received);
        }
        if sabotage::on(Sabotage::IntentNotAwaited) {
            self.on_written(id);
        }
    }

    /// Refuses for a reason that may pass: remembered, so that no copy acts afterwards.
    fn refuse(&mut self, record: Record, verdict: Verdict) {
        self.counts.refused += 1;
        if self.entries.tally(record.class()).refused >= self.limits.refused {
            self.counts.unanswered += 1;
            return;
        }
        let key = record.key().clone();
        if sabotage::on(Sabotage::RefusalForgotten) {
            let (class, outcome) = (record.class(), record.outcome(&verdict));
            return self.outputs.push_back(Output::Tell { class, outcome });
        }
        self.entries.insert(Entry { record, stage: Stage::Settled, admitted: false });
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
        let (now, ttl) = (record.received.clock, record.command().map_or(Duration::ZERO, |stop| stop.ttl));
        record.acted = Some(now);
        let actuation = self.next_actuation();
        self.stops.push_back(actuation);
        self.effects.clear();
        self.counts.acted += 1;
        // The first is recorded even in a full journal: it holds the latch.
        if self.latch.is_some() && self.is_full(Class::Safety) {
            let why = "the emergency stop is carried out; the vehicle's journal has no room to record it";
            let outcome = record.outcome(&Verdict::unknown(why));
            self.outputs.push_back(Output::Tell { class: Class::Safety, outcome });
            return;
        }
        // Writes become durable in order: no later stop's record outlives a crash that this one does not.
        self.latch.get_or_insert_with(|| key.clone());
        self.expect_end(now, actuation, key.clone(), ttl);
        self.give_way(&key);
        self.entries.insert(Entry { record, stage: Stage::Acting(actuation), admitted: true });
        if !self.broken {
            self.write(&key);
        }
        self.tell_as(&key, Phase::Executing);
    }

    /// A stop takes the place of what was withdrawn under its key before it came.
    fn give_way(&mut self, key: &CommandKey) {
        if let Some(withdrawn) = self.entries.remove(key) {
            self.owed.remove(key);
            self.dying.remove(&(withdrawn.record.forget_at(self.judge.boot()), key.clone()));
        }
    }
}
