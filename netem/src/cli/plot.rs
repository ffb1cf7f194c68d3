//! `carriageway-netem plot`: a packet log, or a profile in virtual time, as SVG.

mod curves;
mod marks;
mod samples;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{Direction, Rate};
use carriageway_netem::profile::units;
use clap::Parser;

use super::link::LinkArgs;
use curves::Curves;
use samples::{End, Sample};
use svg::Drawing;

const EXAMPLES: &str = "\
Examples:
  # What happened in a run
  carriageway-netem run --profile tunnel --log packets.csv --report run.json -- ./drive
  carriageway-netem plot --log packets.csv --report run.json --output drive.svg
  # Of a run with several vehicles and paths, one
  carriageway-netem plot --log packets.csv --vehicle 2 --on wlan0 --output wlan0.svg
  # What a profile is like, in virtual time: 100 bytes at 50 Hz beside 4 Mbit/s of full packets
  carriageway-netem plot --profile lte-edge --seed 7 --offer 4mbit --time 60s --output lte-edge.svg";

/// Draw rate, queue, delay, drops by cause, and events over time as SVG
///
/// A simulated sender does not react: NAT rebindings and what happens to interfaces are drawn, but do not change its packets.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The packet log of a run; without it the link is simulated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["profile", "offer"])]
    log: Option<PathBuf>,
    /// The report of that run, for its events and outages
    #[arg(long, value_name = "FILE", requires = "log")]
    report: Option<PathBuf>,
    /// The vehicle, counted from 1, where the log has several; --on chooses the path
    #[arg(long, value_name = "NUMBER", requires = "log")]
    vehicle: Option<usize>,
    #[command(flatten)]
    link: LinkArgs,
    /// Bulk that is offered to a simulated link, beside 100 bytes at 50 Hz
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    offer: Option<Rate>,
    /// How long the simulated link runs
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = units::duration)]
    time: Duration,
    /// Where the drawing goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let drawing = match &args.log {
        Some(path) => logged(args, path)?,
        None => simulated(args)?,
    };
    fs::write(&args.output, drawing.svg()).with_context(|| format!("--output {}", args.output.display()))
}

fn logged(args: &Args, path: &Path) -> anyhow::Result<Drawing> {
    let text = fs::read_to_string(path).with_context(|| format!("--log {}", path.display()))?;
    let wire = samples::from_log(&text, args.vehicle, args.link.on.as_deref());
    let ((vehicle, name), samples) = wire.with_context(|| path.display().to_string())?;
    let marks = match &args.report {
        None => Vec::new(),
        Some(report) => {
            let place = || format!("--report {}", report.display());
            let text = fs::read_to_string(report).with_context(place)?;
            let report = serde_json::from_str(&text).with_context(place)?;
            marks::of_report(&report, &name).with_context(place)?
        }
    };
    let title = format!("{}: vehicle {vehicle}, {name}", path.display());
    let span = samples.iter().map(end_of).fold(f64::MIN_POSITIVE, f64::max);
    Ok(Drawing { title, span, curves: curves(&samples, span), marks })
}

fn simulated(args: &Args) -> anyhow::Result<Drawing> {
    let (scenario, seed) = (args.link.scenario()?, args.link.seed);
    let link = &scenario.paths[LinkArgs::one_path(&scenario)?].profile;
    anyhow::ensure!(!args.time.is_zero(), "--time: nothing happens in no time");
    let title = format!("{}: {} (seed {seed})", link.name, scenario.summary);
    let samples = samples::simulate(&scenario, seed, args.offer, args.time);
    let span = args.time.as_secs_f64();
    let marks = marks::of_scenario(&scenario, args.time);
    Ok(Drawing { title, span, curves: curves(&samples, span), marks })
}

fn curves(samples: &[Sample], span: f64) -> [(Direction, Curves); 2] {
    Direction::BOTH.map(|direction| {
        let mine: Vec<_> = samples.iter().filter(|sample| sample.direction == direction).collect();
        (direction, Curves::of(&mine, span))
    })
}

const fn end_of(sample: &Sample) -> f64 {
    match sample.end {
        End::Delivered { due, .. } => due,
        End::Dropped { at, .. } => at,
    }
}
