//! Processes of our own, and what the kernel says of them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::usage::Usage;

/// A child that is told to stop gets this long to.
const FAREWELL: Duration = Duration::from_secs(20);

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
