//! ESTOP: no rate and no queue holds an emergency stop up, and it is latched across restarts until a re-arm
//! under a lease releases it, durably.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::event::{Event, Name, Refused, What};
use super::wish::Wish;

/// What is known of a vehicle's stops.
#[derive(Debug, Default)]
struct Vehicle {
    /// Stops that certainly are on its disk and not released there.
    latched: BTreeSet<Name>,
    /// Stops whose release is on its disk.
    released: BTreeSet<Name>,
    start: Start,
    /// It was stopped, and nothing has released that.
    is_stopped: bool,
    /// It follows control.
    is_armed: bool,
    /// It was re-armed since it was stopped last.
    is_rearmed: bool,
}

/// How its last restart found it.
#[derive(Debug, Default, PartialEq, Eq)]
enum Start {
    /// It asks for nothing any more.
    #[default]
    Past,
    /// Stopped: it is to be stopped again before anything else.
    Owed,
    /// Released: it is not to be stopped before it has seen something new.
    Free,
}

#[derive(Debug, Default)]
pub(super) struct Estop(BTreeMap<Name, Vehicle>);

impl super::Rule for Estop {
    fn invariant(&self) -> &'static str {
        "ESTOP"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        if let What::Refused { key, class, why: Refused::Busy, .. } = &event.what {
            let is_stop = &**class == "safety";
            return is_stop.then(|| format!("the gateway was too busy for the emergency stop {key}"));
        }
        self.0.entry(event.node.clone()).or_default().look(&event.what)
    }
}

impl Vehicle {
    fn look(&mut self, what: &What) -> Option<String> {
        let acts = matches!(
            what,
            What::Effect { .. }
                | What::Said { .. }
                | What::Seen { .. }
                | What::Controlled { .. }
                | What::Rearmed { .. }
                | What::Driving { armed: true, .. }
        );
        if self.start == Start::Owed && acts {
            return Some(
                "a vehicle that was stopped in an emergency restarted and was not stopped first".into(),
            );
        }
        match what {
            What::Said { key, class, phase, reason, .. } if &**class == "safety" => {
                if &**phase == "SUCCEEDED" && !self.released.contains(key) {
                    self.latched.insert(key.clone());
                }
                let busy = matches!(reason.as_deref(), Some("BUSY" | "RATE_LIMITED"));
                return busy.then(|| format!("the vehicle was too busy for the emergency stop {key}"));
            }
            What::Began => {
                let (is_owed, is_free) =
                    (!self.latched.is_empty(), !self.is_stopped && !self.released.is_empty());
                self.start = match (is_owed, is_free) {
                    (true, _) => Start::Owed,
                    (false, true) => Start::Free,
                    (false, false) => Start::Past,
                };
                // A release may have come to the disk without a word, and so may a stop not have.
                self.is_stopped = is_owed;
            }
            What::Died => (self.start, self.is_rearmed, self.is_armed) = (Start::Past, false, false),
            What::Seen { .. } => self.start = Start::Past,
            What::Stopped => {
                (self.is_stopped, self.is_rearmed) = (true, false);
                let was_free = std::mem::take(&mut self.start) == Start::Free;
                return was_free.then(|| "a released emergency stop came back with a restart".into());
            }
            What::Wish(Wish::Acted { path, .. }) if !self.latched.is_empty() => {
                return Some(format!(
                    "{path} was brought about as desired while an emergency stop holds the vehicle"
                ));
            }
            What::Rearmed { .. } => self.is_rearmed = true,
            What::ReleaseDurable { key } => {
                self.latched.remove(key);
                self.released.insert(key.clone());
            }
            What::Released => return self.releases(),
            What::Driving { armed: true, .. } if self.is_stopped => {
                return Some("a vehicle that was stopped in an emergency was armed".into());
            }
            What::Controlled { .. } if self.is_stopped && self.is_armed => {
                return Some("a vehicle followed control after an emergency stop".into());
            }
            What::Driving { armed, .. } => self.is_armed = *armed,
            _ => {}
        }
        None
    }

    fn releases(&mut self) -> Option<String> {
        self.is_stopped = false;
        if let Some(key) = self.latched.pop_first() {
            return Some(format!("the emergency stop {key} was called released, the disk holds it"));
        }
        let is_rearmed = std::mem::take(&mut self.is_rearmed);
        (!is_rearmed).then(|| "an emergency stop was released without a re-arm".into())
    }
}
