//! What leases are spoken of in: who holds one, why not, what happened and what is to be done.

use carriageway_proto::{DriveState, Epoch, Moment, Token, VehicleId};

/// The right to drive, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its fencing token.
    pub token: Token,
    /// Who holds it.
    pub operator: String,
    /// When it was granted.
    pub granted: Moment,
    /// When it ends unless it is renewed.
    pub ends: Moment,
}

impl Lease {
    /// Whether it lives at `now`.
    pub fn lives(&self, now: Moment) -> bool {
        now < self.ends
    }

    pub(super) fn is_of(&self, operator: &str, token: Token) -> bool {
        self.token == token && self.operator == operator
    }
}

/// What a vehicle last said of whether it can be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its words.
    pub state: DriveState,
    /// When they came.
    pub at: Moment,
    /// Over which session.
    pub epoch: Epoch,
}

/// Why no lease is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeRefusal {
    /// The vehicle has no connection.
    Offline,
    /// The vehicle has not said in its present session whether it can be driven.
    Unheard,
    /// Somebody holds it, or is about to; force takes it over.
    Held {
        /// Who.
        by: String,
    },
    /// Somebody else took it over while the token was being kept.
    TakenOver {
        /// Who.
        by: String,
    },
    /// The vehicle has just shown a higher token, of another gateway's grant: the next try is above it.
    Fenced,
    /// The token could not be kept durably.
    NotKept,
    /// No room to remember another vehicle's token, or no higher token than the vehicle's.
    Full,
}

/// The caller holds no such lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoLease;

/// Why an operator may not drive a vehicle now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDriving {
    /// They do not hold its lease.
    NoLease,
    /// The vehicle has not said in its present session whether its newest grant is theirs.
    Unheard,
}

/// Why a wish to re-arm is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RearmRefusal {
    /// The caller holds no such lease now.
    NoLease,
    /// The vehicle is in another safe state than the one meant, or in none.
    OtherNonce,
}

/// Why a lease ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its holder gave it back.
    Released,
    /// It was not renewed.
    Expired,
    /// Somebody took it by force.
    TakenOver {
        /// Who.
        by: String,
    },
    /// The vehicle has seen a grant of another gateway.
    Fenced,
}

impl End {
    /// The cause as one word, for HTTP and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::TakenOver { .. } => "taken_over",
            Self::Fenced => "fenced",
        }
    }
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It began; by force where it was somebody's.
    Granted {
        /// Whose it was.
        over: Option<String>,
    },
    /// It is over.
    Ended(End),
}

/// A line of the record: who, what and, by the moment it is told, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The lease.
    pub token: Token,
    /// Its holder.
    pub operator: String,
    /// What became of it.
    pub change: Change,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A token is on disk.
    Kept {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        token: Token,
    },
    /// A token could not be written.
    NotKept {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        token: Token,
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
    /// A vehicle said whether it can be driven.
    Told {
        /// Which.
        vehicle: VehicleId,
        /// Over which session.
        epoch: Epoch,
        /// Its words.
        state: DriveState,
    },
    /// Time has passed.
    Tick,
}

/// Something to do or to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this token durably; then [`Input::Kept`] or [`Input::NotKept`].
    Keep {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        token: Token,
    },
    /// The take that was promised this token has its lease.
    Granted {
        /// Which vehicle.
        vehicle: VehicleId,
        /// The lease.
        lease: Lease,
    },
    /// The take that was promised this token gets none.
    NotGranted {
        /// Which vehicle.
        vehicle: VehicleId,
        /// The token.
        token: Token,
        /// Why.
        why: TakeRefusal,
    },
    /// Send the vehicle this lease, while that makes sense.
    Tell {
        /// Which vehicle.
        vehicle: VehicleId,
        /// The lease.
        lease: Lease,
        /// It has ended.
        over: bool,
    },
    /// What the vehicle says of itself has changed.
    Drive {
        /// Which vehicle.
        vehicle: VehicleId,
        /// Its words.
        state: DriveState,
    },
    /// Put this on record.
    Audit(Audit),
}

/// What is known of driving one vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The lease that lives now.
    pub lease: Option<Lease>,
    /// What the vehicle last said.
    pub told: Option<Told>,
    /// Whether it said so in its present session.
    pub is_current: bool,
    /// Rises with every change of any of it, renewals apart.
    pub version: u64,
}
