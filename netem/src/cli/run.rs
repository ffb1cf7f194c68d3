//! `carriageway-netem run`: a command on the vehicle's side of an emulated link, others on the network's side.

mod child;
mod privilege;
mod remains;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::profile::{Path, Profile, units};
use carriageway_netem::testbed::report::Report;
use carriageway_netem::testbed::{Config, Namespace, SERVER, Testbed, vehicle_address};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::link::LinkArgs;
use super::{complain, note};
use child::Child;

const EXAMPLES: &str = "\
Examples:
  # What does a download over a bad cell look like?
  carriageway-netem run --profile lte-edge --seed 7 --net-side 'python3 -m http.server 8000' \\
      --wait-for tcp:8000 -- sh -c 'curl -o /dev/null http://$NETEM_SERVER:8000/file'
  # 2 Mbit/s, 60 ms round trip, 16 KiB of queue, with the fate of every packet
  carriageway-netem run --rate 2mbit --delay 30ms --queue 16KiB --log packets.csv -- ping -c 5 10.199.0.1
  # Two radios, three vehicles
  carriageway-netem run --path lte0=lte-good --path wlan0=clean --vehicles 3 -- ip route

Commands see NETEM_SERVER (the network's address), NETEM_VEHICLE (their own, on the first path),
NETEM_VEHICLE_ID (vehicle-1, ...), NETEM_PATHS and NETEM_SEED. The network side has 10.199.0.1.

Needs root, or a user namespace where /dev/net/tun is open to you. Namespaces have no names, so
nothing is left behind; processes that outlive a killed run are ended by the next one.

The exit code is the command's; 125 if the emulator failed, 124 if --strict and the run is not
valid, 127 if the command cannot be started.";

/// Exit code when the emulator itself failed, as `timeout` and `env` have it.
const OUR_FAULT: u8 = 125;
/// Exit code of a strict run that is not valid.
const NOT_VALID: u8 = 124;
/// How long endpoints may take to end after they were asked to.
const GRACE: Duration = Duration::from_secs(3);

/// Run a command on the vehicle's side of an emulated link
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    link: LinkArgs,
    /// Another network interface and the link behind it, best first; replaces --profile
    #[arg(long = "path", value_name = "NAME=PROFILE", conflicts_with = "profile")]
    paths: Vec<String>,
    /// How many vehicles; the command runs in each
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    vehicles: usize,
    /// A shell command on the network's side, ended with the run; may be repeated
    #[arg(long, value_name = "COMMAND")]
    net_side: Vec<String>,
    /// Start the vehicles once the network's side listens there; may be repeated
    #[arg(long, value_name = "tcp:PORT|udp:PORT", value_parser = child::Port::parse)]
    wait_for: Vec<child::Port>,
    /// End everything after this long
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    time_limit: Option<Duration>,
    /// Write the fate of every packet as CSV
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the run's account of itself as JSON: counters, lateness, CPU pressure, valid or not
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run the emulator's thread with real-time priority: exact even on a busy machine
    #[arg(long)]
    realtime: bool,
    /// Exit with 124 if the run is not valid
    #[arg(long)]
    strict: bool,
    /// What runs in each vehicle
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    match attempt(args) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(OUR_FAULT)
        }
    }
}

/// Replaces this process by a command that dies with its parent; how `run` starts its endpoints.
pub(super) fn enter(command: &[OsString]) -> anyhow::Error {
    child::enter(command)
}

fn attempt(args: &Args) -> anyhow::Result<ExitCode> {
    remains::sweep();
    privilege::acquire()?;
    let bed = Testbed::start(config(args)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut children = Children::default();
    let code = runtime.block_on(drive(args, &bed, &mut children));
    // Endpoints end before the link: a TCP connection whose link has vanished hangs.
    runtime.block_on(children.end());
    let report = bed.report()?;
    tell(args, &report)?;
    bed.stop()?;
    let code = code?;
    Ok(if args.strict && !report.is_valid() && code == 0 { NOT_VALID } else { code }.into())
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut config = Config::scenario(args.link.scenario()?).vehicles(args.vehicles).seed(args.link.seed);
    if !args.paths.is_empty() {
        config.scenario.paths =
            args.paths.iter().map(|text| path(text, args)).collect::<anyhow::Result<_>>()?;
    }
    config.log.clone_from(&args.log);
    config.realtime = args.realtime;
    Ok(config)
}

fn path(text: &str, args: &Args) -> anyhow::Result<Path> {
    let (name, profile) = text
        .split_once('=')
        .with_context(|| format!("--path {text}: write NAME=PROFILE, like lte0=lte-good"))?;
    Ok(Path { name: name.into(), profile: args.link.change(Profile::find(profile)?)? })
}

/// The processes of a run.
#[derive(Default)]
struct Children {
    net_side: Vec<Child>,
    vehicles: Vec<Child>,
}

impl Children {
    /// Ends them and everything that they started.
    async fn end(self) {
        remains::end_own(GRACE).await;
        for mut child in self.vehicles.into_iter().chain(self.net_side) {
            // Already gone, as a rule; one that was just becoming another program was not seen.
            let _ = child.kill().await;
        }
    }
}

/// Runs all commands; gives the exit code of the first vehicle that failed.
async fn drive(args: &Args, bed: &Testbed, children: &mut Children) -> anyhow::Result<u8> {
    let Children { net_side, vehicles } = children;
    for command in &args.net_side {
        let words = ["sh".into(), "-c".into(), OsString::from(command)];
        net_side.push(start(bed, bed.net(), 0, &words).with_context(|| format!("--net-side {command}"))?);
    }
    for port in &args.wait_for {
        child::listening(bed.net(), *port, net_side).await?;
    }
    for number in 0..args.vehicles {
        let child = start(bed, bed.vehicle(number), number, &args.command);
        vehicles.push(child.with_context(|| args.command[0].display().to_string())?);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let limit = async {
        match args.time_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        code = all_end(vehicles) => code,
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
        () = limit => Ok(0),
    }
}

fn start(bed: &Testbed, side: &Namespace, vehicle: usize, command: &[OsString]) -> anyhow::Result<Child> {
    let paths: Vec<_> = bed.config().scenario.paths.iter().map(|path| path.name.as_str()).collect();
    let environment = [
        ("NETEM_SERVER", SERVER.to_string()),
        ("NETEM_VEHICLE", vehicle_address(vehicle, 0).to_string()),
        ("NETEM_VEHICLE_ID", format!("vehicle-{}", vehicle + 1)),
        ("NETEM_PATHS", paths.join(" ")),
        ("NETEM_SEED", bed.config().seed.0.to_string()),
        remains::mark(),
    ];
    child::start(side, command, &environment)
}

async fn all_end(children: &mut [Child]) -> anyhow::Result<u8> {
    let mut first_failure = 0;
    for child in children {
        let code = child::code(child.wait().await?);
        first_failure = if first_failure == 0 { code } else { first_failure };
    }
    Ok(first_failure)
}

fn tell(args: &Args, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = &args.report {
        fs::write(path, format!("{:#}\n", report.json()))
            .with_context(|| format!("--report {}", path.display()))?;
    }
    for fault in report.faults() {
        note(&format!("this run is not valid: {fault}"));
    }
    Ok(())
}
