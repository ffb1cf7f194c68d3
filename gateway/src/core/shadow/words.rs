//! What states are spoken of in.

use std::time::Duration;

use carriageway_proto::{
    Desired, Epoch, Moment, Reason, SignalPath, StateReport, SyncStatus, Value, VehicleId,
};

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Vehicles of which something is desired or reported.
    pub vehicles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // As many as are remembered by a full gateway with its default limits.
        Self { vehicles: 20_000 }
    }
}

/// What to do with one path.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// It is to hold this value.
    Set {
        /// The value.
        value: Value,
        /// For how long; `None`: until it is changed.
        valid_for: Option<Duration>,
    },
    /// Nothing is desired of it any more.
    Remove,
}

/// Which version a change is made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever there is.
    Any,
    /// One of these.
    Versions(Vec<u64>),
}

/// What a change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: all of it stands as it is.
    None,
    /// This version, once it is on disk.
    Promised(u64),
}

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchRefusal {
    /// It was made to another version than the present one.
    Precondition {
        /// The present one.
        version: u64,
    },
    /// Another change is just being written.
    Busy,
    /// More paths than one message to the vehicle holds.
    TooManyPaths,
    /// More bytes than one message to the vehicle holds.
    TooLarge,
    /// No room for another vehicle's state.
    Full,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A version is on disk.
    Kept {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        version: u64,
    },
    /// A version could not be written.
    NotKept {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        version: u64,
    },
    /// A vehicle's session was opened or goes on.
    Established {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        epoch: Epoch,
    },
    /// It is over.
    Ended {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        epoch: Epoch,
    },
    /// The message that was under way is not any more.
    Settled {
        /// To whom.
        vehicle: VehicleId,
        /// The vehicle has it.
        arrived: bool,
    },
    /// The message could not be handed over just now.
    Unsent {
        /// To whom.
        vehicle: VehicleId,
    },
    /// A vehicle reported.
    Report {
        /// Which.
        vehicle: VehicleId,
        /// Over which session.
        epoch: Epoch,
        /// Its words.
        report: StateReport,
    },
    /// Time has passed.
    Tick,
}

/// Something to do or to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this durably, stamps by this host's clock; then [`Input::Kept`] or [`Input::NotKept`].
    Keep {
        /// Whose.
        vehicle: VehicleId,
        /// All of it.
        desired: Desired,
    },
    /// The change that was promised this version has been made, or not.
    Patched {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        version: u64,
        /// It is on disk.
        kept: bool,
    },
    /// Send what [`super::Shadows::message`] says; then [`Input::Settled`] or [`Input::Unsent`].
    Send {
        /// To whom.
        vehicle: VehicleId,
    },
    /// Something that is shown has changed.
    Changed {
        /// Whose.
        vehicle: VehicleId,
    },
}

/// What is desired and reported of a vehicle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Of what is desired; 0 where nobody ever desired anything.
    pub version: u64,
    /// Of the newest that the vehicle has answered.
    pub answered: u64,
    /// By path.
    pub paths: Vec<PathView>,
}

impl View {
    /// Whether all that is desired and valid is reported so.
    pub fn is_in_sync(&self) -> bool {
        self.paths.iter().all(|path| !path.differs())
    }
}

/// One path of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PathView {
    /// Which.
    pub path: SignalPath,
    /// What is to hold.
    pub wish: Option<Wish>,
    /// What holds, and since when that is known.
    pub reported: Option<(Value, Moment)>,
    /// How far the vehicle has come with the wish.
    pub status: Option<SyncStatus>,
    /// Why it was given up.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
}

/// What is to hold of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The value.
    pub value: Value,
    /// The version in which it was changed last.
    pub version: u64,
    /// When that was; unknown after a reboot of the host.
    pub since: Option<Moment>,
    /// When it ends, where it has an end that is known.
    pub until: Option<Moment>,
    /// It has ended, or must be taken for it.
    pub is_expired: bool,
}

impl PathView {
    /// Whether something else is desired than is reported.
    pub fn differs(&self) -> bool {
        let Some(wish) = self.wish.as_ref().filter(|wish| !wish.is_expired) else { return false };
        self.reported.as_ref().is_none_or(|(value, _)| !is_same(value, &wish.value))
    }
}

/// A number is the same whether it is written whole or not.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.to_bits() == other.to_bits() || (one - other).abs() < f64::EPSILON,
        (None, _) | (_, None) => one == other,
    }
}
