//! The command service: one record per (vehicle, idempotency key), and what is true of it.
//!
//! - The same key with the same payload is the same record, and goes to the vehicle once (ONCE);
//!   with another payload it is refused (KEY).
//! - Phases only rise, and a command is terminal soon after its ttl: EXPIRED only where it certainly
//!   never left, UNKNOWN where the vehicle may have acted (ACK-TRUTH).
//! - A vehicle without a connection gets nothing: the command is refused and leaves no record
//!   (OFFLINE).
//! - A record stays until every copy of its command is refused for its age and the answer has been
//!   there to read for a while (DEDUP-BOUND). Where there is no room, new commands are refused; an
//!   emergency stop cuts short the while of the record that would go next.
//!
//! Records live in memory: a restarted gateway has forgotten them. What keeps a command from being
//! executed twice across that is the vehicle's own journal.

mod bucket;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, ClassMap, CommandKey, Moment, Outcome, Phase, PolicyTable, VehicleId};

use bucket::Bucket;
use record::News;
pub use record::{BadCommandId, CommandId, Record, Request, Step};

/// How many and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of all vehicles.
    pub records: usize,
    /// Records of one vehicle.
    pub per_vehicle: usize,
    /// Records beyond both, for emergency stops alone.
    pub reserve: usize,
    /// How long a record stays after its terminal phase.
    pub keep: Duration,
    /// From the end of the ttl to UNKNOWN where the vehicle has said nothing.
    pub silence_grace: Duration,
    /// From the end of the ttl to UNKNOWN where the vehicle has said it has it. Below 10 s, the bound
    /// within which every command is terminal.
    pub execution_grace: Duration,
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
            keep: Duration::from_mins(10),
            silence_grace: Duration::from_secs(2),
            execution_grace: Duration::from_secs(9),
            longest_ttl: Duration::from_hours(7 * 24),
            ttl_factor: 10,
        }
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
    /// A new record. Hand the command to the link and say so: [`Commands::queued`] or
    /// [`Commands::withdraw`].
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
    /// As many of this class are under way to this vehicle as may be.
    InFlight {
        /// How many.
        limit: u32,
    },
    /// No room for another record.
    Full,
}

/// What happened to a command on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The session says what became of its message.
    Delivery(CommandId, Delivery),
    /// The vehicle says what became of the command.
    Outcome(VehicleId, Outcome),
    /// Time has passed.
    Tick,
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
    /// No record has this key and wish: the gateway restarted, or it is long gone.
    Stranger,
}

/// All records.
#[derive(Debug)]
pub struct Commands {
    limits: Limits,
    policies: PolicyTable,
    records: BTreeMap<CommandId, Record>,
    vehicles: BTreeMap<VehicleId, Vehicle>,
    due: BTreeSet<(Moment, CommandId)>,
    unfinished: usize,
    changes: VecDeque<Change>,
    heard: VecDeque<Heard>,
    evicted: u64,
}

#[derive(Debug)]
struct Vehicle {
    keys: BTreeMap<CommandKey, CommandId>,
    buckets: ClassMap<Bucket>,
    in_flight: ClassMap<u32>,
}

impl Commands {
    /// None yet.
    pub fn new(limits: Limits, policies: PolicyTable) -> Self {
        Self {
            limits,
            policies,
            records: BTreeMap::new(),
            vehicles: BTreeMap::new(),
            due: BTreeSet::new(),
            unfinished: 0,
            changes: VecDeque::new(),
            heard: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Decides on a command. It lives from `arrived`, when it began to come in, however long the rest
    /// of it took. `fresh` is the id of its record, should there be a new one. A repeat is answered
    /// from the record whatever the state of the vehicle.
    pub fn submit(
        &mut self,
        now: Moment,
        arrived: Moment,
        fresh: CommandId,
        request: Request,
        reach: Reach,
    ) -> Submitted {
        match self.admit(now, &request, reach) {
            Ok(Admitted::Repeat(id)) => Submitted::Repeated(id),
            Ok(Admitted::New { ttl }) => {
                let arrived = if sabotage::on(Sabotage::TtlFromAcceptance) { now } else { arrived };
                let record = Record::new(arrived, fresh, request, ttl);
                // A clock that went backwards meanwhile: nobody knows how long the rest of it took.
                let is_late = record.lives_until() <= now || now < record.accepted;
                self.insert(now, record);
                if is_late {
                    let detail = "its ttl passed before all of it had arrived; certainly not executed";
                    self.tell(now, fresh, News::of(Phase::Expired, detail));
                    return Submitted::Expired(fresh);
                }
                Submitted::Accepted { id: fresh, ttl }
            }
            Err(refusal) => Submitted::Refused(refusal),
        }
    }

    fn admit(&mut self, now: Moment, request: &Request, reach: Reach) -> Result<Admitted, Refusal> {
        if !request.class.is_command() {
            return Err(Refusal::NoCommandClass);
        }
        let ttl = self.ttl(request)?;
        if let Some(known) = self.record_of(&request.vehicle, &request.key) {
            let same = known.same_payload(request, ttl) || sabotage::on(Sabotage::ConflictUnnoticedByGateway);
            return if same { Ok(Admitted::Repeat(known.id)) } else { Err(Refusal::KeyConflict(known.id)) };
        }
        if reach == Reach::Offline {
            return Err(Refusal::Offline);
        }
        if request.class == Class::Safety {
            self.make_room(now, &request.vehicle);
        }
        self.room(request)?;
        self.rate(now, request)?;
        Ok(Admitted::New { ttl })
    }

    /// The ttl that holds for `request`.
    fn ttl(&self, request: &Request) -> Result<Duration, Refusal> {
        let default = self.policies[request.class].ttl;
        let longest = match default {
            Some(default) => (default * self.limits.ttl_factor).min(self.limits.longest_ttl),
            None => self.limits.longest_ttl,
        };
        let ttl = request.ttl.or(default).ok_or(Refusal::TtlMissing)?;
        if ttl.is_zero() || ttl > longest { Err(Refusal::Ttl { longest }) } else { Ok(ttl) }
    }

    /// Where even the reserve is full, lets go of an ended record that every copy is too old for, of
    /// the vehicle's own where those are too many. One is there unless all have ended just now.
    fn make_room(&mut self, now: Moment, vehicle: &VehicleId) {
        let Limits { records, per_vehicle, reserve, .. } = self.limits;
        let own = self.vehicles.get(vehicle).map(|vehicle| &vehicle.keys);
        let victim = if let Some(own) = own.filter(|own| own.len() >= per_vehicle + reserve) {
            let stale = own.values().filter(|id| self.is_stale(now, **id));
            stale.min_by_key(|id| self.records[*id].due).copied()
        } else if self.records.len() >= records + reserve {
            self.due.iter().map(|(_, id)| *id).find(|id| self.is_stale(now, *id))
        } else {
            None
        };
        if let Some(victim) = victim {
            self.remove(victim);
            self.evicted += 1;
        }
    }

    /// Ended, and the vehicle refuses every copy of it for its age.
    fn is_stale(&self, now: Moment, id: CommandId) -> bool {
        let record = &self.records[&id];
        record.phase().is_terminal() && record.lives_until() + self.limits.execution_grace <= now
    }

    /// Room for a record and for a command under way. An emergency stop has a reserve, and as many
    /// under way as come.
    fn room(&self, request: &Request) -> Result<(), Refusal> {
        let safety = request.class == Class::Safety;
        let reserve = if safety { self.limits.reserve } else { 0 };
        let vehicle = self.vehicles.get(&request.vehicle);
        let held = vehicle.map_or(0, |vehicle| vehicle.keys.len());
        if self.records.len() >= self.limits.records + reserve || held >= self.limits.per_vehicle + reserve {
            return Err(Refusal::Full);
        }
        let limit = self.policies[request.class].in_flight;
        let under_way = vehicle.map_or(0, |vehicle| vehicle.in_flight[request.class]);
        if !safety && under_way >= limit && !sabotage::on(Sabotage::InFlightUnbounded) {
            Err(Refusal::InFlight { limit })
        } else {
            Ok(())
        }
    }

    fn rate(&mut self, now: Moment, request: &Request) -> Result<(), Refusal> {
        let policies = &self.policies;
        let Some(vehicle) = self.vehicles.get_mut(&request.vehicle) else { return Ok(()) };
        match request.class {
            Class::Safety => Ok(()),
            class => vehicle.buckets[class].take(&policies[class], now).map_err(Refusal::RateLimited),
        }
    }

    fn insert(&mut self, now: Moment, record: Record) {
        let (id, class) = (record.id, record.request.class);
        let policies = &self.policies;
        let vehicle = self.vehicles.entry(record.request.vehicle.clone()).or_insert_with(|| {
            let mut buckets = ClassMap::from_fn(|class| Bucket::full(&policies[class], now));
            // The first command of a vehicle is one of its burst.
            let _full_before = buckets[class].take(&policies[class], now);
            Vehicle { keys: BTreeMap::new(), buckets, in_flight: ClassMap::default() }
        });
        vehicle.keys.insert(record.request.key.clone(), id);
        vehicle.in_flight[class] += 1;
        self.unfinished += 1;
        self.due.insert((record.due, id));
        self.records.insert(id, record);
        self.changes.push_back(Change { id, phase: Phase::Created });
    }

    /// The link took the command.
    pub fn queued(&mut self, now: Moment, id: CommandId) {
        self.tell(now, id, News::of(Phase::Queued, ""));
    }

    /// The link refused the command: it never left, its record goes, and its key is free again.
    /// Nothing if it is past that.
    pub fn withdraw(&mut self, id: CommandId) {
        if self.records.get(&id).is_some_and(|record| record.phase() == Phase::Created) {
            self.remove(id);
            self.changes.retain(|change| change.id != id);
        }
    }

    /// Takes in what happened; drain [`Commands::poll`] afterwards.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Delivery(id, delivery) => self.delivered(now, id, delivery),
            Input::Outcome(vehicle, outcome) => self.outcome(now, &vehicle, outcome),
            Input::Tick => self.tick(now),
        }
    }

    /// The next change to tell.
    pub fn poll(&mut self) -> Option<Change> {
        self.changes.pop_front()
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
        self.due.first().map(|(due, _)| *due)
    }

    fn delivered(&mut self, now: Moment, id: CommandId, delivery: Delivery) {
        match delivery {
            // Sent, but out of time: its outcome may be on its way, the record's own deadline decides.
            Delivery::Acknowledged | Delivery::ExpiredSent => {
                self.tell(now, id, News::of(Phase::Dispatched, ""));
            }
            Delivery::ExpiredUnsent => {
                self.unsent(now, id, "its ttl passed before it could be sent; certainly not executed");
            }
            Delivery::LostUnsent => {
                self.unsent(now, id, "the session ended before it could be sent; certainly not executed");
            }
            Delivery::LostSent => self.lost(now, id),
        }
    }

    /// Certain only while the vehicle has not spoken of it.
    fn unsent(&mut self, now: Moment, id: CommandId, detail: &str) {
        if self.records.get(&id).is_some_and(|record| record.phase() <= Phase::Queued) {
            self.tell(now, id, News::of(Phase::Expired, detail));
        }
    }

    /// The vehicle may have it, and its session is gone: a word from the next session gets the
    /// silence's grace, for there is no reason to wait for the whole ttl.
    fn lost(&mut self, now: Moment, id: CommandId) {
        self.tell(now, id, News::of(Phase::Dispatched, ""));
        let soon = now + self.limits.silence_grace;
        self.change(id, |record| {
            if !record.phase().is_terminal() {
                record.due = record.due.min(soon);
            }
            false
        });
    }

    /// IDENT: a vehicle speaks of its own keys only.
    fn outcome(&mut self, now: Moment, vehicle: &VehicleId, outcome: Outcome) {
        let Outcome { key, phase, reason, detail, fingerprint } = outcome;
        let is_meant = |record: &&Record| {
            fingerprint.is_none_or(|print| print == record.request.fingerprint())
                || sabotage::on(Sabotage::OutcomeOfAnotherWish)
        };
        let Some(record) = self.record_of(vehicle, &key).filter(is_meant) else {
            self.heard.push_back(Heard::Stranger);
            return;
        };
        let (id, before) = (record.id, record.phase());
        // Only the gateway says these.
        let ours = matches!(phase, Phase::Created | Phase::Queued | Phase::Dispatched);
        let taken = !ours && self.tell(now, id, News { phase, reason, detail });
        self.heard.push_back(match taken {
            true => Heard::News,
            false if before.is_terminal() && phase.is_terminal() && phase != before => Heard::Contradiction,
            false => Heard::Repeat,
        });
    }

    fn tick(&mut self, now: Moment) {
        while let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            match self.records[&id].phase() {
                Phase::Created => {
                    self.tell(now, id, News::of(Phase::Expired, "never sent; certainly not executed"));
                }
                Phase::Queued | Phase::Dispatched | Phase::Received | Phase::Executing => {
                    self.tell(
                        now,
                        id,
                        News::of(Phase::Unknown, "no outcome in time; the vehicle may have acted"),
                    );
                }
                Phase::Succeeded
                | Phase::Failed
                | Phase::Rejected
                | Phase::Expired
                | Phase::Superseded
                | Phase::Canceled
                | Phase::Unknown => self.remove(id),
            }
        }
    }

    /// Gives the record its news. True if it took them.
    fn tell(&mut self, now: Moment, id: CommandId, news: News) -> bool {
        let phase = news.phase;
        let limits = self.limits;
        let taken = self.change(id, |record| record.rise(now, news, &limits));
        if taken {
            self.changes.push_back(Change { id, phase });
        }
        taken
    }

    /// Changes a record and keeps the timers and counts true to it.
    fn change(&mut self, id: CommandId, change: impl FnOnce(&mut Record) -> bool) -> bool {
        let Some(record) = self.records.get_mut(&id) else { return false };
        let (before, due) = (record.phase(), record.due);
        let taken = change(record);
        if record.due != due {
            self.due.remove(&(due, id));
            self.due.insert((record.due, id));
        }
        if !before.is_terminal() && record.phase().is_terminal() {
            let (vehicle, class) = (record.request.vehicle.clone(), record.request.class);
            self.finished(&vehicle, class);
        }
        taken
    }

    fn finished(&mut self, vehicle: &VehicleId, class: Class) {
        self.unfinished -= 1;
        if let Some(vehicle) = self.vehicles.get_mut(vehicle) {
            vehicle.in_flight[class] -= 1;
        }
    }

    fn remove(&mut self, id: CommandId) {
        let Some(record) = self.records.remove(&id) else { return };
        self.due.remove(&(record.due, id));
        if !record.phase().is_terminal() {
            self.finished(&record.request.vehicle, record.request.class);
        }
        let Some(vehicle) = self.vehicles.get_mut(&record.request.vehicle) else { return };
        vehicle.keys.remove(&record.request.key);
        if vehicle.keys.is_empty() {
            self.vehicles.remove(&record.request.vehicle);
        }
    }

    /// The record of this id.
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

    /// Commands to `vehicle` without a terminal phase.
    pub fn unfinished_of(&self, vehicle: &VehicleId) -> u32 {
        self.vehicles.get(vehicle).map_or(0, |vehicle| vehicle.in_flight.iter().map(|(_, count)| count).sum())
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

enum Admitted {
    New { ttl: Duration },
    Repeat(CommandId),
}
