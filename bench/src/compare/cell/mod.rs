//! One run of one subject, on one link or, with several vehicles, on as many alike: a process of its own, so that what it takes of the
//! machine can be told apart.

mod bed;
mod cast;
mod crew;
mod rival;
mod samples;
mod spec;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Folder;
use carriageway_netem::testbed::{SERVER, Testbed};
use clap::Args;
use serde_json::Value;
use tempfile::TempDir;

use self::cast::Cast;
use self::crew::{Crew, Ready};
use self::rival::Rival;
use super::conduct::die_with;
use super::subjects::{self, End, Papers, Reach, Subject, vehicle_name};
use super::timeline::Timeline;
use super::virtual_time;
use super::workload::{Hand, HandAccount};
use crate::stage::Stage;
use crate::usage::Usage;
pub(super) use bed::{digest, scenario};
pub use samples::{read as read_samples, write as write_samples};
pub use spec::{Cost, Link, Outcome, Side, Spec, Task, Traffic, late_once_ms};

/// From the start of the link to the start of the workload. Everybody meets the same weather then, however long the
/// handshake took.
pub const SETTLE: Duration = Duration::from_secs(4);

/// After the workload: what is under way may still arrive.
pub const AFTER: Duration = Duration::from_secs(3);

/// A gateway that does not listen within this has failed.
const LISTENS: Duration = Duration::from_secs(20);

/// How late the thread of the workload may be: what it says late no subject can deliver in time.
const HAND_P99_LIMIT: Duration = Duration::from_millis(1);
/// Once, beyond what the emulator may be: it is an ordinary thread.
const HAND_WORST_EXCESS: Duration = Duration::from_millis(10);

/// Runs one cell in this process; the conductor starts it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// What to run, and for whom, as JSON
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// The process that conducts: this one ends with it
    #[arg(long, value_name = "ID")]
    parent: Option<u32>,
}

/// Runs the cell and writes its outcome and samples where the spec says.
pub fn run(options: &Options) -> Result<()> {
    options.parent.map_or(Ok(()), die_with)?;
    let text = fs::read_to_string(&options.task)
        .with_context(|| format!("cannot read {}", options.task.display()))?;
    let Task { spec, origin } = serde_json::from_str(&text).context("the task is broken")?;
    let stage = Stage::of(origin);
    let (outcome, heard) = if spec.is_virtual { virtual_time::measure(&spec)? } else { measure(&spec)? };
    let outcome = Outcome { stage, ..outcome };
    write_samples(&spec.samples(), &heard)?;
    let json = serde_json::to_string_pretty(&outcome).context("an outcome is plain data")?;
    let path = spec.outcome();
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

/// What came of it, but for where and by what.
fn measure(spec: &Spec) -> Result<(Outcome, Vec<super::workload::Heard>)> {
    let subject: &'static dyn Subject = Box::leak(subjects::named(&spec.subject)?);
    let facts = subject.facts();
    let place = TempDir::new().context("cannot make a temporary directory")?;
    let papers = papers(&place, spec.workload.vehicles)?;
    let config = bed::config(spec)?;
    let prepared = Testbed::prepare(config)?;
    let before = Usage::read(std::process::id())?;
    let timeline = Timeline::not_yet();
    let everybody = Cast::new(spec, facts.manner, papers, &timeline);
    // The gateway listens before the link's time begins: only its vehicles' handshakes are on the links.
    let (ends, mut ready) = everybody.ends(Side::Gateway);
    let gateway = Crew::start(prepared.net(), "bench-gateway", "the gateway".into(), || subject.serve(ends))?;
    let reaches = match gateway.listens(&mut ready, LISTENS) {
        Ok(reaches) => reaches,
        Err(why) => {
            everybody.stop();
            bail!("the gateway: {why:#}; {}", crew::failures(vec![gateway]).join("; "));
        }
    };
    let rival = spec.workload.rival.then(|| rival::listen(prepared.net())).transpose()?;
    let bed = prepared.begin()?;
    timeline.start_at(bed.started() + SETTLE);
    let (vehicles, mut ready) = start_vehicles(subject, &everybody, &reaches, &bed)?;
    let rival = rival
        .map(|listener| Rival::start(listener, bed.vehicle(0), &spec.workload, &timeline))
        .transpose()?;
    let hand = Hand::new(&spec.workload, spec.seed, timeline.clone(), everybody.feeds());
    let hand = hand.spawn(spec.realtime)?;
    let connected = crew::connected(&vehicles, &mut ready, &timeline);
    let hand = HandAccount::of(hand)?;
    std::thread::sleep(timeline.until(spec.workload.length() + AFTER));
    let report = bed.report().map_err(|gone| anyhow!("the emulator has failed: {gone}"))?;
    let heard = everybody.heard();
    everybody.stop();
    let mut failures = crew::failures(vehicles);
    failures.extend(crew::failures(vec![gateway]));
    let cost = Cost::since(&before, &Usage::read(std::process::id())?, report.json(), hand.cpu);
    let faults = report.faults().iter().cloned().chain(late(&hand, spec.late_once())).collect();
    let notes = everybody.notes().all().into_iter().chain(absent(&connected)).collect();
    let outcome = Outcome {
        spec: spec.clone(),
        facts,
        stage: Stage::default(),
        notes,
        faults,
        failures,
        connected_ms: slowest(&connected),
        shed: everybody.shed(),
        cost,
        traffic: traffic(report.json()),
        rival: rival.map(Rival::received).transpose()?.unwrap_or_default(),
        link_sha256: digest(&spec.link, spec.seed, report.json()),
        netem: report.json().clone(),
    };
    bed.stop()?;
    Ok((outcome, heard))
}

/// Certificates and keys for a run with so many vehicles, in a folder that goes with it: a set for each.
pub(super) fn papers(place: &TempDir, vehicles: u16) -> Result<Vec<Papers>> {
    let folder = Folder::new(place.path());
    folder.init(&[SERVER.to_string()], unix_now())?;
    let ids = (1..=vehicles).map(|number| vehicle_name(number).parse());
    folder.vehicles(ids.collect::<Result<Vec<_>, _>>()?, unix_now())?;
    if vehicles == 1 {
        return Ok(vec![Papers::new(place.path().to_owned())]);
    }
    Ok((1..=vehicles).map(|number| Papers::of_fleet(place.path().to_owned(), number)).collect())
}

/// Each in its own namespace, and where it says that it is connected.
fn start_vehicles(
    subject: &'static dyn Subject,
    everybody: &Cast,
    reaches: &[Reach],
    bed: &Testbed,
) -> Result<(Vec<Crew>, Vec<Ready>)> {
    let (ends, ready) = everybody.ends(Side::Vehicle);
    let start = |(place, (end, reach)): (usize, (End, &Reach))| {
        let name =
            if reaches.len() == 1 { "the vehicle".into() } else { format!("vehicle {}", end.vehicle()) };
        let reach = *reach;
        Crew::start(bed.vehicle(place), "bench-vehicle", name, move || subject.drive(end, reach))
    };
    let crews = ends.into_iter().zip(reaches).enumerate().map(start).collect::<Result<_>>()?;
    Ok((crews, ready))
}

/// Until the last was connected, in milliseconds; `None` where one was not.
fn slowest(connected: &[Option<Duration>]) -> Option<f64> {
    let all: Option<Vec<_>> = connected.iter().copied().collect();
    all?.into_iter().max().map(|took| took.as_secs_f64() * 1e3)
}

/// Said where some vehicles were not connected and others were.
fn absent(connected: &[Option<Duration>]) -> Option<String> {
    let (there, all) = (connected.iter().flatten().count(), connected.len());
    (there > 0 && there < all)
        .then(|| format!("{there} of {all} vehicles were connected when the workload began"))
}

/// Whether the workload itself was on time.
fn late(hand: &HandAccount, late_once: Duration) -> Option<String> {
    let ((p99, worst), limit) = (hand.lateness(), late_once + HAND_WORST_EXCESS);
    (p99 > HAND_P99_LIMIT || worst > limit).then(|| {
        format!("the workload was late: p99 {p99:?}, limit {HAND_P99_LIMIT:?}; once {worst:?}, limit {limit:?}; the machine is too busy")
    })
}

/// What a report's wires have carried, up and down.
pub(super) fn traffic(report: &Value) -> [Traffic; 2] {
    ["up", "down"].map(|direction| {
        let wires = report["wires"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sum = |what: &str| wires.iter().filter_map(|wire| wire[direction][what].as_u64()).sum();
        Traffic {
            offered_bytes: sum("offered_bytes"),
            delivered_bytes: sum("delivered_bytes"),
            offered_packets: sum("offered"),
            delivered_packets: sum("delivered"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_connected_when_its_last_is() {
        let [soon, late] = [40, 90].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(slowest(&[soon, late, soon]), Some(90.0));
        assert_eq!((slowest(&[soon, None]), slowest(&[None])), (None, None));
        assert_eq!(absent(&[soon, late]), None);
        let told = absent(&[soon, None, late]).unwrap();
        assert_eq!(told, "2 of 3 vehicles were connected when the workload began");
        assert_eq!(absent(&[None]), None, "which is told where one is alone");
    }

    #[test]
    fn every_vehicle_has_papers_of_its_own() {
        let place = TempDir::new().unwrap();
        let all = papers(&place, 3).unwrap();
        let keys: std::collections::BTreeSet<_> =
            all.iter().map(|papers| fs::read(&papers.vehicle()[1]).unwrap()).collect();
        assert_eq!(keys.len(), 3);
        assert!(all.iter().all(Papers::is_of_fleet));
        let alone = papers(&TempDir::new().unwrap(), 1).unwrap();
        assert!(alone.len() == 1 && !alone[0].is_of_fleet());
    }
}
