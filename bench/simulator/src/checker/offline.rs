//! OFFLINE: what was refused because nobody held the vehicle never executes.

use std::collections::BTreeSet;

use super::book::Book;
use super::event::{Event, Name, Refused, What};

#[derive(Debug, Default)]
pub(super) struct Offline {
    refused: BTreeSet<(Name, Name)>,
}

impl super::Rule for Offline {
    fn invariant(&self) -> &'static str {
        "OFFLINE"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        if let What::Refused { vehicle, key, why: Refused::Offline, .. } = &event.what {
            self.refused.insert((vehicle.clone(), key.clone()));
        }
        let What::Effect { key, .. } = &event.what else { return None };
        let was_refused = self.refused.contains(&(event.node.clone(), key.clone()));
        let has_life = book.of(event).is_some_and(|entry| !entry.lives.is_empty());
        (was_refused && !has_life).then(|| format!("{key} was refused as offline and executed"))
    }
}
