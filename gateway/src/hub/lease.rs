//! Leases and control at the hub: between operators, the disk and the vehicles' sessions.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use carriageway_proto::{
    Class, ControlFrame, DriveState, Lease as LeaseMessage, Message, Moment, Rearm, Stamp, Token, VehicleId,
};
use tokio::sync::{oneshot, watch};

use super::room::Room;
use super::sessions::{Opened, observe_in};
use super::{Event, Hub, State};
use crate::core::commands::Arrival;
use crate::core::control::{self, Dropped};
use crate::core::lease::{
    Audit, Change, Input, Lease, NoLease, Output, RearmRefusal, TakeRefusal, Told, View,
};

/// How long a wish to re-arm lives from when it began to come in: as long as any other of the drive class.
const REARM_TTL: Duration = Duration::from_millis(500);

/// Takes that wait, by what they were promised.
pub(super) type Takes = BTreeMap<(VehicleId, Token), oneshot::Sender<Result<Lease, TakeRefusal>>>;

/// Why an operator's wish about a lease comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// No such vehicle has ever been here.
    UnknownVehicle,
    /// The gateway is on its way out.
    Draining,
    /// The wish took so long to come in that it may not be meant any more, or the clock went backwards meanwhile.
    TooLate,
    /// The operator asks too often; once more after so long.
    Rate(Duration),
    /// No lease is granted.
    Take(TakeRefusal),
    /// The caller holds no such lease now.
    NoLease,
    /// The vehicle is in another safe state than the one meant, or in none.
    OtherNonce,
    /// The vehicle has no connection now.
    Offline,
    /// The drive lane to the vehicle takes no more just now.
    LaneFull,
}

impl From<NoLease> for LeaseError {
    fn from(_: NoLease) -> Self {
        Self::NoLease
    }
}

/// What is known of driving a vehicle.
#[derive(Clone, Debug, PartialEq)]
pub struct DriveGlance {
    /// Which.
    pub vehicle: VehicleId,
    /// Whether it has a connection now.
    pub is_connected: bool,
    /// Its lease and its own words.
    pub view: View,
    /// When the gateway sends it away at the latest, where the gateway is on its way out.
    pub drain_by: Option<Moment>,
    /// When this was so.
    pub at: Moment,
}

impl Hub {
    /// Takes the lease of a vehicle, by force from whoever holds it where `force` says so. Returns once
    /// its token is on disk. A wish that `arrived` a lease's whole life ago grants nothing.
    pub async fn take_lease(
        &self,
        arrived: Arrival,
        vehicle: &VehicleId,
        operator: &str,
        force: bool,
    ) -> Result<Lease, LeaseError> {
        let granted = self.ask_for_lease(arrived, vehicle, operator, force)?;
        // Every promise is answered or replaced, which is an answer too.
        granted.await.unwrap_or(Err(TakeRefusal::NotKept)).map_err(|why| self.refused(why))
    }

    /// What was promised before a drain is not granted in it.
    fn refused(&self, why: TakeRefusal) -> LeaseError {
        if why == TakeRefusal::NotKept && self.is_draining() {
            LeaseError::Draining
        } else {
            LeaseError::Take(why)
        }
    }

    fn ask_for_lease(
        &self,
        arrived: Arrival,
        vehicle: &VehicleId,
        operator: &str,
        force: bool,
    ) -> Result<oneshot::Receiver<Result<Lease, TakeRefusal>>, LeaseError> {
        let mut state = self.state();
        if self.is_draining() {
            return Err(LeaseError::Draining);
        }
        let now = self.now();
        in_time(now, &state, arrived)?;
        // Each costs a write and events for everybody. Renewals cost neither, and commands must not cost the lease.
        state.commands.operator(now, operator).map_err(|wait| {
            self.0.metrics.dropped("lease", "operator_rate", 1);
            LeaseError::Rate(wait)
        })?;
        observe_in(now, &mut state, vehicle);
        let connected = clock_of(&state, vehicle).is_some();
        let is_known = state.registry.knows(vehicle);
        let taken = state.leases.take(now, vehicle, operator, force, connected);
        let answer = taken.map(|token| {
            let (sender, receiver) = oneshot::channel();
            state.takes.insert((vehicle.clone(), token), sender);
            receiver
        });
        self.pump(now, &mut state);
        answer.map_err(|why| match why {
            TakeRefusal::Offline if !is_known => LeaseError::UnknownVehicle,
            why => LeaseError::Take(why),
        })
    }

    /// Gives a lease its whole ttl again. A gateway on its way out gives none: the lease ends when it said. Neither
    /// does a wish that `arrived` as long ago as that ttl.
    pub fn renew_lease(
        &self,
        arrived: Arrival,
        vehicle: &VehicleId,
        operator: &str,
        token: Token,
    ) -> Result<Lease, LeaseError> {
        let mut state = self.state();
        if self.is_draining() {
            return Err(LeaseError::Draining);
        }
        let now = self.now();
        in_time(now, &state, arrived)?;
        let renewed = state.leases.renew(now, vehicle, operator, token);
        self.pump(now, &mut state);
        Ok(renewed?)
    }

    /// Gives a lease back.
    pub fn release_lease(&self, vehicle: &VehicleId, operator: &str, token: Token) -> Result<(), LeaseError> {
        let mut state = self.state();
        let now = self.now();
        let released = state.leases.release(now, vehicle, operator, token);
        self.pump(now, &mut state);
        Ok(released?)
    }

    /// Passes on a wish to leave the safe state that `nonce` names, for what is left of its life since it `arrived`.
    /// What comes of it the vehicle says.
    pub fn rearm(
        &self,
        arrived: Arrival,
        vehicle: &VehicleId,
        operator: &str,
        token: Token,
        nonce: NonZeroU64,
    ) -> Result<(), LeaseError> {
        let state = self.state();
        state.leases.rearm(self.now(), vehicle, operator, (token, nonce)).map_err(|why| match why {
            RearmRefusal::NoLease => LeaseError::NoLease,
            RearmRefusal::OtherNonce => LeaseError::OtherNonce,
        })?;
        let stamp = clock_of(&state, vehicle).ok_or(LeaseError::Offline)?;
        // Read after the vehicle's clock was: what is left is never overstated.
        let now = self.now();
        let age = state.commands.age(now, arrived).ok_or(LeaseError::TooLate)?;
        let ttl = REARM_TTL.saturating_sub(age);
        if ttl.is_zero() {
            return Err(LeaseError::TooLate);
        }
        let message = Message::Rearm(Rearm { token, nonce, stamp, ttl });
        let live = state.rooms.get(vehicle).and_then(Room::live).ok_or(LeaseError::Offline)?;
        let sent = live.link.send(Class::Drive, message.encode(), Some(now + ttl));
        tracing::info!(%vehicle, operator, %token, sent = sent.is_ok(), "re-arming asked for");
        sent.map(|_| ()).map_err(|_| LeaseError::LaneFull)
    }

    /// What is known of driving `vehicle`; `None` if it has never been here, or was forgotten.
    pub fn drive(&self, vehicle: &VehicleId) -> Option<DriveGlance> {
        let mut state = self.state();
        let at = self.now();
        observe_in(at, &mut state, vehicle);
        self.pump(at, &mut state);
        let view = state.leases.view(at, vehicle);
        let is_connected = clock_of(&state, vehicle).is_some();
        let is_known = state.registry.knows(vehicle);
        let drain_by = state.drain_by;
        is_known.then(|| DriveGlance { vehicle: vehicle.clone(), is_connected, view, drain_by, at })
    }

    /// Changes with whatever is known of driving any vehicle.
    pub fn driving(&self) -> watch::Receiver<u64> {
        self.0.driving.subscribe()
    }

    /// Rises with every change of what is known of driving `vehicle`, renewals apart.
    pub fn drive_version(&self, vehicle: &VehicleId) -> u64 {
        let state = self.state();
        state.leases.view(self.now(), vehicle).version + u64::from(state.drain_by.is_some())
    }

    /// Passes control on to a vehicle, or says why not.
    pub fn control(&self, vehicle: &VehicleId, operator: &str, frame: ControlFrame) -> Result<(), Dropped> {
        let mut state = self.state();
        let State { rooms, leases, .. } = &mut *state;
        let room = rooms.get_mut(vehicle).ok_or(Dropped::Offline)?;
        let live = room.live().ok_or(Dropped::Offline)?;
        live.link.silent_for().ok_or(Dropped::Offline)?;
        let theirs = live.link.peer_clock().ok_or(Dropped::Offline)?;
        // Read after the vehicle's clock was: the age is never understated.
        let now = self.0.clock.stamp();
        let lease = leases.driving(now.clock, vehicle, operator);
        let frame = control::relay(now, frame, operator, lease, theirs)?;
        live.link.control(frame);
        room.steered = Some(now.clock);
        self.0.metrics.control.inc();
        Ok(())
    }

    /// The word of a session that another has replaced comes too late.
    pub(super) fn leases_established(&self, opened: &Opened) {
        let (vehicle, epoch) = (opened.vehicle.clone(), opened.epoch);
        let mut state = self.state();
        let live = state.rooms.get(&vehicle).and_then(Room::live);
        if live.is_some_and(|live| live.session == opened.session) {
            let now = self.now();
            state.leases.handle(now, Input::Established { vehicle, epoch });
            self.pump(now, &mut state);
        }
    }

    pub(super) fn drive_state(&self, opened: &Opened, state: DriveState) {
        let (vehicle, epoch) = (opened.vehicle.clone(), opened.epoch);
        tracing::debug!(%vehicle, ?state, "drive state");
        let said = Input::Told { vehicle, epoch, state };
        let mut state = self.state();
        let now = self.now();
        state.leases.handle(now, said);
        self.pump(now, &mut state);
    }

    pub(super) fn pump_leases(&self, now: Moment, state: &mut State) {
        while let Some(output) = state.leases.poll() {
            match output {
                Output::Keep { vehicle, token } => self.keep_token(vehicle, token),
                Output::Granted { vehicle, lease } => answer(state, vehicle, lease.token, Ok(lease)),
                Output::NotGranted { vehicle, token, why } => answer(state, vehicle, token, Err(why)),
                Output::Tell { vehicle, lease, over } => self.tell_lease(state, &vehicle, &lease, over),
                Output::Drive { vehicle, state: said } => {
                    self.0.driving.send_modify(|changes| *changes += 1);
                    self.pace(now, state, Event::Drive { vehicle, state: said });
                }
                Output::Audit(audit) => self.audit(now, state, audit),
            }
        }
    }

    /// What is left of a lease counts from now, by the floor under the vehicle's clock.
    fn tell_lease(&self, state: &State, vehicle: &VehicleId, lease: &Lease, over: bool) {
        let Some(live) = state.rooms.get(vehicle).and_then(Room::live) else { return };
        let Some(stamp) = live.link.peer_clock() else { return };
        // Read after the vehicle's clock was: what is left is never overstated.
        let now = self.now();
        // Never more than a whole life, not even under a clock that went backwards.
        let ttl = if over { Duration::ZERO } else { lease.ends.since(now).min(state.leases.ttl()) };
        if ttl.is_zero() && !over {
            return;
        }
        let expires = if over { now + state.leases.ttl() } else { lease.ends };
        let (token, operator) = (lease.token, lease.operator.clone());
        let message = Message::Lease(LeaseMessage { token, operator, stamp, ttl });
        if live.link.send(Class::Drive, message.encode(), Some(expires)).is_err() {
            self.0.metrics.dropped("lease", "lane_full", 1);
        }
    }

    fn audit(&self, now: Moment, state: &mut State, audit: Audit) {
        let Audit { vehicle, token, operator, change } = &audit;
        let name = change_name(change);
        match change {
            Change::Granted { over: Some(over) } => {
                tracing::warn!(%vehicle, %token, operator, over, "lease taken by force");
            }
            Change::Granted { over: None } | Change::Ended(_) => {
                tracing::info!(%vehicle, %token, operator, change = name, "lease");
            }
        }
        self.0.driving.send_modify(|changes| *changes += 1);
        self.0.metrics.lease(name);
        state.ring.push(now, Event::Lease(audit));
    }
}

/// What became of a lease, as one word.
pub(crate) fn change_name(change: &Change) -> &'static str {
    match change {
        Change::Granted { over: Some(_) } => "forced",
        Change::Granted { over: None } => "granted",
        Change::Ended(end) => end.name(),
    }
}

fn answer(state: &mut State, vehicle: VehicleId, token: Token, answer: Result<Lease, TakeRefusal>) {
    if let Some(waiting) = state.takes.remove(&(vehicle, token)) {
        // Whoever asked may be gone; the lease then ends by itself.
        let _unread = waiting.send(answer);
    }
}

/// Who began to ask a lease's whole life ago may have gone since.
fn in_time(now: Moment, state: &State, arrived: Arrival) -> Result<(), LeaseError> {
    let age = state.commands.age(now, arrived).filter(|age| *age < state.leases.ttl());
    age.map(|_| ()).ok_or(LeaseError::TooLate)
}

/// The floor under the clock of a vehicle that has a connection now.
fn clock_of(state: &State, vehicle: &VehicleId) -> Option<Stamp> {
    let live = state.rooms.get(vehicle).and_then(Room::live)?;
    live.link.silent_for()?;
    live.link.peer_clock()
}

impl DriveGlance {
    /// What the vehicle last said.
    pub fn told(&self) -> Option<Told> {
        self.view.told
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::{DrivePhase, SafeCause};

    use super::super::answers::Written;
    use super::*;
    use crate::core::lease::NotDriving;

    #[test]
    fn a_lease_that_was_promised_before_a_drain_is_not_granted_in_it() {
        let hub = Hub::for_test();
        let opened = Opened::driven_by(&hub, &"truck".parse().unwrap(), std::future::pending());
        let vehicle = &opened.vehicle;
        hub.leases_established(&opened);
        let (phase, cause) = (DrivePhase::Safe, Some(SafeCause::Start));
        hub.drive_state(&opened, DriveState { phase, cause, nonce: NonZeroU64::new(7), token: None });
        let (sender, mut promised) = oneshot::channel();
        {
            let mut state = hub.state();
            let token = state.leases.take(hub.now(), vehicle, "ada", false, true).unwrap();
            state.takes.insert((vehicle.clone(), token), sender);
        }
        hub.start_draining(Duration::from_secs(5));
        hub.0.answers.leave(Written::Token(vehicle.clone(), Token::FIRST), Ok(()));
        hub.hear_disk();
        let why = promised.try_recv().unwrap().unwrap_err();
        assert_eq!(hub.refused(why), LeaseError::Draining);
        assert_eq!(hub.state().leases.lease(hub.now(), vehicle), None);
    }

    /// Its task has yet to hear of it when the newer one's link may be sent on.
    #[test]
    fn what_a_vehicle_said_in_a_session_that_is_replaced_drives_nobody() {
        let hub = Hub::for_test();
        let truck = "truck".parse().unwrap();
        let open = || Opened::driven_by(&hub, &truck, std::future::pending());
        let safe = |token| {
            let (phase, cause) = (DrivePhase::Safe, Some(SafeCause::Start));
            DriveState { phase, cause, nonce: NonZeroU64::new(7), token }
        };
        let drives =
            || hub.state().leases.driving(hub.now(), &truck, "ada").map(|lease| lease.token.number());
        let older = open();
        hub.leases_established(&older);
        hub.drive_state(&older, safe(None));
        let token = hub.state().leases.take(hub.now(), &truck, "ada", false, true).unwrap();
        hub.0.answers.leave(Written::Token(truck.clone(), token), Ok(()));
        hub.hear_disk();
        assert_eq!(drives(), Ok(1));
        let newer = open();
        assert_eq!(drives(), Err(NotDriving::Unheard));
        hub.leases_established(&older);
        hub.drive_state(&older, safe(None));
        assert_eq!(drives(), Err(NotDriving::Unheard), "words of the older session");
        hub.leases_established(&newer);
        assert_eq!(drives(), Err(NotDriving::Unheard));
        hub.drive_state(&newer, safe(Some(token)));
        assert_eq!(drives(), Err(NotDriving::NoLease), "another gateway's number, for all that is known");
    }
}
