//! Leases and control at a gateway: the glue around the cores, as in the hub.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_gateway::core::control::{self, Dropped, Tally};
use carriageway_gateway::core::lease::{self, Input, Lease, Leases, NotDriving, Output};
use carriageway_proto::{
    Class, ControlFrame, DriveState, Epoch, Lease as LeaseMessage, Message, Moment, Rearm, Stamp, Token,
    VehicleId,
};

use super::{Gateway, Process};
use crate::air::{Air, Died};
use crate::checker::What;
use crate::pilot::{Report, Word};
use crate::plan::{Drive, MS, SECOND};
use crate::queue::Task;

/// How long a wish to re-arm lives, as in the hub.
const REARM_TTL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Driving {
    leases: Leases,
    /// Takes that wait for the disk, by what they were promised: the drive.
    takes: BTreeMap<(VehicleId, Token), usize>,
    /// By drive: a seat each.
    tallies: BTreeMap<usize, Tally>,
    /// By vehicle, when control was last passed on to it.
    steered: BTreeMap<usize, Moment>,
}

impl Driving {
    pub(super) fn new(gateway: &Gateway) -> Self {
        let leases = Leases::new(lease::Limits::default(), gateway.tokens.load());
        Self { leases, takes: BTreeMap::new(), tallies: BTreeMap::new(), steered: BTreeMap::new() }
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.leases.handle(now, Input::Tick);
    }

    /// Vehicles whose leases are held.
    pub(super) fn held(&self) -> impl Iterator<Item = &VehicleId> {
        self.leases.held()
    }

    /// Whether somebody holds the lease of `vehicle`.
    pub(super) fn is_held(&self, now: Moment, vehicle: &VehicleId) -> bool {
        self.leases.lease(now, vehicle).is_some()
    }

    /// When control was last passed on to a vehicle.
    pub(super) fn steered(&self, vehicle: usize) -> Option<Moment> {
        self.steered.get(&vehicle).copied()
    }

    pub(super) fn established(&mut self, now: Moment, vehicle: &VehicleId, epoch: Epoch) {
        self.leases.handle(now, Input::Established { vehicle: vehicle.clone(), epoch });
    }

    pub(super) fn told(&mut self, now: Moment, vehicle: &VehicleId, epoch: Epoch, state: DriveState) {
        self.leases.handle(now, Input::Told { vehicle: vehicle.clone(), epoch, state });
    }

    pub(super) fn ended(&mut self, now: Moment, vehicle: &VehicleId, epoch: Epoch) {
        self.leases.handle(now, Input::Ended { vehicle: vehicle.clone(), epoch });
    }

    pub(super) fn kept(&mut self, now: Moment, vehicle: VehicleId, token: Token, kept: bool) {
        let input = if kept { Input::Kept { vehicle, token } } else { Input::NotKept { vehicle, token } };
        self.leases.handle(now, input);
    }

    /// The lease by which `operator` may drive.
    pub(super) fn driving(
        &self,
        now: Moment,
        vehicle: &VehicleId,
        operator: &str,
    ) -> Result<&Lease, NotDriving> {
        self.leases.driving(now, vehicle, operator)
    }

    fn report(&self, now: Moment, vehicle: &VehicleId, operator: &str) -> Report {
        let view = self.leases.view(now, vehicle);
        let state = view.told.filter(|_| view.is_current).map(|told| told.state);
        let token = view.lease.filter(|lease| lease.operator == operator).map(|lease| lease.token);
        Report { token, state }
    }
}

/// What the log and the leases call an operator.
pub(crate) fn operator_name(operator: u8) -> String {
    format!("operator-{operator}")
}

impl Process {
    /// The disk has a token, or failed to take it.
    pub(crate) fn token_kept(
        &mut self,
        gateway: &Gateway,
        air: &Air,
        vehicle: VehicleId,
        token: Token,
        kept: bool,
    ) {
        self.driving.kept(gateway.host.read(air.now), vehicle, token, kept);
    }

    /// What an operator asks has come in.
    pub(crate) fn word(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        (number, drive): (usize, &Drive),
        word: Word,
    ) -> Result<(), Died> {
        gateway.fuse.step()?;
        let (now, operator) = (gateway.host.read(air.now), operator_name(drive.operator));
        let vehicle = gateway.vehicles[drive.vehicle].0.clone();
        match word {
            // A gateway on its way out grants and renews nothing.
            Word::Take { .. } | Word::Renew(_) if self.drain.is_some() => {}
            Word::Take { force } => {
                self.observe(gateway, now, drive.vehicle);
                let connected = self.way(now, drive.vehicle).is_some();
                if let Ok(token) = self.driving.leases.take(now, &vehicle, &operator, force, connected) {
                    self.driving.takes.insert((vehicle.clone(), token), number);
                }
            }
            Word::Renew(token) => {
                if let Ok(lease) = self.driving.leases.renew(now, &vehicle, &operator, token) {
                    log_lease(gateway, air, drive.vehicle, &lease);
                }
            }
            Word::Release(token) => {
                // Whoever holds none has nothing to give back.
                let _over = self.driving.leases.release(now, &vehicle, &operator, token);
            }
            Word::Rearm(token, nonce) => {
                if self.driving.leases.rearm(now, &vehicle, &operator, (token, nonce)).is_ok() {
                    self.pass_rearm(now, drive.vehicle, token, nonce);
                }
            }
            Word::Control(frame) => self.steer(gateway, air, (number, drive), frame),
        }
        self.pump_leases(gateway, air)?;
        let report = self.driving.report(now, &vehicle, &operator);
        air.queue.push(air.now + drive.delay, Task::Report { drive: number, report });
        Ok(())
    }

    fn pass_rearm(&mut self, now: Moment, vehicle: usize, token: Token, nonce: std::num::NonZeroU64) {
        let Some(way) = self.way(now, vehicle) else { return };
        let live = &mut self.sessions[way];
        let Some(stamp) = live.session.peer_clock(now) else { return };
        let message = Message::Rearm(Rearm { token, nonce, stamp, ttl: REARM_TTL });
        // A full lane: the operator asks again.
        let _sent = live.session.send(Class::Drive, message.encode(), Some(now + REARM_TTL));
        self.touched.insert(live.id);
    }

    fn steer(&mut self, gateway: &Gateway, air: &mut Air, seat: (usize, &Drive), frame: ControlFrame) {
        let (number, drive) = seat;
        let now = gateway.host.read(air.now);
        let tally = self.driving.tallies.entry(number).or_insert_with(|| Tally::new(now));
        let fate = tally.admit(now).and_then(|()| self.relay(gateway, air, drive, frame));
        if let Some(tally) = self.driving.tallies.get_mut(&number) {
            tally.count(fate);
        }
    }

    fn relay(
        &mut self,
        gateway: &Gateway,
        air: &mut Air,
        drive: &Drive,
        frame: ControlFrame,
    ) -> Result<(), Dropped> {
        let here = gateway.host.stamp(air.now);
        let way = self.way(here.clock, drive.vehicle).ok_or(Dropped::Offline)?;
        let live = &mut self.sessions[way];
        let theirs = live.session.peer_clock(here.clock).ok_or(Dropped::Offline)?;
        let (vehicle, operator) = (&gateway.vehicles[drive.vehicle].0, operator_name(drive.operator));
        let lease = self.driving.leases.lease(here.clock, vehicle);
        // Two gateways that know nothing of each other may have granted one token to two operators: under it no
        // vehicle could tell them apart, and what keeps them apart is this gateway's own look at its lease.
        let driving = self.driving.leases.driving(here.clock, vehicle, &operator);
        let is_tellable = lease.is_none_or(|lease| lease.token != frame.token || driving.is_ok());
        let leaked = (drive.leaks && is_tellable).then(|| leak(here, &frame, theirs)).flatten();
        let passed = control::relay(here, frame, &operator, driving, theirs);
        let mut frame = match (passed, leaked) {
            (Ok(frame), _)
            | (Err(Dropped::NoLease | Dropped::DriveStateUnknown | Dropped::OtherToken), Some(frame)) => {
                frame
            }
            (Err(why), _) => return Err(why),
        };
        if air.chance.percent(drive.copied) {
            let copy = Task::Stray {
                vehicle: drive.vehicle,
                gateway: gateway.index,
                sent: air.now,
                frame: Box::new(frame.clone()),
            };
            let most = air.chance.pick(&[100 * MS, SECOND, 20 * SECOND]);
            air.queue.push(air.now + air.chance.below(most), copy);
        }
        if air.chance.percent(drive.changed) {
            damage(air, &mut frame);
        }
        live.session.control(frame, here.clock);
        self.touched.insert(live.id);
        self.driving.steered.insert(drive.vehicle, here.clock);
        Ok(())
    }

    /// Does what the leases want done, and tells of them.
    pub(super) fn pump_leases(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        while let Some(output) = self.driving.leases.poll() {
            gateway.fuse.step()?;
            match output {
                Output::Keep { vehicle, token } => gateway.keep_token(air, vehicle, token),
                Output::Granted { vehicle, lease } => {
                    let now = gateway.host.read(air.now);
                    let number = position(gateway, &vehicle);
                    log_lease(gateway, air, number, &lease);
                    if let Some(drive) = self.driving.takes.remove(&(vehicle.clone(), lease.token)) {
                        let report = self.driving.report(now, &vehicle, &lease.operator);
                        let delay = air.plan.drives.get(drive).map_or(0, |drive| drive.delay);
                        air.queue.push(air.now + delay, Task::Report { drive, report });
                    }
                }
                Output::NotGranted { vehicle, token, .. } => {
                    self.driving.takes.remove(&(vehicle, token));
                }
                Output::Tell { vehicle, lease, over } => {
                    self.tell_lease(gateway, air, &vehicle, &lease, over);
                }
                // Operators read both where they look at the vehicle.
                Output::Drive { .. } | Output::Audit(_) => {}
            }
        }
        Ok(())
    }

    /// What is left of a lease counts from now, by the floor under the vehicle's clock.
    fn tell_lease(&mut self, gateway: &Gateway, air: &Air, vehicle: &VehicleId, lease: &Lease, over: bool) {
        let (now, number) = (gateway.host.read(air.now), position(gateway, vehicle));
        let current = |live: &super::Live| live.vehicle == number && !live.over;
        let Some(live) = self.sessions.iter_mut().rfind(|live| current(live)) else { return };
        let Some(stamp) = live.session.peer_clock(now) else { return };
        let ttl = if over { Duration::ZERO } else { lease.ends.since(now).min(self.driving.leases.ttl()) };
        if ttl.is_zero() && !over {
            return;
        }
        let expires = if over { now + self.driving.leases.ttl() } else { lease.ends };
        let (token, operator) = (lease.token, lease.operator.clone());
        let message = Message::Lease(LeaseMessage { token, operator, stamp, ttl });
        // A full lane: the next renewal says it again.
        let _sent = live.session.send(Class::Drive, message.encode(), Some(expires));
        self.touched.insert(live.id);
    }
}

fn position(gateway: &Gateway, vehicle: &VehicleId) -> usize {
    let place = gateway.vehicles.iter().position(|(other, _)| other == vehicle);
    place.expect("every vehicle is known here")
}

fn log_lease(gateway: &Gateway, air: &mut Air, vehicle: usize, lease: &Lease) {
    // By a clock that goes backwards a lease lives longer; nothing is promised of that.
    let until = Some(gateway.host.when(lease.ends, air.now)).filter(|_| !air.plan.has_gateway_jumps());
    let (vehicle, token) = (gateway.vehicles[vehicle].1.clone(), lease.token.number());
    let operator = lease.operator.as_str().into();
    air.tell(&gateway.name, What::Lease { vehicle, token, operator, until });
}

/// The frame as a gateway passes it on that has not noticed that the lease is another's, or over.
fn leak(here: Stamp, frame: &ControlFrame, theirs: Stamp) -> Option<ControlFrame> {
    let age = frame.stamp.age(here.boot, here.clock)?;
    let stamp = Stamp { boot: theirs.boot, clock: theirs.clock - age };
    Some(ControlFrame { stamp, ..frame.clone() })
}

/// One bit of the newest state is another one by the time it is there.
fn damage(air: &mut Air, frame: &mut ControlFrame) {
    let (bit, field) = (1 << air.chance.below(32), air.chance.below(4));
    let Some(state) = frame.states.first_mut() else { return };
    match field {
        0 => state.counter ^= bit,
        1 => state.steering = f32::from_bits(state.steering.to_bits() ^ bit),
        2 => state.throttle = f32::from_bits(state.throttle.to_bits() ^ bit),
        _ => state.data_id ^= bit,
    }
}
