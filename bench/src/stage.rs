//! Where and by what a figure was measured: command line, commit, binary, machine.

use std::fs;
use std::process::Command;

use carriageway_netem::digest::sha256;
use serde::{Deserialize, Serialize};

/// By what a figure was measured. A process that others measure for says it once, for all of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// As typed.
    pub command_line: String,
    /// Short hash; `+` where files differ from it. Of the sources this was built from, if they are there: as they lie there now.
    pub commit: String,
    /// SHA-256 of the program itself: two with the same are the same build, whatever the sources have become meanwhile.
    pub binary_sha256: String,
}

impl Origin {
    /// Of this process.
    pub fn own() -> Self {
        let binary = fs::read("/proc/self/exe");
        Self {
            command_line: std::env::args().collect::<Vec<_>>().join(" "),
            commit: commit(),
            binary_sha256: binary.map_or_else(|_| "unknown".into(), |bytes| sha256([bytes])),
        }
    }
}

/// Said beside every result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stage {
    /// By what.
    #[serde(flatten)]
    pub origin: Origin,
    /// With or without optimisation.
    pub build: String,
    /// Kernel.
    pub kernel: String,
    /// Processor, and how many of it.
    pub processor: String,
    /// Load averages at the start: other work on the machine widens every tail.
    pub load: String,
}

impl Stage {
    /// Here and now.
    pub fn now() -> Self {
        Self::of(Origin::own())
    }

    /// Here and now, for a process that measures for another.
    pub fn of(origin: Origin) -> Self {
        Self {
            origin,
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: processor(),
            load: read("/proc/loadavg"),
        }
    }

    /// Three lines for people.
    pub fn lines(&self) -> String {
        let Self { origin, build, kernel, processor, load } = self;
        let Origin { command_line, commit, binary_sha256: _ } = origin;
        format!(
            "command: {command_line}\ncommit: {commit} ({build})\nmachine: {processor}, Linux {kernel}, load {load}"
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|changed| !changed.is_empty()) { hash + "+" } else { hash }
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let models = text.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let models: Vec<_> = models.map(|(_, name)| name.trim()).collect();
    models.first().map_or_else(|| "unknown".into(), |model| format!("{} x {model}", models.len()))
}
