//! Who may drive a vehicle, and whether it can be driven: messages on the drive and safety lanes.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::frame::{cut, stamp};
use crate::id::Token;
use crate::message::wire_enum;
use crate::time::{Stamp, micros};
use crate::wire;

/// Path of the emergency stop, a target of class safety. Its only value is `true`: bring the vehicle to a halt and
/// latch.
pub const EMERGENCY_STOP: &str = "Vehicle.Carriageway.EmergencyStop";

/// Who may drive, told to the vehicle at every grant, renewal and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Rises with every grant. The vehicle obeys the highest it has seen (FENCE).
    pub token: Token,
    /// Who holds it; at most 128 bytes.
    pub operator: String,
    /// Where its life began, by a floor under the vehicle's clock.
    pub stamp: Stamp,
    /// How long it lives from there; zero: it has ended.
    pub ttl: Duration,
}

/// A wish to leave the safe state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rearm {
    /// The lease it is made under.
    pub token: Token,
    /// Of the safe state that is to end.
    pub nonce: NonZeroU64,
    /// Where its life began, by a floor under the vehicle's clock.
    pub stamp: Stamp,
    /// How long it lives from there.
    pub ttl: Duration,
}

wire_enum!(
    /// Whether the vehicle follows control.
    DrivePhase {
        /// Standing, latched.
        Safe = "SAFE",
        /// Re-armed; waits for neutral input in enough good frames in a row.
        Arming = "ARMING",
        /// Follows control.
        Armed = "ARMED",
        /// Armed, but control has been missing for longer than the soft limit.
        Stale = "STALE",
    }
);

wire_enum!(
    /// Why the vehicle is in its safe state.
    SafeCause {
        /// Nobody has armed it since it started.
        Start = "START",
        /// No accepted control within the watchdog's limit.
        ControlLost = "CONTROL_LOST",
        /// An emergency stop.
        EmergencyStop = "EMERGENCY_STOP",
        /// The lease ended or was released.
        LeaseEnded = "LEASE_ENDED",
        /// A newer lease was granted.
        TakenOver = "TAKEN_OVER",
        /// Arming was not completed in time, or its input was not neutral.
        NotArmed = "NOT_ARMED",
    }
);

/// Whether the vehicle can be driven, said by the vehicle at every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveState {
    /// How it stands.
    pub phase: DrivePhase,
    /// Why it is in the safe state; `None` where it is not.
    pub cause: Option<SafeCause>,
    /// What a [`Rearm`] must name; `None` where it is not in the safe state.
    pub nonce: Option<NonZeroU64>,
    /// The highest token it has seen; `None` before the first.
    pub token: Option<Token>,
}

impl TryFrom<wire::Lease> for Lease {
    type Error = &'static str;

    fn try_from(lease: wire::Lease) -> Result<Self, &'static str> {
        Ok(Self {
            token: Token::granted(lease.token).ok_or("lease without a token")?,
            operator: cut(lease.operator, 128),
            stamp: stamp(lease.stamp).map_err(|_| "lease without a stamp")?,
            ttl: Duration::from_micros(lease.ttl_us),
        })
    }
}

impl From<&Lease> for wire::Lease {
    fn from(lease: &Lease) -> Self {
        Self {
            token: lease.token.number(),
            operator: cut(lease.operator.clone(), 128),
            stamp: Some((&lease.stamp).into()),
            ttl_us: micros(lease.ttl),
        }
    }
}

impl TryFrom<wire::Rearm> for Rearm {
    type Error = &'static str;

    fn try_from(rearm: wire::Rearm) -> Result<Self, &'static str> {
        if rearm.ttl_us == 0 {
            return Err("re-arm without a ttl");
        }
        Ok(Self {
            token: Token::granted(rearm.token).ok_or("re-arm without a token")?,
            nonce: NonZeroU64::new(rearm.nonce).ok_or("re-arm without a nonce")?,
            stamp: stamp(rearm.stamp).map_err(|_| "re-arm without a stamp")?,
            ttl: Duration::from_micros(rearm.ttl_us),
        })
    }
}

impl From<&Rearm> for wire::Rearm {
    fn from(rearm: &Rearm) -> Self {
        Self {
            token: rearm.token.number(),
            nonce: rearm.nonce.get(),
            stamp: Some((&rearm.stamp).into()),
            ttl_us: micros(rearm.ttl),
        }
    }
}

impl TryFrom<wire::DriveState> for DriveState {
    type Error = &'static str;

    fn try_from(state: wire::DriveState) -> Result<Self, &'static str> {
        Ok(Self {
            phase: DrivePhase::from_wire(state.phase).ok_or("drive state without a phase known here")?,
            cause: SafeCause::from_wire(state.cause),
            nonce: NonZeroU64::new(state.nonce),
            token: Token::granted(state.token),
        })
    }
}

impl From<&DriveState> for wire::DriveState {
    fn from(state: &DriveState) -> Self {
        Self {
            phase: state.phase.to_wire(),
            cause: state.cause.map_or(0, SafeCause::to_wire),
            nonce: state.nonce.map_or(0, NonZeroU64::get),
            token: state.token.map_or(0, Token::number),
        }
    }
}
