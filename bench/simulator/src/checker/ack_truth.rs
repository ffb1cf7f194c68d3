//! ACK-TRUTH: phases only rise, one end per record (UNKNOWN apart, once), and every end is true.
//!
//! A gateway tells an end once it is on its disk. It may tell one before, and then says so, of an emergency stop,
//! where its disk fails, and where the disk has kept it waiting for [`PATIENCE`]. A record that a killed gateway takes
//! up again may be behind what was told of it: phases below an end are told once more, and so is an end that was not
//! on the disk, or another in its place.

use std::collections::{BTreeMap, BTreeSet};

use carriageway_proto::Phase;

use super::book::{Book, Entry, Life, OnDisk};
use super::event::{Event, Name, What, is_end};

/// These say that there certainly was and will be no effect.
fn denies(phase: &str) -> bool {
    matches!(phase, "EXPIRED" | "REJECTED" | "CANCELED")
}

/// How long a gateway keeps an end back for its disk, in microseconds.
const PATIENCE: u64 = 750_000;

#[derive(Debug, Default)]
pub(super) struct AckTruth {
    /// By gateway and record.
    phases: BTreeMap<(Name, Name), Phase>,
    /// Those of them whose gateway has been started anew since, and whether their end may not have been on its disk then.
    taken_up: BTreeMap<(Name, Name), bool>,
    /// Those of them whose end was told before the disk had it, and may not be there.
    loose: BTreeSet<(Name, Name)>,
    /// By gateway and record, what is on the disk, where the log says so.
    stored: BTreeMap<Name, BTreeMap<Name, Phase>>,
    /// Gateways whose last write failed.
    broken: BTreeSet<Name>,
}

impl super::Rule for AckTruth {
    fn invariant(&self) -> &'static str {
        "ACK-TRUTH"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        self.note(event);
        let entry = book.of(event);
        if let What::Phase { id, phase, key, durable, waited, .. } = &event.what {
            let place = (event.node.clone(), id.clone());
            let is_stop = |life: &Life| life.id == *id && &*life.class == "safety";
            let is_excused =
                *waited >= PATIENCE || entry.is_some_and(|entry| entry.lives.iter().any(is_stop));
            let too_early = self.is_told_too_early(&place, phase, *durable, is_excused);
            let falls = self.rises(place, phase, *durable);
            too_early.or(falls).or_else(|| gateway_lies(entry?, id, key, phase))
        } else if let What::Said { key, phase, print, .. } = &event.what {
            vehicle_lies(entry?, key, phase, *print)
        } else if let What::Effect { key, print, .. } = &event.what {
            denied_before(entry?, event.at, key, *print)
        } else {
            None
        }
    }
}

impl AckTruth {
    fn note(&mut self, event: &Event) {
        let node = &event.node;
        if event.what == What::Died {
            let here = self.phases.keys().filter(|(gateway, _)| gateway == node);
            self.taken_up.extend(here.map(|place| (place.clone(), self.loose.contains(place))));
            self.broken.remove(node);
        } else if event.what == What::DiskFailed {
            self.broken.insert(node.clone());
        } else if let What::Stored { id, phase, .. } = &event.what
            && let Some(phase) = Phase::from_name(phase)
        {
            let place = (node.clone(), id.clone());
            self.broken.remove(node);
            if self.phases.get(&place) == Some(&phase) {
                self.loose.remove(&place);
            }
            self.stored.entry(node.clone()).or_default().insert(id.clone(), phase);
        }
    }

    /// An end and the disk: what the gateway says of that is so, and what is not there is told for a reason.
    fn is_told_too_early(
        &self,
        place: &(Name, Name),
        phase: &str,
        durable: bool,
        is_excused: bool,
    ) -> Option<String> {
        let (gateway, id) = place;
        // A log of real processes does not tell of the gateway's disk.
        let stored = self.stored.get(gateway).filter(|_| is_end(phase))?;
        // The record there has what came before its last phase, and before an end there is UNKNOWN at most.
        let is_behind = |stored: &Phase| stored.is_terminal() && phase == Phase::Unknown.name();
        let is_stored = stored.get(id).is_some_and(|stored| stored.name() == phase || is_behind(stored));
        if durable && !is_stored {
            return Some(format!("record {id} is called {phase} on disk, and it is not there"));
        }
        let is_told_for_a_reason = durable || is_excused || self.broken.contains(gateway);
        (!is_told_for_a_reason).then(|| format!("record {id} was called {phase} before that was on the disk"))
    }

    fn rises(&mut self, place: (Name, Name), phase: &str, durable: bool) -> Option<String> {
        let Some(next) = Phase::from_name(phase) else { return Some(format!("{phase} is no phase")) };
        let id = place.1.clone();
        let taken_up = self.taken_up.remove(&place);
        self.loose.remove(&place);
        if next.is_terminal() && !durable {
            self.loose.insert(place.clone());
        }
        let before = self.phases.insert(place, next)?;
        if taken_up.is_some_and(|was_loose| was_loose || !before.is_terminal()) {
            return None;
        }
        let rises = match before {
            Phase::Unknown => next.is_terminal() && next != Phase::Unknown,
            before => !before.is_terminal() && next > before,
        };
        (!rises).then(|| format!("record {id} went from {before} to {next}"))
    }
}

/// The gateway's word against the vehicle's journal and effects.
fn gateway_lies(entry: &Entry, id: &Name, key: &Name, phase: &str) -> Option<String> {
    let own = entry.lives.iter().find(|life| life.id == *id);
    let has_succeeded = own.map_or(!entry.succeeded.is_empty(), |own| entry.has_succeeded(own.print));
    if phase == "SUCCEEDED" && !has_succeeded {
        return Some(format!("{key} is called SUCCEEDED, the vehicle's journal never held that"));
    }
    let own = own.filter(|_| denies(phase))?;
    let by_another = |at: u64| entry.lives.iter().any(|life| life.id != *id && life.covers(at));
    let acted = |(at, print): &(u64, u64)| *print == own.print && own.covers(*at) && !by_another(*at);
    entry.effects.iter().any(acted).then(|| format!("{key} took effect and is called {phase}"))
}

fn vehicle_lies(entry: &Entry, key: &Name, phase: &str, print: Option<u64>) -> Option<String> {
    if phase == "RECEIVED" && entry.durable == OnDisk::Nothing {
        return Some(format!("{key} is called RECEIVED, the journal does not hold it"));
    }
    if phase == "SUCCEEDED" && entry.durable != OnDisk::Ended("SUCCEEDED".into()) {
        return Some(format!("{key} is called SUCCEEDED, the journal does not hold that"));
    }
    if denies(phase) && entry.effects.iter().any(|(_, effect)| Some(*effect) == print) {
        return Some(format!("{key} took effect, and the vehicle calls it {phase}"));
    }
    let (_, before, earlier) = entry.said.as_ref()?;
    let contradicts = is_end(phase) && &**before != phase && *earlier == print;
    contradicts.then(|| format!("the vehicle called {key} {before} and now {phase}"))
}

/// An effect of what was denied, and not asked for again since.
fn denied_before(entry: &Entry, at: u64, key: &Name, print: u64) -> Option<String> {
    let lives = || entry.lives.iter().filter(|life| life.print == print && life.covers(at));
    if let Some((when, phase, said)) = &entry.said
        && denies(phase)
        && *said == Some(print)
        && !lives().any(|life| life.at > *when)
    {
        return Some(format!("the vehicle called {key} {phase}, then it took effect"));
    }
    let denied = |life: &Life| life.phase.as_ref().is_some_and(|(phase, _)| denies(phase));
    let all_denied = lives().count() > 0 && lives().all(denied);
    all_denied.then(|| format!("{key} was called off by its gateway, then it took effect"))
}
