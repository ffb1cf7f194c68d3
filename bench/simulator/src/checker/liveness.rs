//! LIVENESS: after the faults stop every command ends, every vehicle has one session, everything arrives.

use std::collections::BTreeMap;

use super::book::{Book, Life};
use super::event::{Event, Name, What, is_end};

/// A command is terminal so long after its ttl.
const GRACE: u64 = 10_000_000;

#[derive(Debug, Default)]
pub(super) struct Liveness {
    healed: Option<u64>,
    /// By vehicle: when it was armed last, and whether it is now.
    armed: BTreeMap<Name, (u64, bool)>,
}

impl super::Rule for Liveness {
    fn invariant(&self) -> &'static str {
        "LIVENESS"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        match &event.what {
            What::Healed => {
                self.healed = Some(event.at);
                None
            }
            What::Rested { vehicle, sessions, online, outcomes, is_shown } => {
                let wrong = if *sessions != 1 {
                    format!("has {sessions} sessions")
                } else if !online {
                    "is not called online".into()
                } else if *outcomes > 0 {
                    format!("has {outcomes} outcomes that do not arrive")
                } else if !is_shown {
                    "is not shown as it is".into()
                } else {
                    return None;
                };
                Some(format!("{vehicle} {wrong}, long after the faults stopped"))
            }
            What::Driving { armed: true, .. } => {
                self.armed.insert(event.node.clone(), (event.at, true));
                None
            }
            What::Driving { armed: false, .. } | What::Died => {
                if let Some((_, now)) = self.armed.get_mut(&event.node) {
                    *now = false;
                }
                None
            }
            What::ExpectedDriving { vehicle, armed } => {
                let (last, now) = self.armed.get(vehicle).copied().unwrap_or_default();
                let was_armed = self.healed.is_some_and(|healed| last > healed);
                let is_wrong = if *armed { !was_armed } else { now };
                let what = if *armed { "could not be armed" } else { "was still armed at the end" };
                is_wrong.then(|| format!("{vehicle} {what}, in a healthy world"))
            }
            What::Expected { key, phase, .. } => {
                let life = book.of(event).and_then(|entry| entry.lives.last());
                let ended =
                    life.and_then(|life| life.phase.as_ref()).map_or("nowhere", |(phase, _)| &**phase);
                (ended != &**phase)
                    .then(|| format!("{key} was given to a healthy world and ended in {ended}"))
            }
            _ => None,
        }
    }

    fn finish(&mut self, at: u64, book: &Book) -> Option<(String, Vec<Event>)> {
        let is_open = |life: &&Life| {
            let due = life.born + life.ttl + GRACE;
            let ended = life.phase.as_ref().filter(|(phase, _)| is_end(phase)).map(|(_, at)| *at);
            let after_healing = self.healed.is_some_and(|healed| life.born > healed);
            !life.is_lost && due < at && ended.is_none_or(|ended| after_healing && ended > due)
        };
        book.entries().find_map(|((vehicle, key), entry)| {
            let life = entry.lives.iter().find(is_open)?;
            let what = format!("{key} of {vehicle} was accepted by {} and not ended in time", life.gateway);
            Some((what, entry.events.clone()))
        })
    }
}
