//! When a command goes: one in flight per target, one held, and what waits for the vehicle one at a time
//! of each class.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Moment, Phase, Reason, VehicleId};

use super::record::{News, Stage};
use super::slot::Target;
use super::{Canceling, CommandId, Commands, NotSent, OnOffline, Output, Reach};

/// Why a command to a vehicle that is not connected is QUEUED.
pub(super) const WAITS: &str = "waits for the vehicle, which is not connected";

/// From a full lane to the next attempt: lanes empty within a round trip or so.
const LANE_PAUSE: Duration = Duration::from_millis(100);

impl Commands {
    /// Brings a new command on its way, or into the place of the one that waits for its target.
    pub(super) fn enter(&mut self, now: Moment, id: CommandId) {
        let record = &self.records[&id];
        if record.request.class == Class::Safety {
            self.go(id);
            return;
        }
        let (vehicle, target) = self.place_of(id);
        let state = self.vehicles.get_mut(&vehicle).expect("a record's vehicle is there");
        let is_offline = state.reach == Reach::Offline;
        let slot = state.slots.entry(target.clone()).or_default();
        let (away, older) = (slot.away, slot.waiting.replace(id));
        if let Some(older) = older {
            self.finish(now, older, News::of(Phase::Superseded, superseded_by(id)));
            if sabotage::on(Sabotage::SupersededSent) {
                self.outputs.push_back(Output::Dispatch(older));
            }
        }
        if is_offline {
            self.set_stage(id, Stage::Queued);
        }
        self.release(now, &vehicle, &target);
        if self.records[&id].stage.is_waiting() {
            let why = match away {
                _ if is_offline => WAITS.to_owned(),
                Some(away) => format!("held until command {away} on the same target has ended"),
                None => "held: the last command for the same target left just now".to_owned(),
            };
            self.tell(now, id, News::of(Phase::Queued, why));
        }
    }

    /// The vehicle and target of a record that is there.
    fn place_of(&self, id: CommandId) -> (VehicleId, Target) {
        let request = &self.records[&id].request;
        (request.vehicle.clone(), (request.class, request.path.clone()))
    }

    /// Releases whatever may go now where something has changed.
    pub(super) fn release_freed(&mut self, now: Moment) {
        while let Some((vehicle, target)) = self.freed.pop_front() {
            self.release(now, &vehicle, &target);
            self.release_queue(now, &vehicle, target.0);
        }
    }

    /// The oldest of a class that waited for the vehicle, if none of it is in flight.
    fn release_queue(&mut self, now: Moment, vehicle: &VehicleId, class: Class) {
        loop {
            let Some(state) = self.vehicles.get(vehicle) else { return };
            let first = state.queues[class].first_key_value().map(|(_, id)| *id);
            let Some(id) = first.filter(|_| state.away[class] == 0) else { return };
            let (_, target) = self.place_of(id);
            self.release(now, vehicle, &target);
            if self.records.get(&id).is_some_and(|record| record.stage == Stage::Queued) {
                return;
            }
        }
    }

    /// Lets the command that waits for this target go, if it may.
    fn release(&mut self, now: Moment, vehicle: &VehicleId, target: &Target) {
        let Some(state) = self.vehicles.get_mut(vehicle) else { return };
        let Some(slot) = state.slots.get(target) else { return };
        let is_free = slot.away.is_none() || sabotage::on(Sabotage::TwoInFlight);
        let Some(id) = slot.waiting.filter(|_| is_free && state.reach == Reach::Connected) else {
            return;
        };
        let is_lone = slot.released.is_none();
        if is_lone && sabotage::on(Sabotage::LoneCommandDropped) {
            return self.finish(now, id, News::of(Phase::Superseded, "dropped"));
        }
        if sabotage::on(Sabotage::QueueNotFiltered)
            && let Some(record) = self.records.get_mut(&id).filter(|record| record.stage == Stage::Queued)
        {
            record.accepted = now;
        }
        let record = &self.records[&id];
        if record.lives_until() <= now || record.place <= self.doubted {
            self.expire(now, id);
            return;
        }
        let class = target.0;
        let is_first = state.queues[class].first_key_value().is_none_or(|(_, first)| *first == id);
        let is_next = state.away[class] == 0 && is_first;
        if record.stage == Stage::Queued && !is_next && !sabotage::on(Sabotage::QueueReleasedAtOnce) {
            return;
        }
        let policy = &self.policies[class];
        let free = slot.released.map_or(now, |released| released + policy.duplicate_window);
        if is_lone
            && sabotage::on(Sabotage::LoneCommandHeld)
            && now < record.accepted + policy.duplicate_window
        {
            return self.set_retry(id, Some(record.accepted + policy.duplicate_window));
        }
        if now < free {
            self.set_retry(id, Some(free));
        } else if let Err(wait) = state.releases[class].take(policy, now) {
            self.set_retry(id, Some(now + wait));
        } else {
            let slot = state.slots.get_mut(target).expect("it was there a moment ago");
            (slot.waiting, slot.away, slot.released) = (None, Some(id), Some(now));
            self.go(id);
        }
    }

    /// What a restarted gateway would release again is marked on disk first.
    fn go(&mut self, id: CommandId) {
        self.set_retry(id, None);
        if self.records[&id].disk.is_releasable {
            self.set_stage(id, Stage::Leaving);
            self.touch(id);
        } else {
            self.set_stage(id, Stage::Away);
            self.outputs.push_back(Output::Dispatch(id));
        }
    }

    /// The disk knows that it leaves: it goes now, or stays after all.
    pub(super) fn depart(&mut self, now: Moment, id: CommandId) {
        let record = &self.records[&id];
        let reach = self.vehicles[&record.request.vehicle].reach;
        if record.lives_until() <= now || record.place <= self.doubted {
            self.expire(now, id);
        } else if reach == Reach::Offline {
            self.back(now, id);
        } else {
            // Its window counts from when it goes, however long the disk took.
            let (vehicle, target) = self.place_of(id);
            let state = self.vehicles.get_mut(&vehicle).expect("a record's vehicle is there");
            state.slots.entry(target).or_default().released = Some(now);
            self.set_stage(id, Stage::Away);
            self.outputs.push_back(Output::Dispatch(id));
        }
    }

    pub(super) fn expire(&mut self, now: Moment, id: CommandId) {
        let why = "its ttl passed before it could be sent; certainly not executed";
        let unknowable = "the gateway's clock went backwards while it waited; certainly not executed";
        let news = if self.records[&id].place <= self.doubted {
            let (phase, reason) = (Phase::Expired, Some(Reason::AgeUnknowable));
            News { phase, reason, detail: unknowable.into() }
        } else {
            News::of(Phase::Expired, why)
        };
        self.tell(now, id, news);
    }

    /// A command that certainly never left waits again, unless something newer or an operator decided
    /// otherwise meanwhile.
    pub(super) fn back(&mut self, now: Moment, id: CommandId) {
        let (vehicle, target) = self.place_of(id);
        let state = self.vehicles.get_mut(&vehicle).expect("a record's vehicle is there");
        let slot = state.slots.entry(target).or_default();
        if slot.away.take_if(|away| *away == id).is_some() {
            slot.released = None;
        }
        let newer = slot.waiting.filter(|newer| *newer != id);
        slot.waiting.get_or_insert(id);
        self.set_stage(id, Stage::Queued);
        self.touch(id);
        if self.records[&id].is_unwanted {
            self.finish(now, id, withdrawn());
        } else if let Some(newer) = newer {
            self.finish(now, id, News::of(Phase::Superseded, superseded_by(newer)));
        }
    }

    /// The link took nothing. A command that nobody has heard of yet leaves no trace; its key is free
    /// again.
    pub(super) fn not_sent(&mut self, now: Moment, id: CommandId, why: NotSent) {
        let Some(record) = self.records.get(&id).filter(|record| record.stage == Stage::Away) else { return };
        let vehicle = record.request.vehicle.clone();
        if why == NotSent::Unreachable {
            self.reach(&vehicle, Reach::Offline);
        }
        let record = &self.records[&id];
        if record.phase() == Phase::Created && record.request.on_offline == OnOffline::Fail {
            self.withdraw(id);
        } else {
            self.back(now, id);
            if self.records[&id].stage.is_waiting() {
                self.set_retry(id, Some(now + LANE_PAUSE));
            }
        }
    }

    /// Takes a record back that nobody was told of, or only that it was made.
    pub(super) fn withdraw(&mut self, id: CommandId) {
        self.vacate(id);
        self.remove(id);
        self.outputs.retain(|output| !matches!(output, Output::Changed(change) if change.id == id));
    }

    /// What never left opens no window.
    pub(super) fn forget_the_release(&mut self, id: CommandId) {
        let (vehicle, target) = self.place_of(id);
        let slots = self.vehicles.get_mut(&vehicle).map(|state| &mut state.slots);
        if let Some(slot) =
            slots.and_then(|slots| slots.get_mut(&target)).filter(|slot| slot.away == Some(id))
        {
            slot.released = None;
        }
    }

    /// Takes the command out of its target's slot, which may let the next one go.
    pub(super) fn vacate(&mut self, id: CommandId) {
        let (vehicle, target) = self.place_of(id);
        let record = &self.records[&id];
        // Nobody was told that it went, or it waits for the disk to know that it does.
        let never_left = record.phase() == Phase::Created || record.stage == Stage::Leaving;
        let Some(state) = self.vehicles.get_mut(&vehicle) else { return };
        let Some(slot) = state.slots.get_mut(&target) else { return };
        if slot.away.take_if(|away| *away == id).is_some() && never_left {
            slot.released = None;
        }
        slot.waiting.take_if(|waiting| *waiting == id);
        self.freed.push_back((vehicle, target));
    }

    /// Ends a command that is here. One that waits on disk is told to have ended only once the disk
    /// knows: or else a gateway that restarts would release it after all, or call it UNKNOWN.
    pub(super) fn finish(&mut self, now: Moment, id: CommandId, news: News) {
        let record = &self.records[&id];
        if record.request.on_offline == OnOffline::Fail || !record.disk.is_written {
            self.tell(now, id, news);
            return;
        }
        self.vacate(id);
        self.set_stage(id, Stage::Ending(news));
        self.set_retry(id, None);
        self.touch(id);
    }

    /// The command brought about what the one that waits behind it asks for.
    pub(super) fn spare_the_next(&mut self, now: Moment, id: CommandId) {
        let (vehicle, target) = self.place_of(id);
        let waiting = self.vehicles[&vehicle].slots.get(&target).and_then(|slot| slot.waiting);
        let Some(waiting) = waiting else { return };
        if self.records[&waiting].request.value == self.records[&id].request.value {
            let detail = format!("already brought about by command {id}");
            self.finish(
                now,
                waiting,
                News { phase: Phase::Superseded, reason: Some(Reason::Duplicate), detail },
            );
        }
    }

    /// Withdraws a command: at once where it is still here, else the vehicle is asked.
    pub fn cancel(&mut self, now: Moment, id: CommandId) -> Canceling {
        let Some(record) = self.records.get_mut(&id) else { return Canceling::Unknown };
        let answer = match &record.stage {
            Stage::Ended => Canceling::Ended,
            Stage::Ending(_) => Canceling::Noted,
            _ if record.request.class == Class::Safety => Canceling::Stop,
            Stage::Away => {
                record.is_unwanted = true;
                self.outputs.push_back(Output::Cancel(id));
                Canceling::Asked
            }
            Stage::Held | Stage::Queued | Stage::Leaving => {
                self.finish(now, id, withdrawn());
                let is_over = self.records[&id].phase().is_terminal();
                if is_over { Canceling::Canceled } else { Canceling::Noted }
            }
        };
        self.release_freed(now);
        answer
    }

    /// Notes whether the vehicle has a connection. What is held while it has none waits for it from now
    /// on; what was to be withdrawn is asked for again once it is back, for its session may be another.
    pub(super) fn reach(&mut self, vehicle: &VehicleId, reach: Reach) {
        let Some(state) = self.vehicles.get_mut(vehicle).filter(|state| state.reach != reach) else { return };
        state.reach = reach;
        let slots = state.slots.iter();
        let places: Vec<_> = slots.map(|(target, slot)| (target.clone(), slot.away, slot.waiting)).collect();
        for (target, away, waiting) in places {
            match reach {
                Reach::Offline => {
                    if let Some(held) = waiting {
                        self.set_stage(held, Stage::Queued);
                    }
                }
                Reach::Connected => {
                    let unwanted = away
                        .filter(|id| self.records[id].is_unwanted && self.records[id].stage == Stage::Away);
                    self.outputs.extend(unwanted.map(Output::Cancel));
                    self.freed.push_back((vehicle.clone(), target));
                }
            }
        }
    }
}

pub(super) fn superseded_by(id: CommandId) -> String {
    format!("command {id} for the same target came after it; certainly not executed")
}

fn withdrawn() -> News {
    News::of(Phase::Canceled, "withdrawn before it left; certainly not executed")
}
