//! FRESH across boots of a gateway's host: how old what it keeps is nobody knows. What waited has expired, what may
//! have left is unknown, and none of it is sent any more.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What, is_end};

/// By gateway and record.
type Place = (Name, Name);

#[derive(Debug, Default)]
pub(super) struct Boot {
    /// What the disk holds of a record: how it has to end at the next boot.
    stored: BTreeMap<Place, &'static str>,
    /// Of another boot, and not told to have ended yet.
    owed: BTreeMap<Place, &'static str>,
    /// Of another boot.
    dead: BTreeMap<Place, u64>,
}

impl super::Rule for Boot {
    fn invariant(&self) -> &'static str {
        "FRESH"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let place = |id: &Name| (event.node.clone(), id.clone());
        if let What::Stored { id, phase, left, .. } = &event.what {
            if is_end(phase) {
                self.stored.remove(&place(id));
            } else {
                self.stored.insert(place(id), if *left { "UNKNOWN" } else { "EXPIRED" });
            }
        } else if event.what == What::Rebooted {
            let here: Vec<_> = self.stored.keys().filter(|(node, _)| *node == event.node).cloned().collect();
            for place in here {
                self.dead.insert(place.clone(), event.at);
                self.owed.insert(place.clone(), self.stored[&place]);
            }
        } else if let What::Phase { id, phase, .. } = &event.what {
            let due = self.owed.remove(&place(id))?;
            return (**phase != *due)
                .then(|| format!("record {id} is of another boot, has to be {due} and is called {phase}"));
        } else if let What::Sent { id, .. } = &event.what {
            let at = self.dead.get(&place(id))?;
            return Some(format!(
                "record {id} was sent {} ms after its gateway's host had booted anew",
                (event.at - at) / 1_000
            ));
        }
        None
    }

    fn finish(&mut self, _: u64, _: &Book) -> Option<(String, Vec<Event>)> {
        let ((gateway, id), due) = self.owed.first_key_value()?;
        Some((format!("record {id} at {gateway} is of another boot and was never called {due}"), Vec::new()))
    }
}
