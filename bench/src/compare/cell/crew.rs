//! Threads in which ends work, each in its namespace.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use carriageway_netem::clock;
use carriageway_netem::core::Moment;
use carriageway_netem::testbed::Namespace;
use tokio::sync::mpsc;

use crate::compare::subjects::{Reach, Work};
use crate::compare::timeline::Timeline;

/// An end that does not stop within this is left to the end of the process: what it has heard is known by then.
const STOPS: Duration = Duration::from_secs(5);

/// How often one looks who is ready.
const GLANCE: Duration = Duration::from_millis(2);

/// Where an end says that it is ready.
pub(super) type Ready = mpsc::Receiver<Reach>;

/// One thread and what works on it.
pub(super) struct Crew {
    /// For people.
    name: String,
    thread: JoinHandle<Result<()>>,
    /// Nothing is ever sent: it is dropped when the thread ends, however it does.
    ended: Receiver<()>,
    started: Moment,
}

impl Crew {
    /// Starts it in a namespace, on a runtime of one thread.
    pub(super) fn start(
        namespace: &Namespace,
        thread: &'static str,
        name: String,
        work: impl FnOnce() -> Work + Send + 'static,
    ) -> Result<Self> {
        let (tell, ended) = sync_channel::<()>(0);
        let started = clock::now();
        let body = move || {
            // Dropped when the thread ends.
            let _ending = tell;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start a runtime")?;
            let done = runtime.block_on(work());
            // What a library left running may not keep the run from ending.
            runtime.shutdown_timeout(Duration::from_secs(1));
            done
        };
        // A thread inherits the namespace of the one that starts it.
        let spawned = namespace.within(move || std::thread::Builder::new().name(thread.into()).spawn(body));
        Ok(Self { name, thread: spawned.context("cannot start a thread")?, ended, started })
    }

    /// What each of its parts said when it was ready.
    pub(super) fn listens(&self, parts: &mut [Ready], patience: Duration) -> Result<Vec<Reach>> {
        let deadline = clock::now() + patience;
        let wait = |part: &mut Ready| loop {
            if let Ok(reach) = part.try_recv() {
                return Ok(reach);
            }
            let left = deadline.since(clock::now());
            if left.is_zero() {
                bail!("it did not listen in time");
            }
            // Why is told once it is joined.
            if self.ended_within(left.min(GLANCE)) {
                bail!("it ended before it was ready");
            }
        };
        parts.iter_mut().map(wait).collect()
    }

    fn ended_within(&self, patience: Duration) -> bool {
        !matches!(self.ended.recv_timeout(patience), Err(RecvTimeoutError::Timeout))
    }

    fn has_ended(&self) -> bool {
        !matches!(self.ended.try_recv(), Err(TryRecvError::Empty))
    }

    fn finish(self, deadline: Moment) -> Result<()> {
        if !self.ended_within(deadline.since(clock::now())) {
            bail!("it did not stop within {} s", STOPS.as_secs());
        }
        self.thread.join().map_err(|_| anyhow!("it panicked"))?
    }
}

/// How long each took until it was connected; `None` where it was not when the workload began. Where one has ended already, why is
/// told at the end, as a failure of the subject's: that counts.
pub(super) fn connected(crews: &[Crew], ready: &mut [Ready], timeline: &Timeline) -> Vec<Option<Duration>> {
    let mut took = vec![None; crews.len()];
    loop {
        let mut waits = false;
        for ((crew, ready), took) in crews.iter().zip(&mut *ready).zip(&mut took) {
            if took.is_none() && ready.try_recv().is_ok() {
                *took = Some(clock::now().since(crew.started));
            }
            waits |= took.is_none() && !crew.has_ended();
        }
        let left = timeline.until(Duration::ZERO);
        if !waits || left.is_zero() {
            return took;
        }
        std::thread::sleep(left.min(GLANCE));
    }
}

/// What went wrong with these, once they are told to stop: all of them have the same time for it.
pub(super) fn failures(crews: Vec<Crew>) -> Vec<String> {
    let deadline = clock::now() + STOPS;
    let of = |crew: Crew| {
        let name = crew.name.clone();
        crew.finish(deadline).err().map(|error| format!("{name} failed: {error:#}"))
    };
    crews.into_iter().filter_map(of).collect()
}
