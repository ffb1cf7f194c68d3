//! Desired and reported state: what is to hold on a vehicle, and how far it has come.

use std::time::Duration;

use crate::frame::{cut, stamp};
use crate::message::{Reason, wire_enum};
use crate::scan::MAX_VALUES;
use crate::time::{Stamp, micros};
use crate::value::{SignalPath, Value};
use crate::wire;

/// Everything that is to hold, each time.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Rises with every change of any path.
    pub version: u64,
    /// At most [`MAX_VALUES`], each path once.
    pub values: Vec<DesiredValue>,
}

/// One path that is to hold a value.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredValue {
    /// What.
    pub path: SignalPath,
    /// The state to reach and keep.
    pub value: Value,
    /// The version in which this path was changed last: one actuation at most is made for it.
    pub version: u64,
    /// Where its validity began, by a floor under the vehicle's clock.
    pub stamp: Stamp,
    /// How long it is valid from there; `None`: without end.
    pub ttl: Option<Duration>,
}

wire_enum!(
    /// How far the vehicle has come with one path.
    SyncStatus {
        /// Not tried yet.
        Pending = "PENDING",
        /// The actuator is on its way.
        Applying = "APPLYING",
        /// It holds.
        InSync = "IN_SYNC",
        /// It held, and does not any more.
        Diverged = "DIVERGED",
        /// Tried, and not tried again for this version.
        GivenUp = "GIVEN_UP",
        /// No longer valid before it could be tried.
        Expired = "EXPIRED",
    }
);

/// How far the vehicle has come.
#[derive(Clone, Debug, PartialEq)]
pub struct StateReport {
    /// The [`Desired`] that this answers.
    pub version: u64,
    /// At most [`MAX_VALUES`], each path once.
    pub paths: Vec<PathState>,
}

/// How far it has come with one path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathState {
    /// Which.
    pub path: SignalPath,
    /// How far.
    pub status: SyncStatus,
    /// Of the [`DesiredValue`] meant.
    pub version: u64,
    /// What holds now, where the vehicle knows.
    pub reported: Option<Value>,
    /// Why it was given up.
    pub reason: Option<Reason>,
    /// For people; at most 256 bytes.
    pub detail: String,
}

impl TryFrom<wire::Desired> for Desired {
    type Error = &'static str;

    fn try_from(desired: wire::Desired) -> Result<Self, &'static str> {
        let values: Vec<_> =
            desired.values.into_iter().map(DesiredValue::try_from).collect::<Result<_, _>>()?;
        each_once(values.iter().map(|value| &value.path))?;
        Ok(Self { version: desired.version, values })
    }
}

impl From<&Desired> for wire::Desired {
    fn from(desired: &Desired) -> Self {
        Self { version: desired.version, values: desired.values.iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::DesiredValue> for DesiredValue {
    type Error = &'static str;

    fn try_from(desired: wire::DesiredValue) -> Result<Self, &'static str> {
        Ok(Self {
            path: desired.path.parse().map_err(|_| "desired value without a VSS path")?,
            value: desired
                .value
                .and_then(|value| value.try_into().ok())
                .ok_or("desired value without a value")?,
            version: desired.version,
            stamp: stamp(desired.stamp).map_err(|_| "desired value without a stamp")?,
            ttl: (desired.ttl_us > 0).then(|| Duration::from_micros(desired.ttl_us)),
        })
    }
}

impl From<&DesiredValue> for wire::DesiredValue {
    fn from(desired: &DesiredValue) -> Self {
        Self {
            path: desired.path.as_str().into(),
            value: Some((&desired.value).into()),
            version: desired.version,
            stamp: Some((&desired.stamp).into()),
            // Less than a microsecond is not for ever.
            ttl_us: desired.ttl.map_or(0, |ttl| micros(ttl).max(1)),
        }
    }
}

impl TryFrom<wire::StateReport> for StateReport {
    type Error = &'static str;

    fn try_from(report: wire::StateReport) -> Result<Self, &'static str> {
        let paths: Vec<_> = report.paths.into_iter().map(PathState::try_from).collect::<Result<_, _>>()?;
        each_once(paths.iter().map(|state| &state.path))?;
        Ok(Self { version: report.version, paths })
    }
}

impl From<&StateReport> for wire::StateReport {
    fn from(report: &StateReport) -> Self {
        Self { version: report.version, paths: report.paths.iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::PathState> for PathState {
    type Error = &'static str;

    fn try_from(state: wire::PathState) -> Result<Self, &'static str> {
        let reported = state.reported.map(Value::try_from).transpose();
        Ok(Self {
            path: state.path.parse().map_err(|_| "path state without a VSS path")?,
            status: SyncStatus::from_wire(state.status).ok_or("path state without a status known here")?,
            version: state.version,
            reported: reported.map_err(|_| "path state with a value unknown here")?,
            reason: Reason::from_wire(state.reason),
            detail: cut(state.detail, 256),
        })
    }
}

impl From<&PathState> for wire::PathState {
    fn from(state: &PathState) -> Self {
        Self {
            path: state.path.as_str().into(),
            status: state.status.to_wire(),
            version: state.version,
            reported: state.reported.as_ref().map(Into::into),
            reason: state.reason.map_or(0, Reason::to_wire),
            detail: cut(state.detail.clone(), 256),
        }
    }
}

fn each_once<'a>(paths: impl ExactSizeIterator<Item = &'a SignalPath>) -> Result<(), &'static str> {
    let count = paths.len();
    let distinct: std::collections::BTreeSet<_> = paths.collect();
    if count > MAX_VALUES {
        return Err("more than 128 paths");
    }
    if distinct.len() < count { Err("a path that stands there twice") } else { Ok(()) }
}
