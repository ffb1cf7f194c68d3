//! `carriageway-netem plot`: a packet log, or a profile in virtual time, as SVG.

mod samples;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::Rate;
use carriageway_netem::profile::units;
use clap::Parser;

use super::link::LinkArgs;
use samples::{Mark, Sample};

const EXAMPLES: &str = "\
Examples:
  # What happened in a run
  carriageway-netem run --profile tunnel --log packets.csv -- ./drive
  carriageway-netem plot --log packets.csv --output drive.svg
  # What a profile is like, in virtual time: 100 bytes at 50 Hz beside 4 Mbit/s of full packets
  carriageway-netem plot --profile lte-edge --seed 7 --offer 4mbit --time 60s --output lte-edge.svg";

/// Draw rate, queue, delay and drops over time as SVG
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The packet log of a run; without it the link is simulated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["profile", "offer"])]
    log: Option<PathBuf>,
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
    let (title, samples, events) = match &args.log {
        Some(path) => logged(path)?,
        None => simulated(args)?,
    };
    anyhow::ensure!(!samples.is_empty(), "there is no packet to draw");
    let drawing = svg::draw(&title, &samples, &events);
    fs::write(&args.output, drawing).with_context(|| format!("--output {}", args.output.display()))
}

fn logged(path: &Path) -> anyhow::Result<(String, Vec<Sample>, Vec<Mark>)> {
    let text = fs::read_to_string(path).with_context(|| format!("--log {}", path.display()))?;
    let samples = samples::from_log(&text).with_context(|| path.display().to_string())?;
    Ok((path.display().to_string(), samples, Vec::new()))
}

fn simulated(args: &Args) -> anyhow::Result<(String, Vec<Sample>, Vec<Mark>)> {
    let (scenario, seed) = (args.link.scenario()?, args.link.seed);
    let link = &scenario.paths[LinkArgs::one_path(&scenario)?].profile;
    let samples = samples::simulate(link, seed, args.offer, args.time);
    let title = format!("{}: {} (seed {seed})", link.name, scenario.summary);
    Ok((title, samples, samples::events(&scenario, args.time)))
}
