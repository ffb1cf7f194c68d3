//! What a cell is, and what came of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use carriageway_netem::testbed::report::LATENESS_WORST_LIMIT;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::subjects::Facts;
use crate::compare::workload::{Shed, Workload};
use crate::stage::{Origin, Stage};
use crate::usage::Usage;

/// The link of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// What tables call it.
    pub name: String,
    /// A built-in profile, or the path of a file.
    pub profile: String,
    /// Recorded capacity in its place, up and down, as paths of files.
    pub trace: Option<[PathBuf; 2]>,
}

/// Everything that one run follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Unique within its plan, fit for a file's name.
    pub name: String,
    /// The subject's name.
    pub subject: String,
    /// How it stands in tables: the same as the subject, but for a control.
    pub label: String,
    /// The link.
    pub link: Link,
    /// The load.
    pub workload: Workload,
    /// Counted from one; all cells of a block and a link have the same seed.
    pub block: u32,
    /// Draws weather and workload.
    pub seed: u64,
    /// Whether the emulator runs under SCHED_FIFO.
    pub realtime: bool,
    /// How late the emulator may be once before the run is void, in milliseconds.
    #[serde(default = "late_once_ms")]
    pub late_once_ms: u16,
    /// In virtual time, instead of between namespaces.
    #[serde(default)]
    pub is_virtual: bool,
    /// Counts from one; the ones before were void.
    pub attempt: u32,
    /// Where outcome and samples go.
    pub folder: PathBuf,
}

/// What the process of a cell is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// What to run.
    pub spec: Spec,
    /// For whom: a cell is the work of the run that ordered it.
    pub origin: Origin,
}

/// Half of a period of 50 Hz, as the emulator has it where nothing is said.
pub const fn late_once_ms() -> u16 {
    LATENESS_WORST_LIMIT.as_millis() as u16
}

impl Spec {
    /// How late the emulator may be once before the run is void.
    pub fn late_once(&self) -> Duration {
        Duration::from_millis(self.late_once_ms.into())
    }

    /// The file of the outcome.
    pub fn outcome(&self) -> PathBuf {
        self.folder.join(format!("{}-{}.json", self.name, self.attempt))
    }

    /// The file of the samples.
    pub fn samples(&self) -> PathBuf {
        self.samples_in(&self.folder)
    }

    /// The same where the results have been moved to `folder`.
    pub fn samples_in(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.csv.gz", self.name, self.attempt))
    }
}

/// What the link carried in one direction, IP headers included, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes that the subject sent.
    pub offered_bytes: u64,
    /// Bytes that arrived.
    pub delivered_bytes: u64,
    /// Packets that the subject sent.
    pub offered_packets: u64,
    /// Packets that arrived.
    pub delivered_packets: u64,
}

/// A side of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The vehicle.
    Vehicle,
    /// The gateway.
    Gateway,
}

/// What the subject took of the machine, both ends together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time in milliseconds, without the emulator's and the workload's own.
    pub cpu_ms: f64,
    /// Most memory over what there was before the subject started, in KiB.
    pub memory_kib: u64,
}

impl Cost {
    /// Of this process and the children that it has waited for, since it had `before` KiB.
    pub(in crate::compare) fn since(before: &Usage, now: &Usage, report: &Value, hand: Duration) -> Self {
        let all = Usage::cpu_between(before, now) + now.children_cpu - before.children_cpu;
        let emulator = report["cpu_us"].as_f64().unwrap_or_default() / 1e6;
        let cpu_ms = ((all - emulator - hand.as_secs_f64()) * 1e3).max(0.0);
        Self { cpu_ms, memory_kib: now.resident_most_kib.saturating_sub(before.resident_kib) }
    }
}

/// What came of a cell. The samples are in a file beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub spec: Spec,
    /// What the subject is.
    pub facts: Facts,
    /// Where and by what.
    pub stage: Stage,
    /// What the subject said of itself.
    pub notes: Vec<String>,
    /// Why it must not be counted, by the rule that was fixed before any run. Empty where it may.
    pub faults: Vec<String>,
    /// What went wrong with the subject itself, which counts.
    pub failures: Vec<String>,
    /// From the vehicle's first packet; `None` where it was not connected when the workload began. Of several vehicles the last one's.
    pub connected_ms: Option<f64>,
    /// What never reached the subject, up and down.
    pub shed: [Shed; 2],
    /// What it took of the machine.
    pub cost: Cost,
    /// What the link carried, up and down.
    pub traffic: [Traffic; 2],
    /// Bytes that a rival on the same link received in each tenth of a second of the transfer; empty where there was none.
    #[serde(default)]
    pub rival: Vec<u64>,
    /// Of what the link was: laws, seed and events as they happened.
    pub link_sha256: String,
    /// The emulator's own report.
    pub netem: Value,
}

impl Outcome {
    /// Whether it counts.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}
