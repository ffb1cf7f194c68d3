//! ESTOP: no rate and no queue holds an emergency stop up, and it is latched across restarts.

use std::collections::BTreeSet;

use super::book::Book;
use super::event::{Event, Name, Refused, What};
use super::wish::Wish;

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
        if let What::Refused { key, class, why: Refused::Busy, .. } = &event.what
            && &**class == "safety"
        {
            return Some(format!("the gateway was too busy for the emergency stop {key}"));
        }
        if let What::Said { key, class, phase, reason, .. } = &event.what
            && &**class == "safety"
        {
            if &**phase == "SUCCEEDED" {
                self.latched.insert(node.clone());
            }
            let busy = matches!(reason.as_deref(), Some("BUSY" | "RATE_LIMITED"));
            return busy.then(|| format!("the vehicle was too busy for the emergency stop {key}"));
        }
        if event.what == What::Began && self.latched.contains(node) {
            self.owed.insert(node.clone());
        } else if matches!(event.what, What::Died | What::Stopped) {
            self.owed.remove(node);
        } else if let What::Wish(Wish::Acted { path, .. }) = &event.what
            && self.latched.contains(node)
        {
            return Some(format!(
                "{path} was brought about as desired while an emergency stop holds the vehicle"
            ));
        }
        let does = matches!(event.what, What::Effect { .. } | What::Said { .. } | What::Seen { .. });
        (does && self.owed.contains(node))
            .then(|| "a vehicle that was stopped in an emergency restarted and was not stopped first".into())
    }
}
