//! Leases: the exclusive right to drive one vehicle, with a fencing token (FENCE).
//!
//! - One holder per vehicle. A lease lives for its ttl by the gateway's clock unless it is renewed.
//! - A token is higher than any that was ever granted here or that the vehicle has seen, and is kept
//!   durably before it is granted: after a crash none is granted twice.
//! - Nothing is granted before the vehicle has said, in its present session, which token it has seen:
//!   another gateway may have granted one in the meantime. For the same reason nobody drives by a lease
//!   that the vehicle has not confirmed while it has not spoken in its present session: two gateways may have granted one number.
//! - Taking over by force, and every other beginning and end, is told for the record.
//!
//! A lease outlives its vehicle's session by what is left of its ttl; it is told again when the
//! vehicle is back, unless the vehicle has seen another grant.

#[cfg(test)]
mod model;
mod place;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{DriveState, Epoch, Moment, Token, VehicleId};

use place::{Fit, Place};
pub use words::{
    Audit, Change, End, Input, Lease, NoLease, NotDriving, Output, RearmRefusal, TakeRefusal, Told, View,
};

/// How many and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a lease lives after its grant or renewal.
    pub ttl: Duration,
    /// Vehicles that a token is remembered of. Tokens are never forgotten, so beyond it vehicles that
    /// never had a lease get none.
    pub vehicles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Four renewals, half a second apart, may be lost in a row; 100,000 is ten full gateways.
        Self { ttl: Duration::from_secs(2), vehicles: 100_000 }
    }
}

/// All leases.
#[derive(Debug)]
pub struct Leases {
    limits: Limits,
    vehicles: BTreeMap<VehicleId, Place>,
    /// Of those, the ones whose lease has not ended.
    held: BTreeSet<VehicleId>,
    /// Of all, how many have a token that must be remembered.
    remembered: usize,
    outputs: VecDeque<Output>,
}

impl Leases {
    /// None yet; `kept` are the tokens that were kept durably.
    pub fn new(limits: Limits, kept: impl IntoIterator<Item = (VehicleId, Token)>) -> Self {
        let kept = kept.into_iter().filter(|_| !sabotage::on(Sabotage::TokenForgottenByGateway));
        let places = kept.map(|(vehicle, token)| (vehicle, Place::after(token)));
        let vehicles: BTreeMap<_, _> = places.collect();
        let (remembered, held) = (vehicles.len(), BTreeSet::new());
        Self { limits, vehicles, held, remembered, outputs: VecDeque::new() }
    }

    /// How long a lease lives after its grant or renewal.
    pub fn ttl(&self) -> Duration {
        self.limits.ttl
    }

    /// Asks for the lease of a vehicle that is `connected` now. The token that is promised;
    /// [`Output::Granted`] or [`Output::NotGranted`] follows with it.
    pub fn take(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        operator: &str,
        force: bool,
        connected: bool,
    ) -> Result<Token, TakeRefusal> {
        self.expire(now, vehicle);
        let Some(place) = self.vehicles.get_mut(vehicle).filter(|_| connected) else {
            return Err(TakeRefusal::Offline);
        };
        if !place.is_heard() {
            return Err(TakeRefusal::Unheard);
        }
        if let Some(by) = place.holder().filter(|_| !force) {
            return Err(TakeRefusal::Held { by: by.into() });
        }
        let is_new = !place.is_durable();
        if is_new && self.remembered >= self.limits.vehicles {
            return Err(TakeRefusal::Full);
        }
        let token = place.next_token().ok_or(TakeRefusal::Full)?;
        self.remembered += usize::from(is_new);
        if let Some(before) = place.promise(token, operator) {
            let why = TakeRefusal::TakenOver { by: operator.into() };
            self.outputs.push_back(Output::NotGranted { vehicle: vehicle.clone(), token: before, why });
        }
        self.outputs.push_back(Output::Keep { vehicle: vehicle.clone(), token });
        if sabotage::on(Sabotage::LeaseBeforeDurable) {
            self.kept(now, vehicle, token);
        }
        Ok(token)
    }

    /// Gives a lease its whole ttl again.
    pub fn renew(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        operator: &str,
        token: Token,
    ) -> Result<Lease, NoLease> {
        self.expire(now, vehicle);
        let ends = now + self.limits.ttl;
        let place = self.vehicles.get_mut(vehicle).ok_or(NoLease)?;
        let lease = place.lease_mut().filter(|lease| lease.is_of(operator, token)).ok_or(NoLease)?;
        lease.ends = ends;
        let lease = lease.clone();
        self.tell(vehicle);
        Ok(lease)
    }

    /// Gives a lease back.
    pub fn release(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        operator: &str,
        token: Token,
    ) -> Result<(), NoLease> {
        self.lease_of(now, vehicle, operator, token)?;
        self.end(vehicle, End::Released);
        Ok(())
    }

    /// Whether a wish to leave the safe state of this nonce may go to the vehicle.
    pub fn rearm(
        &self,
        now: Moment,
        vehicle: &VehicleId,
        operator: &str,
        (token, nonce): (Token, NonZeroU64),
    ) -> Result<(), RearmRefusal> {
        self.lease_of(now, vehicle, operator, token).map_err(|NoLease| RearmRefusal::NoLease)?;
        let said = self.vehicles.get(vehicle).and_then(Place::heard);
        let is_meant = said.and_then(|state| state.nonce) == Some(nonce);
        if is_meant { Ok(()) } else { Err(RearmRefusal::OtherNonce) }
    }

    /// The lease of `vehicle` that lives at `now`.
    pub fn lease(&self, now: Moment, vehicle: &VehicleId) -> Option<&Lease> {
        self.vehicles.get(vehicle)?.lease().filter(|lease| lease.lives(now))
    }

    /// The lease by which `operator` may drive `vehicle` at `now`.
    pub fn driving(&self, now: Moment, vehicle: &VehicleId, operator: &str) -> Result<&Lease, NotDriving> {
        let lease = self.lease(now, vehicle).filter(|lease| lease.operator == operator);
        let lease = lease.ok_or(NotDriving::NoLease)?;
        let is_sure = self.vehicles.get(vehicle).is_some_and(Place::is_sure);
        if is_sure { Ok(lease) } else { Err(NotDriving::Unheard) }
    }

    fn lease_of(&self, now: Moment, vehicle: &VehicleId, by: &str, token: Token) -> Result<&Lease, NoLease> {
        self.lease(now, vehicle).filter(|lease| lease.is_of(by, token)).ok_or(NoLease)
    }

    /// What is known of driving `vehicle`; nothing where it is not known at all.
    pub fn view(&self, now: Moment, vehicle: &VehicleId) -> View {
        let place = self.vehicles.get(vehicle);
        View {
            lease: self.lease(now, vehicle).cloned(),
            told: place.and_then(Place::told),
            is_current: place.is_some_and(Place::is_heard),
            version: place.map_or(0, Place::version),
        }
    }

    /// Vehicles whose lease has not ended, or not been noticed to.
    pub fn held(&self) -> impl Iterator<Item = &VehicleId> {
        self.held.iter()
    }

    /// Whether a token of this vehicle's lease is kept.
    pub fn remembers(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.get(vehicle).is_some_and(Place::is_durable)
    }

    /// Leases that live at `now`.
    pub fn living(&self, now: Moment) -> usize {
        self.held.iter().filter(|vehicle| self.lease(now, vehicle).is_some()).count()
    }

    /// Takes in what happened; drain [`Leases::poll`] afterwards.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Kept { vehicle, token } => self.kept(now, &vehicle, token),
            Input::NotKept { vehicle, token } => self.fail(&vehicle, token, TakeRefusal::NotKept),
            Input::Established { vehicle, epoch } => self.established(now, &vehicle, epoch),
            Input::Ended { vehicle, epoch } => {
                if let Some(place) = self.vehicles.get_mut(&vehicle) {
                    place.left(epoch);
                }
            }
            Input::Told { vehicle, epoch, state } => self.told(now, &vehicle, epoch, state),
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets go of what vehicles said that are not `known` any more. Their tokens stay.
    pub fn forget(&mut self, known: impl Fn(&VehicleId) -> bool) {
        for (_, place) in self.vehicles.iter_mut().filter(|(vehicle, _)| !known(vehicle)) {
            place.forget();
        }
        self.vehicles.retain(|vehicle, place| place.is_durable() || known(vehicle));
    }

    fn kept(&mut self, now: Moment, vehicle: &VehicleId, token: Token) {
        self.expire(now, vehicle);
        let ends = now + self.limits.ttl;
        let Some(place) = self.vehicles.get_mut(vehicle) else { return };
        let Some(operator) = place.take_promise(token) else { return };
        if !place.is_heard() {
            let (vehicle, why) = (vehicle.clone(), TakeRefusal::Unheard);
            self.outputs.push_back(Output::NotGranted { vehicle, token, why });
            return;
        }
        let lease = Lease { token, operator, granted: now, ends };
        let over = place.lease().map(|lease| lease.operator.clone());
        if over.is_some() {
            self.end(vehicle, End::TakenOver { by: lease.operator.clone() });
        }
        if let Some(place) = self.vehicles.get_mut(vehicle) {
            place.grant(lease.clone());
            self.held.insert(vehicle.clone());
        }
        self.audit(vehicle, &lease, Change::Granted { over });
        self.outputs.push_back(Output::Granted { vehicle: vehicle.clone(), lease });
        self.tell(vehicle);
    }

    /// The take that was promised `token` gets nothing.
    fn fail(&mut self, vehicle: &VehicleId, token: Token, why: TakeRefusal) {
        let promised = self.vehicles.get_mut(vehicle).and_then(|place| place.take_promise(token));
        if promised.is_some() {
            self.outputs.push_back(Output::NotGranted { vehicle: vehicle.clone(), token, why });
        }
    }

    fn established(&mut self, now: Moment, vehicle: &VehicleId, epoch: Epoch) {
        self.expire(now, vehicle);
        let place = self.vehicles.entry(vehicle.clone()).or_insert_with(Place::new);
        place.came(epoch);
        self.tell(vehicle);
    }

    fn told(&mut self, now: Moment, vehicle: &VehicleId, epoch: Epoch, state: DriveState) {
        self.expire(now, vehicle);
        let Some(place) = self.vehicles.get_mut(vehicle) else { return };
        let Some(heard) = place.hear(Told { state, at: now, epoch }) else { return };
        if heard.news {
            self.outputs.push_back(Output::Drive { vehicle: vehicle.clone(), state });
        }
        if let Some(outrun) = heard.outrun {
            self.fail(vehicle, outrun, TakeRefusal::Fenced);
        }
        match heard.fit {
            Fit::Fine => {}
            Fit::Tell => self.tell(vehicle),
            Fit::Fenced => self.end(vehicle, End::Fenced),
        }
    }

    fn tick(&mut self, now: Moment) {
        let over: Vec<_> =
            self.held.iter().filter(|vehicle| self.lease(now, vehicle).is_none()).cloned().collect();
        for vehicle in over {
            self.end(&vehicle, End::Expired);
        }
    }

    /// Ends a lease whose time is over, if nobody has noticed yet.
    fn expire(&mut self, now: Moment, vehicle: &VehicleId) {
        let lease = self.vehicles.get(vehicle).and_then(Place::lease);
        if lease.is_some_and(|lease| !lease.lives(now)) {
            self.end(vehicle, End::Expired);
        }
    }

    fn end(&mut self, vehicle: &VehicleId, end: End) {
        let Some(place) = self.vehicles.get_mut(vehicle) else { return };
        let Some(lease) = place.end() else { return };
        self.held.remove(vehicle);
        // A newer grant says so by itself; another gateway's is none of ours to end.
        let is_told = match end {
            End::Released | End::Expired => place.is_heard(),
            End::TakenOver { .. } | End::Fenced => false,
        };
        self.audit(vehicle, &lease, Change::Ended(end));
        if is_told {
            self.outputs.push_back(Output::Tell { vehicle: vehicle.clone(), lease, over: true });
        }
    }

    /// Tells the vehicle of its lease, where it is known to be ours to tell.
    fn tell(&mut self, vehicle: &VehicleId) {
        let Some(place) = self.vehicles.get_mut(vehicle) else { return };
        if let Some(lease) = place.tell() {
            self.outputs.push_back(Output::Tell { vehicle: vehicle.clone(), lease, over: false });
        }
    }

    fn audit(&mut self, vehicle: &VehicleId, lease: &Lease, change: Change) {
        let (token, operator) = (lease.token, lease.operator.clone());
        self.outputs.push_back(Output::Audit(Audit { vehicle: vehicle.clone(), token, operator, change }));
    }
}
