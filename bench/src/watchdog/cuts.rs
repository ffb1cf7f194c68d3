//! Cuts, and how late each safe state was.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use carriageway_netem::relay::Relay;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;
use tokio::task::JoinSet;

use super::late::Canary;
use super::operator::{Cut, Operator};
use super::vehicle::{Halted, agent_config};
use super::{ALLOWED, Outcome, Scene};
use crate::stats::Summary;

/// From one word on the progress to the next.
const TOLD_EVERY: u32 = 100;

/// What became of all cuts.
#[derive(Debug, Serialize)]
pub(super) struct Cuts {
    cuts: usize,
    vehicles: u16,
    busy: u16,
    limit_ms: f64,
    /// How late the watchdogs were, in milliseconds after their limit; below zero is early.
    watchdog: Option<Summary>,
    /// How late the threads were that only slept to the same moments.
    canary: Option<Summary>,
    /// The earliest safe state, in milliseconds after the limit.
    earliest_ms: Option<f64>,
    /// Later than WATCHDOG allows.
    watchdog_over: usize,
    canary_over: usize,
    /// Cuts after which there was no safe state at all.
    never: usize,
    /// Cuts that told nothing, since something else stopped the vehicle just then.
    void: usize,
    /// Stops of vehicles whose link was not cut.
    uncalled: Vec<String>,
    /// Each cut's lateness, in milliseconds.
    late_ms: Vec<f64>,
}

/// What one vehicle's operator brings home.
struct Share {
    operator: Operator,
    relay: Relay,
    late: Vec<f64>,
    canary: Vec<f64>,
    never: usize,
    void: usize,
    early: Vec<Halted>,
}

/// Makes all cuts.
pub(super) async fn run(scene: &Scene<'_>) -> Result<Cuts> {
    let options = scene.options;
    let limit = agent_config().drive.values().watchdog;
    let mut stand = scene.set_up(options.vehicles).await?;
    crate::say(&format!("{} vehicles are connected; {} cuts", options.vehicles, options.cuts));
    let done = Arc::new(AtomicU32::new(0));
    let mut running = JoinSet::new();
    for ((operator, relay), number) in std::mem::take(&mut stand.places).into_iter().zip(0_u16..) {
        let vehicles = u32::from(options.vehicles);
        let cuts = options.cuts / vehicles + u32::from(u32::from(number) < options.cuts % vehicles);
        let chance = Pcg64Mcg::new(u128::from(options.seed) << 17 | u128::from(number) << 1 | 1);
        let canary = Canary::start(&stand.clock)?;
        running.spawn(one(operator, relay, (cuts, limit), (chance, canary), Arc::clone(&done)));
    }
    let (mut late, mut canary, mut uncalled) = (Vec::new(), Vec::new(), Vec::new());
    let (mut never, mut void) = (0, 0);
    while let Some(share) = running.join_next().await {
        let share = share??;
        late.extend(share.late);
        canary.extend(share.canary);
        never += share.never;
        void += share.void;
        uncalled.extend(share.early.iter().map(|halted| halted.cause.to_string()));
        stand.places.push((share.operator, share.relay));
    }
    stand.take_down().await;
    let over = |late: &[f64]| late.iter().filter(|late| **late > ALLOWED.as_secs_f64() * 1_000.0).count();
    Ok(Cuts {
        cuts: late.len() + never + void,
        vehicles: options.vehicles,
        busy: options.busy,
        limit_ms: limit.as_secs_f64() * 1_000.0,
        watchdog: Summary::of(late.iter().copied()),
        canary: Summary::of(canary.iter().copied()),
        earliest_ms: late.iter().copied().min_by(f64::total_cmp),
        watchdog_over: over(&late),
        canary_over: over(&canary),
        never,
        void,
        uncalled,
        late_ms: late,
    })
}

async fn one(
    mut operator: Operator,
    relay: Relay,
    (cuts, limit): (u32, Duration),
    (mut chance, canary): (Pcg64Mcg, Canary),
    done: Arc<AtomicU32>,
) -> Result<Share> {
    let (mut late, mut never, mut void, mut early) = (Vec::new(), 0, 0, Vec::new());
    for _ in 0..cuts {
        match operator.cut(&relay, limit, (&mut chance, &canary), &mut early).await? {
            Cut::Safe(silence) => late.push(silence - limit.as_secs_f64() * 1_000.0),
            Cut::Void => void += 1,
            Cut::Never => never += 1,
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(TOLD_EVERY) {
            crate::say(&format!("{done} cuts"));
        }
    }
    Ok(Share { operator, relay, late, canary: canary.end(), never, void, early })
}

impl Outcome for Cuts {
    fn table(&self) -> String {
        let Self { cuts, vehicles, busy, limit_ms, never, void, .. } = self;
        let mut text = format!(
            "{cuts} cuts under {vehicles} vehicles, beside {busy} threads that never rest; limit {limit_ms} ms\n\n\
             | ms after the limit | count | p50 | p99 | max | over {} ms |\n|---|---|---|---|---|---|\n",
            ALLOWED.as_millis()
        );
        for (name, summary, over) in [
            ("safe state", self.watchdog, self.watchdog_over),
            ("canary, which only sleeps", self.canary, self.canary_over),
        ] {
            let Summary { count, p50, p99, max } = summary.unwrap_or_default();
            // Writing to a string does not fail.
            let _written = writeln!(text, "| {name} | {count} | {p50:.2} | {p99:.2} | {max:.2} | {over} |");
        }
        let earliest = self.earliest_ms.unwrap_or_default();
        let _written = writeln!(
            text,
            "\nearliest safe state: {earliest:.2} ms after the limit\nno safe state at all: {never}\n\
             void, since something else stopped the vehicle: {void}\nstops without a cut: {} {}",
            self.uncalled.len(),
            self.uncalled.join(", ")
        );
        text
    }

    fn failure(&self) -> Option<String> {
        (self.never > 0).then(|| {
            format!("after {} of {} cuts the vehicle was not in its safe state", self.never, self.cuts)
        })
    }
}
