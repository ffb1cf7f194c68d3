//! Desired and reported states at the hub: between operators, the disk and the vehicles' sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::{Class, Message, Moment, SignalPath, StateReport, Value, VehicleId};
use tokio::sync::oneshot;

use super::room::Room;
use super::sessions::Opened;
use super::{Event, Hub, State, lock};
use crate::core::commands::Arrival;
use crate::core::shadow::{Change, Condition, Edit, Input, Output, PatchRefusal, View};

/// Changes that wait, by what they were promised.
pub(super) type Patches = BTreeMap<(VehicleId, u64), oneshot::Sender<bool>>;

/// Why a change of a desired state is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// No such vehicle has ever been here.
    UnknownVehicle,
    /// The clock went backwards while it came in: nobody knows since when it is valid.
    TooLate,
    /// The operator asks too often; once more after so long.
    Rate(Duration),
    /// For one of the state's own reasons.
    Refused(PatchRefusal),
    /// It could not be written to the disk.
    NotKept,
}

/// A vehicle's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateGlance {
    /// Whose.
    pub vehicle: VehicleId,
    /// What is desired and reported.
    pub view: View,
}

impl Hub {
    /// Changes what `operator` desires of a vehicle, from when the change `arrived`. Returns once that is on disk.
    pub async fn patch_state(
        &self,
        arrived: Arrival,
        (vehicle, operator): (&VehicleId, &str),
        condition: &Condition,
        edits: &BTreeMap<SignalPath, Edit>,
    ) -> Result<(), StateError> {
        match self.ask_for_state(arrived, (vehicle, operator), condition, edits)? {
            None => Ok(()),
            Some(kept) => kept.await.unwrap_or(false).then_some(()).ok_or(StateError::NotKept),
        }
    }

    fn ask_for_state(
        &self,
        arrived: Arrival,
        (vehicle, operator): (&VehicleId, &str),
        condition: &Condition,
        edits: &BTreeMap<SignalPath, Edit>,
    ) -> Result<Option<oneshot::Receiver<bool>>, StateError> {
        let mut state = self.state();
        let now = self.now();
        if !state.registry.knows(vehicle) && !state.shadows.knows(vehicle) {
            return Err(StateError::UnknownVehicle);
        }
        state.commands.age(now, arrived).ok_or(StateError::TooLate)?;
        state.commands.operator(now, operator).map_err(|wait| {
            self.0.metrics.dropped("state", "operator_rate", 1);
            StateError::Rate(wait)
        })?;
        let change =
            state.shadows.patch(arrived.at(), vehicle, condition, edits).map_err(StateError::Refused)?;
        let waiting = match change {
            Change::None => None,
            Change::Promised(version) => {
                let (sender, receiver) = oneshot::channel();
                state.patches.insert((vehicle.clone(), version), sender);
                Some(receiver)
            }
        };
        self.pump(now, &mut state);
        Ok(waiting)
    }

    /// What is desired and reported of `vehicle`; `None` if it has never been here and nothing is.
    pub fn vehicle_state(&self, vehicle: &VehicleId) -> Option<StateGlance> {
        let state = self.state();
        let is_known = state.registry.knows(vehicle) || state.shadows.knows(vehicle);
        is_known.then(|| StateGlance { vehicle: vehicle.clone(), view: view(self.now(), &state, vehicle) })
    }

    pub(super) fn shadows_established(&self, opened: &Opened) {
        let (vehicle, epoch) = (opened.vehicle.clone(), opened.epoch);
        self.shadow_input(Input::Established { vehicle, epoch });
    }

    pub(super) fn state_report(&self, opened: &Opened, report: StateReport) {
        let (vehicle, epoch) = (opened.vehicle.clone(), opened.epoch);
        self.shadow_input(Input::Report { vehicle, epoch, report });
    }

    fn shadow_input(&self, input: Input) {
        let mut state = self.state();
        let now = self.now();
        state.shadows.handle(now, input);
        self.pump(now, &mut state);
    }

    pub(super) fn pump_shadows(&self, now: Moment, state: &mut State) {
        while let Some(output) = state.shadows.poll() {
            match output {
                Output::Keep { vehicle, desired } => self.keep_desired(vehicle, desired),
                Output::Patched { vehicle, version, kept } => {
                    if let Some(waiting) = state.patches.remove(&(vehicle, version)) {
                        // Whoever asked may be gone; the change stands.
                        let _unread = waiting.send(kept);
                    }
                }
                Output::Send { vehicle } => self.send_desired(now, state, vehicle),
                Output::Changed { vehicle } => {
                    let view = view(now, state, &vehicle);
                    let (version, answered, is_in_sync) = (view.version, view.answered, view.is_in_sync());
                    self.pace(now, state, Event::State { vehicle, version, answered, is_in_sync });
                }
            }
        }
    }

    fn send_desired(&self, now: Moment, state: &mut State, vehicle: VehicleId) {
        let sent = state.rooms.get(&vehicle).and_then(Room::live).and_then(|live| {
            let theirs = live.link.peer_clock()?;
            // Read after the vehicle's clock was: what is left is never overstated.
            let desired = state.shadows.message(self.now(), &vehicle, theirs)?;
            let ticket = live.link.send(Class::Config, Message::Desired(desired).encode(), None).ok()?;
            Some((live.session, ticket))
        });
        if let Some(place) = sent {
            state.desired.insert(place, vehicle);
        } else {
            self.0.metrics.dropped("state", "unsent", 1);
            state.shadows.handle(now, Input::Unsent { vehicle });
        }
    }
}

fn view(now: Moment, state: &State, vehicle: &VehicleId) -> View {
    let board = state.rooms.get(vehicle).map(|room| lock(&room.board));
    let signal = |path: &SignalPath| -> Option<(Value, Moment)> { board.as_ref()?.newest(path) };
    state.shadows.view(now, vehicle, signal)
}
