//! The first process of a PID namespace in which all endpoints live: when it ends, the kernel kills them all, whatever they did to
//! their environment, their session or their parents. It ends when this program does, however that happens.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::clock;

/// The hidden subcommand that is the namespace's first process.
const KEEP: &str = "keep";
/// How long endpoints may take to end after they were asked to.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may take to kill those that did not.
const KILL_WITHIN: Duration = Duration::from_secs(3);
/// How often one looks whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A PID namespace of our own.
pub(super) struct Keeper {
    process: Child,
    /// Closed by the kernel when this program ends, which ends the keeper.
    orders: ChildStdin,
    namespace: OwnedFd,
}

/// Where to start processes that the keeper keeps.
#[derive(Debug)]
pub(super) struct Home(OwnedFd);

impl Keeper {
    /// Makes the namespace. To be called within a runtime.
    pub(super) fn start() -> anyhow::Result<Self> {
        let myself = std::env::current_exe().context("this program cannot find itself")?;
        let runtime = tokio::runtime::Handle::current();
        // A thread whose children live in another PID namespace cannot start threads: it is used up by this.
        let started = thread::spawn(move || {
            let _entered = runtime.enter();
            unshare_processes()?;
            let mut keep = Command::new(myself);
            keep.arg(KEEP).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
            let process = keep.spawn()?;
            // The name says where children go, and stands for something once there is one.
            let namespace = std::fs::File::open("/proc/thread-self/ns/pid_for_children")?;
            io::Result::Ok((process, namespace.into()))
        });
        let started = started.join().expect("the starting thread does not panic");
        let (mut process, namespace) =
            started.context("making a PID namespace, so that nothing outlives the run")?;
        let orders = process.stdin.take().expect("the keeper's input is piped");
        Ok(Self { process, orders, namespace })
    }

    /// Where endpoints are started.
    pub(super) fn home(&self) -> io::Result<Home> {
        Ok(Home(self.namespace.try_clone()?))
    }

    /// Asks all endpoints to end, kills those that do not within the grace, and waits for `children`, those that we started.
    pub(super) async fn end(mut self, children: impl Iterator<Item = &mut Child>) {
        // If the keeper is gone, so are they.
        let _ = self.orders.write_all(b"end").await;
        let all_gone = async {
            // Those that have ended are counted as long as nobody asks for their exit codes.
            for child in children {
                let _ = child.wait().await;
            }
            let _ = self.process.wait().await;
        };
        if tokio::time::timeout(GRACE + KILL_WITHIN, all_gone).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

impl Home {
    /// Makes the calling thread's children live there. It can start no threads afterwards.
    pub(super) fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::ProcessID))?)
    }
}

fn unshare_processes() -> io::Result<()> {
    #[allow(unsafe_code, reason = "unshare is unsafe only with UnshareFlags::FILES")]
    // SAFETY: the file descriptor table stays shared.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWPID)?)
    }
}

/// What the first process of the namespace does: it reaps orphans, and waits for the word to end everything or for the end of
/// its input, which means that the run was killed. The rest is the kernel's work.
pub(super) fn keep() -> io::Result<()> {
    #[allow(unsafe_code, reason = "rustix does not set signal dispositions")]
    // SAFETY: no handler is installed; children that end are reaped by the kernel.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    if io::stdin().read(&mut [0; 16])? == 0 {
        return Ok(());
    }
    let patience = clock::now() + GRACE;
    let mut others = signal_all(libc::SIGTERM);
    while others && clock::now() < patience {
        clock::sleep_until(clock::now() + LOOK_EVERY);
        others = signal_all(0);
    }
    Ok(())
}

/// Signals every other process of the namespace; tells whether there is one.
fn signal_all(signal: libc::c_int) -> bool {
    #[allow(unsafe_code, reason = "rustix does not signal everybody")]
    // SAFETY: kill takes two numbers; minus one means everybody whom we may signal: here the namespace, because this is its first
    // process.
    unsafe {
        rustix::process::getpid().is_init() && libc::kill(-1, signal) == 0
    }
}
