//! A plan of the comparison, run by the real program: every cell once, nothing twice, and nothing of another plan.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use carriageway_bench::compare::cell::{Outcome, read_samples};
use carriageway_bench::compare::conduct::ATTEMPTS;
use carriageway_bench::compare::workload::{Kind, Schedule, seed_of};
use carriageway_netem::profile::Scenario;
use carriageway_netem::testbed::{Config, StartError, Testbed};

use crate::process::{Process, program};
use crate::wait::until;

const PLAN: &str = "title = \"Tiny\"\nblocks = 1\nreference = \"quic-cubic\"\nfloor = \"quic-cubic\"\n\
    subjects = [\"quic-cubic\"]\n[[link]]\nprofile = \"clean\"\n[workload]\nseconds = 2\nrival = true\n";

/// Whether cells can be run here; tells loudly where not.
fn permitted() -> bool {
    match Testbed::prepare(Config::scenario(Scenario::find("clean").unwrap())) {
        Ok(_prepared) => true,
        Err(error @ (StartError::Permission { .. } | StartError::NoTun)) => {
            eprintln!("skipped: running a plan is NOT TESTED here: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn run(place: &Path) -> (Output, String) {
    let output = Command::new(program("carriageway-bench"))
        .args(["run", "tiny.toml", "--out", "results", "--no-realtime", "--jobs", "2"])
        .current_dir(place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// Every file of the cells and when it was written.
fn files(cells: &Path) -> Vec<(String, SystemTime)> {
    let entries = fs::read_dir(cells).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_plan_is_run_once_and_another_is_refused_in_its_place() {
    if !permitted() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let plan = place.path().join("tiny.toml");
    fs::write(&plan, PLAN).unwrap();
    let cells = place.path().join("results/cells");
    let (first, said) = run(place.path());
    assert!(said.contains("3 of 3 cells to run"), "{said}");
    // Whether any run counts is up to the machine; every one was made and says what it was.
    for (label, subject) in [("quic-cubic", "quic-cubic"), ("a-a", "quic-cubic"), ("floor", "quic-cubic")] {
        let attempts: Vec<_> = (1..=ATTEMPTS)
            .map(|attempt| cells.join(format!("clean-b1-{label}-{attempt}")))
            .filter(|base| base.with_extension("json").exists())
            .collect();
        assert!(!attempts.is_empty(), "{label}: {said}");
        for base in &attempts {
            let text = fs::read_to_string(base.with_extension("json")).unwrap();
            let outcome: Outcome = serde_json::from_str(&text).unwrap();
            assert_eq!((outcome.spec.subject.as_str(), outcome.spec.seed), (subject, 1_000));
            assert_eq!(outcome.spec.workload.log, label != "floor");
            let rival: u64 = outcome.rival.iter().sum();
            assert_eq!(rival > 0, label != "floor", "{label}: the rival received {rival} bytes");
            assert!(outcome.stage.origin.command_line.contains("run tiny.toml"), "{:?}", outcome.stage);
            let heard = read_samples(&base.with_extension("csv.gz")).unwrap();
            assert!(!heard.is_empty(), "{label}: nothing arrived; {:?}", outcome.failures);
        }
    }
    assert_eq!(fs::read_to_string(place.path().join("results/plan.toml")).unwrap(), PLAN);
    let summary = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(summary.contains("of 3 cells count"), "{summary}{said}");

    let before = files(&cells);
    let (again, said) = run(place.path());
    assert!(said.contains("0 of 3 cells to run"), "{said}");
    assert_eq!(files(&cells), before, "nothing is run twice");
    assert_eq!(String::from_utf8_lossy(&again.stdout), summary);

    fs::write(&plan, PLAN.replace("seconds = 2", "seconds = 3")).unwrap();
    let (refused, said) = run(place.path());
    assert!(!refused.status.success());
    assert!(said.contains("another plan: workload differ") && said.contains("--out"), "{said}");
    assert_eq!(files(&cells), before);
}

/// Three vehicles, by ours and, as the floor, by a peer.
const FLEET: &str = "title = \"Fleet\"\nblocks = 1\nreference = \"quic-cubic\"\nfloor = \"tcp-two-cubic\"\n\
    subjects = [\"quic-cubic\"]\n[[link]]\nprofile = \"clean\"\n\
    [workload]\nseconds = 2\nvehicles = 3\ncommands_hz = 4\n";

#[test]
fn a_gateway_serves_a_fleet_and_every_sample_says_whose_it_is() {
    if !permitted() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("tiny.toml"), FLEET).unwrap();
    let (_, said) = run(place.path());
    let cells = place.path().join("results/cells");
    let mut digests = BTreeSet::new();
    for (label, subject) in [("quic-cubic", "quic-cubic"), ("a-a", "quic-cubic"), ("floor", "tcp-two-cubic")]
    {
        // As above: whether it counts is up to the machine.
        let base = cells.join(format!("clean-b1-{label}-1"));
        let outcome: Outcome =
            serde_json::from_str(&fs::read_to_string(base.with_extension("json")).unwrap()).unwrap();
        assert_eq!(
            (outcome.spec.subject.as_str(), &outcome.failures[..]),
            (subject, &[][..]),
            "{label}: {said}"
        );
        assert!(outcome.connected_ms.is_some(), "{label}: {:?}", outcome.notes);
        digests.insert(outcome.link_sha256);
        let wires = outcome.netem["wires"].as_array().unwrap();
        let numbers: Vec<_> = wires.iter().map(|wire| wire["vehicle"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3], "{label}");
        let heard = read_samples(&base.with_extension("csv.gz")).unwrap();
        let mut kinds = vec![Kind::Control, Kind::Telemetry, Kind::Snapshot, Kind::Command, Kind::Ack];
        kinds.extend((label != "floor").then_some(Kind::Log));
        for vehicle in 1..=3 {
            let of =
                |kind| heard.iter().filter(|heard| (heard.vehicle, heard.kind) == (vehicle, kind)).count();
            let missing: Vec<_> = kinds.iter().filter(|kind| of(**kind) == 0).collect();
            assert!(missing.is_empty(), "{label}: nothing of {missing:?} of vehicle {vehicle} arrived");
            let commands = Schedule::new(&outcome.spec.workload, seed_of(outcome.spec.seed, vehicle));
            let due = commands.of(Kind::Command);
            let own = heard.iter().filter(|heard| (heard.vehicle, heard.kind) == (vehicle, Kind::Command));
            assert!(own.clone().all(|heard| due.contains_key(&heard.number)), "{label}: of another's");
            assert_eq!(own.count(), due.len(), "{label}: the commands of vehicle {vehicle}");
        }
    }
    assert_eq!(digests.len(), 1, "all met the same links");
}

/// The children of a process.
fn children(of: &Process) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", of.id())).unwrap_or_default();
    children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Whether a process is there and has not ended; it may still wait for its parent to hear of it.
fn lives(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains(" Z ") && !line.contains("\tZ"))
}

#[tokio::test]
async fn a_cell_ends_with_the_run_however_that_ends() {
    if !permitted() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("tiny.toml"), PLAN.replace("seconds = 2", "seconds = 600")).unwrap();
    let log = place.path().join("log");
    let arguments =
        ["run", "tiny.toml", "--out", "results", "--no-realtime", "--jobs", "2"].map(str::to_owned);
    let start = || Process::start("carriageway-bench", place.path(), &log, &arguments);

    let mut asked = start();
    until("two cells run", async || children(&asked).len() == 2).await;
    let cells = children(&asked);
    asked.terminate();
    assert!(!asked.ended().await.success());
    until("the cells have ended with the run", async || !cells.iter().any(|cell| lives(*cell))).await;
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("interrupted; the same command goes on"), "{said}");
    assert!(files(&place.path().join("results/cells")).is_empty(), "nothing is left of what was cut off");

    let killed = start();
    until("two cells run", async || children(&killed).len() == 2).await;
    let cells = children(&killed);
    killed.kill();
    until("the cells have ended with the run", async || !cells.iter().any(|cell| lives(*cell))).await;
}
