//! Desired and reported state over HTTP.

use std::collections::BTreeMap;

use carriageway_proto::{Reason, SyncStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::{JsonValue, millis};
use crate::api::wall::Wall;
use crate::core::shadow::PathView;
use crate::hub::StateGlance;

/// What is to hold on a vehicle, and what holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StateView {
    /// The vehicle.
    pub vehicle: String,
    /// Of `desired`; rises with every change of it. Also the `ETag`.
    pub version: u64,
    /// The newest version that the vehicle has answered; 0: none yet.
    pub answered: u64,
    /// Whether all that is desired and valid is reported so.
    pub in_sync: bool,
    /// What is to hold, by path.
    pub desired: BTreeMap<String, JsonValue>,
    /// What holds, by path, as far as it is known.
    pub reported: BTreeMap<String, JsonValue>,
    /// Of `desired`, what is valid and not reported so.
    pub delta: BTreeMap<String, JsonValue>,
    /// What is known of each path.
    pub paths: BTreeMap<String, PathStateView>,
}

/// What is known of one path.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PathStateView {
    /// How far the vehicle has come with what is desired: `PENDING`, `APPLYING`, `IN_SYNC`, `DIVERGED`,
    /// `GIVEN_UP`, `EXPIRED`.
    pub status: Option<&'static str>,
    /// The version in which what is desired of it was changed last.
    pub version: Option<u64>,
    /// When that was; absent where the gateway's host has rebooted since.
    pub changed_at: Option<String>,
    /// When the wish ends, where it has an end.
    pub valid_until: Option<String>,
    /// The wish has ended, or nobody knows how long ago it was made.
    pub expired: bool,
    /// How long what holds has been known.
    pub reported_age_ms: Option<u64>,
    /// Why it was given up.
    pub reason: Option<&'static str>,
    /// For people.
    pub detail: String,
}

impl StateView {
    /// As it is at `wall`'s now.
    pub fn of(glance: &StateGlance, wall: &Wall) -> Self {
        let view = &glance.view;
        let wanted = |path: &PathView| Some((path.path.to_string(), (&path.wish.as_ref()?.value).into()));
        let known = |path: &PathView| Some((path.path.to_string(), (&path.reported.as_ref()?.0).into()));
        Self {
            vehicle: glance.vehicle.to_string(),
            version: view.version,
            answered: view.answered,
            in_sync: view.is_in_sync(),
            desired: view.paths.iter().filter_map(wanted).collect(),
            reported: view.paths.iter().filter_map(known).collect(),
            delta: view.paths.iter().filter(|path| path.differs()).filter_map(wanted).collect(),
            paths: view
                .paths
                .iter()
                .map(|path| (path.path.to_string(), PathStateView::of(path, wall)))
                .collect(),
        }
    }
}

impl PathStateView {
    fn of(path: &PathView, wall: &Wall) -> Self {
        let wish = path.wish.as_ref();
        Self {
            status: path.status.map(SyncStatus::name),
            version: wish.map(|wish| wish.version),
            changed_at: wish.and_then(|wish| wish.since).map(|since| wall.date(since)),
            valid_until: wish.and_then(|wish| wish.until).map(|until| wall.date(until)),
            expired: wish.is_some_and(|wish| wish.is_expired),
            reported_age_ms: path.reported.as_ref().map(|(_, at)| millis(wall.now().since(*at))),
            reason: path.reason.map(Reason::name),
            detail: path.detail.clone(),
        }
    }
}

/// A vehicle's desired or reported state changed: fetch it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StateEvent {
    /// The vehicle.
    pub vehicle: String,
    /// Of what is desired.
    pub version: u64,
    /// The newest that the vehicle has answered.
    pub answered: u64,
    /// Whether all that is desired and valid is reported so.
    pub in_sync: bool,
    /// When.
    pub at: String,
}
