//! Network namespaces without names: each lives as long as a thread or process in it, so nothing is left behind.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use rustix::thread::UnshareFlags;

/// Jobs that may wait for a namespace's thread.
const MOST_JOBS: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of our own, and a thread that lives in it.
///
/// Sockets opened and processes started by [`Self::within`] belong to the namespace for good, wherever they are used later.
pub struct Namespace {
    jobs: Option<SyncSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Namespace {
    /// Makes an empty namespace. Needs `CAP_SYS_ADMIN` in the current user namespace.
    pub(super) fn make(name: &str) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::sync_channel::<Job>(MOST_JOBS);
        let (made, making) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let entered = enter_new();
            let failed = entered.is_err();
            // The maker waits for this.
            let _ = made.send(entered);
            if failed {
                return;
            }
            while let Ok(job) = inbox.recv() {
                job();
            }
        })?;
        making.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` on the thread in this namespace and waits for its result. Jobs of one namespace run one after another, so what
    /// takes long starts a thread of its own from within: threads inherit the namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, doing) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || drop(done.send(work())));
        let jobs = self.jobs.as_ref().expect("a namespace has its thread until it is dropped");
        jobs.send(job).expect("a namespace's thread takes jobs until it is dropped");
        doing.recv().expect("a job within a namespace does not panic")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A job that panicked has already failed its caller.
            let _ = thread.join();
        }
    }
}

fn enter_new() -> io::Result<()> {
    #[allow(unsafe_code, reason = "unshare is unsafe only with UnshareFlags::FILES")]
    // SAFETY: the file descriptor table stays shared.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?)
    }
}
