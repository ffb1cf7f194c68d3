//! One run of one subject on one link: a process of its own, so that what it takes of the machine can be told apart.

mod bed;
mod rival;
mod samples;
mod spec;

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Folder;
use carriageway_netem::clock;
use carriageway_netem::testbed::{self, SERVER, Testbed};
use clap::Args;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use self::rival::Rival;
use super::conduct::die_with;
use super::subjects::{self, End, Notes, Papers, Reach, Subject, VEHICLE, Work};
use super::timeline::Timeline;
use super::virtual_time::{self, Place};
use super::workload::{Ear, Feed, Hand, HandAccount};
use crate::stage::Stage;
use crate::usage::Usage;
pub(super) use bed::{digest, scenario};
pub use samples::{read as read_samples, write as write_samples};
pub use spec::{Cost, Link, Outcome, Side, Spec, Task, Traffic, late_once_ms};

/// From the start of the link to the start of the workload. Everybody meets the same weather then, however long the
/// handshake took.
pub const SETTLE: Duration = Duration::from_secs(4);

/// After the workload: what is under way may still arrive.
pub const AFTER: Duration = Duration::from_secs(3);

/// A gateway that does not listen within this has failed.
const LISTENS: Duration = Duration::from_secs(20);

/// An end that does not stop within this is left to the end of the process: what it has heard is known by then.
const STOPS: Duration = Duration::from_secs(5);

/// How late the thread of the workload may be: what it says late no subject can deliver in time.
const HAND_P99_LIMIT: Duration = Duration::from_millis(1);
/// Once, beyond what the emulator may be: it is an ordinary thread.
const HAND_WORST_EXCESS: Duration = Duration::from_millis(10);

/// Runs one cell in this process; the conductor starts it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// What to run, and for whom, as JSON
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// The process that conducts: this one ends with it
    #[arg(long, value_name = "ID")]
    parent: Option<u32>,
}

/// Runs the cell and writes its outcome and samples where the spec says.
pub fn run(options: &Options) -> Result<()> {
    options.parent.map_or(Ok(()), die_with)?;
    let text = fs::read_to_string(&options.task)
        .with_context(|| format!("cannot read {}", options.task.display()))?;
    let Task { spec, origin } = serde_json::from_str(&text).context("the task is broken")?;
    let stage = Stage::of(origin);
    let (outcome, heard) = if spec.is_virtual { virtual_time::measure(&spec)? } else { measure(&spec)? };
    let outcome = Outcome { stage, ..outcome };
    write_samples(&spec.samples(), &heard)?;
    let json = serde_json::to_string_pretty(&outcome).context("an outcome is plain data")?;
    let path = spec.outcome();
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

/// What one end is made of.
struct Crew {
    thread: JoinHandle<Result<()>>,
    ready: mpsc::Receiver<Reach>,
    ended: std::sync::mpsc::Receiver<()>,
}

/// What came of it, but for where and by what.
fn measure(spec: &Spec) -> Result<(Outcome, Vec<super::workload::Heard>)> {
    let subject: &'static dyn Subject = Box::leak(subjects::named(&spec.subject)?);
    let facts = subject.facts();
    let place = TempDir::new().context("cannot make a temporary directory")?;
    let papers = papers(&place)?;
    let config = bed::config(spec)?;
    let prepared = Testbed::prepare(config)?;
    let before = Usage::read(std::process::id())?;
    let notes = Notes::default();
    let (stop, stopped) = watch::channel(false);
    let timeline = Timeline::not_yet();
    let (up, down) = (Feed::new(facts.manner), Feed::new(facts.manner));
    let end = |feed: &Feed, ready| End {
        feed: feed.clone(),
        ear: Ear::new(timeline.clone(), feed.clone()),
        papers: papers.clone(),
        host: SERVER,
        seed: spec.seed,
        place: Place::Kernel,
        ready,
        stop: stopped.clone(),
        notes: notes.clone(),
    };
    let (tell, ready) = mpsc::channel(1);
    let gateway_end = end(&down, tell);
    let gateway_ear = gateway_end.ear.clone();
    // The gateway listens before the link's time begins: only its vehicle's handshake is on the link.
    let mut gateway = crew(prepared.net(), "bench-gateway", ready, move || subject.serve(gateway_end))?;
    let reach = wait_ready(&mut gateway, LISTENS).context("the gateway")?;
    let reach = reach.context("the gateway did not listen in time")?;
    let rival = spec.workload.rival.then(|| rival::listen(prepared.net())).transpose()?;
    let bed = prepared.begin()?;
    timeline.start_at(bed.started() + SETTLE);
    let (tell, ready) = mpsc::channel(1);
    let vehicle_end = end(&up, tell);
    let vehicle_ear = vehicle_end.ear.clone();
    let dialed = clock::now();
    let mut vehicle =
        crew(bed.vehicle(0), "bench-vehicle", ready, move || subject.drive(vehicle_end, reach))?;
    let rival = rival
        .map(|listener| Rival::start(listener, bed.vehicle(0), &spec.workload, &timeline))
        .transpose()?;
    let hand = Hand::new(&spec.workload, spec.seed, timeline.clone(), up.clone(), down.clone());
    let hand = hand.spawn(spec.realtime)?;
    // Where it has ended already, why is told at the end, as a failure of the subject's: that counts.
    let connected = wait_ready(&mut vehicle, timeline.until(Duration::ZERO)).ok().flatten();
    let connected_ms = connected.map(|_| clock::now().since(dialed).as_secs_f64() * 1e3);
    let hand = HandAccount::of(hand)?;
    std::thread::sleep(timeline.until(spec.workload.length() + AFTER));
    let report = bed.report().map_err(|gone| anyhow!("the emulator has failed: {gone}"))?;
    let mut heard = gateway_ear.take();
    heard.extend(vehicle_ear.take());
    stop.send_replace(true);
    let failures = failures([("the vehicle", vehicle), ("the gateway", gateway)]);
    let cost = Cost::since(&before, &Usage::read(std::process::id())?, report.json(), hand.cpu);
    let faults = report.faults().iter().cloned().chain(late(&hand, spec.late_once())).collect();
    let outcome = Outcome {
        spec: spec.clone(),
        facts,
        stage: Stage::default(),
        notes: notes.all(),
        faults,
        failures,
        connected_ms,
        shed: [up.shed(), down.shed()],
        cost,
        traffic: traffic(report.json()),
        rival: rival.map(Rival::received).transpose()?.unwrap_or_default(),
        link_sha256: digest(&spec.link, spec.seed, report.json()),
        netem: report.json().clone(),
    };
    bed.stop()?;
    Ok((outcome, heard))
}

/// Certificates and keys for a run, in a folder that goes with it.
pub(super) fn papers(place: &TempDir) -> Result<Papers> {
    let folder = Folder::new(place.path());
    folder.init(&[SERVER.to_string()], unix_now())?;
    folder.vehicles([VEHICLE.parse()?], unix_now())?;
    Ok(Papers::new(place.path().to_owned()))
}

/// Starts one end on a thread in its namespace.
fn crew(
    namespace: &testbed::Namespace,
    name: &'static str,
    ready: mpsc::Receiver<Reach>,
    work: impl FnOnce() -> Work + Send + 'static,
) -> Result<Crew> {
    let (tell, ended) = sync_channel::<()>(0);
    let body = move || {
        // Dropped when the thread ends, however it does.
        let _ending = tell;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let done = runtime.block_on(work());
        // What a library left running may not keep the run from ending.
        runtime.shutdown_timeout(Duration::from_secs(1));
        done
    };
    // A thread inherits the namespace of the one that starts it.
    let thread = namespace.within(move || std::thread::Builder::new().name(name.into()).spawn(body));
    Ok(Crew { thread: thread.context("cannot start a thread")?, ready, ended })
}

/// What the end said when it was ready; `None` where it was not in time.
fn wait_ready(crew: &mut Crew, patience: Duration) -> Result<Option<Reach>> {
    let deadline = clock::now() + patience;
    loop {
        if let Ok(reach) = crew.ready.try_recv() {
            return Ok(Some(reach));
        }
        let left = deadline.since(clock::now());
        if left.is_zero() {
            return Ok(None);
        }
        match crew.ended.recv_timeout(left.min(Duration::from_millis(2))) {
            Err(RecvTimeoutError::Timeout) => {}
            // It may have said it with its last breath; what went wrong is told at the end.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => bail!("it ended before it was ready"),
        }
    }
}

/// What went wrong with the ends, once they are told to stop.
fn failures(ends: [(&str, Crew); 2]) -> Vec<String> {
    let of = |(name, crew)| finish(crew).err().map(|error| format!("{name} failed: {error:#}"));
    ends.into_iter().filter_map(of).collect()
}

fn finish(crew: Crew) -> Result<()> {
    // Nothing is ever sent: it is dropped when the thread ends.
    if let Err(RecvTimeoutError::Timeout) = crew.ended.recv_timeout(STOPS) {
        bail!("it did not stop within {} s", STOPS.as_secs());
    }
    crew.thread.join().map_err(|_| anyhow!("it panicked"))?
}

/// Whether the workload itself was on time.
fn late(hand: &HandAccount, late_once: Duration) -> Option<String> {
    let ((p99, worst), limit) = (hand.lateness(), late_once + HAND_WORST_EXCESS);
    (p99 > HAND_P99_LIMIT || worst > limit).then(|| {
        format!("the workload was late: p99 {p99:?}, limit {HAND_P99_LIMIT:?}; once {worst:?}, limit {limit:?}; the machine is too busy")
    })
}

/// What a report's wires have carried, up and down.
pub(super) fn traffic(report: &Value) -> [Traffic; 2] {
    ["up", "down"].map(|direction| {
        let wires = report["wires"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sum = |what: &str| wires.iter().filter_map(|wire| wire[direction][what].as_u64()).sum();
        Traffic {
            offered_bytes: sum("offered_bytes"),
            delivered_bytes: sum("delivered_bytes"),
            offered_packets: sum("offered"),
            delivered_packets: sum("delivered"),
        }
    })
}
