//! What happens beside the packets: events and outages, from a scenario or from the report of a run.

use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{Capacity, Direction, Outage, OutageMode, UdpPolicy};
use carriageway_netem::profile::{Agenda, Event, Happening, Scenario};
use serde_json::Value;

/// A line in the drawing, or a shade where it lasts; times in seconds after the start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) at: f64,
    /// `None`: it is a moment.
    pub(super) until: Option<f64>,
    /// `None`: both.
    pub(super) direction: Option<Direction>,
    pub(super) name: String,
}

/// Marks that are worth drawing: more are a blot.
const MOST: usize = 2_000;

/// What happens on the only path of `scenario` within `time`.
pub(super) fn of_scenario(scenario: &Scenario, time: Duration) -> Vec<Mark> {
    let mut agenda = Agenda::new(scenario.events.clone());
    let mut marks = Vec::new();
    while let Some(due) = agenda.next_due().filter(|due| *due < time && marks.len() < MOST) {
        let Some(event) = agenda.pop(due) else { break };
        marks.push(moment(due.as_secs_f64(), label(&event)));
    }
    let link = &scenario.paths[0].profile;
    marks.extend(outages(&link.up.outages, &link.down.outages, time));
    marks
}

/// What happened on `path` of the run that wrote `report`.
pub(super) fn of_report(report: &Value, path: &str) -> anyhow::Result<Vec<Mark>> {
    let wanted = "is this the --report of the run?";
    let events = report["events"]["list"].as_array().context(wanted)?;
    let here = |event: &&Value| event["path"].as_str().is_none_or(|other| other == path);
    let mut marks = Vec::new();
    for event in events.iter().filter(here).take(MOST) {
        let at = event["at_us"].as_f64().context(wanted)? / 1e6;
        marks.push(moment(at, event["what"].as_str().context(wanted)?.into()));
    }
    let paths = report["experiment"]["paths"].as_array().context(wanted)?;
    let link = paths.iter().find(|other| other["name"] == path).context("the report has no such path")?;
    let took = Duration::from_micros(report["took_us"].as_u64().context(wanted)?);
    let (up, down) = (recorded(&link["up"]).context(wanted)?, recorded(&link["down"]).context(wanted)?);
    marks.extend(outages(&up, &down, took));
    Ok(marks)
}

/// The outages of a law in a report.
fn recorded(law: &Value) -> Option<Vec<Outage>> {
    let one = |outage: &Value| {
        Some(Outage {
            from: Duration::from_micros(outage["from_us"].as_u64()?),
            length: Duration::from_micros(outage["length_us"].as_u64()?),
            every: outage["every_us"].as_u64().map(Duration::from_micros),
            mode: if outage["hold"].as_bool()? { OutageMode::Hold } else { OutageMode::Drop },
        })
    };
    law["outages"].as_array()?.iter().map(one).collect()
}

const fn moment(at: f64, name: String) -> Mark {
    Mark { at, until: None, direction: None, name }
}

/// Outages of both directions; those that are the same in both come once.
fn outages(up: &[Outage], down: &[Outage], time: Duration) -> Vec<Mark> {
    let both = up.iter().filter(|outage| down.contains(outage)).map(|outage| (outage, None));
    let only_up =
        up.iter().filter(|outage| !down.contains(outage)).map(|outage| (outage, Some(Direction::Up)));
    let only_down =
        down.iter().filter(|outage| !up.contains(outage)).map(|outage| (outage, Some(Direction::Down)));
    both.chain(only_up)
        .chain(only_down)
        .flat_map(|(outage, direction)| occurrences(outage, direction, time))
        .take(MOST)
        .collect()
}

fn occurrences(outage: &Outage, direction: Option<Direction>, time: Duration) -> impl Iterator<Item = Mark> {
    let Outage { from, length, every, mode } = *outage;
    let name = match mode {
        OutageMode::Drop => "outage",
        OutageMode::Hold => "hold",
    };
    let name = format!("{name}{}", way(direction));
    let next = move |at: &Duration| every.filter(|every| !every.is_zero()).map(|every| *at + every);
    std::iter::successors(Some(from), next).take_while(move |at| *at < time).map(move |at| Mark {
        at: at.as_secs_f64(),
        until: Some((at + length).as_secs_f64()),
        direction,
        name: name.clone(),
    })
}

/// As files spell it, and with which numbers.
fn label(event: &Event) -> String {
    let name = event.what.name();
    match &event.what {
        Happening::Udp(UdpPolicy::Throttle { rate, .. }) => {
            format!("{name} {}", bits(rate.bits_per_second()))
        }
        Happening::Capacity { up: Some(up), down: Some(down) } if up == down => {
            format!("{name} {}", amount(up))
        }
        Happening::Capacity { up, down } => {
            let one = |capacity: &Option<Capacity>, way: &str| {
                capacity.as_ref().map(|capacity| format!("{} {way}", amount(capacity)))
            };
            let ways: Vec<_> = [one(up, "up"), one(down, "down")].into_iter().flatten().collect();
            format!("{name} {}", ways.join(", "))
        }
        Happening::Udp(UdpPolicy::Pass | UdpPolicy::Block)
        | Happening::Rebind(_)
        | Happening::Link { .. }
        | Happening::Carrier { .. }
        | Happening::Address { .. }
        | Happening::Prefer => name.into(),
    }
}

fn amount(capacity: &Capacity) -> String {
    match capacity {
        Capacity::Unlimited => "unlimited".into(),
        Capacity::Rate(rate) => bits(rate.bits_per_second()),
        Capacity::Trace(_) => "trace".into(),
    }
}

fn bits(bits: u64) -> String {
    match bits {
        ..1_000_000 => format!("{} kbit/s", bits as f64 / 1e3),
        _ => format!("{} Mbit/s", bits as f64 / 1e6),
    }
}

const fn way(direction: Option<Direction>) -> &'static str {
    match direction {
        None => "",
        Some(Direction::Up) => " up",
        Some(Direction::Down) => " down",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn events_have_their_names_and_numbers() {
        let text = "summary = 'x'\n[[event]]\nat = '1s'\ndo = 'udp-block'\n[[event]]\nat = '2s'\ndo = 'capacity'\n\
            rate = '64 kbit/s'\ndirection = 'up'\n[[event]]\nat = '3s'\ndo = 'outage'\nlength = '1s'\ndirection = 'down'\n";
        let scenario = Scenario::parse("x.toml", text, Path::new("")).unwrap();
        let marks = of_scenario(&scenario, Duration::from_secs(10));
        let names: Vec<_> = marks.iter().map(|mark| mark.name.as_str()).collect();
        assert_eq!(names, ["udp-block", "capacity 64 kbit/s up", "outage down"]);
        assert_eq!((marks[2].at, marks[2].until), (3.0, Some(4.0)));
        assert_eq!(of_scenario(&Scenario::find("tunnel").unwrap(), Duration::from_mins(1)).len(), 2);
    }

    #[test]
    fn a_report_tells_what_happened() {
        let outage = json!({ "from_us": 2e6 as u64, "length_us": 500_000, "every_us": null, "hold": true });
        let law = json!({ "outages": [outage] });
        let report = json!({
            "took_us": 9_000_000,
            "events": { "list": [
                { "what": "udp-block", "path": null, "at_us": 1_500_000 },
                { "what": "prefer", "path": "wlan0", "at_us": 1_600_000 },
            ] },
            "experiment": { "paths": [{ "name": "lte0", "up": law, "down": law }] },
        });
        let marks = of_report(&report, "lte0").unwrap();
        assert_eq!(marks[0], moment(1.5, "udp-block".into()));
        assert_eq!(marks[1], Mark { at: 2.0, until: Some(2.5), direction: None, name: "hold".into() });
        assert_eq!(marks.len(), 2);
        assert!(of_report(&json!({}), "lte0").unwrap_err().to_string().contains("--report"));
    }
}
