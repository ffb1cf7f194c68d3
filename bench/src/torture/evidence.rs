//! From journals, logs and answers to the events that the checker reads.
//!
//! All times are the machine's wall clock, which every process here shares. The gateway's are whole
//! milliseconds: an acceptance is put at the beginning of its millisecond, a phase at the end. The journals
//! hold no times that could be compared: what they hold in the end is put where the vehicle first spoke
//! of it; what they do not hold is not put anywhere, and then what was said of it is a lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use carriageway_proto::message::fingerprint;
use carriageway_proto::{PolicyTable, Value};
use carriageway_simulator::checker::{Checker, Event, Name, Refused, Rules, Violation, What};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::operators::{Answer, Asked};
use super::world::World;
use crate::journal;

const MILLISECOND: u64 = 1_000;

/// The gateway's name in the events.
const GATEWAY: &str = "gateway";

/// What happened, in order, and what it breaks.
pub(super) struct Evidence {
    pub(super) events: Vec<Event>,
    pub(super) violations: Vec<Violation>,
    /// Records that the gateway had answered with and did not know in the end.
    pub(super) lost: Vec<String>,
    /// Commands that took effect.
    pub(super) effects: usize,
    /// Effects of commands whose acceptance nobody saw: the answer died with the gateway.
    pub(super) unwitnessed: usize,
}

impl Evidence {
    /// The events as JSON lines.
    pub(super) fn lines(&self) -> String {
        let lines = self.events.iter().map(|event| serde_json::to_string(event).expect("plain data"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// Reads everything and has it checked.
pub(super) fn gather(world: &World, asked: &[Asked]) -> Result<Evidence> {
    let wishes: BTreeMap<(&str, &str), &Asked> =
        asked.iter().map(|one| ((one.vehicle.as_str(), one.key.as_str()), one)).collect();
    let mut events: Vec<Event> =
        world.lives.iter().map(|(at, name, began)| life(*at, name, *began)).collect();
    for one in asked {
        events.extend(of_operator(one)?);
    }
    for vehicle in world.vehicles() {
        let log = fs::read_to_string(world.log(vehicle)).context("cannot read a vehicle's log")?;
        let held = journal::read(&world.journal(vehicle), vehicle)?;
        events.extend(Vehicle { id: vehicle, wishes: &wishes, held, spoken: BTreeSet::new() }.events(&log)?);
    }
    events.sort_by_key(|event| event.at);
    let mut checker = Checker::new(&rules());
    let mut violations: Vec<Violation> = events.iter().filter_map(|event| checker.take(event)).collect();
    violations.extend(checker.finish(events.last().map_or(0, |event| event.at)));
    let lost = asked.iter().filter(|one| one.record.is_none() && one.ids().next().is_some());
    let effects = || events.iter().filter(|event| matches!(event.what, What::Effect { .. }));
    let witnessed = |event: &&Event| match &event.what {
        What::Effect { key, .. } => wishes[&(&*event.node, &**key)].ids().next().is_some(),
        _ => false,
    };
    let (count, seen) = (effects().count(), effects().filter(witnessed).count());
    Ok(Evidence {
        lost: lost.map(|one| format!("{} of {}", one.key, one.vehicle)).collect(),
        effects: count,
        unwitnessed: count - seen,
        violations,
        events,
    })
}

/// What the vehicles here allow: the defaults.
fn rules() -> Rules {
    let policies = PolicyTable::defaults();
    let rates = policies
        .iter()
        .filter_map(|(class, policy)| Some((class.name().into(), (policy.rate_per_second?, policy.burst))));
    Rules { rates: rates.collect(), duplicate_windows: BTreeMap::new() }
}

fn life(at: u64, name: &str, began: bool) -> Event {
    Event { at, node: name.into(), what: if began { What::Began } else { What::Died } }
}

/// What the operator was answered, and the record in the end.
fn of_operator(asked: &Asked) -> Result<Vec<Event>> {
    let name = |text: &str| Name::from(text);
    let (vehicle, key, class) = (name(&asked.vehicle), name(&asked.key), name(asked.class));
    let print = print(asked)?;
    let mut events = Vec::new();
    let mut add = |at, what| events.push(Event { at, node: GATEWAY.into(), what });
    // A request without an answer may have begun the life that a later one found.
    let mut earliest = None;
    let mut seen = BTreeSet::new();
    for one in &asked.tries {
        match &one.answer {
            Answer::Accepted { id, record } if seen.insert(id.clone()) => {
                let accepted = date(&record["accepted_at"])?;
                let born = earliest.map_or(accepted, |earliest: u64| earliest.min(accepted));
                // The answer's dates and the request's come from two readings of the clock.
                let ttl = accepted + (asked.ttl_ms + 1) * MILLISECOND - born;
                let (vehicle, key, class) = (vehicle.clone(), key.clone(), class.clone());
                let (id, path) = (name(id), name(asked.path));
                let what = What::Accepted { vehicle, key, id, class, path, print, born, ttl, queued: false };
                add(born, what);
            }
            Answer::Accepted { .. } => {}
            Answer::Refused { status, .. } => {
                let why = match status {
                    404 => Refused::Offline,
                    409 => Refused::KeyConflict,
                    429 | 503 => Refused::Busy,
                    _ => Refused::Other,
                };
                add(
                    one.done,
                    What::Refused {
                        vehicle: vehicle.clone(),
                        key: key.clone(),
                        class: class.clone(),
                        print,
                        why,
                    },
                );
            }
            Answer::None => earliest = earliest.or(Some(one.sent)),
        }
    }
    let Some(record) = &asked.record else { return Ok(events) };
    let id = name(record["id"].as_str().context("a record without an id")?);
    for step in record["timeline"].as_array().context("a record without a timeline")? {
        let phase = name(step["phase"].as_str().context("a step without a phase")?);
        let durable = step["durable"].as_bool().context("a step that does not say whether it is durable")?;
        let (vehicle, key, id) = (vehicle.clone(), key.clone(), id.clone());
        let what = What::Phase { vehicle, key, id, phase, durable, waited: 0 };
        events.push(Event { at: date(&step["at"])? + MILLISECOND - 1, node: GATEWAY.into(), what });
    }
    Ok(events)
}

fn print(asked: &Asked) -> Result<u64> {
    let (class, path) = (asked.class.parse()?, asked.path.parse()?);
    Ok(fingerprint(class, &path, &Value::Float(asked.value)).get())
}

/// Microseconds since 1970 of an RFC 3339 date.
fn date(text: &Json) -> Result<u64> {
    let text = text.as_str().context("a date is no text")?;
    let date = OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("{text} is no date"))?;
    Ok(u64::try_from(date.unix_timestamp_nanos() / 1_000)?)
}

/// One vehicle's log and journal.
struct Vehicle<'a> {
    id: &'a str,
    wishes: &'a BTreeMap<(&'a str, &'a str), &'a Asked>,
    /// What the journal holds in the end, by key.
    held: BTreeMap<String, journal::Entry>,
    /// Keys whose intent, and keys whose end, have been put into the events.
    spoken: BTreeSet<(String, bool)>,
}

impl Vehicle<'_> {
    fn events(mut self, log: &str) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for line in log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok()) {
            let at = date(&line["timestamp"])?;
            let fields = &line["fields"];
            let said = match fields["message"].as_str() {
                Some("applying") => self.effect(fields),
                Some("command") => self.outcome(fields),
                _ => None,
            };
            let Some((key, what)) = said else { continue };
            let ends = matches!(&what, What::Said { phase, .. } if self.holds_end(&key, phase));
            events
                .extend(self.durable(&key, ends).into_iter().chain([what]).map(|what| self.event(at, what)));
        }
        Ok(events)
    }

    fn event(&self, at: u64, what: What) -> Event {
        Event { at, node: self.id.into(), what }
    }

    fn holds_end(&self, key: &str, phase: &str) -> bool {
        self.held.get(key).is_some_and(|entry| entry.phase.as_deref() == Some(phase))
    }

    /// What the journal holds of the command, where it is spoken of for the first time.
    fn durable(&mut self, key: &str, ends: bool) -> Vec<What> {
        let Some(entry) = self.held.get(key) else { return Vec::new() };
        let verdicts = [None, entry.phase.as_deref().filter(|_| ends)];
        let mut durable = Vec::new();
        for (is_end, verdict) in [(false, verdicts[0]), (true, verdicts[1])] {
            let is_due = !is_end || verdict.is_some();
            if is_due && self.spoken.insert((key.to_owned(), is_end)) {
                durable.push(What::Durable {
                    key: key.into(),
                    verdict: verdict.map(Name::from),
                    print: None,
                });
            }
        }
        durable
    }

    /// Values are unique: they tell which command it was.
    fn effect(&self, fields: &Json) -> Option<(String, What)> {
        let (path, value) = (fields["path"].as_str()?, fields["value"].as_str()?.parse::<f64>().ok()?);
        let is_meant = |asked: &&&Asked| {
            asked.vehicle == self.id && asked.path == path && asked.value.to_bits() == value.to_bits()
        };
        let asked = self.wishes.values().find(is_meant)?;
        let (key, print) = (asked.key.clone(), print(asked).ok()?);
        let (class, path) = (asked.class.into(), asked.path.into());
        Some((key.clone(), What::Effect { key: key.into(), class, path, print, token: 0, order: 0 }))
    }

    fn outcome(&self, fields: &Json) -> Option<(String, What)> {
        let key = fields["key"].as_str()?;
        let asked = self.wishes.get(&(self.id, key))?;
        let (class, phase) = (asked.class.into(), fields["phase"].as_str()?.into());
        let said =
            What::Said { key: key.into(), class, phase, reason: None, print: Some(print(asked).ok()?) };
        Some((key.to_owned(), said))
    }
}
