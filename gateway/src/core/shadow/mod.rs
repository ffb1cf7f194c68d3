//! Desired and reported state of each vehicle: what is to hold, and how far it has come.
//!
//! - A change names the version it is made to, is on disk before it is answered or sent, and raises the
//!   version, also across restarts and lost disks: the vehicle acts at most once on each.
//! - A wish may be valid for a while only. It counts by the boot clock; where the host has rebooted
//!   since, nobody knows how long it was, and the wish is over.
//! - Of what is to be sent to a vehicle only the newest matters, and one message is under way at a time.
//! - What a vehicle reports only rises within a session.

mod place;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, VecDeque};

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{BootId, Desired, Epoch, Moment, SignalPath, Stamp, StateReport, Value, VehicleId};

use place::Place;
pub use words::{Change, Condition, Edit, Input, Limits, Output, PatchRefusal, PathView, View, Wish};

/// All vehicles' states.
#[derive(Debug)]
pub struct Shadows {
    limits: Limits,
    boot: BootId,
    vehicles: BTreeMap<VehicleId, Place>,
    /// The last reading of the clock.
    latest: Moment,
    outputs: VecDeque<Output>,
}

impl Shadows {
    /// Of a host that runs since `boot`; `kept` is what was kept durably.
    pub fn new(limits: Limits, boot: BootId, kept: impl IntoIterator<Item = (VehicleId, Desired)>) -> Self {
        let places = kept.into_iter().map(|(vehicle, desired)| (vehicle, Place::after(desired)));
        let vehicles = places.collect();
        Self { limits, boot, vehicles, latest: Moment::ZERO, outputs: VecDeque::new() }
    }

    /// Takes in a reading of the clock; readings have to come in the order in which they were taken. After one that is
    /// earlier than the one before nobody knows how old a wish is: those that are valid for a while only are over, on
    /// disk too.
    pub fn note(&mut self, now: Moment) {
        if now < std::mem::replace(&mut self.latest, now) {
            self.vehicles.values_mut().for_each(Place::doubt);
        }
    }

    /// Changes what is desired of a vehicle, if that stands as `condition` says: the version that this
    /// will be. [`Output::Patched`] follows with it, unless nothing changes at all.
    pub fn patch(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        condition: &Condition,
        edits: &BTreeMap<SignalPath, Edit>,
    ) -> Result<Change, PatchRefusal> {
        let stamp = Stamp { boot: self.boot, clock: now };
        let is_new = !self.vehicles.contains_key(vehicle);
        if is_new && self.vehicles.len() >= self.limits.vehicles {
            return Err(PatchRefusal::Full);
        }
        let place = self.vehicles.entry(vehicle.clone()).or_default();
        let patched = place.patch(stamp, condition, edits);
        if is_new && patched.is_err() {
            self.vehicles.remove(vehicle);
        }
        let Some(desired) = patched? else { return Ok(Change::None) };
        let version = desired.version;
        self.outputs.push_back(Output::Keep { vehicle: vehicle.clone(), desired });
        if sabotage::on(Sabotage::PatchNotAwaited) {
            self.outputs.push_back(Output::Patched { vehicle: vehicle.clone(), version, kept: true });
        }
        Ok(Change::Promised(version))
    }

    /// What is desired of `vehicle` now, to be sent to it. `theirs` is a floor under its clock, read
    /// before `now`. Nothing where nobody ever desired anything.
    pub fn message(&self, now: Moment, vehicle: &VehicleId, theirs: Stamp) -> Option<Desired> {
        let ours = Stamp { boot: self.boot, clock: now };
        Some(self.vehicles.get(vehicle)?.message(ours, theirs)).filter(|desired| desired.version > 0)
    }

    /// What is desired and reported of `vehicle`. `signal` knows the newest value of a signal, and when
    /// it was taken.
    pub fn view(
        &self,
        now: Moment,
        vehicle: &VehicleId,
        signal: impl Fn(&SignalPath) -> Option<(Value, Moment)>,
    ) -> View {
        let ours = Stamp { boot: self.boot, clock: now };
        self.vehicles.get(vehicle).map_or_else(View::default, |place| place.view(ours, signal))
    }

    /// Whether what is being kept under this version is the state as it is, once more, and nobody's change.
    pub fn keeps_again(&self, vehicle: &VehicleId, version: u64) -> bool {
        self.vehicles.get(vehicle).is_some_and(|place| place.is_same_again(version))
    }

    /// Whether anything is desired or reported of `vehicle`.
    pub fn knows(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.contains_key(vehicle)
    }

    /// Takes in what happened; drain [`Shadows::poll`] afterwards.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Kept { vehicle, version } => self.kept(vehicle, version, true),
            Input::NotKept { vehicle, version } => {
                self.kept(vehicle, version, sabotage::on(Sabotage::FailureTakenForSuccess));
            }
            Input::Established { vehicle, epoch } => self.established(vehicle, epoch),
            Input::Ended { vehicle, epoch } => {
                if let Some(place) = self.vehicles.get_mut(&vehicle) {
                    place.left(epoch);
                }
            }
            Input::Settled { vehicle, arrived } => {
                if let Some(place) = self.vehicles.get_mut(&vehicle) {
                    place.settled(arrived);
                    self.send(vehicle);
                }
            }
            Input::Unsent { vehicle } => {
                if let Some(place) = self.vehicles.get_mut(&vehicle) {
                    place.settled(false);
                }
            }
            Input::Report { vehicle, epoch, report } => self.report(now, vehicle, epoch, report),
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets go of what vehicles reported that are not `known` any more. What is desired stays.
    pub fn forget(&mut self, known: impl Fn(&VehicleId) -> bool) {
        for (_, place) in self.vehicles.iter_mut().filter(|(vehicle, _)| !known(vehicle)) {
            place.forget();
        }
        self.vehicles.retain(|vehicle, place| place.is_durable() || known(vehicle));
    }

    fn kept(&mut self, vehicle: VehicleId, version: u64, kept: bool) {
        let Some(place) = self.vehicles.get_mut(&vehicle) else { return };
        let is_same = place.is_same_again(version);
        if !place.take_pending(version, kept) || is_same {
            return;
        }
        self.outputs.push_back(Output::Patched { vehicle: vehicle.clone(), version, kept });
        if kept {
            self.outputs.push_back(Output::Changed { vehicle: vehicle.clone() });
            self.send(vehicle);
        }
    }

    /// A vehicle that nobody desired anything of yet is remembered too, for it may report.
    fn established(&mut self, vehicle: VehicleId, epoch: Epoch) {
        self.vehicles.entry(vehicle.clone()).or_default().came(epoch);
        self.send(vehicle);
    }

    fn send(&mut self, vehicle: VehicleId) {
        if self.vehicles.get_mut(&vehicle).is_some_and(Place::take_off) {
            self.outputs.push_back(Output::Send { vehicle });
        }
    }

    fn report(&mut self, now: Moment, vehicle: VehicleId, epoch: Epoch, report: StateReport) {
        let Some(place) = self.vehicles.get_mut(&vehicle) else { return };
        if place.hear(now, epoch, report) {
            self.outputs.push_back(Output::Changed { vehicle });
        }
    }

    fn tick(&mut self, now: Moment) {
        let ours = Stamp { boot: self.boot, clock: now };
        let due: Vec<_> =
            self.vehicles.iter().filter(|(_, place)| place.is_due()).map(|(id, _)| id.clone()).collect();
        for vehicle in due {
            self.send(vehicle);
        }
        for (vehicle, place) in &mut self.vehicles {
            if let Some(desired) = place.keep_again() {
                self.outputs.push_back(Output::Keep { vehicle: vehicle.clone(), desired });
            }
            if place.expire(ours) {
                self.outputs.push_back(Output::Changed { vehicle: vehicle.clone() });
            }
        }
    }
}
