//! KEY: the same key is the same command: a gateway accepts it once while it remembers it, and with another payload it is
//! refused, at the gateway and at the vehicle.

use std::collections::BTreeMap;

use super::book::{Book, OnDisk};
use super::event::{Event, Name, What};

/// How long a gateway remembers a key at least after its command's ttl: ten minutes, and clocks drift.
const KEPT: u64 = 598_000_000;

#[derive(Debug, Default)]
pub(super) struct Key {
    /// Copies with another payload than the vehicle remembers: the next word on the key must refuse them.
    conflicts: BTreeMap<(Name, Name), u64>,
}

impl super::Rule for Key {
    fn invariant(&self) -> &'static str {
        "KEY"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let place = |key: &Name| (event.node.clone(), key.clone());
        if let What::Accepted { key, .. } = &event.what {
            let lives = &book.of(event)?.lives;
            let other = lives.iter().any(|life| {
                let is_kept = event.at < life.at.max(life.born + life.ttl) + KEPT;
                life.gateway == event.node && !life.is_lost && is_kept
            });
            return other.then(|| format!("{key} was accepted twice by one gateway"));
        } else if let What::Repeated { key, id, print, .. } = &event.what {
            let life = book.of(event)?.lives.iter().find(|life| life.id == *id)?;
            return (life.print != *print).then(|| format!("{key} with another payload was called a repeat"));
        } else if let What::Seen { key, print } = &event.what {
            let entry = book.of(event)?;
            let said = |event: &Event| {
                let What::Said { print, .. } = &event.what else { return None };
                *print
            };
            let known = entry.print.or_else(|| entry.events.iter().rev().find_map(said))?;
            if entry.durable != OnDisk::Nothing && known != *print {
                self.conflicts.insert(place(key), *print);
            }
        } else if let What::Said { key, phase, print, .. } = &event.what {
            let wanted = self.conflicts.remove(&place(key))?;
            let refused = &**phase == "REJECTED" && *print == Some(wanted);
            return (!refused).then(|| format!("a copy of {key} with another payload was answered {phase}"));
        } else if event.what == What::Died {
            self.conflicts.retain(|(vehicle, _), _| *vehicle != event.node);
        }
        None
    }
}
