//! One cell in a process of its own, which ends in time, or with this one.

use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use crate::compare::cell::Task;

/// What of a process's last words is told.
const LAST_WORDS: usize = 600;

/// How the process of a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It says that it has written its outcome.
    Well,
    /// It has not, and this is why.
    Badly(String),
    /// Somebody wants everything to end.
    Interrupted,
}

/// Whether somebody wants everything to end: each that has one is told.
pub(super) struct Interrupts([unix::Signal; 3]);

impl Interrupts {
    /// From now on; before, the process just ends.
    pub(super) fn listen() -> Result<Self> {
        let on = |kind| unix::signal(kind).context("cannot listen to signals");
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs a cell. It is killed, with all that it started in its group, when it takes longer than `limit`.
pub(super) async fn run(task: &Task, limit: Duration, interrupts: &mut Interrupts) -> Result<Ended> {
    let place = TempDir::new().context("cannot make a temporary directory")?;
    let (file, words) = (place.path().join("task.json"), place.path().join("words"));
    let json = serde_json::to_string(task).context("a task is plain data")?;
    fs::write(&file, json).context("cannot write the task of a cell")?;
    watch(start(place.path(), &file, &words)?, limit, &words, interrupts).await
}

async fn watch(
    mut child: Child,
    limit: Duration,
    words: &Path,
    interrupts: &mut Interrupts,
) -> Result<Ended> {
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    tokio::select! {
        biased;
        () = interrupts.next() => {
            drop(group);
            child.wait().await.context("cannot wait for a cell")?;
            Ok(Ended::Interrupted)
        }
        status = child.wait() => Ok(judge(status.context("cannot wait for a cell")?, words)),
        () = tokio::time::sleep(limit) => {
            drop(group);
            child.wait().await.context("cannot wait for a cell")?;
            let why = format!("the run had not ended after {} s and was killed{}", limit.as_secs(), last(words));
            Ok(Ended::Badly(why))
        }
    }
}

fn start(place: &Path, task: &Path, words: &Path) -> Result<Child> {
    let own = std::env::current_exe().context("cannot find this binary")?;
    let said = File::create(words).context("cannot write a temporary file")?;
    // The file that this process runs from, though another may stand in its place meanwhile: all cells are of one build.
    Command::new("/proc/self/exe")
        .arg0(own)
        .args(["cell", "--parent", &std::process::id().to_string(), "--task"])
        .arg(task)
        // What a killed one leaves behind goes with the task.
        .env("TMPDIR", place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        // A group of its own: what it starts can be ended with it, and Ctrl-C on the terminal reaches this process alone.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start this binary again")
}

/// The group of a cell: what the cell has started and not ended, such as a broker, goes with it, and with whoever watches it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Mostly there is nobody left.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn judge(status: ExitStatus, words: &Path) -> Ended {
    if status.success() {
        Ended::Well
    } else {
        Ended::Badly(format!("the run ended with {status}{}", last(words)))
    }
}

/// The end of what it said, in one line.
fn last(words: &Path) -> String {
    let said = fs::read(words).unwrap_or_default();
    let end = said.get(said.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
    let text = String::from_utf8_lossy(end).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Has the kernel end this process when `parent`, whose child it must be, does.
pub(in crate::compare) fn die_with(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie this process to its parent")?;
    // It may have died before the kernel was told.
    if getppid().map(|id| id.as_raw_nonzero().get().cast_unsigned()) != Some(parent) {
        bail!("the process {parent} that conducted this run is gone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::conduct::tests::outcome;
    use crate::stage::Origin;

    #[tokio::test]
    async fn a_process_that_fails_says_why() {
        // This binary is the test's own, which does not know what a cell is.
        let mut interrupts = Interrupts::listen().unwrap();
        let task = Task { spec: outcome(1, &[], &[], None).spec, origin: Origin::default() };
        let Ended::Badly(why) = run(&task, Duration::from_mins(1), &mut interrupts).await.unwrap() else {
            panic!("it cannot have ended well")
        };
        assert!(why.starts_with("the run ended with exit status: ") && why.contains("parent"), "{why}");
    }

    #[tokio::test]
    async fn a_process_that_takes_too_long_is_killed() {
        let mut interrupts = Interrupts::listen().unwrap();
        let child = Command::new("sleep").arg("600").process_group(0).kill_on_drop(true).spawn().unwrap();
        let words = Path::new("/nowhere");
        let Ended::Badly(why) = watch(child, Duration::ZERO, words, &mut interrupts).await.unwrap() else {
            panic!("it cannot have ended well")
        };
        assert!(why.contains("had not ended after 0 s and was killed"), "{why}");
    }

    #[test]
    fn nobody_lives_on_for_a_parent_that_is_not_theirs() {
        let told = die_with(u32::MAX).unwrap_err().to_string();
        assert!(told.contains("is gone"), "{told}");
    }
}
