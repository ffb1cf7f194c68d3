//! WATCHDOG: an armed vehicle without accepted control is in its safe state within its limit and 20 ms.
//!
//! While its host sleeps it can do nothing; it is to do so as soon as that is over.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

/// What the vehicle may take beyond its limit.
const SLACK: u64 = 20_000;

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Armed vehicles: the last accepted control, and the limit.
    armed: BTreeMap<Name, (u64, u64)>,
    /// Until when hosts sleep.
    asleep: BTreeMap<Name, u64>,
}

impl super::Rule for Watchdog {
    fn invariant(&self) -> &'static str {
        "WATCHDOG"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let asleep = |vehicle: &Name| self.asleep.get(vehicle).copied().unwrap_or_default();
        let due = |vehicle: &Name, (fed, limit): (u64, u64)| (fed + limit).max(asleep(vehicle)) + SLACK;
        let late = self.armed.iter().find(|(vehicle, fed)| event.at > due(vehicle, **fed));
        if let Some((vehicle, (fed, _))) = late.map(|(vehicle, at)| (vehicle.clone(), *at)) {
            self.armed.remove(&vehicle);
            return Some(format!(
                "{vehicle} was still armed {} ms after its last control",
                (event.at - fed) / 1_000
            ));
        }
        match &event.what {
            What::Driving { armed: true, limit, .. } => {
                self.armed.insert(event.node.clone(), (event.at, *limit));
            }
            What::Driving { armed: false, .. } | What::Died => {
                self.armed.remove(&event.node);
            }
            What::Controlled { .. } => {
                if let Some((fed, _)) = self.armed.get_mut(&event.node) {
                    *fed = event.at;
                }
            }
            What::Suspended { until } => {
                self.asleep.insert(event.node.clone(), *until);
            }
            _ => {}
        }
        None
    }
}
