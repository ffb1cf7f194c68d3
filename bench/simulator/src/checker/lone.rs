//! DEBOUNCE at a gateway: a command that nothing competes with goes at once and is not superseded, and one that a
//! gateway has superseded does not act.

use std::collections::{BTreeMap, BTreeSet};

use super::book::{Book, Life};
use super::event::{Event, Name, What};

/// Nothing that was accepted or sent so long before holds a command of its class up any more, if it has ended.
const QUIET: u64 = 10_000_000;

#[derive(Clone, Debug)]
struct Command {
    gateway: Name,
    target: (Name, Name, Name),
    id: Name,
    print: u64,
    at: u64,
    /// When it was sent last; until then as `at`.
    sent: u64,
    /// It waits for its vehicle, or for its lane.
    waits: bool,
    ended: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Lone {
    /// In the order of acceptance.
    commands: Vec<Command>,
    /// What may have been accepted: a gateway that is killed takes it up again without a word.
    asked: BTreeMap<(Name, Name), Command>,
    /// Of each record, its place there.
    places: BTreeMap<(Name, Name), usize>,
    /// What the vehicle said of these keys may be SUPERSEDED.
    said: BTreeSet<(Name, Name)>,
    /// Gateways that tell what they send. A log of a real run does not, and knows nothing of commands whose answer died
    /// with the gateway, nor in which order two that came at once were taken: there nobody can say what was alone.
    tellers: BTreeSet<Name>,
    /// Superseded just now, when: what did it may be told right after.
    suspects: Vec<(u64, usize)>,
}

impl super::Rule for Lone {
    fn invariant(&self) -> &'static str {
        "DEBOUNCE"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let why = self.suspected(event.at);
        if why.is_some() {
            return why;
        }
        let command = |id: &Name, target: [&Name; 3], print: u64, waits: bool| Command {
            gateway: event.node.clone(),
            target: target.map(Clone::clone).into(),
            id: id.clone(),
            print,
            at: event.at,
            sent: event.at,
            waits,
            ended: None,
        };
        if let What::Accepted { vehicle, id, class, path, print, queued, .. } = &event.what {
            let place = (event.node.clone(), id.clone());
            self.asked.remove(&place);
            self.places.insert(place, self.commands.len());
            self.commands.push(command(id, [vehicle, class, path], *print, *queued));
        } else if let What::Asked { vehicle, id, class, path, print, .. } = &event.what {
            let asked = command(id, [vehicle, class, path], *print, false);
            self.asked.insert((event.node.clone(), id.clone()), asked);
        } else if let What::Refused { vehicle, print, .. } = &event.what {
            let is_it = |one: &&mut Command| {
                one.gateway == event.node && one.target.0 == *vehicle && one.print == *print
            };
            let refused = self.asked.values_mut().filter(is_it);
            refused.for_each(|one| one.ended = one.ended.or(Some(event.at)));
        } else if let What::Unsent { id, .. } = &event.what {
            let place = self.places.get(&(event.node.clone(), id.clone()))?;
            self.commands[*place].waits = true;
        } else if let What::Said { key, phase, .. } = &event.what
            && &**phase == "SUPERSEDED"
        {
            self.said.insert((event.node.clone(), key.clone()));
        } else if let What::Phase { vehicle, key, id, phase, .. } = &event.what {
            let by_vehicle = self.said.contains(&(vehicle.clone(), key.clone()));
            self.reached(event, id, phase, by_vehicle);
        } else if let What::Sent { id, .. } = &event.what {
            self.tellers.insert(event.node.clone());
            let why = self.sent(event, id);
            if let Some(place) = self.places.get(&(event.node.clone(), id.clone())) {
                self.commands[*place].sent = event.at;
            }
            return why;
        } else if let What::Effect { key, print, .. } = &event.what {
            let is_called_off =
                |life: &Life| life.phase.as_ref().is_some_and(|(phase, _)| &**phase == "SUPERSEDED");
            let lives = || book.of(event).into_iter().flat_map(|entry| &entry.lives);
            let mut covering =
                lives().filter(|life| life.print == *print && life.covers(event.at)).peekable();
            let by_vehicle = self.said.contains(&(event.node.clone(), key.clone()));
            let is_superseded = covering.peek().is_some() && covering.all(is_called_off);
            return (is_superseded && !by_vehicle)
                .then(|| format!("{key} was superseded at its gateway and took effect"));
        }
        None
    }
}

impl Lone {
    fn reached(&mut self, event: &Event, id: &Name, phase: &str, by_vehicle: bool) {
        let named = (event.node.clone(), id.clone());
        if let Some(asked) = self.asked.get_mut(&named).filter(|_| super::event::is_end(phase)) {
            asked.ended.get_or_insert(event.at);
        }
        let Some(place) = self.places.get(&named).copied() else { return };
        if super::event::is_end(phase) {
            self.commands[place].ended.get_or_insert(event.at);
        }
        if phase == "SUPERSEDED" && !by_vehicle && self.tellers.contains(&event.node) {
            self.suspects.push((event.at, place));
        }
    }

    /// What was superseded before `now`, and by nothing.
    fn suspected(&mut self, now: u64) -> Option<String> {
        let is_over = |(at, _): &mut (u64, usize)| *at < now;
        let over: Vec<_> = self.suspects.extract_if(.., is_over).collect();
        over.into_iter().find_map(|(_, place)| {
            let own = &self.commands[place];
            let competes = |(index, other): (usize, &Command)| {
                let is_newer = index > place || other.print == own.print;
                index != place && other.gateway == own.gateway && other.target == own.target && is_newer
            };
            let is_asked = |other: &Command| other.gateway == own.gateway && other.target == own.target;
            let has_rival =
                self.commands.iter().enumerate().any(competes) || self.asked.values().any(is_asked);
            (!has_rival).then(|| {
                format!("record {} was superseded, and nothing newer was asked of its target", own.id)
            })
        })
    }

    fn sent(&self, event: &Event, id: &Name) -> Option<String> {
        let own = &self.commands[*self.places.get(&(event.node.clone(), id.clone()))?];
        let competes = |other: &&Command| {
            let is_of_class = other.gateway == own.gateway
                && (&other.target.0, &other.target.1) == (&own.target.0, &own.target.1);
            let was_there = other.ended.is_none_or(|ended| ended >= own.at);
            other.id != own.id && is_of_class && (was_there || other.sent + QUIET > own.at)
        };
        let is_lone =
            !own.waits && !self.commands.iter().chain(self.asked.values()).any(|one| competes(&one));
        (is_lone && event.at > own.at).then(|| {
            format!(
                "record {id} was held for {} ms, and nothing competed with it",
                (event.at - own.at) / 1_000
            )
        })
    }
}
