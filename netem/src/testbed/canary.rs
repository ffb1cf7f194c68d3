//! The machine's own lateness, beside the emulator's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::core::Moment;
use crate::lateness::Lateness;

/// How often the canary wakes.
const CANARY_PERIOD: Duration = Duration::from_millis(10);

/// A thread that does nothing but wake on time: its lateness is what an endpoint's timers on this machine
/// suffer, whatever priority the emulator has.
pub(super) struct Canary {
    song: Arc<Mutex<Song>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the canary has shown so far.
#[derive(Default)]
struct Song {
    lateness: Lateness,
    /// When it has to wake next.
    due: Option<Moment>,
}

impl Canary {
    pub(super) fn start() -> io::Result<Self> {
        let (song, stop) = (Arc::<Mutex<Song>>::default(), Arc::<AtomicBool>::default());
        let (melody, silence) = (Arc::clone(&song), Arc::clone(&stop));
        let thread =
            thread::Builder::new().name("netem-canary".into()).spawn(move || sing(&melody, &silence))?;
        Ok(Self { song, stop, thread: Some(thread) })
    }

    /// How late it was, and is: one that should have woken and has not had its turn is late by now.
    pub(super) fn lateness(&self) -> Lateness {
        let song = self.song.lock().expect("the canary does not panic");
        let mut lateness = song.lateness.clone();
        let now = clock::now();
        if let Some(due) = song.due.filter(|due| *due < now) {
            lateness.record(now.since(due));
        }
        lateness
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

fn sing(song: &Mutex<Song>, stop: &AtomicBool) {
    let mut due = clock::now();
    while !stop.load(Ordering::Relaxed) {
        due = due + CANARY_PERIOD;
        song.lock().expect("nobody panics with the canary's song").due = Some(due);
        clock::sleep_until(due);
        let mut song = song.lock().expect("nobody panics with the canary's song");
        song.lateness.record(clock::now().since(due));
        song.due = None;
    }
}
