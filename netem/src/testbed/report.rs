//! The testbed's account of itself: what happened to packets, how late the emulator was, and whether a result can be trusted.
//!
//! The limits stand here and nowhere else: a run cannot choose them after the fact.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::Config;
use super::director::Happened;
use super::engine::{Snapshot, WireCounts};
use super::pulse;
use super::wire::Mishap;
use crate::clock;
use crate::core::{Cause, Direction, Moment};
use crate::json::{counts_json, lateness_json, micros};
use crate::lateness::Lateness;

/// Largest lateness of 99 in 100 deliveries, and of the emulator's own beat: a tenth of the shortest time that a control loop at
/// 100 Hz notices.
pub const LATENESS_P99_LIMIT: Duration = Duration::from_millis(1);
/// Largest lateness of any delivery, of any beat, and of any event, unless [`Config::late_once`] says otherwise: half of a period of 50 Hz.
pub const LATENESS_WORST_LIMIT: Duration = Duration::from_millis(10);
/// Longest that 99 in 100 packets may have waited in a device before they were read. The bound cannot be tighter than the beat
/// that makes an idle emulator look.
pub const INGEST_P99_LIMIT: Duration = pulse::PERIOD.saturating_mul(2).saturating_add(LATENESS_P99_LIMIT);

/// Longest that any packet may have, where anything may be late by `late_once`.
const fn ingest_worst_limit(late_once: Duration) -> Duration {
    pulse::PERIOD.saturating_mul(2).saturating_add(late_once)
}

/// Largest lateness of 99 in 100 of the canary's wakes: beyond half of a period of 50 Hz, ordinary endpoints no longer keep time,
/// however exact the emulator is.
pub const CANARY_P99_LIMIT: Duration = Duration::from_millis(10);
/// Largest of any: one that stops all endpoints for longer looks like an outage that nobody ordered.
pub const CANARY_WORST_LIMIT: Duration = Duration::from_millis(100);
/// Largest share of the time in which some process waited for a CPU: an idle machine has under 5 %, one with a build beside the
/// run 20 to 50 %, one with more work than cores close to 100 %.
pub const CPU_PRESSURE_LIMIT: f64 = 0.6;

/// The account, ready to be written.
#[derive(Clone, Debug)]
pub struct Report {
    json: Value,
    faults: Vec<String>,
}

/// What a report is made from.
pub(super) struct Account<'a> {
    pub(super) config: &'a Config,
    /// Whether the kernel was asked to keep the processors from sleeping.
    pub(super) is_awake: bool,
    pub(super) description: &'a Value,
    pub(super) took: Duration,
    pub(super) snapshot: &'a Snapshot,
    pub(super) canary: &'a Lateness,
    /// Without excuse.
    pub(super) device_drops: u64,
    pub(super) stage: &'a Stage,
    pub(super) events: &'a Happened,
}

impl Report {
    pub(super) fn new(account: &Account<'_>) -> Self {
        let Account { config, is_awake, snapshot, stage, took, .. } = *account;
        let pressure = stage.pressure_since();
        let wires: Vec<_> = snapshot.wires.iter().map(|wire| wire_json(config, wire)).collect();
        let faults = faults(account, pressure);
        let json = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "seed": config.seed.0,
            "vehicles": config.vehicles,
            "realtime": config.realtime,
            "processors_kept_awake": is_awake,
            "experiment": account.description,
            "start_monotonic_ns": stage.start.as_nanos(),
            "start_unix_ns": stage.start_unix_ns,
            "took_us": micros(took),
            "lateness": lateness_json(&snapshot.lateness),
            "wake": lateness_json(&snapshot.wake),
            "ingest": lateness_json(&snapshot.ingest),
            "canary": lateness_json(account.canary),
            "cpu_us": micros(snapshot.cpu),
            "cpu_share": snapshot.cpu.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE),
            "cpu_pressure": pressure,
            "load": fs::read_to_string("/proc/loadavg").ok().map(|load| load.trim().to_owned()),
            "tun_drops": account.device_drops,
            "refused": refused(snapshot),
            "before_start": snapshot.early,
            "unlogged": snapshot.unlogged + snapshot.untold,
            "events": account.events.json(),
            "wires": wires,
            "limits": limits_json(config.late_once),
            "valid": faults.is_empty(),
            "faults": faults,
        });
        Self { json, faults }
    }

    /// Adds something that the caller knows about the run.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.json[key] = value;
        self
    }

    /// Adds a reason not to trust the run.
    #[must_use]
    pub fn with_fault(mut self, fault: String) -> Self {
        self.faults.push(fault);
        let faults = self.faults.clone();
        self.with("valid", false.into()).with("faults", faults.into())
    }

    /// Whether results obtained meanwhile can be trusted.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Why not, one reason each.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// As one JSON object; times in microseconds unless their name says otherwise.
    pub const fn json(&self) -> &Value {
        &self.json
    }
}

fn limits_json(late_once: Duration) -> Value {
    json!({
        "lateness_p99_us": micros(LATENESS_P99_LIMIT),
        "lateness_worst_us": micros(late_once),
        "wake_p99_us": micros(LATENESS_P99_LIMIT),
        "wake_worst_us": micros(late_once),
        "ingest_p99_us": micros(INGEST_P99_LIMIT),
        "ingest_worst_us": micros(ingest_worst_limit(late_once)),
        "canary_p99_us": micros(CANARY_P99_LIMIT),
        "canary_worst_us": micros(CANARY_WORST_LIMIT),
        "cpu_pressure": CPU_PRESSURE_LIMIT,
        "event_late_us": micros(late_once),
        "tun_drops": 0,
        "refused": 0,
        "overflow": 0,
        "unlogged": 0,
    })
}

fn wire_json(config: &Config, wire: &WireCounts) -> Value {
    json!({
        "vehicle": wire.vehicle + 1,
        "path": config.scenario.paths[wire.path].name,
        "up": direction_json(wire, Direction::Up),
        "down": direction_json(wire, Direction::Down),
    })
}

/// The model's counters, with what was lost in front of it and behind it: always `offered = delivered + dropped + held`.
fn direction_json(wire: &WireCounts, direction: Direction) -> Value {
    let (counts, mishaps) = (&wire.counts[direction.index()], &wire.mishaps[direction.index()]);
    let (turned_away, astray) = (mishaps.turned_away(), mishaps.astray());
    let mut json = counts_json(counts);
    json["offered"] = (counts.offered + turned_away.packets).into();
    json["offered_bytes"] = (counts.offered_bytes + turned_away.bytes).into();
    json["delivered"] = (counts.delivered - astray.packets).into();
    json["delivered_bytes"] = (counts.delivered_bytes - astray.bytes).into();
    json["held"] = wire.held[direction.index()].into();
    for mishap in Mishap::ALL {
        json["dropped"][mishap.name()] = mishaps.by(mishap).into();
    }
    json
}

fn refused(snapshot: &Snapshot) -> u64 {
    let mishaps = snapshot.wires.iter().flat_map(|wire| &wire.mishaps);
    mishaps.map(|mishaps| mishaps.by(Mishap::Refused)).sum()
}

fn faults(account: &Account<'_>, pressure: Option<f64>) -> Vec<String> {
    let (snapshot, late_once) = (account.snapshot, account.config.late_once);
    let histograms = [
        ("the emulator was late", &snapshot.lateness, LATENESS_P99_LIMIT, late_once),
        ("the emulator's thread woke late", &snapshot.wake, LATENESS_P99_LIMIT, late_once),
        ("packets may have waited unread", &snapshot.ingest, INGEST_P99_LIMIT, ingest_worst_limit(late_once)),
        ("an ordinary thread woke late", account.canary, CANARY_P99_LIMIT, CANARY_WORST_LIMIT),
    ];
    let late = histograms.into_iter().flat_map(|(what, lateness, p99_limit, worst_limit)| {
        too_late(what, lateness, p99_limit, worst_limit)
    });
    let events = account.events.too_late(late_once).map(|(name, late)| {
        format!("the event {name} was {late:?} late, limit {late_once:?}; the machine is too busy")
    });
    let pressure = pressure.filter(|share| *share > CPU_PRESSURE_LIMIT).map(|share| {
        format!(
            "some process waited for a CPU {:.0} % of the time, limit {:.0} %; the machine is too busy",
            share * 100.0,
            CPU_PRESSURE_LIMIT * 100.0
        )
    });
    late.chain(events).chain(pressure).chain(losses(account)).collect()
}

fn too_late(
    what: &str,
    lateness: &Lateness,
    p99_limit: Duration,
    worst_limit: Duration,
) -> impl Iterator<Item = String> {
    let (p99, worst) = (lateness.quantile(0.99), lateness.worst());
    let often = (p99 > p99_limit)
        .then(|| format!("{what}: p99 {p99:?}, limit {p99_limit:?}; the machine is too busy"));
    let once = (worst > worst_limit)
        .then(|| format!("{what} once: {worst:?}, limit {worst_limit:?}; the machine is too busy"));
    often.into_iter().chain(once)
}

/// What got lost that nobody ordered to be.
fn losses(account: &Account<'_>) -> impl Iterator<Item = String> {
    let counts = account.snapshot.wires.iter().flat_map(|wire| &wire.counts);
    let overflow = counts.map(|counts| counts.dropped_by(Cause::Overflow)).sum();
    let losses = [
        (account.device_drops, "packets were dropped by a TUN device, not by the model"),
        (refused(account.snapshot), "packets were refused by the kernel after the model had delivered them"),
        (overflow, "packets exceeded the emulator's bound on bytes in flight"),
        (
            account.snapshot.unlogged + account.snapshot.untold,
            "packets are missing from the log; write it to a faster disk",
        ),
    ];
    losses.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"))
}

/// The start, and what the machine was like then.
pub(super) struct Stage {
    start: Moment,
    start_unix_ns: u64,
    pressure_us: Option<u64>,
}

impl Stage {
    pub(super) fn now() -> Self {
        let (start, start_unix_ns) = clock::now_and_date();
        Self { start, start_unix_ns, pressure_us: pressure_us() }
    }

    pub(super) const fn start(&self) -> Moment {
        self.start
    }

    /// Share of the time in which some process waited for a CPU; `None` where the kernel does not say.
    fn pressure_since(&self) -> Option<f64> {
        let waited = pressure_us()?.saturating_sub(self.pressure_us?);
        let passed = clock::now().since(self.start).as_micros().max(1);
        Some(waited as f64 / passed as f64)
    }
}

/// Microseconds since boot in which some process waited for a CPU.
fn pressure_us() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = text.lines().find(|line| line.starts_with("some"))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}
