//! What a saturating upload does to commands and signals on a narrow link.
//!
//! A cell is one transport, one queue, one load and one seed: a fresh testbed, gateway and agent. Idle and
//! bulk differ in nothing but the upload.

mod bed;
mod cell;
mod load;
mod report;
mod sides;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use carriageway_netem::profile::units;
use carriageway_transport::quic::Congestion;
use clap::Args;
use serde::Serialize;

use crate::say;
use crate::shuffle::shuffle;
use crate::stage::Stage;
use cell::{Cell, Measured};
use report::Report;

/// What a saturating upload does to commands and signals on a narrow link
///
/// Runs gateway and agent in network namespaces with an emulated link between them (2 Mbit/s, 30 ms each way
/// unless told otherwise) for each of {QUIC, WebSocket} x {idle, bulk} x queues x seeds, interleaved. Commands of
/// class body come over the HTTP API as a Poisson process, whether or not earlier ones have been answered; a
/// command's latency counts from its scheduled moment to the answer with the vehicle's outcome. Every look at the
/// vehicle's signals (20 Hz) carries its moment, which is compared with the gateway's clock, the same one, when the
/// value shows there.
///
/// Needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN. Without, a relay in user space stands in: QUIC's figures are as
/// good, WebSocket's are not, and every table says so. On a machine with other work put `chrt -f 10` before the
/// command. A run in which the emulator was late is void, repeated twice
/// at most, and never counted.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Three seconds a cell and one seed: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Seconds measured in each cell, after three of warming up
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seeds of link, vehicle and arrivals: 1 to N
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Commands per second, mean of a Poisson process
    #[arg(long, value_name = "HZ", default_value_t = 10.0, value_parser = positive)]
    commands: f64,
    /// The link's rate, either way
    #[arg(long, default_value = "2 Mbit/s")]
    rate: String,
    /// The link's delay, one way
    #[arg(long, default_value = "30 ms")]
    delay: String,
    /// The link's queue, either way; may be repeated. The targets hold at 16 KiB
    #[arg(long = "queue", value_name = "SIZE", default_values = ["16 KiB", "250 KiB"])]
    queues: Vec<String>,
    /// Only this transport: quic or websocket
    #[arg(long, value_name = "NAME")]
    transport: Option<Transport>,
    /// QUIC's congestion controller: cubic, newreno or bbr. TCP's is the kernel's, read back
    #[arg(long, default_value = "cubic")]
    congestion: Congestion,
    /// Writes everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes results.json and each cell's raw samples as CSV into a directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use the relay in user space even where a testbed is permitted
    #[arg(long)]
    relay: bool,
}

/// A cell is run so often until it is valid.
const ATTEMPTS: u32 = 3;

/// What carries the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Transport {
    Quic,
    #[value(name = "websocket")]
    WebSocket,
}

impl Transport {
    const fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// What the bulk lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Load {
    Idle,
    Bulk,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Bulk => "bulk",
        }
    }
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Point {
    transport: Transport,
    queue: String,
    load: Load,
    seed: u64,
}

impl Point {
    fn name(&self) -> String {
        let Self { transport, queue, load, seed } = self;
        format!("{}-{}-{}-{seed}", transport.name(), queue.replace(' ', ""), load.name()).to_lowercase()
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number > 0.0 && number <= 1_000.0 {
        Ok(number)
    } else {
        Err("must be above 0 and at most 1000".into())
    }
}

impl Options {
    fn seconds(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { self.seconds })
    }

    /// The matrix. Idle and bulk of one seed lie close together; the order within a seed is drawn from it.
    fn points(&self) -> Vec<Point> {
        let transports = match self.transport {
            Some(transport) => vec![transport],
            None => vec![Transport::Quic, Transport::WebSocket],
        };
        let mut points = Vec::new();
        for seed in 1..=if self.quick { 1 } else { self.seeds } {
            let mut round = Vec::new();
            for transport in &transports {
                for queue in &self.queues {
                    for load in [Load::Idle, Load::Bulk] {
                        round.push(Point { transport: *transport, queue: queue.clone(), load, seed });
                    }
                }
            }
            shuffle(&mut round, seed);
            points.extend(round);
        }
        points
    }

    fn check(&self) -> Result<()> {
        let wrong = |why: String| anyhow::anyhow!(why);
        units::rate(&self.rate).map_err(wrong).context("--rate")?;
        units::duration(&self.delay).map_err(wrong).context("--delay")?;
        for queue in &self.queues {
            units::limit(queue).map_err(wrong).context("--queue")?;
        }
        ensure!(!self.queues.is_empty(), "--queue: name at least one");
        Ok(())
    }
}

/// Runs the matrix and writes the table.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    options.check()?;
    let stage = Stage::now();
    if let Some(folder) = &options.out {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let points = options.points();
    let each = options.seconds() + cell::WARM_UP + Duration::from_secs(2);
    say(&format!(
        "{} cells of {} s: about {} s",
        points.len(),
        options.seconds().as_secs(),
        each.as_secs() * points.len() as u64
    ));
    let mut cells = Vec::new();
    let count = points.len();
    for (index, point) in points.into_iter().enumerate() {
        let label = format!("[{}/{count}] {}", index + 1, point.name());
        for attempt in 1..=ATTEMPTS {
            let cell = measure(options, &point, attempt, &label)?;
            let is_valid = cell.is_valid();
            cells.push(cell);
            if is_valid {
                break;
            }
        }
    }
    let report = Report::new(stage, options, cells);
    finish(&report, options, out)
}

fn measure(options: &Options, point: &Point, attempt: u32, label: &str) -> Result<Cell> {
    let Measured { cell, samples } = cell::measure(options, point, attempt).with_context(|| point.name())?;
    say(&format!("{label}: {}", cell.line()));
    if let Some(folder) = &options.out {
        samples.write(folder, &format!("{}-{attempt}", point.name()))?;
    }
    Ok(cell)
}

fn finish(report: &Report, options: &Options, out: &mut dyn Write) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("the report is plain data")?;
    let files =
        options.json.iter().cloned().chain(options.out.iter().map(|folder| folder.join("results.json")));
    for file in files {
        fs::write(&file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    write!(out, "{}", report.table()).context("cannot write the table")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::try_parse_from(line.split_whitespace()).unwrap().options
    }

    #[test]
    fn every_seed_has_the_whole_matrix_and_idle_beside_bulk() {
        let points = options("lanes --seeds 3").points();
        assert_eq!(points.len(), 2 * 2 * 2 * 3);
        for seed in 1..=3 {
            let round: Vec<_> = points.iter().filter(|point| point.seed == seed).collect();
            assert_eq!(round.iter().filter(|point| point.load == Load::Idle).count(), 4);
        }
        assert_eq!(points, options("lanes --seeds 3").points(), "the order follows from the seeds");
        let mut unique = points.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), points.len());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(options("lanes").check().is_ok());
        assert!(options("lanes --rate fast").check().is_err());
        assert!(options("lanes --queue 7").check().is_err());
        for line in ["lanes --commands 0", "lanes --commands x", "lanes --seeds 0", "lanes --congestion reno"]
        {
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }

    #[test]
    fn names_are_good_for_files() {
        let point = Point { transport: Transport::Quic, queue: "16 KiB".into(), load: Load::Bulk, seed: 2 };
        assert_eq!(point.name(), "quic-16kib-bulk-2");
    }
}
