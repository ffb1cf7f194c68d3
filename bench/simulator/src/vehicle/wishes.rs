//! The agent's desired state: the reconciler that runs in production, and the glue around it, as in the agent's
//! shell.

use std::collections::BTreeMap;

use carriageway_agent::core::executor::{self, Executor};
use carriageway_agent::core::reconciler::{Input, Output, Reconciler, Wanted};
use carriageway_agent::core::vehicle::{Actuation, Applied, Target};
use carriageway_proto::{
    Class, Desired, DesiredValue, Message, Moment, PolicyTable, SignalPath, StateReport, SyncStatus, Value,
};
use carriageway_transport::core::Session;

use super::Vehicle;
use crate::air::{Air, Died};
use crate::checker::{What, Wish};
use crate::disk::Change;

/// What is desired of the vehicle, and the report that waits for its lane.
#[derive(Debug)]
pub(super) struct Wishes {
    reconciler: Reconciler,
    /// One place: an older report is worth nothing.
    report: Option<StateReport>,
    wait: Option<Moment>,
    /// Of each version of a path, the value that it came with last, for the log.
    values: BTreeMap<(SignalPath, u64), Value>,
    /// The version of each path that was decided on last, for the log.
    decided: BTreeMap<SignalPath, u64>,
    /// What was last reported of each path, for the log.
    told: BTreeMap<SignalPath, (u64, SyncStatus)>,
}

/// The class in which this vehicle takes `path` as a lasting state.
fn class_of(path: &SignalPath) -> Option<Class> {
    let path = path.as_str();
    if path.starts_with("Vehicle.Cabin.Door") {
        Some(Class::Body)
    } else if path.starts_with("Vehicle.Cabin.Seat") {
        Some(Class::Comfort)
    } else if path.starts_with("Vehicle.Cabin.Light") {
        Some(Class::Config)
    } else {
        None
    }
}

impl Wishes {
    /// Takes up what the disk holds, beside an `executor` that has taken up its own.
    pub(super) fn recover(
        now: Moment,
        executor: &mut Executor,
        policies: &PolicyTable,
        vehicle: &Vehicle,
    ) -> Self {
        let past = vehicle.disk.past.clone();
        for path in past.decided.keys() {
            executor.handle(now, executor::Input::TakenOver(path.clone()));
        }
        let reconciler = Reconciler::recover(executor.judge(), *policies, past, executor.is_latched());
        let (values, decided, told) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { reconciler, report: None, wait: None, values, decided, told }
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        self.reconciler.handle(now, input);
    }

    /// No actuation for what is desired is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.reconciler.is_idle()
    }

    pub(super) fn wakes_at(&self) -> Option<Moment> {
        self.wait
    }

    pub(super) fn desired(&mut self, now: Moment, desired: Desired) {
        let Desired { version, values } = desired;
        let wanted = |value: DesiredValue| Wanted { class: class_of(&value.path), value };
        for DesiredValue { path, version, value, .. } in &values {
            self.values.insert((path.clone(), *version), value.clone());
        }
        let values = values.into_iter().map(wanted).collect();
        self.reconciler.handle(now, Input::Desired { version, values });
    }

    /// Does all that the reconciler wants done. True where the vehicle has taken a target, which the executor
    /// has been told.
    pub(super) fn act(
        &mut self,
        vehicle: &mut Vehicle,
        air: &mut Air,
        executor: &mut Executor,
    ) -> Result<bool, Died> {
        let mut has_moved = false;
        loop {
            let now = vehicle.host.read(air.now);
            match self.reconciler.poll(now, executor.buckets()) {
                Output::Decide { id, path, version } => {
                    vehicle.fuse.step()?;
                    self.decided.insert(path.clone(), version);
                    vehicle.write(air, (Some(id), Change::Decided(path, version)));
                }
                Output::Forget { path, floor } => {
                    vehicle.fuse.step()?;
                    vehicle.write(air, (None, Change::Undesired(path, floor)));
                }
                Output::Apply { actuation, target } => {
                    vehicle.fuse.step()?;
                    let applied = self.apply(vehicle, air, actuation, &target);
                    vehicle.fuse.step()?;
                    if !matches!(applied, Applied::Refused(_)) {
                        executor.handle(now, executor::Input::TakenOver(target.path));
                        has_moved = true;
                    }
                    self.reconciler.handle(now, Input::Applied { actuation, applied });
                }
                Output::Report(report) => {
                    vehicle.fuse.step()?;
                    self.tell_of(vehicle, air, &report);
                    self.report = Some(report);
                }
                Output::Wait(until) => {
                    self.wait = until;
                    return Ok(has_moved);
                }
            }
        }
    }

    fn apply(&self, vehicle: &mut Vehicle, air: &mut Air, actuation: Actuation, target: &Target) -> Applied {
        let Air { plan, chance, .. } = air;
        let applied = vehicle.body.apply(air.now, actuation, target, (&plan.mix, chance));
        if let (false, Value::Int(value)) = (matches!(applied, Applied::Refused(_)), &target.value) {
            let version = self.decided.get(&target.path).copied().unwrap_or(0);
            let (class, path) = (target.class.name().into(), target.path.as_str().into());
            air.tell(&vehicle.name, What::Wish(Wish::Acted { class, path, version, value: *value }));
        }
        applied
    }

    fn tell_of(&mut self, vehicle: &Vehicle, air: &mut Air, report: &StateReport) {
        for state in &report.paths {
            let now = (state.version, state.status);
            if self.told.insert(state.path.clone(), now) == Some(now) {
                continue;
            }
            let wanted = self.values.get(&(state.path.clone(), state.version));
            let holds = wanted.is_some_and(|value| vehicle.body.holds(&state.path) == Some(value));
            let (path, status) = (state.path.as_str().into(), state.status.name().into());
            let told = Wish::Told { path, version: state.version, status, holds };
            air.tell(&vehicle.name, What::Wish(told));
        }
    }

    /// Sends the report, if one waits and the lane has room. True where it went.
    pub(super) fn tell(&mut self, vehicle: &mut Vehicle, session: &mut Session) -> Result<bool, Died> {
        let Some(report) = &self.report else { return Ok(false) };
        vehicle.fuse.step()?;
        let payload = Message::StateReport(report.clone()).encode();
        let is_sent = session.send(Class::Config, payload, None).is_ok();
        if is_sent {
            self.report = None;
        }
        Ok(is_sent)
    }
}
