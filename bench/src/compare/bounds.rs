//! What a link allows at best, whoever sends: the oracle of the emulator's model. The measured floor is a run like any other.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use carriageway_netem::core::{Capacity, Direction, Draws, Message, Moment, Oracle, Seed};
use carriageway_netem::profile::{Agenda, Happening, Scenario};

use super::cell::{SETTLE, Spec, scenario};
use super::subjects::Facts;
use super::workload::{Heard, Kind, Manner, Schedule};

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

/// When control, telemetry, commands and their answers could have arrived at the soonest on the link of this cell, without any
/// files. Fails, with the reason, where that cannot be said.
pub fn soonest(spec: &Spec) -> Result<Vec<Heard>> {
    let scenario = scenario(&spec.link)?;
    ensure!(
        scenario.paths.len() == 1,
        "it has {} paths, and what all of them together allow is not computed",
        scenario.paths.len()
    );
    let length = SETTLE + spec.workload.length() + LOOK;
    let oracle = |direction| of_link(&scenario, direction, spec.seed, length);
    let (up, down) = (oracle(Direction::Up)?, oracle(Direction::Down)?);
    let schedule = Schedule::new(&spec.workload, spec.seed);
    let mut heard = Vec::new();
    for (kind, oracle) in [(Kind::Control, &down), (Kind::Telemetry, &up), (Kind::Command, &down)] {
        let due = schedule.of(kind).into_iter();
        heard.extend(due.filter_map(|(number, due)| arrives(oracle, kind, number, due)));
    }
    let commands = heard.iter().filter(|heard| heard.kind == Kind::Command);
    let answers: Vec<_> =
        commands.filter_map(|command| arrives(&up, Kind::Ack, command.number, command.at)).collect();
    heard.extend(answers);
    Ok(heard)
}

/// How long after the workload events are looked at.
const LOOK: Duration = Duration::from_mins(2);

fn of_link(scenario: &Scenario, direction: Direction, seed: u64, length: Duration) -> Result<Oracle> {
    let path = scenario.paths.first().context("it has no path")?;
    let law = path.profile.law(direction).clone();
    ensure!(law.draws == Draws::BySlot, "fates that hang on packet numbers have no best");
    // The first wire's seed is the cell's own.
    let oracle = Oracle::new(law, Seed(seed).of_link(0), direction, Moment::ZERO);
    Ok(oracle.with_changes(changes(scenario, direction, length)))
}

/// What events make of the capacity. The others make nothing faster: the bound holds without them.
fn changes(scenario: &Scenario, direction: Direction, length: Duration) -> Vec<(Moment, Capacity)> {
    let mut agenda = Agenda::new(scenario.events.clone());
    let mut changes = Vec::new();
    while let Some(due) = agenda.next_due().filter(|due| *due < length) {
        let Some(event) = agenda.pop(due) else { break };
        if let Happening::Capacity { up, down } = event.what {
            let capacity = match direction {
                Direction::Up => up,
                Direction::Down => down,
            };
            changes.extend(capacity.map(|capacity| (Moment::ZERO + due, capacity)));
        }
    }
    changes
}

fn arrives(oracle: &Oracle, kind: Kind, number: u32, due: Duration) -> Option<Heard> {
    let bytes = u32::try_from(kind.bytes()).unwrap_or(u32::MAX);
    // The link's time begins before the workload's.
    let arrival = oracle.best(Moment::ZERO + SETTLE + due, bytes)?;
    Some(Heard { kind, number, bytes, at: arrival.since(Moment::ZERO + SETTLE) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::compare::figures::Run;
    use crate::compare::workload::Workload;

    fn spec(profile: &Path) -> Spec {
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
        let cut = Duration::from_secs(2)..Duration::from_millis(3_000);
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
        let seen = changes(&scenario, Direction::Down, Duration::from_secs(20));
        assert_eq!(seen.len(), 1);
        assert!(changes(&scenario, Direction::Down, Duration::from_secs(9)).is_empty());
        let spec = spec(&file);
        let figures = Run::new(&spec.workload, spec.seed, true, &soonest(&spec).unwrap()).figures();
        // From the fifth second on each state alone takes 73.6 ms.
        assert!((0.38..0.46).contains(&figures["control-on-time-50"]), "{}", figures["control-on-time-50"]);
    }

    #[test]
    fn what_cannot_be_said_is_said() {
        let why = |profile| format!("{:#}", soonest(&spec(Path::new(profile))).unwrap_err());
        assert!(why("handover-lte-wifi").contains("2 paths"), "{}", why("handover-lte-wifi"));
        assert!(why("nowhere").contains("no such profile"));
    }
}
