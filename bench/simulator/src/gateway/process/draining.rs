//! The way out of a gateway, step by step as in production: who stays, who is sent away, and when it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use carriageway_gateway::core::commands::{Reach, Request};
use carriageway_proto::{Class, CloseCode, Moment, SessionId};

use super::{Gateway, Process};
use crate::air::Air;
use crate::checker::What;

/// A drain may take so long, as production's default has it.
pub(in crate::gateway) const DEADLINE: Duration = Duration::from_secs(10);

/// Of that, so much is kept for the goodbyes, as in production.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// How often it is looked whether commands have finished, as in production.
const LOOK: Duration = Duration::from_millis(25);

/// A vehicle that control was passed on to within this time is being driven, as in production.
const DRIVEN: Duration = Duration::from_secs(1);

/// Vehicles are told to wait at least this long, as production's default has it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a drain waits for.
#[derive(Debug)]
enum Stage {
    /// Commands to end, and leases: until then at the latest.
    Commands(Moment),
    /// The goodbyes to get out.
    Goodbyes(Moment),
    /// The disk.
    Disk(Moment),
    /// Nothing any more.
    Over,
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    stage: Stage,
    look_at: Moment,
    /// Vehicles that were being driven when it began.
    driven: BTreeSet<usize>,
    /// Sessions that the log knows to be sent away.
    told: BTreeSet<SessionId>,
}

impl Drain {
    pub(super) fn wakes_at(&self) -> Moment {
        self.look_at
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

impl Process {
    /// Takes nothing new from here on, and lets go of one vehicle after the other.
    pub(crate) fn start_draining(&mut self, gateway: &Gateway, air: &mut Air) {
        let now = gateway.host.read(air.now);
        let held: Vec<_> = self.driving.held().cloned().collect();
        let position = |id| gateway.vehicles.iter().position(|(other, _)| other == id);
        let driven = held.iter().filter_map(position).filter(|one| self.is_steered(now, *one)).collect();
        let stage = Stage::Commands(now + DEADLINE.saturating_sub(FAREWELL));
        self.drain = Some(Drain { stage, look_at: now, driven, told: BTreeSet::new() });
        self.drain_on(gateway, air);
    }

    /// Goes on with the drain, where it is time to.
    pub(super) fn drain_on(&mut self, gateway: &Gateway, air: &mut Air) {
        let now = gateway.host.read(air.now);
        while let Some(drain) = self.drain.as_ref().filter(|drain| drain.look_at <= now) {
            let next = match drain.stage {
                Stage::Commands(until) => {
                    (self.send_away(gateway, air, false) == 0 || now >= until).then(|| {
                        self.send_away(gateway, air, true);
                        // A goodbye that is cut off leaves a vehicle waiting for its idle timeout.
                        Stage::Goodbyes((until + FAREWELL / 2).max(now + FAREWELL / 2))
                    })
                }
                Stage::Goodbyes(until) => {
                    (self.sessions.is_empty() || now >= until).then(|| Stage::Disk(now + FAREWELL / 4))
                }
                Stage::Disk(until) => (self.commands.is_settled() || now >= until).then_some(Stage::Over),
                Stage::Over => return,
            };
            let drain = self.drain.as_mut().expect("it has just been there");
            match next {
                Some(stage) => drain.stage = stage,
                None => drain.look_at = now + LOOK,
            }
        }
    }

    /// Says goodbye to every session that has no command under way, whose vehicle is not being driven and has
    /// confirmed what it was told of its lease; or to all. How many are left open.
    fn send_away(&mut self, gateway: &Gateway, air: &mut Air, everyone: bool) -> usize {
        let now = gateway.host.read(air.now);
        let open: Vec<_> = (0..self.sessions.len()).filter(|index| !self.sessions[*index].over).collect();
        let mut staying = 0;
        for index in open {
            let (vehicle, id) = (self.sessions[index].vehicle, self.sessions[index].id);
            let is_busy = self.commands.under_way_of(&gateway.vehicles[vehicle].0) > 0
                || self.is_driven(gateway, now, vehicle)
                || self.sessions[index].session.status(now).queued_frames[Class::Drive] > 0;
            if is_busy && !everyone {
                staying += 1;
                continue;
            }
            if self.drain.as_mut().is_some_and(|drain| drain.told.insert(id)) {
                self.tell_what_is_over(gateway, air, vehicle);
                let what =
                    What::SentAway { vehicle: gateway.vehicles[vehicle].1.clone(), in_time: !everyone };
                air.tell(&gateway.name, what);
            }
            let spread = u64::try_from(2 * RETRY_AFTER.as_micros()).expect("a few seconds");
            let wait = RETRY_AFTER + Duration::from_micros(air.chance.below(spread));
            self.sessions[index].session.close(CloseCode::Restarting, "the gateway restarts", Some(wait));
            self.touched.insert(id);
        }
        staying
    }

    /// What is known already is answered, and an emergency stop goes for as long as there is a way.
    pub(super) fn may_go_in_a_drain(&self, request: &Request, reach: Reach) -> bool {
        let is_stop = request.class == Class::Safety && reach == Reach::Connected;
        is_stop || self.commands.record_of(&request.vehicle, &request.key).is_some()
    }

    /// Control was passed on to it a moment ago.
    fn is_steered(&self, now: Moment, vehicle: usize) -> bool {
        self.driving.steered(vehicle).is_some_and(|steered| now.since(steered) < DRIVEN)
    }

    /// It is being driven: a gap in the control that came before the drain does not end its lease.
    fn is_driven(&self, gateway: &Gateway, now: Moment, vehicle: usize) -> bool {
        let is_held = || self.driving.is_held(now, &gateway.vehicles[vehicle].0);
        let was_driven = self.drain.as_ref().is_some_and(|drain| drain.driven.contains(&vehicle));
        self.is_steered(now, vehicle) || (was_driven && is_held())
    }
}
