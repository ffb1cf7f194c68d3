//! What a command costs in the cores: no network, no disk, no clock but the one that measures.

mod way;
mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use carriageway_transport::clock::BootClock;
use clap::Args;
use serde::Serialize;

use crate::stage::Stage;
use crate::stats::Spread;
use way::Way;

/// Measures what a command costs in the cores, journal and network aside
///
/// The cores that run in production (command records, sessions, executor) on one thread, over a wire that takes no
/// time, with memory in place of both disks: from an operator's request, parsed, to SUCCEEDED at the gateway. Beside
/// it, in turns, what the two sessions alone cost for one message each way. Rounds of each; printed are the median round's
/// microseconds per command and the least and most of all rounds.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Rounds of each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Commands in a round
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    commands: u32,
    /// Writes everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Rounds that are not counted: memory has grown to its size after them.
const WARM_UP: u32 = 2;

/// Microseconds.
#[derive(Debug, Serialize)]
struct Report {
    stage: Stage,
    rounds: u32,
    commands: u32,
    command_us: Spread,
    /// One message each way, as long as the last command and the last outcome.
    carriage_us: Spread,
    /// Keys that the vehicle remembered at the end.
    remembered: usize,
}

/// Measures, and writes what came of it.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let stage = Stage::now();
    let clock = BootClock::system()?;
    let (mut whole, mut bare) = (Way::new()?, Way::new()?);
    whole.command()?;
    let [down, up] = whole.sizes().map(|bytes| Bytes::from(vec![0x55; bytes]));
    let (mut command_us, mut carriage_us) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + options.rounds {
        let command = timed(&clock, options.commands, || whole.command())?;
        let carriage = timed(&clock, options.commands, || bare.carriage(&down, &up))?;
        if round >= WARM_UP {
            command_us.push(command);
            carriage_us.push(carriage);
        }
    }
    let none = "there is at least one round";
    let report = Report {
        stage,
        rounds: options.rounds,
        commands: options.commands,
        command_us: Spread::of(command_us).context(none)?,
        carriage_us: Spread::of(carriage_us).context(none)?,
        remembered: whole.remembered(),
    };
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report).context("the report is plain data")?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    write!(out, "{}", report.table()).context("cannot write the table")
}

/// Microseconds that one of `times` calls took.
fn timed(clock: &BootClock, times: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let began = clock.now();
    (0..times).try_for_each(|_| call())?;
    Ok(micros(clock.now().since(began)) / f64::from(times))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl Report {
    fn table(&self) -> String {
        let of = |Spread { least, median, most }: Spread| format!("{median:.1} ({least:.1} to {most:.1})");
        format!(
            "{}\n\n| {} rounds of {} | us each: median round (least to most) |\n| --- | --- |\n\
             | a command through the cores, to SUCCEEDED | {} |\n\
             | one message each way through the two sessions alone | {} |\n\n\
             keys that the vehicle remembers at the end: {}\n",
            self.stage.lines(),
            self.rounds,
            self.commands,
            of(self.command_us),
            of(self.carriage_us),
            self.remembered,
        )
    }
}
