//! The testbed's account of itself: what happened to packets, how late the emulator was, and whether a result can be trusted.
//!
//! The limits stand here and nowhere else: a run cannot choose them after the fact.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::time::ClockId;
use serde_json::{Value, json};

use super::Config;
use super::engine::{Snapshot, WireCounts};
use crate::clock;
use crate::core::{Cause, Direction};
use crate::json::{counts_json, lateness_json, micros};
use crate::lateness::Lateness;

/// Largest lateness of 99 in 100 deliveries: a tenth of the shortest time that a control loop at 100 Hz notices.
pub const LATENESS_P99_LIMIT: Duration = Duration::from_millis(1);
/// Largest lateness of any delivery: half of a period of 50 Hz.
pub const LATENESS_WORST_LIMIT: Duration = Duration::from_millis(10);
/// How often the canary wakes.
const CANARY_PERIOD: Duration = Duration::from_millis(10);

/// The account, ready to be written.
#[derive(Clone, Debug)]
pub struct Report {
    json: Value,
    faults: Vec<String>,
}

impl Report {
    pub(super) fn new(
        config: &Config,
        took: Duration,
        snapshot: &Snapshot,
        canary: &Lateness,
        device_drops: u64,
        stage: &Stage,
    ) -> Self {
        let faults = faults(snapshot, device_drops);
        let paths: Vec<_> = config
            .scenario
            .paths
            .iter()
            .map(|path| json!({ "name": path.name, "profile": path.profile.name }))
            .collect();
        let wires: Vec<_> = snapshot.wires.iter().map(|wire| wire_json(config, wire)).collect();
        let json = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "seed": config.seed.0,
            "vehicles": config.vehicles,
            "realtime": config.realtime,
            "paths": paths,
            "started_unix_ms": stage.wall_clock_ms,
            "took_us": micros(took),
            "lateness": lateness_json(&snapshot.lateness),
            "canary": lateness_json(canary),
            "cpu_us": micros(snapshot.cpu),
            "cpu_share": snapshot.cpu.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE),
            "cpu_pressure": stage.pressure_since(),
            "load": fs::read_to_string("/proc/loadavg").ok().map(|load| load.trim().to_owned()),
            "tun_drops": device_drops,
            "refused": snapshot.refused,
            "unlogged": snapshot.unlogged,
            "wires": wires,
            "limits": {
                "lateness_p99_us": micros(LATENESS_P99_LIMIT),
                "lateness_worst_us": micros(LATENESS_WORST_LIMIT),
                "tun_drops": 0,
                "overflow": 0,
                "unlogged": 0,
            },
            "valid": faults.is_empty(),
            "faults": faults,
        });
        Self { json, faults }
    }

    /// Whether results obtained meanwhile can be trusted.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Why not, one reason each.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// As one JSON object; times in microseconds.
    pub const fn json(&self) -> &Value {
        &self.json
    }
}

fn wire_json(config: &Config, wire: &WireCounts) -> Value {
    json!({
        "vehicle": wire.vehicle + 1,
        "path": config.scenario.paths[wire.path].name,
        "up": counts_json(&wire.counts[Direction::Up.index()]),
        "down": counts_json(&wire.counts[Direction::Down.index()]),
        "nat_drops": wire.nat_drops,
    })
}

fn faults(snapshot: &Snapshot, device_drops: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let (p99, worst) = (snapshot.lateness.quantile(0.99), snapshot.lateness.worst());
    if p99 > LATENESS_P99_LIMIT {
        faults.push(format!(
            "the emulator was late: p99 {p99:?}, limit {LATENESS_P99_LIMIT:?}; the machine is too busy"
        ));
    }
    if worst > LATENESS_WORST_LIMIT {
        faults.push(format!(
            "the emulator was late once: {worst:?}, limit {LATENESS_WORST_LIMIT:?}; the machine is too busy"
        ));
    }
    let counts = snapshot.wires.iter().flat_map(|wire| &wire.counts);
    let overflow = counts.map(|counts| counts.dropped_by(Cause::Overflow)).sum();
    let nonzero = [
        (device_drops, "packets were dropped by a TUN device, not by the model"),
        (snapshot.refused, "packets were refused by the kernel after the model had delivered them"),
        (overflow, "packets exceeded the emulator's bound on bytes in flight"),
        (snapshot.unlogged, "packets are missing from the log; write it to a faster disk"),
    ];
    faults.extend(
        nonzero.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
    );
    faults
}

/// What the machine was like at the start.
pub(super) struct Stage {
    wall_clock_ms: u64,
    pressure_us: Option<u64>,
    at: crate::core::Moment,
}

impl Stage {
    pub(super) fn now() -> Self {
        let wall = rustix::time::clock_gettime(ClockId::Realtime);
        let wall_clock_ms = wall.tv_sec.unsigned_abs() * 1_000 + wall.tv_nsec.unsigned_abs() / 1_000_000;
        Self { wall_clock_ms, pressure_us: pressure_us(), at: clock::now() }
    }

    /// Share of the time in which some process waited for a CPU; `None` where the kernel does not say.
    fn pressure_since(&self) -> Option<f64> {
        let waited = pressure_us()?.saturating_sub(self.pressure_us?);
        let passed = clock::now().since(self.at).as_micros().max(1);
        Some(waited as f64 / passed as f64)
    }
}

/// Microseconds since boot in which some process waited for a CPU.
fn pressure_us() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = text.lines().find(|line| line.starts_with("some"))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

/// A thread that does nothing but wake on time: its lateness is the machine's, not the emulator's.
pub(super) struct Canary {
    lateness: Arc<Mutex<Lateness>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Canary {
    pub(super) fn start() -> io::Result<Self> {
        let (lateness, stop) = (Arc::<Mutex<Lateness>>::default(), Arc::<AtomicBool>::default());
        let (song, silence) = (Arc::clone(&lateness), Arc::clone(&stop));
        let thread =
            thread::Builder::new().name("netem-canary".into()).spawn(move || sing(&song, &silence))?;
        Ok(Self { lateness, stop, thread: Some(thread) })
    }

    pub(super) fn lateness(&self) -> Lateness {
        self.lateness.lock().expect("the canary does not panic").clone()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sing(lateness: &Mutex<Lateness>, stop: &AtomicBool) {
    let mut due = clock::now();
    while !stop.load(Ordering::Relaxed) {
        due = due + CANARY_PERIOD;
        clock::sleep_until(due);
        lateness.lock().expect("nobody panics with the canary's song").record(clock::now().since(due));
    }
}
