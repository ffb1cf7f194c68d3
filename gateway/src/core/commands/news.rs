//! What is heard of a command, and what silence means.

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Moment, Outcome, Phase, VehicleId};

use super::record::{News, Stage};
use super::{CommandId, Commands, Delivery, Heard, OnOffline};

impl Commands {
    pub(super) fn delivered(&mut self, now: Moment, id: CommandId, delivery: Delivery) {
        if self.records.get(&id).is_none_or(|record| record.stage != Stage::Away) {
            return;
        }
        match delivery {
            // Sent, but out of time: its outcome may be on its way, the record's own deadline decides.
            Delivery::Acknowledged => {
                self.tell(now, id, News::of(Phase::Dispatched, "the vehicle's session has it"));
            }
            Delivery::ExpiredSent => {
                self.tell(now, id, News::of(Phase::Dispatched, "sent, and not acknowledged within its ttl"));
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
        let Some(record) = self.records.get(&id).filter(|record| record.phase() <= Phase::Queued) else {
            return;
        };
        if record.request.on_offline == OnOffline::Queue && now < record.lives_until() {
            self.back(now, id);
            let request = &self.records[&id].request;
            self.freed.push_back((request.vehicle.clone(), (request.class, request.path.clone())));
        } else {
            self.forget_the_release(id);
            self.tell(now, id, News::of(Phase::Expired, detail));
        }
    }

    /// The vehicle may have it, and its session is gone: a word from the next session gets the
    /// silence's grace, for there is no reason to wait for the whole ttl.
    fn lost(&mut self, now: Moment, id: CommandId) {
        self.tell(now, id, News::of(Phase::Dispatched, "sent; its session ended before it was acknowledged"));
        let soon = now + self.limits.silence_grace;
        let record = &self.records[&id];
        if !record.phase().is_terminal() {
            self.set_due(id, record.due.min(soon));
        }
    }

    /// IDENT: a vehicle speaks of its own keys only.
    pub(super) fn outcome(&mut self, now: Moment, vehicle: &VehicleId, outcome: Outcome) {
        let Outcome { key, phase, reason, detail, fingerprint } = outcome;
        let fits =
            |print| self.record_of(vehicle, &key).is_some_and(|record| print == record.request.fingerprint());
        let record = self
            .record_of(vehicle, &key)
            .filter(|_| fingerprint.is_none_or(fits) || sabotage::on(Sabotage::OutcomeOfAnotherWish));
        let Some((id, before)) = record.map(|record| (record.id, record.phase())) else {
            self.heard.push_back(Heard::Stranger);
            return;
        };
        // Only the gateway says these.
        let ours = matches!(phase, Phase::Created | Phase::Queued | Phase::Dispatched);
        if !ours && !phase.is_terminal() {
            self.is_there(id);
        }
        let taken = !ours && self.tell(now, id, News { phase, reason, detail });
        self.heard.push_back(match taken {
            true => Heard::News,
            false if before.is_terminal() && phase.is_terminal() && phase != before => Heard::Contradiction,
            false => Heard::Repeat,
        });
    }

    /// The vehicle has it, from an earlier time, while it still waits here: it does not go again.
    fn is_there(&mut self, id: CommandId) {
        if self.records[&id].stage.is_here() {
            self.vacate(id);
            self.set_retry(id, None);
            self.set_stage(id, Stage::Away);
        }
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.disk.tick(now);
        self.show_the_late(now);
        while let Some((at, id)) = self.retries.first().copied()
            && at <= now
        {
            self.set_retry(id, None);
            let request = &self.records[&id].request;
            self.freed.push_back((request.vehicle.clone(), (request.class, request.path.clone())));
        }
        while let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.end_or_remove(now, id);
        }
    }

    fn end_or_remove(&mut self, now: Moment, id: CommandId) {
        match &self.records[&id].stage {
            Stage::Ended => self.remove(id),
            Stage::Queued if sabotage::on(Sabotage::QueueNotFiltered) => {
                self.set_due(id, now + std::time::Duration::from_mins(1));
            }
            // Another end that has not come to the disk by now could be forgotten, and this one cannot become untrue.
            Stage::Held | Stage::Queued | Stage::Leaving | Stage::Ending(_) => self.expire(now, id),
            Stage::Away => {
                let detail = "no outcome in time; the vehicle may have acted";
                self.tell(now, id, News::of(Phase::Unknown, detail));
            }
        }
    }

    /// Gives the record its news. True if it took them.
    pub(super) fn tell(&mut self, now: Moment, id: CommandId, news: News) -> bool {
        let phase = news.phase;
        let limits = self.limits;
        let Some(record) = self.records.get_mut(&id) else { return false };
        if !record.rise(now, news) {
            return false;
        }
        let is_first_end = phase.is_terminal() && record.stage != Stage::Ended;
        if is_first_end {
            self.vacate(id);
            self.set_retry(id, None);
            self.set_stage(id, Stage::Ended);
        }
        self.set_due(id, self.records[&id].next_due(now, &limits));
        self.touch(id);
        self.show(now, id);
        if is_first_end && phase == Phase::Succeeded {
            self.spare_the_next(now, id);
        }
        true
    }

    pub(super) fn set_due(&mut self, id: CommandId, due: Moment) {
        let Some(record) = self.records.get_mut(&id) else { return };
        self.due.remove(&(record.due, id));
        record.due = due;
        self.due.insert((due, id));
    }

    pub(super) fn set_retry(&mut self, id: CommandId, retry: Option<Moment>) {
        let Some(record) = self.records.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut record.retry, retry) {
            self.retries.remove(&(before, id));
        }
        self.retries.extend(retry.map(|at| (at, id)));
    }

    /// Changes where a command is, and keeps the counts and the deadline true to it.
    pub(super) fn set_stage(&mut self, id: CommandId, stage: Stage) {
        let Some(record) = self.records.get_mut(&id).filter(|record| record.stage != stage) else { return };
        let (class, place) = (record.request.class, record.place);
        let was_here = record.stage.is_here();
        let before = std::mem::replace(&mut record.stage, stage);
        self.unfinished -= usize::from(record.stage == Stage::Ended);
        if let Some(vehicle) = self.vehicles.get_mut(&record.request.vehicle) {
            vehicle.count(class, &before, place, id, false);
            vehicle.count(class, &record.stage, place, id, true);
        }
        if record.stage != Stage::Ended && was_here != record.stage.is_here() {
            let due = record.next_due(record.due, &self.limits);
            self.set_due(id, due);
        }
    }
}
