//! Which commands are accepted.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Moment, Phase, Reason, VehicleId};

use super::bucket::{Bucket, Rate};
use super::record::{News, Stage};
use super::slot::Vehicle;
use super::{Arrival, CommandId, Commands, Limits, OnOffline, Reach, Record, Refusal, Request, Submitted};
use crate::core::lease::NotDriving;

enum Admitted {
    New { ttl: Duration },
    Repeat(CommandId),
}

impl Commands {
    /// Decides on a command. It lives from `arrived`, when it began to come in, however long the rest
    /// of it took; where the clock went backwards meanwhile nobody knows how old it is, and it ends EXPIRED
    /// (FRESH). `fresh` is the id of its record, should there be a new one. A repeat is answered
    /// from the record whatever the state of the vehicle.
    pub fn submit(
        &mut self,
        now: Moment,
        arrived: Arrival,
        fresh: CommandId,
        request: Request,
        reach: Reach,
    ) -> Submitted {
        self.reach(&request.vehicle, reach);
        self.release_freed(now);
        match self.admit(now, &request, reach) {
            Ok(Admitted::Repeat(id)) => Submitted::Repeated(id),
            Ok(Admitted::New { ttl }) => {
                let is_from_now = sabotage::on(Sabotage::TtlFromAcceptance);
                let arrived = if is_from_now { self.arrival(now) } else { arrived };
                let record = Record::new(arrived.at, fresh, request, ttl);
                let too_late = self.too_late(now, arrived, &record);
                let is_late = too_late.is_some();
                // Nobody is told of what waits for its vehicle and is not accepted yet; what is too late waits for nothing.
                let is_untold = record.request.on_offline == OnOffline::Queue
                    && reach == Reach::Offline
                    && !is_late
                    && !sabotage::on(Sabotage::QueueNotAwaited);
                self.insert(now, Record { is_untold, ..record }, reach);
                if let Some(news) = too_late {
                    self.tell(now, fresh, news);
                    return Submitted::Expired(fresh);
                }
                if self.records[&fresh].is_untold {
                    // It takes its place once it is accepted, which is when it is on disk.
                    self.set_stage(fresh, Stage::Queued);
                    self.tell(now, fresh, News::of(Phase::Queued, super::flow::WAITS));
                } else {
                    self.enter(now, fresh);
                }
                self.release_freed(now);
                Submitted::Accepted { id: fresh, ttl }
            }
            Err(refusal) => Submitted::Refused(refusal),
        }
    }

    /// How a command ends that may not go any more now that all of it is here.
    fn too_late(&self, now: Moment, arrived: Arrival, record: &Record) -> Option<News> {
        if self.age(now, arrived).is_none() {
            let detail = "the gateway's clock went backwards while it came in; certainly not executed";
            return Some(News { reason: Some(Reason::AgeUnknowable), ..News::of(Phase::Expired, detail) });
        }
        let detail = "its ttl passed before all of it had arrived; certainly not executed";
        (record.lives_until() <= now).then(|| News::of(Phase::Expired, detail))
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
        match request.on_offline {
            OnOffline::Fail if reach == Reach::Offline => return Err(Refusal::Offline),
            OnOffline::Queue if !self.policies[request.class].queue_offline => {
                return Err(Refusal::NotQueueable);
            }
            OnOffline::Queue if self.is_disk_broken() => return Err(Refusal::DiskBroken),
            OnOffline::Fail | OnOffline::Queue => {}
        }
        if request.class == Class::Drive {
            request.drives.map_err(|why| match why {
                NotDriving::NoLease => Refusal::NoLease,
                NotDriving::Unheard => Refusal::DriveStateUnknown,
            })?;
        }
        if request.class == Class::Safety {
            self.make_room(now, &request.vehicle);
        }
        self.room(request, reach)?;
        if request.class != Class::Safety {
            self.rate(now, request)?;
        }
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

    /// Room for a record and for a command under way or in the queue. An emergency stop has a reserve,
    /// and as many under way as come. One that takes another's place needs none of its own.
    fn room(&self, request: &Request, reach: Reach) -> Result<(), Refusal> {
        let safety = request.class == Class::Safety;
        let reserve = if safety { self.limits.reserve } else { 0 };
        let vehicle = self.vehicles.get(&request.vehicle);
        let held = vehicle.map_or(0, |vehicle| vehicle.keys.len());
        if self.records.len() >= self.limits.records + reserve || held >= self.limits.per_vehicle + reserve {
            return Err(Refusal::Full);
        }
        let Some(vehicle) = vehicle.filter(|_| !safety) else { return Ok(()) };
        let slot = vehicle.slots.get(&(request.class, request.path.clone()));
        if slot.is_some_and(|slot| slot.waiting.is_some()) {
            return Ok(());
        }
        let (mut limit, queued) = (self.policies[request.class].in_flight, self.limits.queued);
        if sabotage::on(Sabotage::InFlightUnbounded) {
            limit = u32::MAX;
        }
        match reach {
            Reach::Connected if vehicle.under_way[request.class] >= limit => Err(Refusal::InFlight { limit }),
            Reach::Offline if vehicle.queues[request.class].len() >= queued => {
                Err(Refusal::QueueFull { limit: queued })
            }
            Reach::Connected | Reach::Offline => Ok(()),
        }
    }

    /// RATE, by vehicle and class and by operator. Nothing is taken from either where one refuses.
    fn rate(&mut self, now: Moment, request: &Request) -> Result<(), Refusal> {
        let rate = Rate::from(&self.policies[request.class]);
        let mut bucket = match self.vehicles.get(&request.vehicle) {
            Some(vehicle) => vehicle.buckets[request.class],
            None => Bucket::full(rate, now),
        };
        bucket.take(rate, now).map_err(Refusal::RateLimited)?;
        self.operator(now, &request.operator).map_err(Refusal::OperatorRate)?;
        let (policies, vehicle) = (&self.policies, request.vehicle.clone());
        let vehicle =
            self.vehicles.entry(vehicle).or_insert_with(|| Vehicle::new(policies, now, Reach::Offline));
        vehicle.buckets[request.class] = bucket;
        Ok(())
    }

    /// Counts one wish of an operator against their rate, or says how long until one is allowed. One that has not
    /// asked for anything in a while has a full bucket and needs none.
    pub fn operator(&mut self, now: Moment, operator: &str) -> Result<(), Duration> {
        let Limits { operator_rate, operator_burst, operators, .. } = self.limits;
        let rate = Rate { per_second: Some(operator_rate), burst: operator_burst };
        if !self.operators.contains_key(operator) {
            if self.operators.len() >= operators {
                self.operators.retain(|_, bucket| !bucket.is_full(rate, now));
            }
            if self.operators.len() >= operators {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = self.operators.entry(operator.to_owned()).or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }

    pub(super) fn insert(&mut self, now: Moment, mut record: Record, reach: Reach) {
        self.places += 1;
        record.place = self.places;
        let id = record.id;
        self.adopt(now, record, reach);
        self.touch(id);
        self.show(now, id);
    }

    /// Takes a record into every index.
    pub(super) fn adopt(&mut self, now: Moment, record: Record, reach: Reach) {
        let (id, class) = (record.id, record.request.class);
        let policies = &self.policies;
        let vehicle = self.vehicles.entry(record.request.vehicle.clone());
        let vehicle = vehicle.or_insert_with(|| Vehicle::new(policies, now, reach));
        vehicle.reach = reach;
        vehicle.keys.insert(record.request.key.clone(), id);
        vehicle.count(class, &record.stage, record.place, id, true);
        self.unfinished += usize::from(record.stage != Stage::Ended);
        self.due.insert((record.due, id));
        self.records.insert(id, record);
    }

    pub(super) fn remove(&mut self, id: CommandId) {
        self.set_stage(id, Stage::Ended);
        self.set_retry(id, None);
        let Some(record) = self.records.remove(&id) else { return };
        self.due.remove(&(record.due, id));
        self.disk.forget(&record, &self.limits);
        self.telling.forget(&record);
        let Some(vehicle) = self.vehicles.get_mut(&record.request.vehicle) else { return };
        vehicle.keys.remove(&record.request.key);
        if vehicle.keys.is_empty() {
            self.vehicles.remove(&record.request.vehicle);
            return;
        }
        // By now its window is long past: what it released, or another did.
        let target = (record.request.class, record.request.path);
        let is_idle = |slot: &super::slot::Slot| slot.away.is_none() && slot.waiting.is_none();
        if vehicle.slots.get(&target).is_some_and(is_idle) {
            vehicle.slots.remove(&target);
        }
    }
}
