//! The thread that makes a scenario's events happen.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use super::{Inner, OrderError};
use crate::clock;
use crate::profile::{Agenda, Event, Happening};

/// How long the director sleeps when nothing is left to do.
const LONG: Duration = Duration::from_hours(24);

/// Ends the thread when dropped.
pub(super) struct Director {
    stop: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<Vec<String>>>,
}

impl Director {
    /// Returns once everything that is due at the start has happened.
    pub(super) fn start(inner: Arc<Inner>, events: Vec<Event>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let (begun, beginning) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("netem-director".into())
            .spawn(move || direct(&inner, Agenda::new(events), &stopped, &begun))?;
        // Fails only if the thread is gone, which shows when it is joined.
        let _ = beginning.recv();
        Ok(Self { stop: Some(stop), thread: Some(thread) })
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

fn direct(inner: &Inner, mut agenda: Agenda, stopped: &Receiver<()>, begun: &SyncSender<()>) -> Vec<String> {
    let mut failures = Vec::new();
    loop {
        let elapsed = clock::now().since(inner.start);
        while let Some(event) = agenda.pop(elapsed) {
            if let Err(error) = happen(inner, &event) {
                failures.push(format!("event {} at {:?} failed: {error}", event.what.name(), event.at));
            }
        }
        // Only the first time there is somebody who waits, and room for it.
        let _ = begun.try_send(());
        let wait = agenda.next_due().map_or(LONG, |due| due.saturating_sub(clock::now().since(inner.start)));
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
