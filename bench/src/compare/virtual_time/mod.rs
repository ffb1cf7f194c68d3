//! Cells in virtual time: both ends and the emulator's model in one runtime whose clock stands still while anybody works.
//!
//! What runs is what runs on the testbed: the session, quinn, rustls, the same workload, the same laws under the same seed.
//! What is not there: the kernel, its scheduling, and the time that processors take. A run takes as long as its work does,
//! and its link's weather is that of the testbed's run of the same seed. The same seed is the same run to the microsecond:
//! quinn draws its chance from it, and what else is random, in TLS and in tokio, shows in no arrival so far. The fallback's runs are
//! only nearly the same: the length of a signature in TLS is, by a byte or two, where the segments after it begin.

mod network;
mod pilot;
mod place;
mod socket;
mod tcp;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use carriageway_netem::core::{Direction, Moment};
use carriageway_netem::profile::{Agenda, Event, Path, Scenario};
use carriageway_netem::testbed::{Config, SERVER, describe, vehicle_address};
use carriageway_proto::{self as proto, BootId};
use carriageway_transport::clock::BootClock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cell::{AFTER, Cost, Outcome, SETTLE, Spec, digest, papers, scenario, traffic};
use super::subjects::{self, End, Facts, Notes, Papers, Reach, Subject};
use super::timeline::Timeline;
use super::workload::{Ear, Feed, Hand, Heard};
use crate::usage::Usage;
use network::{Network, is_possible};
use pilot::Pilot;
pub use place::{Arrival, Host, Place, TcpPort};

/// Said by every cell in virtual time.
const NOTE: &str = "virtual time: no kernel, no scheduling, and processors take no time; \
     the processor time is that of both ends, workload and model together";

/// A gateway that does not listen within this, of virtual time, has failed.
const LISTENS: Duration = Duration::from_secs(20);

/// An end that does not stop within this, of virtual time, is cut off.
const STOPS: Duration = Duration::from_secs(5);

/// What the boot clock of both ends shows when the link begins: as if the host had been up for a while.
const UPTIME: Duration = Duration::from_mins(10);

/// Runs one cell. Real time passes only as far as the processor needs it.
pub(super) fn measure(spec: &Spec) -> Result<(Outcome, Vec<Heard>)> {
    let subject = subjects::named(&spec.subject)?;
    ensure!(
        subject.has_virtual_time(),
        "{} brings its own sockets, which virtual time does not have; run it between namespaces",
        spec.subject
    );
    ensure!(spec.workload.vehicles == 1, "virtual time has one vehicle; run fleets between namespaces");
    let scenario = scenario(&spec.link)?;
    let path = only_path(&scenario)?;
    let place = TempDir::new().context("cannot make a temporary directory")?;
    let before = Usage::read(std::process::id())?;
    let pilot = Pilot::new();
    let runtime = runtime(&pilot)?;
    let facts = subject.facts();
    let papers = papers(&place, 1)?.remove(0);
    let run = Run { spec, subject: subject.as_ref(), facts, papers, scenario: scenario.clone() };
    let ended = runtime.block_on(run.go(pilot, path, scenario.events.clone()))?;
    let now = Usage::read(std::process::id())?;
    Ok((run.outcome(&ended, Cost::since(&before, &now, &Value::Null, Duration::ZERO)), ended.heard))
}

/// A runtime whose time `pilot` leads.
fn runtime(pilot: &Pilot) -> Result<Runtime> {
    let pilot = pilot.clone();
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).on_thread_park(move || pilot.idle());
    builder.build().context("cannot start a runtime")
}

/// The path of a scenario that virtual time can show.
fn only_path(scenario: &Scenario) -> Result<&Path> {
    let [path] = &scenario.paths[..] else {
        bail!("virtual time has one path, this link has {}; run it between namespaces", scenario.paths.len());
    };
    for event in &scenario.events {
        ensure!(
            is_possible(&event.what),
            "virtual time has no interfaces and no NAT, and so no {}; run it between namespaces",
            event.what.name()
        );
    }
    Ok(path)
}

/// What is run.
struct Run<'a> {
    spec: &'a Spec,
    subject: &'a dyn Subject,
    facts: Facts,
    papers: Papers,
    scenario: Scenario,
}

/// What came of it.
struct Ended {
    heard: Vec<Heard>,
    connected_ms: Option<f64>,
    feeds: [Feed; 2],
    failures: Vec<String>,
    faults: Vec<String>,
    notes: Notes,
    report: Value,
}

/// What both ends share.
struct Stage {
    pilot: Pilot,
    network: Network,
    clock: BootClock,
    timeline: Timeline,
    stop: watch::Receiver<bool>,
    notes: Notes,
}

impl Run<'_> {
    async fn go(&self, pilot: Pilot, path: &Path, events: Vec<Event>) -> Result<Ended> {
        let start = pilot.now();
        let network = Network::new(pilot.clone(), &path.profile, self.spec.seed);
        let clock = BootClock::following_tokio(BootId::from_bytes([1; 16]), proto::Moment::ZERO + UPTIME);
        let (stop, stopped) = watch::channel(false);
        let (happened, diary) = watch::channel(Vec::new());
        let stage = Stage {
            timeline: Timeline::following(clock.clone(), SETTLE),
            stop: stopped,
            notes: Notes::default(),
            pilot,
            network,
            clock,
        };
        let mut world = JoinSet::new();
        world.spawn(stage.pilot.clone().steer());
        world.spawn(direct(stage.pilot.clone(), stage.network.clone(), events, happened));
        world.spawn(stage.network.clone().carry());
        let feeds = [Feed::new(self.facts.manner), Feed::new(self.facts.manner)];
        let (gateway, mut gateway_ready) = self.end(&stage, &feeds[1], SERVER, Direction::Down);
        let (vehicle, mut vehicle_ready) = self.end(&stage, &feeds[0], vehicle_address(0, 0), Direction::Up);
        let ears = [gateway.ear.clone(), vehicle.ear.clone()];
        let mut gateway_work = JoinSet::new();
        gateway_work.spawn(self.subject.serve(vec![gateway]));
        let listens = timeout(LISTENS, gateway_ready.recv()).await;
        let reach = listens.context("the gateway did not listen in time")?;
        let reach: Reach = reach.context("the gateway ended before it was ready")?;
        let dialed = stage.pilot.now();
        let mut vehicle_work = JoinSet::new();
        vehicle_work.spawn(self.subject.drive(vehicle, reach));
        let hand =
            Hand::new(&self.spec.workload, self.spec.seed, stage.timeline.clone(), vec![feeds.clone()]);
        world.spawn(work(stage.pilot.clone(), start + SETTLE, hand));
        let patience = stage.timeline.until(Duration::ZERO);
        let connected_ms = match timeout(patience, vehicle_ready.recv()).await {
            Ok(Some(_)) => Some(stage.pilot.now().since(dialed).as_secs_f64() * 1e3),
            Ok(None) => bail!("the vehicle ended before it was ready"),
            Err(_) => None,
        };
        stage.pilot.sleep_until(start + SETTLE + self.spec.workload.length() + AFTER).await;
        let report = self.report(&stage, path, &diary.borrow());
        let heard = ears.iter().flat_map(Ear::take).collect();
        stop.send_replace(true);
        let mut failures = Vec::new();
        for (name, mut end) in [("the vehicle", vehicle_work), ("the gateway", gateway_work)] {
            if let Err(error) = finish(&mut end).await {
                failures.push(format!("{name} failed: {error:#}"));
            }
        }
        let overflowed = stage.network.overflowed();
        let faults = (overflowed > 0)
            .then(|| format!("{overflowed} packets exceeded the emulator's bound on bytes in flight"));
        let faults = faults.into_iter().collect();
        Ok(Ended { heard, connected_ms, feeds, failures, faults, notes: stage.notes, report })
    }

    fn end(
        &self,
        stage: &Stage,
        feed: &Feed,
        address: std::net::Ipv4Addr,
        direction: Direction,
    ) -> (End, mpsc::Receiver<Reach>) {
        let (ready, is_ready) = mpsc::channel(1);
        let host = Host::new(stage.network.clone(), stage.clock.clone(), self.spec.seed, address, direction);
        let end = End {
            feed: feed.clone(),
            ear: Ear::new(stage.timeline.clone(), feed.clone()),
            papers: self.papers.clone(),
            host: SERVER,
            seed: self.spec.seed,
            place: Place::Virtual(host),
            ready,
            stop: stage.stop.clone(),
            notes: stage.notes.clone(),
        };
        (end, is_ready)
    }

    /// In the shape of the testbed's.
    fn report(&self, stage: &Stage, path: &Path, events: &[Value]) -> Value {
        let [up, down] = stage.network.counts();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "virtual": true,
            "experiment": describe(&Config::scenario(self.scenario.clone())),
            "seed": self.spec.seed,
            "took_us": stage.pilot.now().since(Moment::ZERO).as_micros() as u64,
            "events": { "list": events, "not_listed": 0 },
            "lost_at_the_ends": stage.network.lost(),
            "wires": [{ "vehicle": 1, "path": path.name, "up": up, "down": down }],
        })
    }

    fn outcome(&self, ended: &Ended, cost: Cost) -> Outcome {
        let mut notes = vec![NOTE.to_owned()];
        notes.extend(ended.notes.all());
        Outcome {
            spec: self.spec.clone(),
            facts: self.facts.clone(),
            stage: crate::stage::Stage::default(),
            notes,
            faults: ended.faults.clone(),
            failures: ended.failures.clone(),
            connected_ms: ended.connected_ms,
            shed: [ended.feeds[0].shed(), ended.feeds[1].shed()],
            cost,
            traffic: traffic(&ended.report),
            rival: Vec::new(),
            link_sha256: digest(&self.spec.link, self.spec.seed, &ended.report),
            netem: ended.report.clone(),
        }
    }
}

/// Makes the scenario's events happen, as the testbed's director does.
async fn direct(pilot: Pilot, network: Network, events: Vec<Event>, happened: watch::Sender<Vec<Value>>) {
    let mut agenda = Agenda::new(events);
    let start = pilot.now();
    while let Some(due) = agenda.next_due() {
        pilot.sleep_until(start + due).await;
        while let Some(event) = agenda.pop(pilot.now().since(start)) {
            network.happen(&event.what);
            let at = pilot.now().since(start).as_micros() as u64;
            let told =
                json!({ "what": event.what.name(), "planned_us": due.as_micros() as u64, "at_us": at });
            happened.send_modify(|list| list.push(told));
        }
    }
}

/// Does what is due at its moment, by the clock that packets go by.
async fn work(pilot: Pilot, start: Moment, mut hand: Hand) {
    while let Some(at) = hand.next_due() {
        pilot.sleep_until(start + at).await;
        hand.act_until(at);
    }
}

async fn finish(end: &mut JoinSet<Result<()>>) -> Result<()> {
    let Ok(Some(ended)) = timeout(STOPS, end.join_next()).await else {
        bail!("it did not stop within {STOPS:?}");
    };
    ended.map_err(|_| anyhow!("it panicked"))?
}

#[cfg(test)]
mod tests;
