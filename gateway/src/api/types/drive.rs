//! Driving over HTTP and the control socket: leases, and whether a vehicle can be driven.

use std::collections::BTreeMap;

use carriageway_proto::{DriveState, Token};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::millis;
use crate::api::wall::Wall;
use crate::core::control::Tally;
use crate::core::lease::{Audit, Change, End, Lease, Told};
use crate::hub::{DriveGlance, change_name};

/// What to do with a vehicle's lease.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// `take`, `renew` or `release`.
    #[schema(example = "take")]
    pub action: LeaseAction,
    /// With `take`: takes it from whoever holds it. That goes on record.
    #[serde(default)]
    pub force: bool,
    /// With `renew` and `release`: the lease's token.
    pub token: Option<u64>,
}

/// See [`LeaseRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseAction {
    /// Become the one who drives.
    Take,
    /// Stay it.
    Renew,
    /// Give it back.
    Release,
}

/// A wish to leave the safe state.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RearmRequest {
    /// Of the safe state that is to end: `state.nonce` of the drive view.
    #[schema(example = "00c0ffee00c0ffee")]
    pub nonce: String,
    /// The lease's token.
    pub token: u64,
}

/// The right to drive a vehicle.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeaseView {
    /// Its fencing token. Control is made under it.
    pub token: u64,
    /// Who holds it.
    pub operator: String,
    /// When it was granted.
    pub granted_at: String,
    /// What is left of it. Renew it every quarter of its ttl.
    pub ends_in_ms: u64,
}

impl LeaseView {
    /// The lease as it is at `wall`'s now.
    pub fn of(lease: &Lease, wall: &Wall) -> Self {
        Self {
            token: lease.token.number(),
            operator: lease.operator.clone(),
            granted_at: wall.date(lease.granted),
            ends_in_ms: millis(lease.ends.since(wall.now())),
        }
    }
}

/// What a vehicle says of whether it can be driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DriveStateView {
    /// `SAFE`: standing, latched; `ARMING`: re-armed, waits for neutral control; `ARMED`: follows
    /// control; `STALE`: armed, but control is missing.
    #[schema(example = "SAFE")]
    pub phase: &'static str,
    /// Why it is safe: `START`, `CONTROL_LOST`, `EMERGENCY_STOP`, `LEASE_ENDED`, `TAKEN_OVER`,
    /// `NOT_ARMED`.
    pub cause: Option<&'static str>,
    /// What a re-arming must name, 16 hexadecimal digits; absent where it is not in the safe state.
    pub nonce: Option<String>,
    /// The highest token it has seen.
    pub token: Option<u64>,
}

impl From<&DriveState> for DriveStateView {
    fn from(state: &DriveState) -> Self {
        Self {
            phase: state.phase.name(),
            cause: state.cause.map(carriageway_proto::SafeCause::name),
            nonce: state.nonce.map(|nonce| format!("{nonce:016x}")),
            token: state.token.map(Token::number),
        }
    }
}

/// Who drives a vehicle, and whether it can be driven.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DriveView {
    /// The vehicle.
    pub vehicle: String,
    /// Whether it has a connection now.
    pub connected: bool,
    /// What it last said; absent where it has said nothing yet.
    pub state: Option<DriveStateView>,
    /// How long ago it said so.
    pub state_age_ms: Option<u64>,
    /// Whether it said so in its present session. If not, nobody can drive it but by a lease that it has
    /// confirmed before.
    pub state_current: bool,
    /// The lease that lives now.
    pub lease: Option<LeaseView>,
    /// The gateway is on its way out: no lease is granted or renewed, and the vehicle is sent away when
    /// nobody drives it any more, in so long at the latest. Bring it to a stop.
    pub drains_in_ms: Option<u64>,
}

impl DriveView {
    /// As it is at `wall`'s now.
    pub fn of(glance: &DriveGlance, wall: &Wall) -> Self {
        let told = glance.told();
        Self {
            vehicle: glance.vehicle.to_string(),
            connected: glance.is_connected,
            state: told.as_ref().map(|Told { state, .. }| state.into()),
            state_age_ms: told.map(|told| wall.age_ms(told.at)),
            state_current: glance.view.is_current,
            lease: glance.view.lease.as_ref().map(|lease| LeaseView::of(lease, wall)),
            drains_in_ms: glance.drain_by.map(|by| millis(by.since(wall.now()))),
        }
    }
}

/// A lease was granted or ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeaseEvent {
    /// The vehicle.
    pub vehicle: String,
    /// The lease.
    pub token: u64,
    /// Who holds or held it.
    pub operator: String,
    /// `granted`, `forced` (granted by force); `released`, `expired`, `taken_over`, `fenced`.
    pub change: &'static str,
    /// Whom it was taken from, or who took it.
    pub other: Option<String>,
    /// When.
    pub at: String,
}

impl LeaseEvent {
    /// A line of the record, told at `at`.
    pub fn of(audit: &Audit, at: String) -> Self {
        let other = match &audit.change {
            Change::Granted { over } => over.clone(),
            Change::Ended(End::TakenOver { by }) => Some(by.clone()),
            Change::Ended(End::Released | End::Expired | End::Fenced) => None,
        };
        Self {
            vehicle: audit.vehicle.to_string(),
            token: audit.token.number(),
            operator: audit.operator.clone(),
            change: change_name(&audit.change),
            other,
            at,
        }
    }
}

/// A vehicle said whether it can be driven.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DriveEvent {
    /// The vehicle.
    pub vehicle: String,
    /// Its words.
    #[serde(flatten)]
    pub state: DriveStateView,
    /// When.
    pub at: String,
}

/// The gateway is on its way out while this vehicle's lease is held: none is granted or renewed any more.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DrainEvent {
    /// The vehicle.
    pub vehicle: String,
    /// It is sent away when nobody drives it any more, in so long at the latest.
    pub ends_in_ms: u64,
    /// When this was said.
    pub at: String,
}

/// What the gateway tells on a control socket, as text: at every change, and every second.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ControlReport {
    /// Who drives, and whether it can be driven.
    #[serde(flatten)]
    pub drive: DriveView,
    /// Smoothed round trip between gateway and vehicle.
    pub rtt_ms: Option<f64>,
    /// Control frames of this socket passed on.
    pub relayed: u64,
    /// Control frames of this socket dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl ControlReport {
    /// What is known now, and what became of this socket's frames.
    pub fn of(drive: DriveView, rtt_ms: Option<f64>, tally: &Tally) -> Self {
        let dropped = tally.dropped().map(|(why, count)| (why.name(), count)).collect();
        Self { drive, rtt_ms, relayed: tally.relayed(), dropped }
    }
}
