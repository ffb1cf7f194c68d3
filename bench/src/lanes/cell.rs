//! One cell of the matrix: a link, a gateway, a vehicle, a load, and what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use carriageway_proto::Moment;
use carriageway_transport::clock::BootClock;
use carriageway_transport::link::Link;
use serde::Serialize;
use serde_json::Value;

use super::bed::{Account, Bed, Side};
use super::load::{Samples, Seen, Sent, WARM, Watch, arrivals, send_all};
use super::sides::{self, GatewayFacts, Papers, VEHICLE, VehicleFacts, Vehicles};
use super::{Options, Point};
use crate::operator::{Operator, counted};
use crate::stats::Summary;

/// From the first connection to the first sample: slow start and the handshakes are over by then.
pub(super) const WARM_UP: Duration = Duration::from_secs(3);

/// A vehicle that is not connected within this never will be.
const CONNECTED: Duration = Duration::from_secs(15);

/// Looks at the signals per second, as the agent does them.
const LOOKS_PER_SECOND: f64 = 20.0;

/// One cell's results.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cell {
    pub(super) point: Point,
    /// Counts from 1; above that the ones before were void.
    pub(super) attempt: u32,
    /// Why it must not be counted; empty where it may.
    pub(super) faults: Vec<String>,
    /// False where a relay stood in for the testbed.
    pub(super) real_tcp: bool,
    /// Milliseconds. A command without success counts with the ten seconds that it was waited for.
    pub(super) commands: Option<Summary>,
    /// How commands ended.
    pub(super) ends: BTreeMap<String, usize>,
    /// Milliseconds from the look at the vehicle until the value showed at the gateway.
    pub(super) signals: Option<Summary>,
    /// Of the looks at the vehicle, the share whose value showed.
    pub(super) signals_shown: f64,
    /// What the gateway tells of a signal's age, minus the truth, in milliseconds.
    pub(super) age_error: Option<Summary>,
    /// Bytes of files that arrived, in bits per second.
    pub(super) goodput_bits: f64,
    /// Bytes that the link carried from the vehicle, headers included, in bits per second.
    pub(super) carried_bits: f64,
    /// Packets from the vehicle that the full queue dropped.
    pub(super) dropped_up: u64,
    /// Read back from the kernel.
    pub(super) tcp_congestion: String,
    /// The link as the emulator tells it, from the start to the end of the cell.
    pub(super) netem: Value,
    #[serde(skip)]
    pub(super) raw: Raw,
}

/// What is pooled over seeds.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    pub(super) commands: Vec<f64>,
    pub(super) signals: Vec<f64>,
}

/// A cell with all its samples.
pub(super) struct Measured {
    pub(super) cell: Cell,
    pub(super) samples: Samples,
}

impl Cell {
    pub(super) fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// For the progress.
    pub(super) fn line(&self) -> String {
        let shown = |summary: &Option<Summary>| {
            summary
                .map_or("none".into(), |Summary { p50, p99, max, .. }| format!("{p50:.0}/{p99:.0}/{max:.0}"))
        };
        let void =
            if self.is_valid() { String::new() } else { format!("  VOID: {}", self.faults.join("; ")) };
        format!(
            "commands {} ms, signals {} ms (p50/p99/max), bulk {:.2} Mbit/s{void}",
            shown(&self.commands),
            shown(&self.signals),
            self.goodput_bits / 1e6
        )
    }
}

/// What is counted at both ends of the measured time.
struct Mark {
    at: Moment,
    bulk_bytes: u64,
    account: Account,
    resumes: u64,
}

/// Runs one cell from nothing to nothing.
pub(super) fn measure(options: &Options, point: &Point, attempt: u32) -> Result<Measured> {
    let clock = BootClock::system()?;
    let papers = Papers::new()?;
    let mut bed = Bed::start(options, point)?;
    let gateway = sides::gateway(&bed, &papers, options.congestion).context("the gateway")?;
    let reach = bed.reach(gateway.facts.udp, gateway.facts.tcp)?;
    let start =
        Vehicles { bed: &bed, papers: &papers, point, congestion: options.congestion, gateway: reach };
    let vehicle = sides::vehicle(&start).context("the vehicle")?;
    wait_for_a_carrier(&clock, &vehicle.facts.link)?;
    std::thread::sleep(WARM_UP);

    let world = World { options, clock, bed: &bed, gateway: &gateway.facts, vehicle: &vehicle.facts };
    let before = world.mark()?;
    let samples = world.samples(&papers, point.seed)?;
    let after = world.mark()?;
    let cell = world.cell(point, attempt, (&before, &after), &samples);

    vehicle.stop().context("the vehicle")?;
    gateway.stop().context("the gateway")?;
    bed.stop()?;
    Ok(Measured { cell, samples })
}

fn wait_for_a_carrier(clock: &BootClock, link: &Link) -> Result<()> {
    let deadline = clock.now() + CONNECTED;
    while link.connectivity().borrow().carrier.is_none() {
        if clock.now() >= deadline {
            bail!("the vehicle did not connect within {} s", CONNECTED.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A cell while it runs.
struct World<'a> {
    options: &'a Options,
    clock: BootClock,
    bed: &'a Bed,
    gateway: &'a GatewayFacts,
    vehicle: &'a VehicleFacts,
}

impl World<'_> {
    fn mark(&self) -> Result<Mark> {
        let account = self.bed.account()?;
        let resumes = self.vehicle.link.status().session.resumes;
        let bulk_bytes = self.gateway.hub.metrics().bulk_bytes.get();
        Ok(Mark { at: self.clock.now(), bulk_bytes, account, resumes })
    }

    fn samples(&self, papers: &Papers, seed: u64) -> Result<Samples> {
        let operator = Operator::new(&papers.authority()?, self.gateway.tcp, papers.token()?)?;
        let times = arrivals(self.options.commands, self.options.seconds(), seed);
        let (clock, hub) = (self.clock.clone(), self.gateway.hub.clone());
        let watch = Watch::start(clock.clone(), hub, VEHICLE.parse()?, self.vehicle.link.clone())?;
        let commands = self.bed.spawn(Side::Net, "bench-operator", move || -> Result<Vec<Sent>> {
            sides::runtime()?.block_on(async move {
                operator.warm_up(VEHICLE, WARM).await?;
                let start = clock.now() + Duration::from_millis(100);
                Ok(send_all(operator, VEHICLE, clock, start, times).await)
            })
        })?;
        let commands = commands.join().map_err(|_| anyhow!("the operator panicked"))??;
        let (signals, window) = watch.stop();
        Ok(Samples { commands, signals, window })
    }

    fn cell(&self, point: &Point, attempt: u32, (before, after): (&Mark, &Mark), samples: &Samples) -> Cell {
        let seconds = after.at.since(before.at).as_secs_f64();
        let bits = |from: u64, to: u64| to.saturating_sub(from) as f64 * 8.0 / seconds;
        let raw = Raw {
            commands: samples.commands.iter().map(|sent| counted(&sent.end, sent.latency_ms)).collect(),
            signals: samples.signals.iter().map(|seen| seen.age_ms).collect(),
        };
        let mut ends = BTreeMap::new();
        for sent in &samples.commands {
            *ends.entry(sent.end.clone()).or_default() += 1;
        }
        let (mut faults, netem) = (after.account.faults.clone(), after.account.json.clone());
        if after.resumes != before.resumes {
            faults.push("the session moved to another connection meanwhile".into());
        }
        Cell {
            point: point.clone(),
            attempt,
            faults,
            real_tcp: self.bed.is_real(),
            commands: Summary::of(raw.commands.iter().copied()),
            ends,
            signals: Summary::of(raw.signals.iter().copied()),
            signals_shown: samples.signals.len() as f64 / (seconds * LOOKS_PER_SECOND),
            age_error: Summary::of(samples.signals.iter().map(|Seen { error_ms, .. }| *error_ms)),
            goodput_bits: bits(before.bulk_bytes, after.bulk_bytes),
            carried_bits: bits(before.account.bytes_up(), after.account.bytes_up()),
            dropped_up: after.account.dropped_up() - before.account.dropped_up(),
            tcp_congestion: self.vehicle.tcp_congestion.clone(),
            netem,
            raw,
        }
    }
}
