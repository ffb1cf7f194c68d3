//! The disk's answers on their way back to the cores.
//!
//! The store calls back on a thread of its own, and where it refuses a write even within the call: under
//! the hub's lock. So its answers are left here, and the hub's own task takes them in.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use carriageway_proto::{Desired, Message, Token, VehicleId};
use tokio::sync::Notify;

use super::{Hub, State};
use crate::core::{lease, shadow};
use crate::store::{Change, Outcome};

/// What was to be kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    /// A lease's token.
    Token(VehicleId, Token),
    /// A desired state, by its version.
    Desired(VehicleId, u64),
    /// That a vehicle was here.
    Vehicle(VehicleId),
}

impl Written {
    /// Whose desired state, and its version.
    const fn desired(&self) -> Option<(&VehicleId, u64)> {
        match self {
            Self::Desired(vehicle, version) => Some((vehicle, *version)),
            Self::Token(..) | Self::Vehicle(_) => None,
        }
    }

    /// What it is, as one word, for metrics and health.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Token(..) => "token",
            Self::Desired(..) => "desired",
            Self::Vehicle(_) => "vehicle",
        }
    }
}

/// The outcome of a write: why it failed, for people.
type Said = Result<(), String>;

/// What the disk has said that nobody has heard yet: at most as many answers as promises that wait for
/// them.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Unheard>);

#[derive(Default)]
struct Unheard {
    waiting: Mutex<Vec<(Written, Said)>>,
    bell: Notify,
}

impl Answers {
    pub(super) fn leave(&self, written: Written, said: Said) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((written, said));
        self.0.bell.notify_one();
    }

    /// Returns once there is an answer to take in. Cancel safe.
    pub(super) async fn left(&self) {
        self.0.bell.notified().await;
    }
}

impl Hub {
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

    /// Keeps that a vehicle was here.
    pub(super) fn keep_vehicle(&self, vehicle: VehicleId) {
        self.keep(Change::Vehicle(vehicle.clone()), Written::Vehicle(vehicle));
    }

    fn keep(&self, change: Change, written: Written) {
        let (answers, wanted) = (self.0.answers.clone(), written.clone());
        let then = move |outcome: Outcome| answers.leave(written, outcome.map_err(|error| error.to_string()));
        if let Err(error) = self.0.store.write(vec![change], then) {
            self.0.answers.leave(wanted, Err(error.to_string()));
        }
    }

    /// Puts on record how a write went: a failure shows until a write of its kind works again. What is written once more
    /// until that works loses nothing, and fails in silence.
    fn note(&self, state: &mut State, written: &Written, said: Said) {
        let is_again = |(vehicle, version): (&VehicleId, u64)| state.shadows.keeps_again(vehicle, version);
        match said {
            Ok(()) => drop(state.unkept.remove(written.kind())),
            Err(error) if written.desired().is_some_and(is_again) => {
                tracing::debug!(error, ?written, "not kept yet");
                state.unkept.insert(written.kind(), error);
            }
            Err(error) => {
                tracing::error!(error, ?written, "not kept");
                self.0.metrics.store_failures.inc();
                self.0.metrics.dropped("store", written.kind(), 1);
                state.unkept.insert(written.kind(), error);
            }
        }
    }

    /// Takes in what the disk has said.
    pub(super) fn hear_disk(&self) {
        let answers = &self.0.answers.0.waiting;
        let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.state();
        let now = self.now();
        for (written, said) in answers {
            let kept = said.is_ok();
            self.note(&mut state, &written, said);
            match (written, kept) {
                // Whoever got a lease now would not have been told of the drain.
                (Written::Token(vehicle, token), true) if state.drain_by.is_none() => {
                    state.leases.handle(now, lease::Input::Kept { vehicle, token });
                }
                (Written::Token(vehicle, token), true | false) => {
                    state.leases.handle(now, lease::Input::NotKept { vehicle, token });
                }
                // Where it was not kept, nothing can wait for it after a restart.
                (Written::Vehicle(_), _) => {}
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carriageway_proto::Value;

    use super::*;
    use crate::core::shadow::{Condition, Edit};

    #[test]
    fn a_state_that_is_written_again_until_the_disk_works_is_lost_once() {
        let hub = Hub::for_test();
        let truck: VehicleId = "truck".parse().unwrap();
        let edits = BTreeMap::from([(
            "Vehicle.Lamp".parse().unwrap(),
            Edit::Set { value: Value::Int(1), valid_for: None },
        )]);
        hub.state().shadows.patch(hub.now(), &truck, &Condition::Any, &edits).unwrap();
        for version in [1, 0, 0] {
            hub.0.answers.leave(Written::Desired(truck.clone(), version), Err("full".into()));
            hub.hear_disk();
            assert!(hub.0.metrics.text().contains(r#"drops_total{stage="store",reason="desired"} 1"#));
            assert!(hub.state().unkept.contains_key("desired"), "and it is not on disk");
            // Put aside: the disk says nothing of it by itself here.
            let mut state = hub.state();
            let now = hub.now();
            state.shadows.handle(now, shadow::Input::Tick);
            while state.shadows.poll().is_some() {}
        }
    }
}
