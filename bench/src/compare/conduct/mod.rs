//! Runs a plan: its cells one after the other, each in a process of its own, until each has a run that counts or was void as often
//! as may be.

mod cells;
mod child;
mod folder;
pub mod list;
mod progress;
mod standing;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use carriageway_netem::clock;
use carriageway_netem::profile::Scenario;
use carriageway_netem::testbed::{Config, StartError, Testbed};
use clap::Args;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::analyse::analyse;
use super::cell::{AFTER, Cost, Outcome, SETTLE, Spec, Task, Traffic, write_samples};
use super::plan::{Found, Known, Plan};
use super::report;
use super::subjects;
use super::workload::Shed;
use crate::say;
use crate::stage::{Origin, Stage};
pub use cells::{Selection, expand};
pub(super) use child::die_with;
use child::{Ended, Interrupts};
use folder::Folder;
use progress::{Progress, Tally, about};
pub use standing::{ATTEMPTS, Alien, Past, Standing, standing};

/// What a cell may take beyond its workload and the time before and after; then it hangs. A gateway may take half of it to listen.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs a plan: every subject on the same link, under the same load, in the same weather
///
///   carriageway-bench run quick                              a first look, under ten minutes
///   carriageway-bench run plans/drive.toml --out results/drive
///   carriageway-bench run drive --jobs 4                     four cells at a time, in a quarter of the time
///   carriageway-bench run drive --link tunnel --blocks 2     a part of it; the rest may follow later
///   carriageway-bench run drive --trace lte.up:lte.down      recorded capacity, in mahimahi's format
///
/// `carriageway-bench list` shows plans and subjects. In a block all subjects run back to back on each
/// link, in random order, with the reference a second time (A/A: what chance and machine do) and the
/// floor (no files: what the link itself does). The seed of a block and a link is
/// (first-seed + block - 1) x 1000 + the link's place in the plan, counted from 0; it draws weather,
/// load and order.
///
/// Runs are kept in DIR/cells, the plan in DIR/plan.toml. The same command again goes on where it was
/// stopped: cells that count are not run twice, and a plan that differs from the folder's is refused.
/// What is run at another time than the rest of its block is no longer back to back with it.
///
/// A run is void by a rule that was fixed before any run: emulator or workload late, packets dropped by
/// a device, processors under pressure (see netem's README), or no outcome in time. A void run is
/// repeated at once, twice at most; it is kept and listed, and never counts.
///
/// Needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN, for namespaces and TUN devices; a plan with
/// `virtual = true` needs neither.
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// A plan that comes with the program, or the path of a .toml file
    plan: String,
    /// Where the results go; results/PLAN unless said otherwise
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Recorded capacity for every link in place of its own: the files of up and down. Links are called after the first
    #[arg(long, value_name = "UP:DOWN", value_parser = trace)]
    trace: Option<[PathBuf; 2]>,
    /// Only the first N blocks now
    #[arg(long, value_name = "N")]
    blocks: Option<u32>,
    /// Only this subject now, beside reference and floor; may be repeated
    #[arg(long = "subject", value_name = "NAME")]
    subjects: Vec<String>,
    /// Only this link now; may be repeated
    #[arg(long = "link", value_name = "NAME")]
    links: Vec<String>,
    /// How many cells run at the same time, neighbours in the plan's order; each has a link of its own, and shares the processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Without SCHED_FIFO for the emulator, which is then late more often on a busy machine
    #[arg(long)]
    no_realtime: bool,
}

fn trace(text: &str) -> Result<[PathBuf; 2], String> {
    let (up, down) = text.split_once(':').ok_or("name two files, as in lte.up:lte.down")?;
    if up.is_empty() || down.is_empty() {
        return Err("name two files, as in lte.up:lte.down".into());
    }
    Ok([up.into(), down.into()])
}

/// Runs the plan, or what of it is still to be done, and says what came of it.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let found = Found::find(&options.plan)?;
    let written = found.plan(&Known::here())?;
    let plan = changed(options, &written)?;
    let selection = Selection {
        blocks: options.blocks,
        subjects: options.subjects.clone(),
        links: options.links.iter().map(|name| renamed(name, &written, &plan)).collect(),
    };
    selection.check(&plan)?;
    let root = options.out.clone().unwrap_or_else(|| default_folder(&found.name, options.trace.as_ref()));
    let folder = Folder::open(&root, &plan, &found.text)?;
    let mut wanted = expand(&plan, &folder.cells(), !options.no_realtime);
    wanted.retain(|cell| selection.wants(&plan, cell));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(conduct(&plan, &folder, &wanted, options.jobs))?;
    let tally = tally(&plan, &wanted)?;
    write!(out, "{}", tally.text()).context("cannot write the summary")?;
    ensure!(tally.valid() > 0, "no run counts, so that there is nothing to report; {QUIETER}");
    write_report(&folder, out)
}

/// What helps where runs are void.
const QUIETER: &str = "let nothing else work on this machine and run the plan into another folder";

/// What follows when all cells are there.
fn write_report(folder: &Folder, out: &mut dyn Write) -> Result<()> {
    let place = report::write(&analyse(folder.root())?, folder.root())?;
    writeln!(out, "report: {}", place.join("index.html").display()).context("cannot write the summary")
}

/// The plan as the command line changes it, with whole paths.
fn changed(options: &Options, written: &Plan) -> Result<Plan> {
    let here = std::env::current_dir().context("cannot tell where this is")?;
    let plan = written.clone().located(&here);
    let Some(trace) = &options.trace else { return Ok(plan) };
    let plan = plan.on_trace(trace).located(&here);
    match plan.check(&Known::here()).first() {
        Some(complaint) => bail!("--trace: {}", complaint.message),
        None => Ok(plan),
    }
}

/// What a link of the plan as it is written is called as it is run.
fn renamed(name: &str, written: &Plan, run: &Plan) -> String {
    let place = written.link.iter().position(|link| link.name() == name);
    place.map_or(name, |place| run.link[place].name()).to_owned()
}

fn default_folder(plan: &str, trace: Option<&[PathBuf; 2]>) -> PathBuf {
    let recorded =
        trace.and_then(|[up, _]| up.file_stem()).map(|stem| format!("-{}", stem.to_string_lossy()));
    Path::new("results").join(format!("{plan}{}", recorded.unwrap_or_default()))
}

/// Runs all cells that have no run that counts.
async fn conduct(plan: &Plan, folder: &Folder, wanted: &[Spec], jobs: u8) -> Result<()> {
    // All of them before the first runs: what the folder holds of something else is found at once.
    let mut left = Vec::new();
    for cell in wanted {
        if let Standing::Next(_) = standing(cell, &folder::past(cell)?)? {
            left.push(cell);
        }
    }
    if let (Some(cell), false) = (left.first(), plan.is_virtual) {
        permitted(cell.realtime)?;
    }
    let mut progress = Progress::new(left.len(), plan.cell_time(), jobs, clock::now());
    say(&format!(
        "{}: {} of {} cells to run, about {}; results in {}",
        plan.title,
        left.len(),
        wanted.len(),
        about(progress.left()),
        folder.root().display()
    ));
    let origin = Origin::own();
    // In the order of the plan: those that run at the same time are neighbours in it.
    let runs = left.into_iter().map(|cell| Ok(run_cell(cell, &origin, Interrupts::listen()?)));
    // Each listens before the first runs, so that none begins after an interrupt.
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let mut runs = stream::iter(runs).buffer_unordered(jobs.into());
    while let Some(told) = runs.try_next().await? {
        progress.cell_ended(clock::now());
        say(&format!("{} {told} ({} left)", progress.place(), about(progress.left())));
    }
    Ok(())
}

/// Runs a cell until it counts, or was void as often as may be, and says what came of it.
async fn run_cell(cell: &Spec, origin: &Origin, mut interrupts: Interrupts) -> Result<String> {
    let mut told = String::new();
    while let Standing::Next(attempt) = standing(cell, &folder::past(cell)?)? {
        if !told.is_empty() {
            say(&told);
        }
        let task = Task { spec: Spec { attempt, ..cell.clone() }, origin: origin.clone() };
        let spec = &task.spec;
        let limit = SETTLE + spec.workload.length() + AFTER + PATIENCE;
        let void = |fault| void(&task, fault);
        let outcome = match child::run(&task, limit, &mut interrupts).await? {
            Ended::Well => folder::read(spec)?.map_or_else(|| void("the run left no outcome".into()), Ok)?,
            Ended::Badly(why) => void(why)?,
            Ended::Interrupted => bail!("interrupted; the same command goes on with {}", spec.name),
        };
        told = format!("{}: {}", spec.name, progress::line(&outcome, ATTEMPTS));
    }
    Ok(told)
}

/// Writes down that a run came to nothing, which is a fault of the run.
fn void(Task { spec, origin }: &Task, fault: String) -> Result<Outcome> {
    let outcome = Outcome {
        spec: spec.clone(),
        facts: subjects::named(&spec.subject)?.facts(),
        stage: Stage::of(origin.clone()),
        notes: Vec::new(),
        faults: vec![fault],
        failures: Vec::new(),
        connected_ms: None,
        shed: [Shed::default(); 2],
        cost: Cost::default(),
        traffic: [Traffic::default(); 2],
        rival: Vec::new(),
        link_sha256: String::new(),
        netem: Value::Null,
    };
    write_samples(&spec.samples(), &[])?;
    let json = serde_json::to_string_pretty(&outcome).context("an outcome is plain data")?;
    let path = spec.outcome();
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(outcome)
}

fn tally(plan: &Plan, wanted: &[Spec]) -> Result<Tally> {
    let mut tally = Tally::new(plan.cells());
    for cell in wanted {
        tally.add(&cell.name, &folder::outcomes(cell)?);
    }
    Ok(tally)
}

/// Whether this machine lets us make what a cell needs, and what to do where it does not.
fn permitted(realtime: bool) -> Result<()> {
    let mut config = Config::scenario(Scenario::find("clean")?);
    config.realtime = realtime;
    match Testbed::prepare(config) {
        Ok(_prepared) => Ok(()),
        Err(StartError::Permission { what, why }) => Err(anyhow!(
            "{what}: {why}; the link needs network namespaces and a TUN device: run as root, or write `virtual = true` into the \
             plan, which needs neither"
        )),
        Err(StartError::NoTun) => Err(anyhow!(
            "/dev/net/tun does not exist; load it with `modprobe tun` as root, or write `virtual = true` into the plan, which \
             needs no link of the kernel's"
        )),
        Err(error) if realtime => {
            Err(anyhow!(error).context("with --no-realtime this may go, and more runs be void"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
