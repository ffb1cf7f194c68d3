//! What is measured in a cell: commands over HTTP, and signals as they show at the gateway.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_gateway::hub::Hub;
use carriageway_proto::{Moment, Value, VehicleId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::link::Link;
use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;
use tokio::task::JoinSet;

use super::sides::{PROBE, lamp};
use crate::operator::Operator;

/// How often the gateway's board is looked at: a signal's age is late by at most this and a wake-up.
const LOOK: Duration = Duration::from_micros(500);

/// How often the vehicle's bulk window is noted.
const NOTE: Duration = Duration::from_millis(20);

/// Connections opened beforehand: at ten commands a second more are never under way.
pub(super) const WARM: usize = 8;

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When it was due.
    pub(super) due: Moment,
    /// From then to the answer, in milliseconds.
    pub(super) latency_ms: f64,
    /// The phase in the answer, or what came instead.
    pub(super) end: String,
}

/// One value of the probe as it showed at the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When the vehicle was looked at.
    pub(super) sampled: Moment,
    /// From then until it showed.
    pub(super) age_ms: f64,
    /// What the gateway would tell of that age, minus the truth.
    pub(super) error_ms: f64,
}

/// What the vehicle's side of the bulk lane looked like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) at: Moment,
    pub(super) window: u64,
    pub(super) queueing_ms: f64,
}

/// Everything that was seen in a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) commands: Vec<Sent>,
    pub(super) signals: Vec<Seen>,
    pub(super) window: Vec<Noted>,
}

impl Samples {
    /// Three files, named after the cell.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let mut commands = String::from("due_us,latency_ms,end\n");
        for Sent { due, latency_ms, end } in &self.commands {
            writeln!(commands, "{},{latency_ms:.3},{end}", due.as_micros())?;
        }
        let mut signals = String::from("sampled_us,age_ms,estimate_error_ms\n");
        for Seen { sampled, age_ms, error_ms } in &self.signals {
            writeln!(signals, "{},{age_ms:.3},{error_ms:.3}", sampled.as_micros())?;
        }
        let mut window = String::from("at_us,window_bytes,queueing_ms\n");
        for Noted { at, window: bytes, queueing_ms } in &self.window {
            writeln!(window, "{},{bytes},{queueing_ms:.3}", at.as_micros())?;
        }
        for (kind, text) in [("commands", commands), ("signals", signals), ("window", window)] {
            let file = folder.join(format!("{name}.{kind}.csv"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

/// Milliseconds with their fraction.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Arrivals of a Poisson process of `rate` per second within `length`, from its start.
pub(super) fn arrivals(rate: f64, length: Duration, seed: u64) -> Vec<Duration> {
    let mut chance = Pcg32::seed_from_u64(seed);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    loop {
        // Never zero, whose logarithm is infinite.
        let uniform = (f64::from(chance.next_u32()) + 1.0) / (f64::from(u32::MAX) + 2.0);
        at -= uniform.ln() / rate;
        if at >= length.as_secs_f64() {
            return arrivals;
        }
        arrivals.push(Duration::from_secs_f64(at));
    }
}

/// Sends a command to `vehicle` at each of `arrivals` after `start`, whether or not earlier ones were answered.
pub(super) async fn send_all(
    operator: Operator,
    vehicle: &'static str,
    clock: BootClock,
    start: Moment,
    arrivals: Vec<Duration>,
) -> Vec<Sent> {
    let mut under_way = JoinSet::new();
    for (number, after) in arrivals.into_iter().enumerate() {
        let due = start + after;
        clock.sleep_until(due).await;
        let (operator, clock) = (operator.clone(), clock.clone());
        under_way.spawn(async move {
            let end = operator.switch_on(vehicle, &format!("bench-{number}"), &lamp(number)).await;
            // One field of a CSV.
            let end = end.replace([',', '\n'], ";");
            Sent { due, latency_ms: millis(clock.now().since(due)), end }
        });
    }
    let mut sent = under_way.join_all().await;
    sent.sort_by_key(|sent| sent.due);
    sent
}

/// Watches signals and the bulk window on a thread of its own, for as long as it lives.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Seen>, Vec<Noted>)>,
}

impl Watch {
    pub(super) fn start(clock: BootClock, hub: Hub, vehicle: VehicleId, link: Link) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let (mut seen, mut noted) = (Vec::new(), Vec::new());
            let mut version = hub.signals(&vehicle, u64::MAX).map_or(0, |(_, version)| version);
            let mut note_at = clock.now();
            while !stopped.load(Ordering::Relaxed) {
                version = look(&clock, &hub, (&vehicle, version), &mut seen);
                if clock.now() >= note_at {
                    note_at = clock.now() + NOTE;
                    let status = link.status().session;
                    let (window, queueing_ms) = (status.bulk_window, millis(status.bulk_queueing));
                    noted.push(Noted { at: clock.now(), window, queueing_ms });
                }
                std::thread::sleep(LOOK);
            }
            (seen, noted)
        };
        let thread = std::thread::Builder::new().name("bench-watch".into()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) -> (Vec<Seen>, Vec<Noted>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Takes note of the probe if it is new; the version to look from next time.
fn look(clock: &BootClock, hub: &Hub, (vehicle, version): (&VehicleId, u64), seen: &mut Vec<Seen>) -> u64 {
    let Some((changed, newest)) = hub.signals(vehicle, version) else { return version };
    let now = clock.now();
    let probe = changed.iter().find(|shown| shown.path == *PROBE);
    if let Some(shown) = probe
        && let Value::Int(micros) = shown.value
    {
        let sampled = Moment::from_micros(micros.cast_unsigned());
        let estimated = shown.sampled.as_micros().cast_signed();
        let error_ms = (micros - estimated) as f64 / 1_000.0;
        seen.push(Seen { sampled, age_ms: millis(now.since(sampled)), error_ms });
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_a_poisson_process_that_follows_from_its_seed() {
        let length = Duration::from_secs(1_000);
        let times = arrivals(4.0, length, 7);
        assert_eq!(times, arrivals(4.0, length, 7));
        assert_ne!(times, arrivals(4.0, length, 8));
        assert!(times.is_sorted() && times.last().is_some_and(|last| *last < length));
        assert!((3_800..4_200).contains(&times.len()), "{} arrivals", times.len());
        // Exponential gaps: 1 - 1/e of them are shorter than their mean.
        let short = times.windows(2).filter(|pair| pair[1] < pair[0] + Duration::from_millis(250)).count();
        let share = short as f64 / times.len() as f64;
        assert!((0.60..0.66).contains(&share), "{share}");
    }
}
