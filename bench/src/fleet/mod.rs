//! A thousand vehicles on one gateway, over loopback: connect time, memory, CPU, and one command to each.
//!
//! The gateway and the vehicles are processes of their own, this binary run again in another role, so that
//! the kernel's account of a process is the gateway's alone.

pub mod gateway;
mod process;
mod report;
pub mod vehicles;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_transport::clock::BootClock;
use clap::Args;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::local::{papers, vehicle_id};
use crate::operator::Operator;
use crate::say;
use crate::stage::Stage;
use crate::usage::Usage;
use process::Child;
use report::{Commands, Connect, Report};

/// Measures a gateway with a fleet: connect time, memory, CPU, one command to each vehicle
///
/// Starts a gateway process and a process with N real agents around simulated vehicles, over QUIC on loopback,
/// all at once. Then: the time until each has its session and until all have; the gateway's resident memory
/// before and after, divided by those that connected; its CPU seconds over twenty steady seconds with signals at 1 Hz; and one command
/// of class body to every vehicle, 250 a second, by HTTP on connections that are open already; one that does not
/// succeed counts with the ten seconds that it is waited for.
///
/// Both processes share this machine's processors, so connect times hold the vehicles' handshakes as well.
/// Raises its limit of open files to the hard limit by itself: two per vehicle and some.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How many vehicles
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    vehicles: u16,
    /// Looks at each vehicle's signals per second
    #[arg(long, value_name = "HZ", default_value_t = 1.0)]
    signal_hz: f64,
    /// Seconds of the steady state over which CPU is counted
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds that connecting may take
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    /// Commands per second
    #[arg(long, value_name = "HZ", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    command_rate: u32,
    /// Writes everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Between the last connection and the first figure of the steady state: what connecting needed is given back.
const SETTLE: Duration = Duration::from_secs(5);

/// The gateway's process must have its sockets within this.
const READY: Duration = Duration::from_secs(20);

/// A body target that holds at once.
const LIGHT: &str = "Vehicle.Body.Lights.Beam.High.IsOn";

/// Connections opened before the commands: at 250 a second, for a quarter of a second each.
const WARM: usize = 64;

/// Runs it and writes the table.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let stage = Stage::now();
    let files = process::raise_open_files(u64::from(options.vehicles) * 2 + 200)?;
    let place = TempDir::new().context("cannot make a temporary directory")?;
    say(&format!("making {} certificates", options.vehicles));
    let token = papers(place.path(), options.vehicles, "observe command:*")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = runtime.block_on(measure(options, place.path(), &token, stage))?;
    report.open_files = files;
    let json = serde_json::to_string_pretty(&report).context("the report is plain data")?;
    if let Some(file) = &options.json {
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    write!(out, "{}", report.table()).context("cannot write the table")
}

async fn measure(options: &Options, place: &Path, token: &str, stage: Stage) -> Result<Report> {
    let mut gateway = Child::start(&["fleet-gateway".into(), path(place)])?;
    let ready: gateway::Ready = gateway.line(READY).await.context("the gateway did not start")?;
    let before = gateway.usage()?;
    say(&format!(
        "gateway ready, {} KiB resident; {} vehicles connect",
        before.resident_kib, options.vehicles
    ));
    let mut vehicles = Child::start(&[
        "fleet-vehicles".into(),
        path(place),
        format!("--vehicles={}", options.vehicles),
        format!("--signal-hz={}", options.signal_hz),
        format!("--udp={}", ready.udp),
        format!("--tcp={}", ready.tcp),
        format!("--patience={}", options.patience),
    ])?;
    let patience = Duration::from_secs(options.patience) + READY;
    let connected: vehicles::Connected =
        vehicles.line(patience).await.context("the vehicles did not connect")?;
    let connecting = gateway.usage()?;
    say(&format!(
        "{} of {} connected; {} s steady",
        connected.times_ms.len(),
        options.vehicles,
        options.seconds
    ));
    tokio::time::sleep(SETTLE).await;
    let from = gateway.usage()?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let to = gateway.usage()?;
    say("one command to each");
    let commands = commands(options, place, token, ready.tcp).await?;
    let metrics = scrape(ready.internal).await?;
    vehicles.stop().await?;
    gateway.stop().await?;
    Ok(Report {
        stage,
        vehicles: options.vehicles,
        signal_hz: options.signal_hz,
        connect: Connect::of(&connected, Usage::cpu_between(&before, &connecting)),
        resident_before_kib: before.resident_kib,
        resident_after_kib: to.resident_kib,
        resident_most_kib: to.resident_most_kib,
        kib_per_vehicle: per_vehicle(&before, &to, connected.times_ms.len()),
        cpu_share: Usage::cpu_between(&from, &to) / Duration::from_secs(options.seconds).as_secs_f64(),
        commands,
        handshakes: metrics,
        open_files: 0,
    })
}

/// The growth of resident memory, in KiB, for each of the vehicles that are connected; `None` of none.
fn per_vehicle(before: &Usage, after: &Usage, connected: usize) -> Option<f64> {
    let grown = after.resident_kib as f64 - before.resident_kib as f64;
    (connected > 0).then(|| grown / connected as f64)
}

fn path(place: &Path) -> String {
    format!("--folder={}", place.display())
}

/// One command to each vehicle, at a steady rate, whether or not earlier ones were answered.
async fn commands(options: &Options, place: &Path, token: &str, port: u16) -> Result<Commands> {
    let authority = fs::read(place.join("ca.pem")).context("cannot read the authority's certificate")?;
    let operator = Operator::new(&authority, port, token.into())?;
    operator.warm_up(&vehicle_id(1), WARM).await.context("the gateway does not take connections")?;
    let clock = BootClock::system()?;
    let start = clock.now();
    let mut under_way = JoinSet::new();
    for number in 1..=options.vehicles {
        let due = start + Duration::from_secs(1) * u32::from(number) / options.command_rate;
        clock.sleep_until(due).await;
        let (operator, clock) = (operator.clone(), clock.clone());
        under_way.spawn(async move {
            let end = operator.switch_on(&vehicle_id(number), "bench-1", LIGHT).await;
            (clock.now().since(due).as_secs_f64() * 1_000.0, end)
        });
    }
    Ok(Commands::of(under_way.join_all().await))
}

/// The gateway's own counters of handshakes and hellos.
async fn scrape(port: u16) -> Result<Vec<String>> {
    let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?.text().await?;
    let wanted =
        |line: &&str| !line.starts_with('#') && (line.contains("handshakes") || line.contains("hellos"));
    Ok(text.lines().filter(wanted).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_by_the_vehicles_that_are_there() {
        let usage = |resident_kib| Usage {
            resident_kib,
            resident_most_kib: resident_kib,
            cpu: 0.0,
            children_cpu: 0.0,
        };
        let of = |connected| per_vehicle(&usage(1_000), &usage(9_000), connected);
        assert_eq!((of(100), of(50), of(0)), (Some(80.0), Some(160.0), None));
    }
}
