//! WATCHDOG: an armed vehicle without accepted control is in its safe state within its limit and 20 ms.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

/// What the vehicle may take beyond its limit.
const SLACK: u64 = 20_000;

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Armed vehicles: the last accepted control, and the limit.
    armed: BTreeMap<Name, (u64, u64)>,
}

impl super::Rule for Watchdog {
    fn invariant(&self) -> &'static str {
        "WATCHDOG"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let late = self.armed.iter().find(|(_, (fed, limit))| event.at > fed + limit + SLACK);
        if let Some((vehicle, (fed, _))) = late.map(|(vehicle, at)| (vehicle.clone(), *at)) {
            self.armed.remove(&vehicle);
            return Some(format!(
                "{vehicle} was still armed {} ms after its last control",
                (event.at - fed) / 1_000
            ));
        }
        if let What::Driving { armed: true, limit } = &event.what {
            self.armed.insert(event.node.clone(), (event.at, *limit));
        } else if matches!(event.what, What::Driving { armed: false, .. } | What::Died) {
            self.armed.remove(&event.node);
        } else if let What::Controlled { .. } = &event.what
            && let Some((fed, _)) = self.armed.get_mut(&event.node)
        {
            *fed = event.at;
        }
        None
    }
}
