//! Threads beside the measurement: some that never rest, and one that only sleeps.
//!
//! The one that sleeps is the canary: it sleeps to the very moments at which watchdogs are due. What the machine cannot
//! do for a thread with nothing else to do, it cannot do for a watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result};
use carriageway_proto::Moment;
use carriageway_transport::clock::BootClock;

/// Threads that keep processors busy until this is dropped.
pub(super) struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    pub(super) fn start(count: u16) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let start = |_| Builder::new().name("bench-busy".into()).spawn(spin(Arc::clone(&over)));
        let threads = (0..count).map(start).collect::<Result<_, _>>().context("cannot start a thread")?;
        Ok(Self { over, threads })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("it only spins");
        }
    }
}

/// A thread that does nothing but sleep to the moments it is given.
pub(super) struct Canary {
    moments: SyncSender<Moment>,
    thread: JoinHandle<Vec<f64>>,
}

impl Canary {
    pub(super) fn start(clock: &BootClock) -> Result<Self> {
        // One moment is slept to at a time, the next comes a whole cut later.
        let (moments, given) = sync_channel(1);
        let clock = clock.clone();
        let thread = Builder::new().name("bench-canary".into()).spawn(move || sleep(&clock, &given));
        Ok(Self { moments, thread: thread.context("cannot start a thread")? })
    }

    /// Has it sleep to `moment`, unless it still sleeps to another.
    pub(super) fn sleep_until(&self, moment: Moment) {
        // A canary that overslept has no time for this one: one figure less.
        let _asleep = self.moments.try_send(moment);
    }

    /// How many milliseconds late it woke each time.
    pub(super) fn end(self) -> Vec<f64> {
        drop(self.moments);
        self.thread.join().expect("it only sleeps")
    }
}

fn sleep(clock: &BootClock, given: &Receiver<Moment>) -> Vec<f64> {
    let mut late = Vec::new();
    while let Ok(due) = given.recv() {
        let left = clock.now().until(due);
        if left.is_zero() {
            continue; // it was told too late, and says nothing about sleeping
        }
        std::thread::sleep(left);
        late.push(clock.now().since(due).as_secs_f64() * 1_000.0);
    }
    late
}
