//! The thread that makes a scenario's events happen.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::OrderError;
use super::inner::{Inner, SOUND};
use crate::json::micros;
use crate::profile::{Agenda, Event, Happening};
use crate::{clock, realtime};

/// How long the director sleeps when nothing is left to do.
const LONG: Duration = Duration::from_hours(24);
/// Events that are told of one by one; of a scenario that repeats some for hours the others are counted.
const MOST_TOLD: usize = 10_000;

/// Ends the thread when dropped.
pub(super) struct Director {
    stop: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<Vec<String>>>,
    happened: Arc<Mutex<Happened>>,
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Happened {
    told: Vec<Told>,
    untold: u64,
    latest: Option<(&'static str, Duration)>,
}

/// One event; times count from the start.
#[derive(Clone, Debug)]
struct Told {
    what: &'static str,
    /// Interface name; `None`: all.
    path: Option<String>,
    planned: Duration,
    at: Duration,
    /// When it was done.
    done: Duration,
    failed: Option<String>,
}

impl Happened {
    fn note(&mut self, told: Told) {
        let late = told.at.saturating_sub(told.planned);
        if self.latest.is_none_or(|(_, latest)| late > latest) {
            self.latest = Some((told.what, late));
        }
        if self.told.len() < MOST_TOLD {
            self.told.push(told);
        } else {
            self.untold += 1;
        }
    }

    /// The latest of the events, if it was later than `limit`.
    pub(super) fn too_late(&self, limit: Duration) -> Option<(&'static str, Duration)> {
        self.latest.filter(|(_, late)| *late > limit)
    }

    pub(super) fn json(&self) -> Value {
        let one = |told: &Told| {
            json!({
                "what": told.what,
                "path": told.path,
                "planned_us": micros(told.planned),
                "at_us": micros(told.at),
                "done_us": micros(told.done),
                "failed": told.failed,
            })
        };
        json!({ "list": self.told.iter().map(one).collect::<Vec<_>>(), "not_listed": self.untold })
    }
}

impl Director {
    /// Returns once everything that is due at the start has happened.
    pub(super) fn start(inner: Arc<Inner>, events: Vec<Event>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let (begun, beginning) = mpsc::sync_channel(1);
        let happened = Arc::<Mutex<Happened>>::default();
        let diary = Arc::clone(&happened);
        let thread = thread::Builder::new().name("netem-director".into()).spawn(move || {
            if inner.config.realtime {
                // The emulator's thread was allowed to; if this one is not, the report shows late events.
                let _ = realtime::enter();
            }
            direct(&inner, Agenda::new(events), &diary, &stopped, &begun)
        })?;
        // Fails only if the thread is gone, which shows when it is joined.
        let _ = beginning.recv();
        Ok(Self { stop: Some(stop), thread: Some(thread), happened })
    }

    /// What has happened so far.
    pub(super) fn happened(&self) -> Happened {
        self.happened.lock().expect(SOUND).clone()
    }

    /// Ends it and tells which events failed.
    pub(super) fn stop(&mut self) -> Vec<String> {
        self.stop = None;
        let thread = self.thread.take();
        thread.map(|thread| thread.join().expect("the director does not panic")).unwrap_or_default()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        self.stop();
    }
}

fn direct(
    inner: &Inner,
    mut agenda: Agenda,
    diary: &Mutex<Happened>,
    stopped: &Receiver<()>,
    begun: &SyncSender<()>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let elapsed = || clock::now().since(inner.start);
    loop {
        let mut now = elapsed();
        while let Some((planned, event)) = agenda.next_due().zip(agenda.pop(now)) {
            let at = elapsed();
            let failed = happen(inner, &event).err().map(|error| error.to_string());
            if let Some(error) = &failed {
                failures.push(format!("event {} at {planned:?} failed: {error}", event.what.name()));
            }
            let path = event.path.map(|path| inner.config.scenario.paths[path].name.clone());
            let told = Told { what: event.what.name(), path, planned, at, done: elapsed(), failed };
            diary.lock().expect(SOUND).note(told);
            now = elapsed();
        }
        // Only the first time there is somebody who waits, and room for it.
        let _ = begun.try_send(());
        let wait = agenda.next_due().map_or(LONG, |due| due.saturating_sub(elapsed()));
        match stopped.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return failures,
        }
    }
}

fn happen(inner: &Inner, event: &Event) -> Result<(), OrderError> {
    match (&event.what, event.path) {
        (Happening::Rebind(how), path) => inner.rebind_nat(path, *how),
        (Happening::Udp(policy), path) => inner.set_udp(path, *policy),
        (Happening::Capacity { up, down }, path) => inner.set_capacity(path, [up.clone(), down.clone()]),
        (Happening::Link { up }, Some(path)) => inner.set_link(path, *up),
        (Happening::Carrier { on }, Some(path)) => inner.set_carrier(path, *on),
        (Happening::Address { present }, Some(path)) => inner.set_address(path, *present),
        (Happening::Prefer, Some(path)) => inner.prefer(path),
        // Files that do not name the path are refused.
        (
            Happening::Link { .. }
            | Happening::Carrier { .. }
            | Happening::Address { .. }
            | Happening::Prefer,
            None,
        ) => Ok(()),
    }
}
