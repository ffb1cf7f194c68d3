//! The command service: one record per (vehicle, idempotency key), and what is true of it.
//!
//! - The same key with the same payload is the same record, and goes to the vehicle once (ONCE);
//!   with another payload it is refused (KEY).
//! - Phases only rise, and a command is terminal soon after its ttl: EXPIRED only where it certainly
//!   never left, UNKNOWN where the vehicle may have acted (ACK-TRUTH).
//! - Of each target one command is in flight and one is held; a newer one takes the held one's place
//!   (DEBOUNCE). An emergency stop is never held, superseded or counted.
//! - A vehicle without a connection gets nothing: the command is refused and leaves no record, or, where
//!   the operator asks for it, waits on disk and is released when the vehicle is back: what has expired or
//!   was superseded goes first, then one at a time of each class, in the order of acceptance (OFFLINE,
//!   DURABLE).
//! - An end is told once it is on disk. Where the disk is broken or slow it is told all the same, and
//!   counted; an emergency stop's waits for nothing.
//! - What is released from the disk is marked there as released first, and what ends there is told only
//!   once the disk knows: a gateway that restarts neither sends it again nor says it never left.
//! - A record stays until every copy of its command is refused for its age and the answer has been
//!   there to read for a while (DEDUP-BOUND). Where there is no room, new commands are refused; an
//!   emergency stop cuts short the while of the record that would go next.

mod admit;
mod bucket;
mod disk;
mod flow;
mod news;
mod record;
mod slot;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use carriageway_proto::{CommandKey, Moment, Outcome, Phase, PolicyTable, VehicleId};

use bucket::Bucket;
use disk::Disk;
pub use disk::{Keep, Kept, Restored, Write, WriteId};
use record::News;
pub use record::{BadCommandId, CommandId, OnOffline, Record, Request, Step};
use slot::{Target, Vehicle};
use told::Telling;

/// How many and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of all vehicles.
    pub records: usize,
    /// Records of one vehicle.
    pub per_vehicle: usize,
    /// Records beyond both, for emergency stops alone.
    pub reserve: usize,
    /// Commands of one class that may wait for one vehicle.
    pub queued: usize,
    /// Commands per second that one operator may send, emergency stops apart.
    pub operator_rate: u32,
    /// Commands that one operator may send at once after a pause.
    pub operator_burst: u32,
    /// Operators whose rate is kept track of at once.
    pub operators: usize,
    /// How long a record stays after its terminal phase.
    pub keep: Duration,
    /// From the end of the ttl to UNKNOWN where the vehicle has said nothing.
    pub silence_grace: Duration,
    /// From the end of the ttl to UNKNOWN where the vehicle has said it has it. Below 10 s, the bound
    /// within which every command is terminal.
    pub execution_grace: Duration,
    /// From one failed write to the next attempt.
    pub disk_pause: Duration,
    /// How long an end waits for the disk before it is told without it. Added to `execution_grace` it stays
    /// below the 10 s within which every command is terminal.
    pub end_patience: Duration,
    /// The longest ttl of any class, and `ttl_factor` times its default the longest of each.
    pub longest_ttl: Duration,
    /// See `longest_ttl`: a drive command with a body command's patience is a mistake.
    pub ttl_factor: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 200_000,
            per_vehicle: 10_000,
            reserve: 1_000,
            queued: 256,
            operator_rate: 100,
            operator_burst: 1_000,
            operators: 10_000,
            keep: Duration::from_mins(10),
            silence_grace: Duration::from_secs(2),
            execution_grace: Duration::from_secs(9),
            disk_pause: Duration::from_secs(1),
            // A healthy disk takes milliseconds.
            end_patience: Duration::from_millis(750),
            longest_ttl: Duration::from_hours(7 * 24),
            ttl_factor: 10,
        }
    }
}

/// When a command began to come in: [`Commands::arrival`] makes it, [`Commands::submit`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    at: Moment,
    /// How often the clock had gone backwards by then.
    steps_back: u64,
}

impl Arrival {
    /// By the clock of then.
    pub fn at(self) -> Moment {
        self.at
    }
}

/// Whether the vehicle has a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It has, and its clock is known.
    Connected,
    /// It has none.
    Offline,
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A new record; what is to be done with it, [`Commands::poll`] says.
    Accepted {
        /// The record.
        id: CommandId,
        /// The ttl that holds.
        ttl: Duration,
    },
    /// The record that this key already has. Nothing is to be sent.
    Repeated(CommandId),
    /// A new record that ended in EXPIRED at once: its ttl passed before it was all here. Nothing is
    /// to be sent.
    Expired(CommandId),
    /// No record, and it will never execute.
    Refused(Refusal),
}

/// Why a command is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The vehicle has no connection.
    Offline,
    /// The key belongs to another command.
    KeyConflict(CommandId),
    /// No operator may send commands of this class.
    NoCommandClass,
    /// Zero, or longer than makes sense for its class.
    Ttl {
        /// The longest allowed.
        longest: Duration,
    },
    /// The class has no default ttl and the request names none.
    TtlMissing,
    /// Too many of this class for this vehicle; there is room again after this long.
    RateLimited(Duration),
    /// Too many by this operator; there is room again after this long.
    OperatorRate(Duration),
    /// As many of this class are under way to this vehicle as may be.
    InFlight {
        /// How many.
        limit: u32,
    },
    /// A drive command, and the operator does not hold the vehicle's lease.
    NoLease,
    /// A drive command, and the vehicle has not said in its present session whose its newest grant is.
    DriveStateUnknown,
    /// Commands of this class do not wait for a vehicle.
    NotQueueable,
    /// As many of this class wait for this vehicle as may.
    QueueFull {
        /// How many.
        limit: usize,
    },
    /// The disk takes nothing, and what waits has to be on it.
    DiskBroken,
    /// No room for another record.
    Full,
}

/// What happened to a command on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The link took the command that [`Output::Dispatch`] named.
    Sent(CommandId),
    /// The link did not take it: it never left.
    NotSent(CommandId, NotSent),
    /// The session says what became of its message.
    Delivery(CommandId, Delivery),
    /// The vehicle says what became of the command.
    Outcome(VehicleId, Outcome),
    /// Whether the vehicle has a connection, as far as known.
    Reach(VehicleId, Reach),
    /// What [`Output::Persist`] named is on disk.
    Persisted(WriteId),
    /// It is not, or perhaps not: it is tried again after a pause.
    PersistFailed(WriteId),
    /// Time has passed.
    Tick,
}

/// Why the link did not take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The vehicle has no session, or none with a connection.
    Unreachable,
    /// The lane is full.
    LaneFull,
}

/// What the session knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vehicle's session has it.
    Acknowledged,
    /// Its ttl passed before it ever left: the vehicle does not have it and never will.
    ExpiredUnsent,
    /// Its ttl passed after it had left, unacknowledged: the vehicle may have it.
    ExpiredSent,
    /// The session ended before it ever left: the vehicle does not have it and never will.
    LostUnsent,
    /// The session ended after it had left: the vehicle may have it.
    LostSent,
}

/// Something to do or to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A record reached a phase.
    Changed(Change),
    /// Hand the command to the vehicle's link now, and say [`Input::Sent`] or [`Input::NotSent`].
    Dispatch(CommandId),
    /// Ask the vehicle to withdraw the command, if there is a way to.
    Cancel(CommandId),
    /// A record is on disk for the first time.
    Durable(CommandId),
    /// Make this durable, and say [`Input::Persisted`] or [`Input::PersistFailed`]. There is one at a time.
    Persist(Write),
}

/// A record reached a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which record.
    pub id: CommandId,
    /// Which phase.
    pub phase: Phase,
}

/// What came of an outcome, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// The record took it.
    News,
    /// The record had it, or is past it.
    Repeat,
    /// The record ended otherwise, and not in UNKNOWN: one of the two is wrong.
    Contradiction,
    /// No record has this key and wish: it is long gone.
    Stranger,
}

/// The answer to the wish to withdraw a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceling {
    /// It is CANCELED: it never left.
    Canceled,
    /// It never leaves, and is CANCELED as soon as the disk knows.
    Noted,
    /// The vehicle has the word: its phase will tell.
    Asked,
    /// It has a terminal phase already.
    Ended,
    /// An emergency stop is not withdrawn.
    Stop,
    /// There is no such record.
    Unknown,
}

/// All records.
#[derive(Debug)]
pub struct Commands {
    limits: Limits,
    policies: PolicyTable,
    records: BTreeMap<CommandId, Record>,
    vehicles: BTreeMap<VehicleId, Vehicle>,
    operators: BTreeMap<String, Bucket>,
    due: BTreeSet<(Moment, CommandId)>,
    retries: BTreeSet<(Moment, CommandId)>,
    /// Targets where something may be released now.
    freed: VecDeque<(VehicleId, Target)>,
    places: u64,
    /// The last reading of the clock.
    latest: Moment,
    /// Nobody knows how old what has this place or a lower one is: the clock went backwards since.
    doubted: u64,
    /// How often the clock went backwards: what began to come in before the last time is of an unknown age too.
    steps_back: u64,
    unfinished: usize,
    disk: Disk,
    telling: Telling,
    outputs: VecDeque<Output>,
    heard: VecDeque<Heard>,
    evicted: u64,
}

impl Commands {
    /// None yet.
    pub fn new(limits: Limits, policies: PolicyTable) -> Self {
        Self {
            limits,
            policies,
            records: BTreeMap::new(),
            vehicles: BTreeMap::new(),
            operators: BTreeMap::new(),
            due: BTreeSet::new(),
            retries: BTreeSet::new(),
            freed: VecDeque::new(),
            places: 0,
            latest: Moment::ZERO,
            doubted: 0,
            steps_back: 0,
            unfinished: 0,
            disk: Disk::default(),
            telling: Telling::default(),
            outputs: VecDeque::new(),
            heard: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Takes in what happened; drain [`Commands::poll`] afterwards.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Sent(id) => drop(self.tell(now, id, News::of(Phase::Queued, "handed to the session"))),
            Input::NotSent(id, why) => self.not_sent(now, id, why),
            Input::Delivery(id, delivery) => self.delivered(now, id, delivery),
            Input::Outcome(vehicle, outcome) => self.outcome(now, &vehicle, outcome),
            Input::Reach(vehicle, reach) => self.reach(&vehicle, reach),
            Input::Persisted(write) => self.persisted(now, write),
            Input::PersistFailed(write) => self.persist_failed(now, write),
            Input::Tick => self.tick(now),
        }
        self.release_freed(now);
    }

    /// Takes in a reading of the clock; the more often, the smaller a step backwards that is noticed. Readings have to
    /// come in the order in which they were taken: others' of two threads would look like such a step. After one
    /// nobody knows how old what waits here is: it ends EXPIRED at the next [`Input::Tick`], which is due at once, and on
    /// disk, so that a restart does not release it either (FRESH). True after such a step.
    pub fn note(&mut self, now: Moment) -> bool {
        let is_back = now < std::mem::replace(&mut self.latest, now);
        if is_back {
            self.doubted = self.places;
            self.steps_back += 1;
            let may_leave = |record: &&Record| record.stage.may_leave();
            for id in self.records.values().filter(may_leave).map(|record| record.id).collect::<Vec<_>>() {
                self.set_due(id, now);
            }
        }
        is_back
    }

    /// A command begins to come in now. Once all of it is here it goes to [`Commands::submit`] with this.
    pub fn arrival(&mut self, now: Moment) -> Arrival {
        self.note(now);
        Arrival { at: now, steps_back: self.steps_back }
    }

    /// How old by `now` is what began to come in at `arrived`; `None` where the clock went backwards meanwhile.
    pub fn age(&self, now: Moment, arrived: Arrival) -> Option<Duration> {
        let is_known = arrived.steps_back == self.steps_back && arrived.at <= now;
        is_known.then(|| now.since(arrived.at))
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.next_write().map(Output::Persist))
    }

    /// What came of the next outcome that was taken in.
    pub fn poll_heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// How many records had to go before their time since this was last asked.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// When [`Input::Tick`] has something to do next.
    pub fn wakes_at(&self) -> Option<Moment> {
        let first = |times: &BTreeSet<(Moment, CommandId)>| times.first().map(|(at, _)| *at);
        [first(&self.due), first(&self.retries), self.disk.retries_at(), self.telling.wakes_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The record of this id, as it is: an end may not be on disk yet. [`Record::as_told`] is what may be
    /// shown of it.
    pub fn record(&self, id: CommandId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// The record of this vehicle and key.
    pub fn record_of(&self, vehicle: &VehicleId, key: &CommandKey) -> Option<&Record> {
        self.records.get(self.vehicles.get(vehicle)?.keys.get(key)?)
    }

    /// Commands without a terminal phase.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Commands on their way to vehicles or held for a moment: not those that wait on disk.
    pub fn under_way(&self) -> usize {
        self.vehicles.values().map(|vehicle| vehicle.under_way_of_all() as usize).sum()
    }

    /// Of those, the ones to `vehicle`.
    pub fn under_way_of(&self, vehicle: &VehicleId) -> u32 {
        self.vehicles.get(vehicle).map_or(0, Vehicle::under_way_of_all)
    }

    /// Commands that wait for their vehicles.
    pub fn queued(&self) -> usize {
        self.vehicles.values().map(Vehicle::queued).sum()
    }

    /// Vehicles that something waits for.
    pub fn awaited(&self) -> impl Iterator<Item = &VehicleId> {
        let waits = |vehicle: &Vehicle| vehicle.slots.values().any(|slot| slot.waiting.is_some());
        self.vehicles.iter().filter(move |(_, vehicle)| waits(vehicle)).map(|(id, _)| id)
    }

    /// Whether there is a record of this vehicle.
    pub fn knows(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.contains_key(vehicle)
    }

    /// Whether the last write failed, and none has gone well since.
    pub fn is_disk_broken(&self) -> bool {
        self.disk.is_broken()
    }

    /// Records with an end that was told and is not on disk: it could be told otherwise after a crash.
    pub fn loose_ends(&self) -> usize {
        self.telling.loose()
    }

    /// Whether everything that is to be on disk is there.
    pub fn is_settled(&self) -> bool {
        self.disk.is_settled()
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
