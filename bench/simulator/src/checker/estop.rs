//! ESTOP: no rate and no queue holds an emergency stop up, and it is latched across restarts.

use std::collections::BTreeSet;

use super::book::Book;
use super::event::{Event, Name, Refused, What};

#[derive(Debug, Default)]
pub(super) struct Estop {
    latched: BTreeSet<Name>,
    /// Vehicles that have restarted and not been stopped again yet.
    owed: BTreeSet<Name>,
}

impl super::Rule for Estop {
    fn invariant(&self) -> &'static str {
        "ESTOP"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let node = &event.node;
        match &event.what {
            What::Refused { key, class, why: Refused::Busy, .. } if &**class == "safety" => {
                Some(format!("the gateway was too busy for the emergency stop {key}"))
            }
            What::Said { key, class, phase, reason, .. } if &**class == "safety" => {
                if &**phase == "SUCCEEDED" {
                    self.latched.insert(node.clone());
                }
                let busy = matches!(reason.as_deref(), Some("BUSY" | "RATE_LIMITED"));
                busy.then(|| format!("the vehicle was too busy for the emergency stop {key}"))
            }
            What::Began => {
                if self.latched.contains(node) {
                    self.owed.insert(node.clone());
                }
                None
            }
            What::Died | What::Stopped => {
                self.owed.remove(node);
                None
            }
            What::Effect { .. } | What::Said { .. } | What::Seen { .. } if self.owed.contains(node) => {
                Some("a vehicle that was stopped in an emergency restarted and was not stopped first".into())
            }
            _ => None,
        }
    }
}
