//! One path of the desired state: how far the vehicle has come with it.

use carriageway_proto::{DesiredValue, PathState, Reason, SyncStatus, Value};

use super::{FIRST, Wanted};
use crate::core::executor::WriteId;
use crate::core::freshness::TooOld;
use crate::core::vehicle::{Actuation, Refusal};

/// Where one version of a path stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Nothing is decided.
    Waiting,
    /// What was decided is being written.
    Recording { write: WriteId, then: Decision },
    /// To be applied; that is durable, and waits for the rate.
    Ready,
    /// The vehicle has it.
    Applying(Actuation),
    /// Nothing more is done for this version.
    Resting(Rest),
}

/// What is done once it is durable that nothing else will be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    Act,
    Rest(Rest),
}

/// How it stands with a version that nothing is done for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rest {
    pub(super) status: SyncStatus,
    pub(super) reason: Option<Reason>,
    pub(super) detail: String,
}

impl Rest {
    pub(super) fn in_sync() -> Self {
        Self { status: SyncStatus::InSync, reason: None, detail: String::new() }
    }

    pub(super) fn diverged(why: &str) -> Self {
        Self { status: SyncStatus::Diverged, reason: None, detail: why.into() }
    }

    pub(super) fn expired(TooOld { reason, detail }: TooOld) -> Self {
        Self { status: SyncStatus::Expired, reason, detail }
    }

    pub(super) fn given_up(refusal: Refusal) -> Self {
        let Refusal { reason, detail } = refusal;
        Self { status: SyncStatus::GivenUp, reason: Some(reason), detail }
    }

    /// Nobody knows what came of it, and it is not tried again.
    pub(super) fn unclear(why: &str) -> Self {
        Self { status: SyncStatus::GivenUp, reason: None, detail: why.into() }
    }
}

/// A path and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) wanted: Wanted,
    pub(super) stage: Stage,
}

impl Path {
    /// The vehicle says that `reading` holds.
    pub(super) fn read(&mut self, reading: &Value) {
        let Stage::Resting(rest) = &mut self.stage else { return };
        let holds = is_value(&self.wanted.value.value, reading);
        match rest.status {
            SyncStatus::InSync if !holds => *rest = Rest::diverged("it does not hold any more"),
            SyncStatus::Diverged | SyncStatus::GivenUp if holds => *rest = Rest::in_sync(),
            SyncStatus::Pending
            | SyncStatus::Applying
            | SyncStatus::InSync
            | SyncStatus::Diverged
            | SyncStatus::GivenUp
            | SyncStatus::Expired => {}
        }
    }

    pub(super) fn status(&self) -> SyncStatus {
        match &self.stage {
            Stage::Waiting | Stage::Recording { .. } | Stage::Ready => SyncStatus::Pending,
            Stage::Applying(_) => SyncStatus::Applying,
            Stage::Resting(rest) => rest.status,
        }
    }

    /// As told to the gateway; `reading` is what holds, where the vehicle can read it.
    pub(super) fn state(&self, reading: Option<&Value>) -> PathState {
        let DesiredValue { path, value, version, .. } = &self.wanted.value;
        let (reason, detail) = match &self.stage {
            Stage::Resting(rest) => (rest.reason, rest.detail.clone()),
            Stage::Waiting | Stage::Recording { .. } | Stage::Ready | Stage::Applying(_) => {
                (None, String::new())
            }
        };
        let status = self.status();
        // What cannot be read is what the vehicle was last said to have reached.
        let believed = (status == SyncStatus::InSync).then_some(value);
        let reported = reading.or(believed).cloned();
        PathState { path: path.clone(), status, version: *version, reported, reason, detail }
    }
}

/// True where `reading` is what `wanted` looks like when it holds: JSON does not tell 21 from 21.0, and what
/// is read in whole numbers is rounded.
pub(super) fn is_value(wanted: &Value, reading: &Value) -> bool {
    match (wanted, reading) {
        (Value::Float(wanted), Value::Int(reading)) => (wanted - *reading as f64).abs() < 1.0,
        (Value::Int(_) | Value::Float(_), Value::Float(_)) => {
            let (wanted, reading) = (wanted.as_f64().unwrap_or(0.0), reading.as_f64().unwrap_or(0.0));
            // Single precision on its way through the vehicle.
            (wanted - reading).abs() <= 1e-6 * wanted.abs().max(1.0)
        }
        (
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_),
        ) => wanted == reading,
    }
}

/// Numbers what the reconciler asks for, apart from what the executor does.
pub(super) fn number(count: &mut u64) -> u64 {
    *count += 1;
    FIRST + *count
}
