//! Ending processes that a run started, and those that a killed run left: each carries the run's mark in its environment.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// The environment variable that marks what a run started.
const MARK: &str = "CARRIAGEWAY_NETEM_RUN";
/// How often one looks whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The mark of this run: process id and start time, which together never come again during one boot.
pub(super) fn mark() -> (&'static str, String) {
    let pid = getpid().as_raw_pid();
    (MARK, format!("{pid}-{}", start_time(pid).unwrap_or_default()))
}

/// Kills processes of runs that are no more.
pub(super) fn sweep() {
    for (pid, run) in marked() {
        if !is_alive(&run) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Asks the processes of this run to end, and kills those that do not within `grace`.
pub(super) async fn end_own(grace: Duration) {
    let (_, own) = mark();
    let signal_all = |signal| {
        let pids: Vec<_> = marked().into_iter().filter(|(_, run)| *run == own).map(|(pid, _)| pid).collect();
        for pid in &pids {
            // It may have ended by itself.
            let _ = kill_process(*pid, signal);
        }
        !pids.is_empty()
    };
    signal_all(Signal::TERM);
    let gone = async {
        while marked().iter().any(|(_, run)| *run == own) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(grace, gone).await.is_err() {
        // Again and again, because a process may be forking while it is looked for; not for ever, because one that hangs in the
        // kernel does not die.
        let killed = async {
            while signal_all(Signal::KILL) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(grace, killed).await;
    }
}

/// All living processes with a mark, and their run.
fn marked() -> Vec<(Pid, String)> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|raw| {
        let pid = Pid::from_raw(raw)?;
        let environment = fs::read(format!("/proc/{raw}/environ")).ok()?;
        let run = run_of(&environment)?;
        (pid != getpid()).then_some((pid, run))
    })
    .collect()
}

fn run_of(environment: &[u8]) -> Option<String> {
    let variables =
        environment.split(|byte| *byte == 0).filter_map(|variable| std::str::from_utf8(variable).ok());
    variables
        .filter_map(|variable| variable.split_once('='))
        .find(|(name, _)| *name == MARK)
        .map(|(_, run)| run.into())
}

/// Whether the process that made this mark still runs.
fn is_alive(run: &str) -> bool {
    let Some((pid, started)) = run.split_once('-') else { return true };
    let Ok(pid) = pid.parse() else { return true };
    start_time(pid).as_deref() == Some(started)
}

/// When a process started, in clock ticks since boot: field 22 of its `stat`, counted behind the name, which may hold spaces.
fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_the_living_from_the_dead() {
        let (name, own) = mark();
        assert!(is_alive(&own));
        assert!(!is_alive(&format!("{}-1", getpid().as_raw_pid())));
        assert!(is_alive("something else"));
        assert_eq!(run_of(format!("A=b\0{name}={own}\0C=d").as_bytes()), Some(own));
        assert_eq!(run_of(b"A=b\0"), None);
    }
}
