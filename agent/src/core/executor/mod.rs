//! Decides what each command may do: FRESH, ONCE, KEY, DEDUP-BOUND, ORDER, FENCE, DEBOUNCE, RATE and ACK-TRUTH on
//! the vehicle.
//!
//! A command goes through these stages, each of which ends in an outcome told to whoever asked:
//!
//! 1. *Admission.* A known key is answered from memory, another command under it is a KEY_CONFLICT. A new
//!    one that is too old, over its rate or without room is refused, and the refusal is recorded, so that a
//!    later copy with a better stamp cannot act after its end was told.
//! 2. *Intent.* The record is made durable, then RECEIVED is told.
//! 3. *Act.* Age, rate, lease, order and duplicates are judged again, at the moment itself, then the vehicle
//!    gets the target.
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
//! Between admission and acting a command can be withdrawn: CANCELED, durably, before it is told. A withdrawal that
//! comes before its command is remembered, so that the command never acts; one that comes after has no effect.
//!
//! Of one class, commands act in the order of their places (the lease's token, then the number that the
//! gateway gave): one that is behind what has acted, or may have before a crash, is SUPERSEDED; a place that
//! was given twice is the gateway's fault, and the second command is MALFORMED; place 0 is outside the order. A
//! drive command acts only under the newest lease while it lives, as [`Input::Fence`] says, so before the
//! first of these not at all. What another command has just brought about on the same path, within the
//! class's duplicate window, is not done again: SUPERSEDED, as a duplicate. None of this holds for the
//! emergency stop; after one nothing counts as just brought about, for it may have halted what moved.
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
//! that stop. Only [`Input::Release`] clears it, after a re-arm.

mod acting;
mod admission;
mod cancel;
mod effects;
mod entries;
mod fence;
mod io;
mod memory;
#[cfg(test)]
mod model;
mod order;
mod owed;
mod record;
mod release;
#[cfg(test)]
mod tests;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use carriageway_proto::rate::Bucket;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, ClassMap, Command, CommandKey, Moment, PolicyTable, Reason, Stamp};

use effects::Effects;
use entries::{Entries, Entry};
use fence::Fence;
pub use io::{Counts, Input, LONGEST_TTL, Limits, Output, WriteId};
use order::Marks;
use owed::Owed;
pub use record::{Record, Verdict, Wish};

use crate::core::freshness::Judge;
use crate::core::vehicle::Actuation;

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

/// See the module's documentation.
#[derive(Debug)]
pub struct Executor {
    judge: Judge,
    policy: PolicyTable,
    limits: Limits,
    buckets: ClassMap<Bucket>,
    fence: Fence,
    marks: Marks,
    effects: Effects,
    entries: Entries,
    /// Settled entries whose verdict has arrived, by when they may be forgotten.
    dying: BTreeSet<(Moment, CommandKey)>,
    /// Those among them that are kept all the same, since they hold a mark of the order.
    spared: BTreeSet<CommandKey>,
    owed: Owed,
    /// The emergency stop whose record holds the latch: it is never forgotten and takes no other's room.
    latch: Option<CommandKey>,
    /// Writes under way that release emergency stops.
    releasing: BTreeSet<WriteId>,
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
    /// UNKNOWN; every verdict is told again, by [`Executor::next_owed`], since nobody knows whether it
    /// arrived. A vehicle that was stopped in an emergency is stopped again first. `journal` is in the order in
    /// which its records began, oldest first.
    pub fn recover(here: Stamp, policy: PolicyTable, limits: Limits, journal: Vec<Record>) -> Self {
        let journal = if sabotage::on(Sabotage::DedupNotPersisted) { Vec::new() } else { journal };
        let Stamp { boot, clock: now } = here;
        let here = |record: &&Record| record.received.boot == boot;
        let seen = |record: &Record| record.acted.unwrap_or(record.received.clock).max(record.received.clock);
        let latest = journal.iter().filter(here).map(seen).max().unwrap_or(now);
        let judge = Judge::new(boot, latest, now);
        let bucket = |class| {
            let policy = &policy[class];
            let has_acted = journal.iter().any(|record| record.class() == class);
            if has_acted { Bucket::empty(now) } else { Bucket::full(policy, now) }
        };
        let mut executor = Self {
            judge,
            buckets: ClassMap::from_fn(bucket),
            policy,
            limits,
            entries: Entries::new(),
            fence: Fence::default(),
            marks: Marks::none(),
            effects: Effects::recover(boot, &journal),
            dying: BTreeSet::new(),
            spared: BTreeSet::new(),
            owed: Owed::nothing(),
            latch: None,
            releasing: BTreeSet::new(),
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
            executor.effects.clear();
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
            Input::Cancel { lane, cancel } => self.on_cancel(now, lane, cancel),
            Input::Fence { newest, lease_lives_until } => {
                self.fence = Fence { newest, lives_until: lease_lives_until };
            }
            Input::TakenOver(path) => self.on_taken_over(&path),
            Input::Arrived(key) => self.on_arrived(key),
            Input::Untold(outcome) => self.on_untold(&outcome),
            Input::Written(id) => self.on_written(id),
            Input::WriteFailed(id) => self.on_write_failed(id),
            Input::Stopping => self.stopping = true,
            Input::Applied { actuation, applied } => self.on_applied(now, actuation, applied),
            Input::Release => self.release(),
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
        self.entries.under_way() == 0
    }

    /// The command that the vehicle is or was asked to carry out as `actuation`, while its end is not known.
    pub fn acting(&self, actuation: Actuation) -> Option<&Command> {
        let (_, key) = self.acting.get(&actuation)?;
        self.entries[key].record.command()
    }

    /// Judges ages as this executor does.
    pub fn judge(&self) -> Judge {
        self.judge
    }

    /// What is left of each class's rate, for whatever else acts upon the same vehicle (RATE).
    pub fn buckets(&mut self) -> &mut ClassMap<Bucket> {
        &mut self.buckets
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

fn too_many(class: Class) -> Verdict {
    Verdict::rejected(Reason::RateLimited, format!("too many of class {class} just now"))
}
