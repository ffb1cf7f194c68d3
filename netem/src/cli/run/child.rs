//! Processes inside a namespace.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::Moment;
use carriageway_netem::testbed::Namespace;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::pipe::PipeFlags;
use rustix::thread::UnshareFlags;

use super::keeper::Home;

pub(super) use tokio::process::Child;

/// The hidden subcommand by which this program starts others.
const ENTER: &str = "enter";
/// The environment variable that holds when the clock started, in nanoseconds of `CLOCK_MONOTONIC`.
const START: &str = "NETEM_START_NS";
/// How long the network's side may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(20);
/// How often one looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// State of a listening TCP socket in `/proc/net/tcp`; an unconnected UDP socket has 07.
const TCP_LISTEN: &str = "0A";
const UDP_OPEN: &str = "07";

/// Starts `command` in `side`. It lives in the keeper's namespace, and begins when `gate` opens, if there is one.
pub(super) fn start(
    side: &Namespace,
    home: Home,
    gate: Option<&Gate>,
    command: &[OsString],
    environment: &[(&str, String)],
    stdin: Stdio,
) -> anyhow::Result<Child> {
    let myself = std::env::current_exe().context("this program cannot find itself")?;
    let mut starting = Command::new(myself);
    starting.stdin(stdin).arg(ENTER);
    if let Some(gate) = gate {
        starting.arg("--gate").arg(gate.number().to_string());
    }
    starting.arg("--").args(command);
    starting.envs(environment.iter().map(|(name, value)| (name, value)));
    let runtime = tokio::runtime::Handle::current();
    let spawn = move || {
        home.enter()?;
        let _entered = runtime.enter();
        tokio::process::Command::from(starting).kill_on_drop(true).spawn()
    };
    // A process inherits the namespace of the thread that starts it; that thread is good for nothing else afterwards.
    let started = side.within(|| thread::spawn(spawn).join());
    Ok(started.expect("the starting thread does not panic")?)
}

/// Holds commands back until all are there, so that they begin together.
pub(super) struct Gate {
    /// Inherited by the commands.
    inner: OwnedFd,
    outer: File,
}

impl Gate {
    pub(super) fn new() -> io::Result<Self> {
        let (inner, outer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfd(&inner, FdFlags::empty())?;
        Ok(Self { inner, outer: outer.into() })
    }

    fn number(&self) -> i32 {
        self.inner.as_raw_fd()
    }

    /// Lets `commands` commands begin and tells them when the clock started.
    pub(super) fn open(mut self, commands: usize, start: Moment) -> io::Result<()> {
        (0..commands).try_for_each(|_| self.outer.write_all(&start.as_nanos().to_ne_bytes()))
    }

    /// Waits at the gate with this number; gives when the clock started. Closes it.
    fn pass(number: i32) -> io::Result<Moment> {
        #[allow(unsafe_code, reason = "a file descriptor that was inherited is known by its number only")]
        // SAFETY: whoever started this process opened it for this purpose, and nobody else here uses it.
        let mut gate = unsafe { File::from_raw_fd(number) };
        let mut start = [0; 8];
        gate.read_exact(&mut start)?;
        Ok(Moment::from_nanos(u64::from_ne_bytes(start)))
    }
}

/// Becomes `command` in a PID namespace, once the gate opens.
pub(super) fn enter(gate: Option<i32>, command: &[OsString]) -> anyhow::Error {
    let Some((program, arguments)) = command.split_first() else {
        return anyhow::anyhow!("no command to enter");
    };
    // Where it is refused, process numbers in /proc are those of the host, which matters to few.
    let _ = own_proc();
    let mut becoming = Command::new(program);
    becoming.args(arguments);
    match gate.map(Gate::pass).transpose() {
        Ok(start) => becoming.envs(start.map(|start| (START, start.as_nanos().to_string()))),
        Err(error) => return anyhow::Error::new(error).context("the run ended before it began"),
    };
    let failed = becoming.exec();
    anyhow::Error::new(failed).context(format!("{} cannot be started", program.display()))
}

/// Gives this process a `/proc` that shows its own PID namespace.
fn own_proc() -> io::Result<()> {
    #[allow(unsafe_code, reason = "unshare is unsafe only with UnshareFlags::FILES")]
    // SAFETY: the file descriptor table stays shared.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// The exit code as a shell would give it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A port to wait for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    protocol: &'static str,
    number: u16,
}

impl Port {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = "write tcp:PORT or udp:PORT, like tcp:8000";
        let (protocol, number) = text.split_once(':').ok_or(wanted)?;
        let protocol = ["tcp", "udp"].into_iter().find(|known| *known == protocol).ok_or(wanted)?;
        Ok(Self { protocol, number: number.parse().map_err(|_| wanted)? })
    }

    /// Whether something in the calling thread's namespace has this port open.
    fn is_open(self) -> bool {
        let state = if self.protocol == "tcp" { TCP_LISTEN } else { UDP_OPEN };
        let port = format!(":{:04X}", self.number);
        ["", "6"].iter().any(|family| {
            let table = std::fs::read_to_string(format!("/proc/thread-self/net/{}{family}", self.protocol));
            table.is_ok_and(|table| table.lines().any(|line| shows(line, &port, state)))
        })
    }
}

/// A line of `/proc/net/tcp`: number, local address, remote address, state, ...
fn shows(line: &str, port: &str, state: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().is_some_and(|address| address.ends_with(port));
    local && fields.nth(1) == Some(state)
}

/// Waits until the network's side listens on `port`.
pub(super) async fn listening(net: &Namespace, port: Port, servers: &mut [&mut Child]) -> anyhow::Result<()> {
    let Port { protocol, number } = port;
    let wait = async {
        while !net.within(move || port.is_open()) {
            for server in servers.iter_mut() {
                if let Some(status) = server.try_wait()? {
                    return Err(io::Error::other(format!("a --net-side command ended first ({status})")));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(LISTEN_WITHIN, wait)
        .await
        .with_context(|| {
            format!("--wait-for {protocol}:{number}: nothing listens there after {LISTEN_WITHIN:?}")
        })?
        .with_context(|| format!("--wait-for {protocol}:{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found() {
        let line =
            "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1";
        assert!(shows(line, ":1F40", TCP_LISTEN));
        assert!(!shows(line, ":1F41", TCP_LISTEN));
        assert!(!shows(&line.replace(" 0A ", " 01 "), ":1F40", TCP_LISTEN));
    }
}
