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
use carriageway_proto::{Phase, PolicyTable, Value};
use carriageway_simulator::checker::{Checker, Event, Name, Refused, Rules, Violation, What};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::operators::{Answer, Asked};
use super::records::Records;
use super::world::World;
use crate::journal;

const MILLISECOND: u64 = 1_000;

/// The gateway's name in the events.
const GATEWAY: &str = "gateway";

/// What a run leaves behind.
pub(super) struct Remains<'a> {
    pub(super) asked: &'a [Asked],
    /// What happened to processes: when, which, whether it began.
    pub(super) lives: &'a [(u64, String, bool)],
    /// Of each vehicle its id, its log, and what its journal holds, by key.
    pub(super) vehicles: Vec<(String, String, BTreeMap<String, journal::Entry>)>,
    /// When the records were asked for last.
    pub(super) until: u64,
}

/// What happened, in order, and what it breaks.
pub(super) struct Evidence {
    pub(super) events: Vec<Event>,
    pub(super) violations: Vec<Violation>,
    /// What became of the gateway's records.
    pub(super) records: Records,
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
pub(super) fn gather(world: &World, asked: &[Asked], until: u64) -> Result<Evidence> {
    let mut vehicles = Vec::new();
    for vehicle in world.vehicles() {
        let log = fs::read_to_string(world.log(vehicle)).context("cannot read a vehicle's log")?;
        vehicles.push((vehicle.to_owned(), log, journal::read(&world.journal(vehicle), vehicle)?));
    }
    judge(Remains { asked, lives: &world.lives, vehicles, until })
}

/// Puts everything in order and has it checked.
pub(super) fn judge(remains: Remains<'_>) -> Result<Evidence> {
    let Remains { asked, lives, vehicles, until } = remains;
    let wishes: BTreeMap<(&str, &str), &Asked> =
        asked.iter().map(|one| ((one.vehicle.as_str(), one.key.as_str()), one)).collect();
    let mut events: Vec<Event> = lives.iter().map(|(at, name, began)| life(*at, name, *began)).collect();
    for one in asked {
        events.extend(of_operator(one)?);
    }
    for (id, log, held) in vehicles {
        events.extend(Vehicle { id: &id, wishes: &wishes, held, spoken: BTreeSet::new() }.events(&log)?);
    }
    events.sort_by_key(|event| event.at);
    let mut checker = Checker::new(&Rules::of(&PolicyTable::defaults()));
    let mut violations: Vec<Violation> = events.iter().filter_map(|event| checker.take(event)).collect();
    violations.extend(checker.finish(events.last().map_or(until, |event| event.at.max(until))));
    let effects = events.iter().filter_map(|event| match &event.what {
        What::Effect { key, .. } => Some((&*event.node, &**key)),
        _ => None,
    });
    let effects: Vec<_> = effects.collect();
    let is_unwitnessed = |place: &&(&str, &str)| wishes.get(*place).is_none_or(|one| one.ids().is_empty());
    let unwitnessed = effects.iter().filter(is_unwitnessed).count();
    Ok(Evidence { records: Records::of(asked)?, effects: effects.len(), unwitnessed, violations, events })
}

fn life(at: u64, name: &str, began: bool) -> Event {
    Event { at, node: name.into(), what: if began { What::Began } else { What::Died } }
}

/// What the operator was answered, and the records in the end.
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
                // What is on the disk is there before the answer, and has to outlive the gateway's process.
                let stored = stored(&vehicle, &id, record);
                let taken = What::Accepted { vehicle, key, id, class, path, print, born, ttl, queued: false };
                for what in stored.into_iter().chain([taken]) {
                    add(born, what);
                }
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
            Answer::None => {
                earliest = earliest.or(Some(one.sent));
                let until = one.done + (asked.ttl_ms + 1) * MILLISECOND;
                let (vehicle, key, class) = (vehicle.clone(), key.clone(), class.clone());
                let (id, path) = (name(""), name(asked.path));
                add(one.sent, What::Asked { vehicle, key, id, class, path, print, until });
            }
        }
    }
    for (id, record) in &asked.records {
        events.extend(of_record((&vehicle, &key, &name(id)), record)?);
    }
    Ok(events)
}

/// By the word of an answer, its record is on the gateway's disk, in the last phase that is there.
fn stored(vehicle: &Name, id: &Name, record: &Json) -> Option<What> {
    let on_disk = |step: &&Json| step["durable"] == true;
    let last = record["timeline"].as_array().and_then(|steps| steps.iter().rfind(on_disk));
    let phase = last.and_then(|step| step["phase"].as_str()).unwrap_or(Phase::Created.name()).into();
    let is_stored = record["durable"] == true;
    is_stored.then(|| What::Stored { vehicle: vehicle.clone(), id: id.clone(), phase, left: false })
}

/// The steps of a record in the end.
///
/// A log that tells of the gateway's disk at all has to tell of every end on it. What the record says of that is taken
/// as its word here, and held against what was shown before in [`Records`].
fn of_record((vehicle, key, id): (&Name, &Name, &Name), record: &Json) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for step in record["timeline"].as_array().context("a record without a timeline")? {
        let phase = Name::from(step["phase"].as_str().context("a step without a phase")?);
        let durable = step["durable"].as_bool().context("a step that does not say whether it is durable")?;
        let at = date(&step["at"])? + MILLISECOND - 1;
        // Nobody here saw how long the gateway waited for its disk before it told a step that is not there.
        let waited = if durable { 0 } else { u64::MAX };
        let (vehicle, key, id) = (vehicle.clone(), key.clone(), id.clone());
        let stored =
            What::Stored { vehicle: vehicle.clone(), id: id.clone(), phase: phase.clone(), left: false };
        let reached = What::Phase { vehicle, key, id, phase, durable, waited };
        let both = durable.then_some(stored).into_iter().chain([reached]);
        events.extend(both.map(|what| Event { at, node: GATEWAY.into(), what }));
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
                Some("applying") => Some(self.effect(fields)),
                // After a restart it tells what it owes: the first word of an end may come then.
                Some("command" | "command, told late") => self.outcome(fields),
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

    /// Values are unique: they tell which command it was. What nobody asked for stands under a key of its own, which
    /// nobody has used.
    fn effect(&self, fields: &Json) -> (String, What) {
        let word = |name: &str| fields[name].as_str().map_or_else(|| fields[name].to_string(), str::to_owned);
        let (path, value) = (word("path"), word("value"));
        let bits = value.parse().ok().map(f64::to_bits);
        let is_meant = |asked: &&&Asked| {
            asked.vehicle == self.id && asked.path == path && Some(asked.value.to_bits()) == bits
        };
        let wish = self.wishes.values().find(is_meant);
        let own = wish.and_then(|asked| Some((asked.key.clone(), asked.class, print(asked).ok()?)));
        let (key, class, print) = own.unwrap_or_else(|| (format!("nobody's {path} = {value}"), "unknown", 0));
        let what = What::Effect {
            key: key.as_str().into(),
            class: class.into(),
            path: path.into(),
            print,
            token: 0,
            order: 0,
        };
        (key, what)
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
