//! `carriageway-netem run`, where this machine permits it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::netem;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether testbeds can be made here. If not, the test says so and passes.
fn permitted() -> bool {
    let output = netem(&["run", "--", "true"]);
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    output.status.success()
}

fn said(args: &[&str]) -> String {
    String::from_utf8(netem(args).stdout).unwrap()
}

#[test]
fn the_exit_code_is_the_commands() {
    if !permitted() {
        return;
    }
    assert_eq!(netem(&["run", "--", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(netem(&["run", "--", "/nowhere/at/all"]).status.code(), Some(127));
    assert_eq!(netem(&["run", "--log", "/nowhere/log", "--", "true"]).status.code(), Some(125));
}

#[test]
fn vehicles_know_where_they_are() {
    if !permitted() {
        return;
    }
    let script = "echo $NETEM_VEHICLE_ID $NETEM_VEHICLE $NETEM_SERVER $NETEM_PATHS $NETEM_SEED";
    let text = said(&[
        "run",
        "--path",
        "lte0=lte-good",
        "--path",
        "wlan0=clean",
        "--vehicles",
        "2",
        "--seed",
        "7",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["vehicle-1 10.200.1.2 10.199.0.1 lte0 wlan0 7", "vehicle-2 10.200.2.2 10.199.0.1 lte0 wlan0 7"]
    );
}

#[test]
fn the_report_accounts_for_the_run() {
    if !permitted() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    netem(&["run", "--delay", "5ms", "--seed", "9", "--report", path, "--", "true"]);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["seed"], 9);
    assert!(report["valid"].is_boolean() && report["canary"]["count"].is_number());
}

#[test]
fn a_killed_run_leaves_nothing_to_the_next() {
    if !permitted() {
        return;
    }
    let mut run = Command::new(env!("CARGO_BIN_EXE_carriageway-netem"))
        .args(["run", "--", "sh", "-c", "sleep 1000 & echo $!; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let orphan = format!("/proc/{}", pid.trim());
    assert!(Path::new(&orphan).exists());
    run.kill().unwrap();
    run.wait().unwrap();
    netem(&["run", "--", "true"]);
    let gone = || {
        let state = std::fs::read_to_string(format!("{orphan}/stat"));
        state.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    };
    until(PATIENCE, gone);
}

#[test]
fn the_networks_side_ends_with_the_run() {
    if !permitted() {
        return;
    }
    let text = said(&["run", "--net-side", "echo $$; exec sleep 1000", "--time-limit", "10s", "--", "true"]);
    let server = format!("/proc/{}/stat", text.trim());
    assert!(
        std::fs::read_to_string(server)
            .map_or(true, |stat| !stat.contains("(sleep)") || stat.contains(") Z "))
    );
}
