//! Processes inside a namespace.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::testbed::Namespace;
use rustix::process::{Signal, set_parent_process_death_signal};

pub(super) use tokio::process::Child;

/// The hidden subcommand by which this program starts others.
const ENTER: &str = "enter";
/// How long the network's side may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(20);
/// How often one looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// State of a listening TCP socket in `/proc/net/tcp`; an unconnected UDP socket has 07.
const TCP_LISTEN: &str = "0A";
const UDP_OPEN: &str = "07";

/// Starts `command` in `side`. It is killed if this process dies.
pub(super) fn start(
    side: &Namespace,
    command: &[OsString],
    environment: &[(&str, String)],
    stdin: Stdio,
) -> anyhow::Result<Child> {
    let myself = std::env::current_exe().context("this program cannot find itself")?;
    let mut starting = Command::new(myself);
    starting.stdin(stdin).arg(ENTER).arg("--").args(command);
    starting.envs(environment.iter().map(|(name, value)| (name, value)));
    let runtime = tokio::runtime::Handle::current();
    // A process inherits the namespace of the thread that starts it.
    let started = side.within(move || {
        let _entered = runtime.enter();
        tokio::process::Command::from(starting).kill_on_drop(true).spawn()
    });
    Ok(started?)
}

/// Becomes `command`, which gets a SIGKILL when the thread that started it ends.
pub(super) fn enter(command: &[OsString]) -> anyhow::Error {
    let Some((program, arguments)) = command.split_first() else {
        return anyhow::anyhow!("no command to enter");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    let failed = Command::new(program).args(arguments).exec();
    anyhow::Error::new(failed).context(format!("{} cannot be started", program.display()))
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
pub(super) async fn listening(net: &Namespace, port: Port, servers: &mut [Child]) -> anyhow::Result<()> {
    let Port { protocol, number } = port;
    let wait = async {
        while !net.within(move || port.is_open()) {
            for server in &mut *servers {
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
