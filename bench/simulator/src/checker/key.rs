//! KEY: the same key with another payload is refused, at the gateway and at the vehicle.

use std::collections::BTreeMap;

use super::book::{Book, OnDisk};
use super::event::{Event, Name, What};

/// How long a gateway remembers a key at least after its command's end.
const KEPT: u64 = 60_000_000;

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
        match &event.what {
            What::Accepted { key, print, .. } => {
                let lives = &book.of(event)?.lives;
                let other = lives.iter().any(|life| {
                    let is_kept = event.at < life.at.max(life.born + life.ttl) + KEPT;
                    life.gateway == event.node && !life.is_lost && is_kept && life.print != *print
                });
                other.then(|| format!("{key} was accepted with two payloads"))
            }
            What::Repeated { key, id, print, .. } => {
                let life = book.of(event)?.lives.iter().find(|life| life.id == *id)?;
                (life.print != *print).then(|| format!("{key} with another payload was called a repeat"))
            }
            What::Seen { key, print } => {
                let entry = book.of(event)?;
                let known = entry.events.iter().rev().find_map(|event| match &event.what {
                    What::Said { print, .. } => *print,
                    _ => None,
                })?;
                if entry.durable != OnDisk::Nothing && known != *print {
                    self.conflicts.insert((event.node.clone(), key.clone()), *print);
                }
                None
            }
            What::Said { key, phase, print, .. } => {
                let wanted = self.conflicts.remove(&(event.node.clone(), key.clone()))?;
                let refused = &**phase == "REJECTED" && *print == Some(wanted);
                (!refused).then(|| format!("a copy of {key} with another payload was answered {phase}"))
            }
            _ => {
                if event.what == What::Died {
                    self.conflicts.retain(|(vehicle, _), _| *vehicle != event.node);
                }
                None
            }
        }
    }
}
