//! Desired and reported states: between operators, the disk and the vehicles' sessions, as in the gateway's hub.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carriageway_gateway::core::shadow::{Condition, Edit, Input, Limits, Output, Shadows};
use carriageway_proto::{Class, Desired, Epoch, Message, Moment, SessionId, StateReport, Value};
use carriageway_transport::core::lane::Ticket;

use super::operators::path_of;
use super::{Gateway, Process};
use crate::air::{Air, Died};
use crate::checker::{What, Wish};
use crate::plan::{Click, Match, Patch};
use crate::store::Change;

/// The states of all vehicles, and the messages to them that are under way.
#[derive(Debug)]
pub(super) struct Wishes {
    shadows: Shadows,
    under_way: BTreeMap<(SessionId, Ticket), usize>,
    /// By vehicle, the paths of what was desired after the faults had stopped.
    expected: BTreeMap<usize, BTreeSet<String>>,
}

impl Wishes {
    /// Takes up what the disk holds.
    pub(super) fn recover(gateway: &Gateway, air: &mut Air) -> Self {
        let of_vehicle =
            |(vehicle, kept): (usize, &Desired)| (gateway.vehicles[vehicle].0.clone(), kept.clone());
        let kept = gateway.store.desired().map(of_vehicle);
        let shadows = Shadows::new(Limits::default(), gateway.host.boot(), kept);
        let now = gateway.host.read(air.now);
        for (id, name) in gateway.vehicles.iter() {
            let version = shadows.view(now, id, |_| None).version;
            air.tell(&gateway.name, What::Wish(Wish::Loaded { vehicle: name.clone(), version }));
        }
        Self { shadows, under_way: BTreeMap::new(), expected: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, now: Moment) {
        self.shadows.note(now);
    }
}

impl Process {
    /// An operator changes what is desired of a vehicle. One whose change is refused lets it be.
    pub(super) fn patch(&mut self, gateway: &Gateway, air: &mut Air, click: &Click, patch: &Patch) {
        let (id, name) = &gateway.vehicles[click.vehicle];
        if !self.registry.knows(id) && !self.wishes.shadows.knows(id) {
            return;
        }
        let now = gateway.host.read(air.now);
        let present = self.wishes.shadows.view(now, id, |_| None).version;
        let base = match patch.made_to {
            Match::Any => None,
            Match::Present => Some(present),
            Match::Stale => Some(present.wrapping_sub(1)),
        };
        let condition = base.map_or(Condition::Any, |base| Condition::Versions(vec![base]));
        let valid_for = patch.valid_for.map(Duration::from_micros);
        let edit = |value: Option<i64>| {
            value.map_or(Edit::Remove, |value| Edit::Set { value: Value::Int(value), valid_for })
        };
        let edits = patch.edits.iter().map(|(class, path, value)| (path_of(*class, *path), edit(*value)));
        let edits: BTreeMap<_, _> = edits.collect();
        let before = self.wishes.shadows.patch(now, id, &condition, &edits);
        let Ok(carriageway_gateway::core::shadow::Change::Promised(version)) = before else { return };
        if air.is_healthy() {
            let paths = edits.keys().map(|path| path.as_str().to_owned()).collect();
            self.wishes.expected.insert(click.vehicle, paths);
        }
        let value = |edit: &Edit| match edit {
            Edit::Set { value: Value::Int(value), .. } => Some(*value),
            Edit::Set { value: Value::Bool(_) | Value::Float(_) | Value::Text(_), .. } | Edit::Remove => None,
        };
        let edits = edits.iter().map(|(path, edit)| (path.as_str().into(), value(edit))).collect();
        let until = patch.valid_for.map(|valid_for| air.now + valid_for);
        let asked = Wish::Asked { vehicle: name.clone(), version, base, edits, until };
        air.tell(&gateway.name, What::Wish(asked));
    }

    pub(super) fn wish_input(&mut self, now: Moment, input: Input) {
        self.wishes.shadows.handle(now, input);
    }

    pub(super) fn wishes_established(&mut self, gateway: &Gateway, now: Moment, of: (usize, Epoch)) {
        self.wish_input(now, Input::Established { vehicle: gateway.vehicles[of.0].0.clone(), epoch: of.1 });
    }

    pub(super) fn wishes_ended(&mut self, gateway: &Gateway, now: Moment, (index, id): (usize, SessionId)) {
        let epoch = self.sessions[index].epoch;
        let vehicle = gateway.vehicles[self.sessions[index].vehicle].0.clone();
        self.wishes.under_way.retain(|(over, _), _| *over != id);
        self.wish_input(now, Input::Ended { vehicle, epoch });
    }

    pub(super) fn wish_report(
        &mut self,
        gateway: &Gateway,
        now: Moment,
        of: (usize, Epoch),
        report: StateReport,
    ) {
        let vehicle = gateway.vehicles[of.0].0.clone();
        self.wish_input(now, Input::Report { vehicle, epoch: of.1, report });
    }

    /// What became of a message; false where it held no desired state.
    pub(super) fn wish_settled(
        &mut self,
        gateway: &Gateway,
        now: Moment,
        place: (SessionId, Ticket),
        arrived: bool,
    ) -> bool {
        let Some(vehicle) = self.wishes.under_way.remove(&place) else { return false };
        let vehicle = gateway.vehicles[vehicle].0.clone();
        self.wish_input(now, Input::Settled { vehicle, arrived });
        true
    }

    /// The disk has a version, or has not.
    pub(crate) fn wish_kept(&mut self, gateway: &Gateway, now: Moment, vehicle: usize, of: (u64, bool)) {
        let (vehicle, (version, kept)) = (gateway.vehicles[vehicle].0.clone(), of);
        let input = if kept { Input::Kept { vehicle, version } } else { Input::NotKept { vehicle, version } };
        self.wish_input(now, input);
    }

    pub(super) fn sweep_wishes(&mut self, now: Moment) {
        let registry = &self.registry;
        self.wishes.shadows.forget(|vehicle| registry.knows(vehicle));
        self.wish_input(now, Input::Tick);
    }

    /// Does what the states want done, and tells what they have to tell.
    pub(super) fn drain_wishes(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        while let Some(output) = self.wishes.shadows.poll() {
            gateway.fuse.step()?;
            let index = |id| gateway.vehicles.iter().position(|(other, _)| other == id);
            match output {
                Output::Keep { vehicle, desired } => {
                    let vehicle = index(&vehicle).expect("every vehicle is known here");
                    gateway.write(air, Change::Desired(vehicle, desired));
                }
                Output::Patched { vehicle, version, kept } => {
                    let vehicle = vehicle.as_str().into();
                    if kept {
                        air.tell(&gateway.name, What::Wish(Wish::Answered { vehicle, version }));
                    }
                }
                Output::Send { vehicle } => {
                    let place = index(&vehicle).expect("every vehicle is known here");
                    let now = gateway.host.read(air.now);
                    if !self.send_desired(gateway, now, place) {
                        self.wish_input(now, Input::Unsent { vehicle });
                    }
                }
                Output::Changed { .. } => {}
            }
        }
        Ok(())
    }

    fn send_desired(&mut self, gateway: &Gateway, now: Moment, vehicle: usize) -> bool {
        let current = self.registry.session(&gateway.vehicles[vehicle].0);
        let Some(live) = self.sessions.iter_mut().find(|live| Some(live.id) == current && !live.over) else {
            return false;
        };
        let Some(theirs) = live.session.peer_clock(now) else { return false };
        let Some(desired) = self.wishes.shadows.message(now, &gateway.vehicles[vehicle].0, theirs) else {
            return false;
        };
        let Ok(ticket) = live.session.send(Class::Config, Message::Desired(desired).encode(), None) else {
            return false;
        };
        self.wishes.under_way.insert((live.id, ticket), vehicle);
        self.touched.insert(live.id);
        true
    }

    /// How it stands with a vehicle at the end: the versions, and each path that is desired and valid.
    pub(crate) fn wishes_rested(&self, gateway: &Gateway, now: Moment, vehicle: usize) -> Vec<Wish> {
        let (id, name) = &gateway.vehicles[vehicle];
        let view = self.wishes.shadows.view(now, id, |_| None);
        let (version, answered) = (view.version, view.answered);
        let versions = Wish::VersionsRested { vehicle: name.clone(), version, answered };
        let expected = self.wishes.expected.get(&vehicle);
        let paths = view.paths.into_iter().filter_map(|path| {
            let wish = path.wish.filter(|wish| !wish.is_expired)?;
            let int = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
            Some(Wish::Rested {
                vehicle: name.clone(),
                path: path.path.as_str().into(),
                status: path.status.map_or("", carriageway_proto::SyncStatus::name).into(),
                desired: int(&wish.value)?,
                reported: path.reported.and_then(|(value, _)| int(&value)),
                holds: None,
                is_readable: crate::body::is_readable(&path.path),
                is_expected: expected.is_some_and(|paths| paths.contains(path.path.as_str())),
            })
        });
        // Nobody desired anything of it here, and the vehicle has nothing to answer.
        let any = (version > 0).then_some(versions);
        any.into_iter().chain(paths.collect::<Vec<_>>()).collect()
    }
}
