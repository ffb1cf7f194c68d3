//! The disk's answers on their way back to the cores.
//!
//! The store calls back on a thread of its own, and where it refuses a write even within the call: under
//! the hub's lock. So its answers are left here, and the hub's own task takes them in.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use carriageway_proto::{Desired, Message, Token, VehicleId};
use tokio::sync::Notify;

use super::Hub;
use crate::core::{lease, shadow};
use crate::store::{Change, Store};

/// What was to be kept.
#[derive(Clone, Debug)]
pub(super) enum Written {
    /// A lease's token.
    Token(VehicleId, Token),
    /// A desired state, by its version.
    Desired(VehicleId, u64),
}

/// The disk, and what it has said that nobody has heard yet. There are at most as many answers as
/// promises that wait for them.
pub(super) struct Disk {
    store: Option<Store>,
    answers: Arc<Answers>,
}

#[derive(Default)]
struct Answers {
    waiting: Mutex<Vec<(Written, bool)>>,
    bell: Notify,
}

impl Disk {
    /// With `None` there is no disk, and nothing is ever kept.
    pub(super) fn new(store: Option<Store>) -> Self {
        Self { store, answers: Arc::default() }
    }

    /// Keeps a lease's token.
    pub(super) fn keep_token(&self, vehicle: VehicleId, token: Token) {
        let change = Change::Token { vehicle: vehicle.clone(), token };
        self.keep(change, Written::Token(vehicle, token));
    }

    /// Keeps a desired state.
    pub(super) fn keep_desired(&self, vehicle: VehicleId, desired: Desired) {
        let version = desired.version;
        let document = Message::Desired(desired).encode().to_vec();
        let change = Change::Desired { vehicle: vehicle.clone(), document };
        self.keep(change, Written::Desired(vehicle, version));
    }

    fn keep(&self, change: Change, written: Written) {
        let answers = Arc::clone(&self.answers);
        let Some(store) = &self.store else { return answers.leave(written, false) };
        store.write(vec![change], move |outcome| {
            if let Err(error) = &outcome {
                tracing::error!(%error, ?written, "not kept");
            }
            answers.leave(written, outcome.is_ok());
        });
    }

    /// Returns once there is an answer to take in. Cancel safe.
    pub(super) async fn answered(&self) {
        self.answers.bell.notified().await;
    }
}

impl Answers {
    fn leave(&self, written: Written, kept: bool) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((written, kept));
        self.bell.notify_one();
    }
}

impl Hub {
    /// Takes in what the disk has said.
    pub(super) fn hear_disk(&self) {
        let answers = &self.0.disk.answers.waiting;
        let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.now();
        let mut state = self.state();
        for (written, kept) in answers {
            match (written, kept) {
                (Written::Token(vehicle, token), true) => {
                    state.leases.handle(now, lease::Input::Kept { vehicle, token });
                }
                (Written::Token(vehicle, token), false) => {
                    state.leases.handle(now, lease::Input::NotKept { vehicle, token });
                }
                (Written::Desired(vehicle, version), true) => {
                    state.shadows.handle(now, shadow::Input::Kept { vehicle, version });
                }
                (Written::Desired(vehicle, version), false) => {
                    state.shadows.handle(now, shadow::Input::NotKept { vehicle, version });
                }
            }
        }
        self.pump(now, &mut state);
    }
}

/// The desired state that a document holds.
pub(crate) fn desired_in(document: Vec<u8>) -> Option<Desired> {
    match Message::decode(Bytes::from(document)) {
        Ok(Message::Desired(desired)) => Some(desired),
        Ok(
            Message::Command(_)
            | Message::Outcome(_)
            | Message::Chunk(_)
            | Message::Cancel(_)
            | Message::Lease(_)
            | Message::Rearm(_)
            | Message::DriveState(_)
            | Message::StateReport(_),
        )
        | Err(_) => None,
    }
}
