//! Child processes that never outlive their test, their logs, and ports for them.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// One of the workspace's programs, built beside this test's own binary.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// A running child. Dropping it kills it.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `name` with nothing of this process's environment; all it says is added to `log`.
    pub(crate) fn start(name: &str, directory: &Path, log: &Path, arguments: &[String]) -> Self {
        let said = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let also: File = said.try_clone().unwrap();
        let child = Command::new(program(name))
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(also)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// SIGKILL: no goodbye, no last write.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, without waiting for what follows.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// The end that it comes to by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        until("a child ends by itself", async || !self.is_running()).await;
        self.0.wait().unwrap()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to be done for it.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Below the ports that the kernel gives to clients, so that none is taken while its owner restarts.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A loopback port that is free for TCP and UDP alike.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let begin = u16::try_from(std::process::id() % 300).unwrap() * 40;
    for _ in 0..PORTS {
        let port = FIRST_PORT + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
