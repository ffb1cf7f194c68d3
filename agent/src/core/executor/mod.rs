//! Decides what each command may do: FRESH, ONCE, KEY, DEDUP-BOUND, RATE and ACK-TRUTH on the vehicle.
//!
//! A command goes through these stages, each of which ends in an outcome told to whoever asked:
//!
//! 1. *Admission.* A known key is answered from memory, another command under it is a KEY_CONFLICT. A new
//!    one that is too old, over its rate or without room is refused, and the refusal is recorded, so that a
//!    later copy with a better stamp cannot act after its end was told.
//! 2. *Intent.* The record is made durable, then RECEIVED is told.
//! 3. *Act.* Age and rate are judged again, at the moment itself, then the vehicle gets the target.
//! 4. *Verdict.* The result is made durable, then told. What was let in but could not be recorded is
//!    UNKNOWN, and so is what the vehicle reports no end of within the ttl, at least half a minute and at
//!    most five: a later report is ignored.
//!
//! After a crash a record without a verdict is UNKNOWN and is never executed again. Of one class, `in_flight`
//! commands are under way at most, and a bounded number is remembered; beyond that a command is
//! refused, and one that cannot even be remembered as refused is left unanswered and counted: silence promises
//! nothing. Nothing is forgotten before FRESH refuses every copy that was seen and its outcome has arrived,
//! and the key of a command that was let in not within the hour: a client may come back with it.
//!
//! A clock that goes backwards, which a boot clock should never do, makes every stamp worthless until the agent
//! starts anew: a gateway's floor under that clock is ahead of it from then on, and would pass the old for fresh.
//! A restart remembers that only as far as the journal's records show it, and its session has a new floor.
//!
//! The emergency stop acts first and is recorded meanwhile: it is latched, so its second effect is none, and
//! waiting for a slow or broken disk could cost a life. It is held to FRESH, since a stop from minutes ago
//! in moving traffic is a danger of its own; no rate, no full and no broken journal holds it up. Where its
//! record could not be made durable its outcome is UNKNOWN, with the stop itself in the detail.
//!
//! The latch holds across restarts, too: the record of one emergency stop that was let in is kept without end,
//! and [`Executor::recover`] stops the vehicle again before anything else while it stands, whatever became of
//! that stop. Only a new journal clears it; there is no re-arming in this version.

mod io;
#[cfg(test)]
mod model;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{
    Class, ClassMap, Command, CommandKey, Moment, Outcome, Phase, PolicyTable, Reason, Stamp,
};

pub use io::{Counts, Input, LONGEST_TTL, Limits, Output, WriteId};
use record::{Judge, life, no_command_class};
pub use record::{Record, Verdict};

use crate::core::rate::{Bucket, refill_time};
use crate::core::vehicle::{Actuation, Applied, Refusal, Target};

/// A vehicle has at least so long to report an end: a short ttl says when to begin, not how fast to be.
const SHORTEST_ACTUATION: Duration = Duration::from_secs(30);

/// And at most so long: whoever asked must learn some end.
const LONGEST_ACTUATION: Duration = Duration::from_mins(5);

/// Where a remembered command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its intent is being written. It has not acted.
    Intending(WriteId),
    /// Its intent is durable. It acts at the next poll.
    Ready,
    /// The vehicle has it.
    Acting(Actuation),
    /// Its verdict is being written; `acted` where the vehicle had it.
    Settling { write: WriteId, acted: bool },
    /// Its verdict stands.
    Settled,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    stage: Stage,
    /// Let in, as opposed to remembered as refused.
    admitted: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Executor {
    judge: Judge,
    policy: PolicyTable,
    limits: Limits,
    buckets: ClassMap<Bucket>,
    entries: BTreeMap<CommandKey, Entry>,
    /// Settled entries whose verdict has arrived, by when they may be forgotten.
    dying: BTreeSet<(Moment, CommandKey)>,
    /// The emergency stop whose record holds the latch: it is never forgotten and takes no other's room.
    latch: Option<CommandKey>,
    /// Emergency stops to carry out, before anything else.
    stops: VecDeque<Actuation>,
    /// Entries in [`Stage::Ready`], in order of arrival.
    ready: VecDeque<CommandKey>,
    /// By actuation, with the moment until which the vehicle may report the end.
    acting: BTreeMap<Actuation, (Moment, CommandKey)>,
    /// The same actuations, by that moment.
    overdue: BTreeSet<(Moment, Actuation)>,
    writes: BTreeMap<WriteId, CommandKey>,
    outputs: VecDeque<Output>,
    last_write: u64,
    last_actuation: u64,
    broken: bool,
    stopping: bool,
    counts: Counts,
}

impl Executor {
    /// Takes up the journal of this vehicle as it was left. What was intended and has no verdict is
    /// UNKNOWN; every verdict is told again, since nobody knows whether it arrived. A vehicle that was
    /// stopped in an emergency is stopped again first.
    pub fn recover(here: Stamp, policy: PolicyTable, limits: Limits, journal: Vec<Record>) -> Self {
        let journal = if sabotage::on(Sabotage::DedupNotPersisted) { Vec::new() } else { journal };
        let Stamp { boot, clock: now } = here;
        let here = |record: &&Record| record.received.boot == boot;
        let latest = journal.iter().filter(here).map(|record| record.received.clock).max().unwrap_or(now);
        let judge = Judge::new(boot, latest, now);
        let bucket = |class| {
            let policy = &policy[class];
            let has_acted = journal.iter().any(|record| record.command.class == class);
            if has_acted { Bucket::empty(policy, now) } else { Bucket::full(policy, now) }
        };
        let mut executor = Self {
            judge,
            buckets: ClassMap::from_fn(bucket),
            policy,
            limits,
            entries: BTreeMap::new(),
            dying: BTreeSet::new(),
            latch: None,
            stops: VecDeque::new(),
            ready: VecDeque::new(),
            acting: BTreeMap::new(),
            overdue: BTreeSet::new(),
            writes: BTreeMap::new(),
            outputs: VecDeque::new(),
            last_write: 0,
            last_actuation: 0,
            broken: false,
            stopping: false,
            counts: Counts::default(),
        };
        for record in journal {
            executor.take_up(record);
        }
        if executor.latch.is_some() && !sabotage::on(Sabotage::LatchNotRecovered) {
            let actuation = executor.next_actuation();
            executor.stops.push_back(actuation);
        }
        executor
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.judge.note(now);
        self.forget_due(now);
        match input {
            Input::Command { lane, command } => self.on_command(now, lane, command),
            Input::Unreadable { lane, key, refusal } => {
                let verdict = Verdict::rejected(refusal.reason, refusal.detail);
                self.refuse_unrecorded(lane, verdict.outcome_of_unread(&key));
            }
            Input::Arrived(key) => self.on_arrived(key),
            Input::Written(id) => self.on_written(id),
            Input::WriteFailed(id) => self.on_write_failed(id),
            Input::Stopping => self.stopping = true,
            Input::Applied { actuation, applied } => self.on_applied(actuation, applied),
            Input::Finished { actuation, result } => {
                self.on_end(actuation, result.map_or_else(Verdict::failed, |()| Verdict::succeeded()));
            }
        }
    }

    /// What is to be done next. Call it, and do what it says, until it says [`Output::Wait`].
    pub fn poll(&mut self, now: Moment) -> Output {
        self.judge.note(now);
        if let Some(actuation) = self.stops.pop_front() {
            return Output::Stop(actuation);
        }
        while let Some(key) = self.ready.pop_front() {
            if let Some(apply) = self.act(now, &key) {
                return apply;
            }
        }
        self.forget_due(now);
        self.give_up_overdue(now);
        let due = self.dying.first().map(|(due, _)| *due);
        let overdue = self.overdue.first().map(|(due, _)| *due);
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(due.into_iter().chain(overdue).min()))
    }

    /// True once a write has failed: from here on only the emergency stop acts.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// True while the vehicle has a target whose end it has not reported.
    pub fn is_acting(&self) -> bool {
        !self.acting.is_empty()
    }

    /// True when nothing is under way: a restart now would leave nothing UNKNOWN.
    pub fn is_idle(&self) -> bool {
        self.entries.values().all(|entry| entry.stage == Stage::Settled)
    }

    /// Commands remembered, of every class.
    pub fn remembered(&self) -> usize {
        self.entries.len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

// The end of a record.
impl Executor {
    fn on_arrived(&mut self, key: CommandKey) {
        let Some(entry) = self.entries.get(&key) else { return };
        if entry.stage == Stage::Settled && self.latch.as_ref() != Some(&key) {
            let early = sabotage::on(Sabotage::YoungEviction);
            let due = if early { Moment::ZERO } else { entry.record.forget_at(self.judge.boot) };
            self.dying.insert((due, key));
        }
    }

    fn forget_due(&mut self, now: Moment) {
        while self.dying.first().is_some_and(|(due, _)| *due <= now) {
            let (_, key) = self.dying.pop_first().expect("it has a first");
            self.entries.remove(&key);
            self.outputs.push_back(Output::Forget(key));
        }
    }

    /// DEDUP-BOUND: a record outlives every copy that was seen, whatever a gateway wrote into it.
    fn keep_beyond(&mut self, key: &CommandKey, copy: &Command) {
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
}

// Admission.
impl Executor {
    fn take_up(&mut self, record: Record) {
        let (key, verdict) = (record.key().clone(), record.verdict.clone());
        let admitted = verdict.as_ref().is_none_or(|verdict| !verdict.is_refusal());
        if admitted && Target::from(&record.command).is_emergency_stop() {
            self.latch.get_or_insert_with(|| key.clone());
        }
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Settled, admitted });
        if verdict.is_some() {
            self.settled(&key);
        } else {
            if sabotage::on(Sabotage::UnknownRetried) {
                self.set_stage(&key, Stage::Ready);
                return self.ready.push_back(key);
            }
            if sabotage::on(Sabotage::UnknownCalledExpired) {
                return self.settle(&key, Verdict::expired(None, "the agent restarted"), true);
            }
            let why = "the vehicle's agent restarted between its intent and its result";
            self.settle(&key, Verdict::unknown(why), true);
        }
    }

    fn on_command(&mut self, now: Moment, lane: Class, mut command: Command) {
        if sabotage::on(Sabotage::TtlFromReceipt) {
            command.stamp = Stamp { boot: self.judge.boot, clock: now };
        }
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
            None if Target::from(&record.command).is_emergency_stop()
                && !(sabotage::on(Sabotage::StopWaitsForRoom) && self.obstacle(now, lane).is_some()) =>
            {
                self.stop(record);
            }
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
        if !entry.record.is_same_wish(copy) && !sabotage::on(Sabotage::ConflictUnnoticedByVehicle) {
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
        (!self.buckets[class].allows(now)).then(|| too_many(class))
    }

    fn count(&self, class: Class, counts: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| entry.record.command.class == class && counts(entry)).count()
    }

    /// No room for another command of `class` that is let in. The latch is beside the limit.
    fn is_full(&self, class: Class) -> bool {
        let counts =
            |entry: &Entry| entry.admitted && self.latch.as_ref().is_none_or(|key| key != entry.record.key());
        self.count(class, counts) >= self.limits.admitted
    }

    fn admit(&mut self, mut record: Record) {
        record.keep_for = record.keep_for.max(self.limits.remember);
        let key = record.key().clone();
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Ready, admitted: true });
        let id = self.write(&key);
        self.set_stage(&key, Stage::Intending(id));
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
        if self.count(record.command.class, |entry| !entry.admitted) >= self.limits.refused {
            self.counts.unanswered += 1;
            return;
        }
        let key = record.key().clone();
        if sabotage::on(Sabotage::RefusalForgotten) {
            let outcome = verdict.outcome(&record.command);
            return self.outputs.push_back(Output::Tell { class: record.command.class, outcome });
        }
        self.entries.insert(key.clone(), Entry { record, stage: Stage::Settled, admitted: false });
        self.settle(&key, verdict, false);
    }

    /// Refuses for a reason that lies in the command and does not pass.
    fn refuse_unrecorded(&mut self, lane: Class, outcome: Outcome) {
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

// From intent to verdict.
impl Executor {
    fn on_written(&mut self, id: WriteId) {
        let Some(key) = self.writes.remove(&id) else { return };
        // Gone or further on: an older write of an entry that has been written again since.
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.stage {
            Stage::Intending(write) if write == id => {
                entry.stage = Stage::Ready;
                self.ready.push_back(key.clone());
                self.tell_as(&key, Phase::Received);
            }
            Stage::Settling { write, .. } if write == id => self.settled(&key),
            Stage::Intending(_)
            | Stage::Ready
            | Stage::Acting(_)
            | Stage::Settling { .. }
            | Stage::Settled => {}
        }
    }

    fn on_write_failed(&mut self, id: WriteId) {
        self.broken = true;
        let Some(key) = self.writes.remove(&id) else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.stage {
            Stage::Intending(write) if write == id => {
                let why = "the vehicle's journal could not be written";
                self.settle(&key, Verdict::rejected(Reason::Busy, why), false);
            }
            Stage::Settling { write, acted } if write == id => {
                self.distrust(&key, acted);
                self.settled(&key);
            }
            Stage::Intending(_)
            | Stage::Ready
            | Stage::Acting(_)
            | Stage::Settling { .. }
            | Stage::Settled => {}
        }
    }

    /// The last gate: hands the target over, or settles the command without having acted.
    fn act(&mut self, now: Moment, key: &CommandKey) -> Option<Output> {
        let entry = self.entries.get(key).expect("what is ready is remembered");
        let command = &entry.record.command;
        let late = self.judge.too_old(now, command).filter(|_| !sabotage::on(Sabotage::AgeNotJudgedAgain));
        if let Some(verdict) = late {
            self.counts.refused += 1;
            self.settle(key, verdict, false);
            return None;
        }
        let (class, target) = (command.class, Target::from(command));
        if !self.buckets[class].take(now) {
            self.counts.refused += 1;
            self.settle(key, too_many(class), false);
            return None;
        }
        let ttl = command.ttl;
        self.counts.acted += 1;
        let actuation = self.next_actuation();
        self.expect_end(now, actuation, key.clone(), ttl);
        self.set_stage(key, Stage::Acting(actuation));
        Some(Output::Apply { actuation, target })
    }

    fn on_applied(&mut self, actuation: Actuation, applied: Applied) {
        let Some((_, key)) = self.acting.get(&actuation).cloned() else { return };
        match applied {
            Applied::Moving => {
                self.supersede_before(actuation, &key);
                self.tell_as(&key, Phase::Executing);
            }
            Applied::Done => {
                self.supersede_before(actuation, &key);
                self.on_end(actuation, Verdict::succeeded());
            }
            Applied::Refused(Refusal { reason, detail }) => {
                self.take_acting(actuation);
                self.counts.refused += 1;
                self.settle(&key, Verdict::rejected(reason, detail), false);
            }
        }
    }

    /// The vehicle drops an older target for a path that still moves when it takes a newer one.
    fn supersede_before(&mut self, newer: Actuation, key: &CommandKey) {
        let command = &self.entries[key].record.command;
        let same = |other: &Command| other.class != Class::Safety && other.path == command.path;
        let older: Vec<Actuation> = self
            .acting
            .range(..newer)
            .filter(|(_, (_, key))| same(&self.entries[key].record.command))
            .map(|(actuation, _)| *actuation)
            .collect();
        for actuation in older {
            self.on_end(actuation, Verdict::superseded());
        }
    }

    fn on_end(&mut self, actuation: Actuation, verdict: Verdict) {
        if let Some(key) = self.take_acting(actuation) {
            self.settle(&key, verdict, true);
        }
    }

    fn expect_end(&mut self, now: Moment, actuation: Actuation, key: CommandKey, ttl: Duration) {
        let until = now + ttl.clamp(SHORTEST_ACTUATION, LONGEST_ACTUATION);
        self.acting.insert(actuation, (until, key));
        self.overdue.insert((until, actuation));
    }

    fn take_acting(&mut self, actuation: Actuation) -> Option<CommandKey> {
        let (until, key) = self.acting.remove(&actuation)?;
        self.overdue.remove(&(until, actuation));
        Some(key)
    }

    /// A vehicle that never reports must not keep its commands' places for ever.
    fn give_up_overdue(&mut self, now: Moment) {
        while let Some((_, actuation)) = self.overdue.first().copied().filter(|(until, _)| *until <= now) {
            self.on_end(actuation, Verdict::unknown("the vehicle did not report an end"));
        }
    }

    /// Fixes the verdict and makes it durable; where that is not possible any more, says so.
    fn settle(&mut self, key: &CommandKey, verdict: Verdict, acted: bool) {
        let entry = self.entries.get_mut(key).expect("the caller has looked it up");
        entry.record.verdict = Some(verdict);
        if self.broken {
            self.distrust(key, acted);
            return self.settled(key);
        }
        let write = self.write(key);
        self.set_stage(key, Stage::Settling { write, acted });
        if sabotage::on(Sabotage::VerdictBeforeDurable) {
            self.settled(key);
        }
    }

    /// ACK-TRUTH: an effect that the journal does not hold is not known. Nor is it told that a command had none
    /// where its intent is or may be on the disk without that: a restart would call it UNKNOWN. A refusal
    /// without an intent stands: on the disk is that refusal or nothing.
    fn distrust(&mut self, key: &CommandKey, acted: bool) {
        let entry = self.entries.get_mut(key).expect("the caller has looked it up");
        let verdict = entry.record.verdict.as_mut().expect("it is being settled");
        if !entry.admitted || verdict.phase == Phase::Unknown {
            return;
        }
        let Verdict { phase, detail, .. } = verdict;
        let why = if acted {
            format!("the vehicle says {phase}, but its journal could not record it")
        } else {
            format!("not executed ({phase} {detail}), but the vehicle's journal could not record that")
        };
        *verdict = Verdict::unknown(why);
    }

    fn settled(&mut self, key: &CommandKey) {
        self.set_stage(key, Stage::Settled);
        let phase = self.entries[key].record.verdict.as_ref().expect("it is settled").phase;
        self.tell_as(key, phase);
    }

    fn set_stage(&mut self, key: &CommandKey, stage: Stage) {
        self.entries.get_mut(key).expect("the caller has looked it up").stage = stage;
    }

    fn write(&mut self, key: &CommandKey) -> WriteId {
        self.last_write += 1;
        let id = WriteId(self.last_write);
        self.writes.insert(id, key.clone());
        self.outputs.push_back(Output::Write { id, record: Box::new(self.entries[key].record.clone()) });
        id
    }

    fn tell_as(&mut self, key: &CommandKey, phase: Phase) {
        let record = &self.entries[key].record;
        let verdict = record.verdict.as_ref().filter(|verdict| verdict.phase == phase);
        let under_way = Verdict { phase, reason: None, detail: String::new() };
        let outcome = verdict.unwrap_or(&under_way).outcome(&record.command);
        self.outputs.push_back(Output::Tell { class: record.command.class, outcome });
    }

    fn next_actuation(&mut self) -> Actuation {
        self.last_actuation += 1;
        Actuation(self.last_actuation)
    }
}

fn too_many(class: Class) -> Verdict {
    Verdict::rejected(Reason::RateLimited, format!("too many of class {class} just now"))
}
