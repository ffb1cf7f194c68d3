//! Processes of our own, and what the kernel says of them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

/// A child that is told to stop gets this long to.
const FAREWELL: Duration = Duration::from_secs(20);

/// Clock ticks per second in /proc (USER_HZ), the same on every Linux of today.
const TICKS: f64 = 100.0;

/// This binary in another role. It ends when its input does; it is killed when this is dropped.
pub(super) struct Child {
    child: tokio::process::Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    id: u32,
}

impl Child {
    pub(super) fn start(arguments: &[String]) -> Result<Self> {
        let binary = std::env::current_exe().context("cannot find this binary")?;
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start this binary again")?;
        let id = child.id().context("the child has ended at once")?;
        let output = child.stdout.take().context("the child has no output")?;
        let input = child.stdin.take();
        Ok(Self { child, input, output: BufReader::new(output).lines(), id })
    }

    /// The next line that the child says, as JSON.
    pub(super) async fn line<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        let next = tokio::time::timeout(patience, self.output.next_line());
        let line = next.await.context("it said nothing in time")??.context("it has ended")?;
        serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))
    }

    /// What the kernel says of it now.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::read(self.id)
    }

    /// Tells it to stop and waits.
    pub(super) async fn stop(mut self) -> Result<()> {
        drop(self.input.take());
        let status =
            tokio::time::timeout(FAREWELL, self.child.wait()).await.context("a child did not stop")??;
        if !status.success() {
            bail!("a child ended with {status}");
        }
        Ok(())
    }
}

/// A process's use of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) resident_kib: u64,
    pub(super) resident_most_kib: u64,
    /// CPU seconds, user and system.
    pub(super) cpu: f64,
}

impl Usage {
    fn read(id: u32) -> Result<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).context("the child is gone");
        let (status, stat) = (file("status")?, file("stat")?);
        Self::parse(&status, &stat).context("cannot read what the kernel says of the child")
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()
        };
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
        let rest: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = rest.get(11)?.parse::<f64>().ok()? + rest.get(12)?.parse::<f64>().ok()?;
        Some(Self { resident_kib: kib("VmRSS")?, resident_most_kib: kib("VmHWM")?, cpu: ticks / TICKS })
    }

    /// CPU seconds between two looks.
    pub(super) fn cpu_between(from: &Self, to: &Self) -> f64 {
        to.cpu - from.cpu
    }
}

/// Raises the limit of open files to `wanted` at least; what it is now.
pub(super) fn raise_open_files(wanted: u64) -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let now = limit.current.unwrap_or(u64::MAX);
    if now >= wanted {
        return Ok(now);
    }
    let raised = wanted.max(now).min(most);
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum })
        .context("cannot raise the limit of open files")?;
    if raised < wanted {
        bail!(
            "{wanted} open files are needed and {most} allowed: run `ulimit -Hn {wanted}` as root first, or fewer vehicles"
        );
    }
    Ok(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let status = "Name:\tbench\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t3\n";
        let stat = "77 (a name) with) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        let usage = Usage::parse(status, stat).unwrap();
        assert_eq!(usage, Usage { resident_kib: 10_240, resident_most_kib: 20_480, cpu: 3.0 });
        assert_eq!(Usage::parse("", stat), None);
        assert_eq!(Usage::parse(status, "77 (short) S"), None);
    }

    #[test]
    fn this_process_has_a_usage() {
        assert!(Usage::read(std::process::id()).unwrap().resident_kib > 0);
    }
}
