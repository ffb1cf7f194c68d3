//! What can happen to the desired state of a vehicle.

use serde::{Deserialize, Serialize};

use super::event::Name;

/// One step on desired state's way. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wish {
    /// A gateway promised this version, once it is on its disk.
    Asked {
        /// For whom.
        vehicle: Name,
        /// Which.
        version: u64,
        /// The version that it was made to, where the operator named one.
        base: Option<u64>,
        /// Each path with its new value; `None`: nothing is desired of it any more.
        edits: Vec<(Name, Option<i64>)>,
        /// Until when it is valid; `None`: without end.
        until: Option<u64>,
    },
    /// A gateway has this version on its disk.
    Stored {
        /// For whom.
        vehicle: Name,
        /// Which.
        version: u64,
    },
    /// A gateway answered that this version is made.
    Answered {
        /// For whom.
        vehicle: Name,
        /// Which.
        version: u64,
    },
    /// A gateway began with this version; 0: nothing is desired.
    Loaded {
        /// For whom.
        vehicle: Name,
        /// Which.
        version: u64,
    },
    /// The vehicle's journal holds that it decided on this version of a path.
    Decided {
        /// Which path.
        path: Name,
        /// Which version of it.
        version: u64,
    },
    /// The vehicle began to bring about what is desired.
    Acted {
        /// In which class.
        class: Name,
        /// Which path.
        path: Name,
        /// Which version of it.
        version: u64,
        /// The value.
        value: i64,
    },
    /// The vehicle reported how far it has come with a path.
    Told {
        /// Which path.
        path: Name,
        /// Which version of it.
        version: u64,
        /// How far, by name.
        status: Name,
        /// What is desired does hold.
        holds: bool,
    },
    /// How it stands with a path long after the faults stopped, at the gateway that holds the vehicle.
    Rested {
        /// Whose.
        vehicle: Name,
        /// Which path.
        path: Name,
        /// How far the vehicle has come, by name.
        status: Name,
        /// What is desired.
        desired: i64,
        /// What is reported.
        reported: Option<i64>,
        /// What does hold.
        holds: Option<i64>,
        /// The vehicle can read what holds.
        is_readable: bool,
        /// It was desired in a healthy world, and nothing keeps the vehicle from it.
        is_expected: bool,
    },
    /// The versions at that gateway.
    VersionsRested {
        /// Whose.
        vehicle: Name,
        /// Of what is desired.
        version: u64,
        /// Of what the vehicle has answered.
        answered: u64,
    },
}
