//! LIVENESS: after the faults stop every command ends, every vehicle has one session, everything arrives.

use super::book::{Book, Life};
use super::event::{Event, What, is_end};

/// A command is terminal so long after its ttl.
const GRACE: u64 = 10_000_000;

#[derive(Debug, Default)]
pub(super) struct Liveness {
    healed: Option<u64>,
}

impl super::Rule for Liveness {
    fn invariant(&self) -> &'static str {
        "LIVENESS"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        if event.what == What::Healed {
            self.healed = Some(event.at);
        } else if let What::Rested { vehicle, sessions, online, outcomes, is_shown } = &event.what {
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
            return Some(format!("{vehicle} {wrong}, long after the faults stopped"));
        } else if let What::Expected { key, phase, .. } = &event.what {
            let entry = book.of(event)?;
            let life = entry.lives.last()?;
            let ended = life.phase.as_ref().map_or("nowhere", |(phase, _)| phase);
            return (ended != &**phase)
                .then(|| format!("{key} was given to a healthy world and ended in {ended}"));
        }
        None
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
