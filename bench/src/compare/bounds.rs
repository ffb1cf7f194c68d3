//! What a link allows at best, whoever sends: the oracle of the emulator's model. The measured floor is a run like any other.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use carriageway_netem::core::{Capacity, Direction, Draws, Moment, Oracle, Outage, OutageMode, Seed};
use carriageway_netem::profile::{Agenda, Happening, Path, Scenario};

use super::cell::{SETTLE, Spec, scenario};
use super::subjects::Facts;
use super::workload::{Heard, Kind, Manner, Schedule, seed_of};

/// How the best that the link allows is called.
pub const ORACLE: &str = "oracle";

/// What the oracle is, for tables.
pub fn facts() -> Facts {
    Facts {
        title: "What no sender beats".into(),
        version: "the emulator's model".into(),
        setup: "each message as if alone on the link, by a sender that knows all losses, outages and delays in advance".into(),
        manner: Manner::NewestFirst,
    }
}

/// When control, telemetry, commands and their answers could have arrived at the soonest in this cell, without any files, of each
/// vehicle on its own link. Fails, with the reason, where that cannot be said.
pub fn soonest(spec: &Spec) -> Result<Vec<Heard>> {
    let scenario = scenario(&spec.link)?;
    let numbers = spec.workload.numbers();
    let each = numbers.map(|vehicle| of_vehicle(&scenario, spec, vehicle)).collect::<Result<Vec<_>>>()?;
    Ok(each.into_iter().flatten().collect())
}

fn of_vehicle(scenario: &Scenario, spec: &Spec, vehicle: u16) -> Result<Vec<Heard>> {
    let length = SETTLE + spec.workload.length() + LOOK;
    let best = |direction| Best::of(scenario, direction, (spec.seed, vehicle), length);
    let [up, down] = Direction::BOTH.map(best);
    let (up, down) = (up?, down?);
    let schedule = Schedule::new(&spec.workload, seed_of(spec.seed, vehicle));
    let mut heard = Vec::new();
    for (kind, oracle) in [(Kind::Control, &down), (Kind::Telemetry, &up), (Kind::Command, &down)] {
        let due = schedule.of(kind).into_iter();
        heard.extend(due.filter_map(|(number, due)| oracle.arrival(kind, number, due)));
    }
    let commands = heard.iter().filter(|heard| heard.kind == Kind::Command);
    let answers: Vec<_> =
        commands.filter_map(|command| up.arrival(Kind::Ack, command.number, command.at)).collect();
    heard.extend(answers);
    Ok(heard)
}

/// How long after the workload events are looked at.
const LOOK: Duration = Duration::from_mins(2);

/// What all paths of a vehicle's link together allow in one direction.
struct Best {
    vehicle: u16,
    roads: Vec<Road>,
}

/// One path, and when nobody can send there.
struct Road {
    oracle: Oracle,
    absences: Vec<Outage>,
    /// What lasts until then lasts for ever.
    length: Duration,
}

impl Best {
    fn of(
        scenario: &Scenario,
        direction: Direction,
        (seed, vehicle): (u64, u16),
        length: Duration,
    ) -> Result<Self> {
        // As the testbed numbers its wires: vehicle by vehicle, path by path.
        let before = usize::from(vehicle).saturating_sub(1) * scenario.paths.len();
        let oracle = |(number, path): (usize, &Path)| {
            let mut law = path.profile.law(direction).clone();
            ensure!(law.draws == Draws::BySlot, "fates that hang on packet numbers have no best");
            let absences = absences(scenario, number, length);
            law.outages.extend(absences.clone());
            let seed = Seed(seed).of_link((before + number) as u64);
            let oracle = Oracle::new(law, seed, direction, Moment::ZERO);
            let oracle = oracle.with_changes(changes(scenario, number, direction, length));
            Ok(Road { oracle, absences, length })
        };
        let roads = scenario.paths.iter().enumerate().map(oracle).collect::<Result<_>>()?;
        Ok(Self { vehicle, roads })
    }

    /// Every message is one packet, so the quickest path is as good as all together.
    fn arrival(&self, kind: Kind, number: u32, due: Duration) -> Option<Heard> {
        let bytes = u32::try_from(kind.bytes()).unwrap_or(u32::MAX);
        // The link's time begins before the workload's.
        let offered = SETTLE + due;
        let arrival = self.roads.iter().filter_map(|road| road.arrival(offered, bytes)).min()?;
        let start = Moment::ZERO + SETTLE;
        Some(Heard { vehicle: self.vehicle, kind, number, bytes, at: arrival.since(start) })
    }
}

impl Road {
    fn arrival(&self, offered: Duration, bytes: u32) -> Option<Moment> {
        let end = |absence: &Outage| absence.from + absence.length;
        let absent = self.absences.iter().find(|absence| (absence.from..end(absence)).contains(&offered));
        let from = absent.map_or(offered, end);
        // The oracle would look for it millisecond by millisecond.
        (from < self.length).then(|| self.oracle.best(Moment::ZERO + from, bytes)).flatten()
    }
}

/// What happens on a path, and when.
fn events(scenario: &Scenario, path: usize, length: Duration) -> Vec<(Duration, Happening)> {
    let mut agenda = Agenda::new(scenario.events.clone());
    let mut events = Vec::new();
    while let Some(due) = agenda.next_due().filter(|due| *due < length) {
        let Some(event) = agenda.pop(due) else { break };
        if event.path.is_none_or(|other| other == path) {
            events.push((due, event.what));
        }
    }
    events
}

/// When the vehicle's interface of this path is down, without carrier or without address: nobody sends there then.
fn absences(scenario: &Scenario, path: usize, length: Duration) -> Vec<Outage> {
    let (mut missing, mut since, mut absences) = (BTreeSet::new(), Duration::ZERO, Vec::new());
    let mut absent = |from: Duration, until: Duration| {
        let length = until.saturating_sub(from);
        absences.push(Outage { from, length, every: None, mode: OutageMode::Drop });
    };
    for (at, what) in events(scenario, path, length) {
        let (part, is_there) = match what {
            Happening::Link { up } => ("link", up),
            Happening::Carrier { on } => ("carrier", on),
            Happening::Address { present } => ("address", present),
            Happening::Rebind(_) | Happening::Udp(_) | Happening::Capacity { .. } | Happening::Prefer => {
                continue;
            }
        };
        let was_there = missing.is_empty();
        if is_there {
            missing.remove(part);
        } else {
            missing.insert(part);
        }
        match (was_there, missing.is_empty()) {
            (true, false) => since = at,
            (false, true) => absent(since, at),
            (true, true) | (false, false) => {}
        }
    }
    if !missing.is_empty() {
        absent(since, length);
    }
    absences
}

/// What events make of the capacity. Those of NATs and firewalls make nothing faster: the bound holds without them.
fn changes(
    scenario: &Scenario,
    path: usize,
    direction: Direction,
    length: Duration,
) -> Vec<(Moment, Capacity)> {
    let mut changes = Vec::new();
    for (due, what) in events(scenario, path, length) {
        if let Happening::Capacity { up, down } = what {
            let capacity = match direction {
                Direction::Up => up,
                Direction::Down => down,
            };
            changes.extend(capacity.map(|capacity| (Moment::ZERO + due, capacity)));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::compare::figures::Run;
    use crate::compare::workload::Workload;

    fn spec(profile: &std::path::Path) -> Spec {
        let workload = Workload { seconds: 12.0, commands_hz: 5.0, ..Workload::default() };
        let spec = serde_json::json!({
            "name": "a", "subject": "s", "label": "s",
            "link": { "name": "l", "profile": profile, "trace": null },
            "workload": workload, "block": 1, "seed": 3, "realtime": false, "attempt": 1, "folder": "/nowhere",
        });
        serde_json::from_value(spec).unwrap()
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-3
    }

    #[test]
    fn a_plain_link_takes_its_delay_and_the_time_to_send() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("plain.toml");
        let text = "summary = 'plain'\n[up]\ndelay = '30ms'\n[down]\ndelay = '40ms'\nrate = '1 Mbit/s'\n";
        fs::write(&file, text).unwrap();
        let spec = spec(&file);
        let heard = soonest(&spec).unwrap();
        let run = Run::new(&spec.workload, spec.seed, true, &heard);
        let figures = run.figures();
        // 64 bytes and 28 of headers at 1 Mbit/s: 0.736 ms; a state each 20 ms.
        assert!(close(figures["control-age-mean-under-load"], 40.736 + 10.0), "{figures:?}");
        assert!(close(figures["telemetry-age-mean-under-load"], 30.0 + 25.0), "{figures:?}");
        // 128 + 28 bytes there, and an answer back.
        assert!(close(figures["command-time-p50"], 40.0 + 1.248 + 30.0), "{figures:?}");
        assert!(close(figures["control-on-time-50"], 1.0) && close(figures["commands-never"], 0.0));
        assert_eq!(run.never_due(), 0);
    }

    #[test]
    fn the_links_time_begins_before_the_workloads() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("cut.toml");
        let text = "summary = 'cut'\n[up]\n[down]\ndelay = '10ms'\noutage = [{ from = '6s', length = '1s', mode = 'drop' }]\n";
        fs::write(&file, text).unwrap();
        let spec = spec(&file);
        let heard = soonest(&spec).unwrap();
        let control = || heard.iter().filter(|heard| heard.kind == Kind::Control);
        let cut = Duration::from_secs(2)..Duration::from_secs(3);
        assert!(control().all(|heard| !cut.contains(&heard.at)), "four seconds to settle, then two");
        assert!(control().any(|heard| heard.at < cut.start) && control().any(|heard| heard.at >= cut.end));
        let figures = Run::new(&spec.workload, spec.seed, true, &heard).figures();
        assert!((995.0..1_025.0).contains(&figures["control-gap"]), "{}", figures["control-gap"]);
    }

    #[test]
    fn capacity_that_an_event_takes_away_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("slow.toml");
        let text = "summary = 'slow'\n[up]\n[down]\nrate = '1 Mbit/s'\n[[event]]\nat = '9s'\ndo = 'capacity'\nrate = '10 kbit/s'\n";
        fs::write(&file, text).unwrap();
        let scenario = Scenario::find(file.to_str().unwrap()).unwrap();
        let seen = changes(&scenario, 0, Direction::Down, Duration::from_secs(20));
        assert_eq!(seen.len(), 1);
        assert!(changes(&scenario, 0, Direction::Down, Duration::from_secs(9)).is_empty());
        let spec = spec(&file);
        let figures = Run::new(&spec.workload, spec.seed, true, &soonest(&spec).unwrap()).figures();
        // From the fifth second on each state alone takes 73.6 ms.
        assert!((0.38..0.46).contains(&figures["control-on-time-50"]), "{}", figures["control-on-time-50"]);
    }

    #[test]
    fn of_several_paths_the_quickest_that_is_there_counts() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("two.toml");
        let path = |name, delay| {
            format!(
                "[[path]]\nname = '{name}'\n[path.up]\ndelay = '{delay}'\n[path.down]\ndelay = '{delay}'\n"
            )
        };
        let event = |at, what| format!("[[event]]\nat = '{at}'\npath = 'fast'\ndo = '{what}'\n");
        let events = [
            ("8s", "carrier-off"),
            ("9s", "link-down"),
            ("10s", "carrier-on"),
            ("11s", "link-up"),
            ("15s", "remove-address"),
        ];
        let events: String = events.into_iter().map(|(at, what)| event(at, what)).collect();
        let text = format!("summary = 'two'\n{}{}{events}", path("slow", "70ms"), path("fast", "20ms"));
        fs::write(&file, text).unwrap();
        let spec = spec(&file);
        let due = Schedule::new(&spec.workload, spec.seed).of(Kind::Control);
        let heard = soonest(&spec).unwrap();
        for Heard { number, at, .. } in heard.iter().filter(|heard| heard.kind == Kind::Control) {
            let due = due[number];
            // The workload begins in the fifth second of the link. A packet arrives or not by when it leaves, at once.
            let way = (*at).saturating_sub(due).as_secs_f64();
            let wait = match due.as_secs_f64() {
                due if (4.0..7.0).contains(&due) => 7.0 - due,
                due if due >= 11.0 => f64::INFINITY,
                _ => 0.0,
            };
            assert!((way - f64::min(0.07, wait + 0.02)).abs() < 1e-6, "due at {due:?}: {way}");
        }
    }

    #[test]
    fn every_path_has_its_own_weather() {
        let place = tempfile::tempdir().unwrap();
        let arrivals = |names: &[&str]| {
            let file = place.path().join("alike.toml");
            let side = "delay = '20ms'\njitter = { spread = '30ms' }\n";
            let path =
                |name: &&str| format!("[[path]]\nname = '{name}'\n[path.up]\n{side}[path.down]\n{side}");
            fs::write(&file, format!("summary = 'alike'\n{}", names.iter().map(path).collect::<String>()))
                .unwrap();
            soonest(&spec(&file)).unwrap()
        };
        let (one, two) = (arrivals(&["a"]), arrivals(&["a", "b"]));
        assert!(one.iter().zip(&two).all(|(one, two)| two.number == one.number));
        let control = |heard: &[Heard]| {
            heard.iter().filter(|heard| heard.kind == Kind::Control).map(|heard| heard.at).sum::<Duration>()
        };
        assert!(control(&two) < control(&one), "of two the better");
    }

    /// The mean age of control of each vehicle alone, where its link is nobody else's.
    fn mean_ages(spec: &Spec) -> Vec<f64> {
        let heard = soonest(spec).unwrap();
        let alone = Workload { vehicles: 1, ..spec.workload.clone() };
        let mean = |vehicle: u16| {
            let own = heard.iter().filter(|heard| heard.vehicle == vehicle);
            let own: Vec<_> = own.map(|heard| Heard { vehicle: 1, ..*heard }).collect();
            Run::new(&alone, seed_of(spec.seed, vehicle), true, &own).figures()["control-age-mean"]
        };
        spec.workload.numbers().map(mean).collect()
    }

    #[test]
    fn every_vehicle_has_its_own_weather_on_links_that_are_numbered_as_the_testbeds() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("two.toml");
        let side = "delay = '20ms'\njitter = { spread = '30ms' }\n";
        let path = |name: &str| format!("[[path]]\nname = '{name}'\n[path.up]\n{side}[path.down]\n{side}");
        fs::write(&file, format!("summary = 'two'\n{}{}", path("a"), path("b"))).unwrap();
        let alone = spec(&file);
        let fleet = Spec { workload: Workload { vehicles: 3, ..alone.workload.clone() }, ..alone.clone() };
        let ages = mean_ages(&fleet);
        assert!(close(ages[0], mean_ages(&alone)[0]), "the first is as if alone");
        assert!(!close(ages[0], ages[1]) && !close(ages[1], ages[2]) && !close(ages[0], ages[2]), "{ages:?}");
        let scenario = Scenario::find(file.to_str().unwrap()).unwrap();
        let config = carriageway_netem::testbed::Config::scenario(scenario.clone()).seed(alone.seed);
        let second = Best::of(&scenario, Direction::Up, (alone.seed, 2), Duration::from_secs(9)).unwrap();
        let law = scenario.paths[0].profile.law(Direction::Up).clone();
        // Two wires belong to the first vehicle.
        let wire = Oracle::new(law, config.seed.of_link(2), Direction::Up, Moment::ZERO);
        for ms in 0..500 {
            let at = Duration::from_millis(ms);
            assert_eq!(second.roads[0].arrival(at, 64), wire.best(Moment::ZERO + at, 64));
        }
    }

    #[test]
    fn what_cannot_be_said_is_said() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("index.toml");
        fs::write(&file, "summary = 'i'\n[up]\n[down]\ndraws = 'index'\n").unwrap();
        let why = |profile: &std::path::Path| format!("{:#}", soonest(&spec(profile)).unwrap_err());
        assert!(why(&file).contains("packet numbers"), "{}", why(&file));
        assert!(why("nowhere".as_ref()).contains("no such profile"));
    }
}
