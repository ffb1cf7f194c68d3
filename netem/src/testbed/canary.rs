//! The machine's own lateness, beside the emulator's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::lateness::Lateness;

/// How often the canary wakes.
const CANARY_PERIOD: Duration = Duration::from_millis(10);

/// A thread that does nothing but wake on time: its lateness is what an endpoint's timers on this machine
/// suffer, whatever priority the emulator has.
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
