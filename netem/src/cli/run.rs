//! `carriageway-netem run`: a command on the vehicle's side of an emulated link, others on the network's side.

mod child;
mod crew;
mod keeper;
mod privilege;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::clock;
use carriageway_netem::profile::{Path, Profile, units};
use carriageway_netem::testbed::report::Report;
use carriageway_netem::testbed::{Config, Prepared, Testbed};
use clap::Parser;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::link::{self, LinkArgs};
use super::{complain, note};
use crew::Crew;

const EXAMPLES: &str = "\
Examples:
  # What does a download over a bad cell look like?
  carriageway-netem run --profile lte-edge --seed 7 --net-side 'python3 -m http.server 8000' \\
      --wait-for tcp:8000 -- sh -c 'curl -o /dev/null http://$NETEM_SERVER:8000/file'
  # 2 Mbit/s, 60 ms round trip, 16 KiB of queue, with the fate of every packet
  carriageway-netem run --rate 2mbit --delay 30ms --queue 16KiB --log packets.csv \\
      --net-side 'python3 -m http.server 8000' --wait-for tcp:8000 -- curl -o /dev/null http://10.199.0.1:8000/
  # Two radios, three vehicles
  carriageway-netem run --path lte0=lte-good --path wlan0=clean --vehicles 3 -- ip route

Commands see NETEM_SERVER (the network's address), NETEM_VEHICLE (their own, on the first path),
NETEM_VEHICLE_ID (vehicle-1, ...), NETEM_PATHS and NETEM_SEED. The network side has 10.199.0.1.
The clock of the links and of the scenario starts when the vehicles' commands are released, behind
--net-side and --wait-for; those commands find it in NETEM_START_NS (CLOCK_MONOTONIC).

Needs root, or a user namespace where /dev/net/tun is open to you. Namespaces have no names and
end with the run, and all commands with them, however the run ends.

The exit code is the command's; 123 if --strict and the run is not valid, 124 if --time-limit ended
it, 125 if the emulator failed, 127 if the command cannot be started, 128 + the signal's number if
a signal ended it.";

/// Exit code of a strict run that is not valid.
const NOT_VALID: u8 = 123;
/// Exit code when the time was up, as `timeout` has it.
const TIME_IS_UP: u8 = 124;
/// Exit code when the emulator itself failed, as `timeout` and `env` have it.
const OUR_FAULT: u8 = 125;

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
    /// End everything this long after the start, with 124
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    time_limit: Option<Duration>,
    /// Write the fate of every packet as CSV
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the run's account of itself as JSON: counters, lateness, what was run, valid or not
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run the emulator's thread with real-time priority, on processors kept from sleeping where that is allowed: exact even on a busy machine
    #[arg(long)]
    realtime: bool,
    /// Exit with 123 if the run is not valid
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

/// Replaces this process by a command; how `run` starts its endpoints.
pub(super) fn enter(gate: Option<i32>, command: &[OsString]) -> anyhow::Error {
    child::enter(gate, command)
}

/// Keeps the endpoints of a run together.
pub(super) fn keep() -> anyhow::Result<()> {
    Ok(keeper::keep()?)
}

fn attempt(args: &Args) -> anyhow::Result<ExitCode> {
    privilege::acquire()?;
    let report = args.report.as_ref().map(|path| {
        File::create(path).with_context(|| format!("--report {}: cannot be written", path.display()))
    });
    let report = report.transpose()?;
    let prepared = Testbed::prepare(config(args)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(conduct(args, prepared, report))?;
    Ok(code.into())
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

/// How a run can be ended from outside.
struct Interrupts([(Signal, u8); 3]);

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        // 128 and the signal's number, as shells have it.
        let listen = |kind: SignalKind| std::io::Result::Ok((signal(kind)?, 128 + kind.as_raw_value() as u8));
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
        let [hangup, interrupt, terminate] = kinds.map(listen);
        Ok(Self([hangup?, interrupt?, terminate?]))
    }

    /// The exit code for the signal that came.
    async fn next(&mut self) -> u8 {
        let [hangup, interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = hangup.0.recv() => hangup.1,
            _ = interrupt.0.recv() => interrupt.1,
            _ = terminate.0.recv() => terminate.1,
        }
    }
}

/// The whole run; gives its exit code.
async fn conduct(args: &Args, prepared: Prepared, report: Option<File>) -> anyhow::Result<u8> {
    // Before the first child, so that no signal finds one without anybody who ends it.
    let mut interrupts = Interrupts::new()?;
    let mut crew = Crew::new()?;
    let gathered = tokio::select! {
        gathered = crew.gather(args, &prepared) => gathered,
        code = interrupts.next() => {
            crew.end().await;
            note("the run was ended before it began");
            return Ok(code);
        }
    };
    let begun = gathered.and_then(|gate| {
        let bed = prepared.begin()?;
        gate.open(args.vehicles, bed.started())?;
        Ok((clock::now().since(bed.started()), bed))
    });
    let (released, bed) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            crew.end().await;
            return Err(error);
        }
    };
    let limit = async {
        match args.time_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let code = tokio::select! {
        code = crew.drive(bed.started()) => code,
        code = interrupts.next() => Ok(code),
        () = limit => Ok(TIME_IS_UP),
    };
    // Endpoints end before the link: a TCP connection whose link has vanished hangs.
    let net_side = crew.end().await;
    let run = json!({
        "arguments": std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "files": files(args),
        "vehicles_released_us": released.as_micros() as u64,
        "exit_code": code.as_ref().ok(),
    });
    let written = bed.close_log().context("--log");
    let mut account = bed.report()?;
    if let Err(error) = &written {
        account = account.with_fault(format!("the packet log is not whole: {error:#}"));
    }
    let account = tell(report, account, run, &net_side)?;
    written?;
    bed.stop()?;
    let code = code?;
    Ok(if args.strict && !account.is_valid() && code == 0 { NOT_VALID } else { code })
}

/// The texts that the links come from, with their digests.
fn files(args: &Args) -> Vec<Value> {
    let paths = args.paths.iter().filter_map(|path| path.split_once('='));
    args.link.files().into_iter().chain(paths.map(|(_, profile)| link::digest(profile))).collect()
}

/// Writes the report and says why the run is not to be trusted.
fn tell(file: Option<File>, report: Report, run: Value, net_side: &[crew::Ended]) -> anyhow::Result<Report> {
    let mut report =
        report.with("run", run).with("net_side", net_side.iter().map(crew::Ended::json).collect());
    for fault in net_side.iter().filter_map(crew::Ended::fault) {
        report = report.with_fault(fault);
    }
    if let Some(mut file) = file {
        writeln!(file, "{:#}", report.json()).context("--report: cannot be written")?;
    }
    for fault in report.faults() {
        note(&format!("this run is not valid: {fault}"));
    }
    Ok(report)
}
