//! What goes into the reconciler and what comes out.

use std::collections::BTreeMap;

use carriageway_proto::{Class, DesiredValue, Moment, SignalPath, StateReport, Value};

use crate::core::executor::WriteId;
use crate::core::vehicle::{Actuation, Applied, Refusal, Target};

/// What the journal holds of desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Of a path that is not in `decided`, no version up to this one is decided on any more.
    pub floor: u64,
    /// No version of these paths up to this one is decided on any more: it may have been acted upon, or a newer
    /// state of all has dropped or replaced it.
    pub decided: BTreeMap<SignalPath, u64>,
}

/// One path of the desired state.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What is to hold.
    pub value: DesiredValue,
    /// The class in which the vehicle takes the path; `None`: it does not take it as a state.
    pub class: Option<Class>,
}

/// What the reconciler is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Everything that is to hold came in.
    Desired {
        /// Its version.
        version: u64,
        /// Each path once; no more than a message holds.
        values: Vec<Wanted>,
    },
    /// Values that hold now, as the vehicle says.
    Readings(Vec<(SignalPath, Value)>),
    /// The vehicle has taken a command's target.
    Commanded {
        /// Which path.
        path: SignalPath,
        /// The target.
        value: Value,
        /// It is on its way there, and [`Input::Finished`] says when it has come; `None`: it holds.
        moving: Option<Actuation>,
    },
    /// An emergency stop holds the vehicle, or does not any more.
    Latched(bool),
    /// A session began: whoever is there knows nothing yet.
    Established,
    /// [`Output::Decide`] of this number is durable.
    Written(WriteId),
    /// [`Output::Decide`] of this number failed, or nobody knows.
    WriteFailed(WriteId),
    /// The vehicle's answer to [`Output::Apply`].
    Applied {
        /// Of that output.
        actuation: Actuation,
        /// The answer.
        applied: Applied,
    },
    /// An actuation ended, as the vehicle reports.
    Finished {
        /// Which.
        actuation: Actuation,
        /// How.
        result: Result<(), Refusal>,
    },
    /// The agent is about to end: from here on nothing new is begun.
    Stopping,
}

/// What the reconciler wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make durable that no version of `path` up to this one is decided on any more; then say
    /// [`Input::Written`].
    Decide {
        /// Names the write. Writes become durable in this order or not at all.
        id: WriteId,
        /// Which path.
        path: SignalPath,
        /// Which version of it.
        version: u64,
    },
    /// The path need not be kept any more where [`Past::floor`] rises to `floor`. Need not be durable, but both
    /// or neither.
    Forget {
        /// Which path.
        path: SignalPath,
        /// Its version.
        floor: u64,
    },
    /// Call [`crate::Vehicle::apply`] now, without any wait, and say [`Input::Applied`].
    Apply {
        /// Names the attempt.
        actuation: Actuation,
        /// The target.
        target: Target,
    },
    /// Tell the gateway; one that has not left yet is worth nothing any more.
    Report(StateReport),
    /// Nothing until the next input or this moment.
    Wait(Option<Moment>),
}
