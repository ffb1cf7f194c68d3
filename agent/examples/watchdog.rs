//! Cuts links on the real clock and says how soon vehicles were in their safe state.
//!
//! Arguments: cuts (1000), vehicles at a time (10), threads that never rest beside them (1). A thread that does nothing
//! but sleep says how late the machine itself wakes anybody: what it cannot do, no watchdog can.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use carriageway_agent::agent::Config;
use carriageway_agent::cuts;
use carriageway_transport::clock::BootClock;
use tokio::task::JoinSet;

/// What WATCHDOG allows beyond its limit.
const ALLOWED: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let mut numbers = [1_000, 10, 1];
    for (number, text) in numbers.iter_mut().zip(std::env::args().skip(1)) {
        *number = text.parse().with_context(|| format!("{text:?} is no number"))?;
    }
    let [cuts, vehicles, busy] = numbers;
    ensure!(cuts > 0 && vehicles > 0, "at least one cut of one vehicle");
    let done = Arc::new(AtomicBool::new(false));
    let spinning: Vec<_> = (0..busy)
        .map(|_| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let sleeping = {
        let (done, clock) = (Arc::clone(&done), BootClock::system()?);
        std::thread::spawn(move || sleep_and_note(&clock, &done))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(cuts, vehicles));
    done.store(true, Ordering::Relaxed);
    for thread in spinning {
        thread.join().expect("it only spins");
    }
    let mut late = sleeping.join().expect("it only sleeps");
    late.sort_unstable();
    let share = |share: usize| late[(late.len() - 1) * share / 1_000];
    writeln!(
        std::io::stdout(),
        "a thread that only sleeps woke late by: median {:?}, p99 {:?}, worst {:?}",
        share(500),
        share(990),
        share(1_000),
    )?;
    report(measured?, busy)
}

/// How late each sleep of 20 ms ended.
fn sleep_and_note(clock: &BootClock, done: &AtomicBool) -> Vec<Duration> {
    let mut late = Vec::new();
    while late.is_empty() || !done.load(Ordering::Relaxed) {
        let due = clock.now() + ALLOWED;
        std::thread::sleep(ALLOWED);
        late.push(clock.now().since(due));
    }
    late
}

async fn measure(cuts: u32, vehicles: u32) -> Result<Vec<Duration>> {
    let clock = BootClock::system()?;
    let mut running = JoinSet::new();
    for vehicle in 0..vehicles {
        let share = cuts / vehicles + u32::from(vehicle < cuts % vehicles);
        running.spawn(cuts::measure(Config::default(), clock.clone(), share));
    }
    let mut measured = Vec::new();
    while let Some(vehicle) = running.join_next().await {
        measured.extend(vehicle??);
    }
    Ok(measured)
}

fn report(mut measured: Vec<Duration>, busy: u32) -> Result<()> {
    measured.sort_unstable();
    let limit = Config::default().drive.values().watchdog;
    let over = |share: usize| measured[(measured.len() - 1) * share / 1_000].saturating_sub(limit);
    writeln!(
        std::io::stdout(),
        "{} cuts beside {busy} busy threads: safe state {limit:?} after the last control, and then median {:?}, p99 {:?}, \
         worst {:?} later; earliest {:?}",
        measured.len(),
        over(500),
        over(990),
        over(1_000),
        measured[0],
    )?;
    // It is counted from when the vehicle was told, which a busy machine makes later than the acceptance.
    ensure!(measured[0] + ALLOWED >= limit, "a stop came too early");
    ensure!(over(1_000) <= ALLOWED, "a stop came later than {ALLOWED:?} after the limit");
    Ok(())
}
