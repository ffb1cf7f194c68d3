//! Results as a plan leaves them, made up: for tests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::compare::cell::{Outcome, Spec, write_samples};
use crate::compare::workload::{Heard, Kind, Schedule, Workload};

/// What a cell was like.
pub(in crate::compare) struct Sample {
    pub(in crate::compare) label: &'static str,
    pub(in crate::compare) block: u32,
    pub(in crate::compare) attempt: u32,
    pub(in crate::compare) seed: u64,
    /// From due to heard, in milliseconds, of everything.
    pub(in crate::compare) way: f64,
    /// Nothing arrives.
    pub(in crate::compare) is_silent: bool,
    pub(in crate::compare) faults: Vec<String>,
}

impl Sample {
    pub(in crate::compare) fn of(label: &'static str, block: u32) -> Self {
        let seed = u64::from(block);
        Self { label, block, attempt: 1, seed, way: 20.0, is_silent: false, faults: Vec::new() }
    }

    pub(in crate::compare) fn spec(&self, folder: &Path) -> Spec {
        let workload = if self.label == "floor" { load().without_files() } else { load() };
        let spec = json!({
            "name": format!("clean-b{}-{}", self.block, self.label.to_lowercase().replace('/', "-")),
            "subject": self.label, "label": self.label,
            "link": { "name": "clean", "profile": "clean", "trace": null },
            "workload": workload, "block": self.block, "seed": self.seed, "realtime": false,
            "attempt": self.attempt, "folder": folder,
        });
        serde_json::from_value(spec).unwrap()
    }

    fn heard(&self, spec: &Spec) -> Vec<Heard> {
        let schedule = Schedule::new(&spec.workload, spec.seed);
        let way = Duration::from_secs_f64(self.way / 1e3);
        let mut heard = Vec::new();
        for (kind, due_as, ways) in [
            (Kind::Control, Kind::Control, 1),
            (Kind::Telemetry, Kind::Telemetry, 1),
            (Kind::Command, Kind::Command, 1),
            (Kind::Ack, Kind::Command, 2),
        ] {
            let due = schedule.of(due_as).into_iter();
            let arrival =
                |(number, due)| Heard { vehicle: 1, kind, number, bytes: 100, at: due + way * ways };
            heard.extend(due.map(arrival));
        }
        if self.is_silent { Vec::new() } else { heard }
    }

    fn write(&self, folder: &Path) {
        let spec = self.spec(folder);
        let traffic = json!({ "offered_bytes": 9_000, "delivered_bytes": 9_000, "offered_packets": 9, "delivered_packets": 9 });
        let outcome = json!({
            "spec": spec,
            "facts": { "title": "T", "version": "1", "setup": "", "manner": "newest-first" },
            "stage": { "command_line": "", "commit": "abc", "binary_sha256": "feed", "build": "", "kernel": "", "processor": "", "load": "" },
            "notes": ["a note"], "faults": self.faults, "failures": [], "connected_ms": 50.0,
            "shed": [{ "replaced": 0, "overflowed": 0 }, { "replaced": 0, "overflowed": 0 }],
            "cost": { "cpu_ms": 100.0, "memory_kib": 1_000 }, "traffic": [traffic, traffic],
            "link_sha256": format!("clean under {}", self.seed), "netem": null,
        });
        let outcome: Outcome = serde_json::from_value(outcome).unwrap();
        write_samples(&spec.samples(), &self.heard(&spec)).unwrap();
        fs::write(spec.outcome(), serde_json::to_string(&outcome).unwrap()).unwrap();
    }
}

pub(in crate::compare) fn load() -> Workload {
    Workload { seconds: 3.0, commands_hz: 10.0, ..Workload::default() }
}

/// Writes plan (with `more` at its end) and cells; subjects are those of the samples.
pub(in crate::compare) fn result(folder: &Path, more: &str, samples: &[Sample]) {
    let plan = format!(
        "title = 'T'\nblocks = 6\nreference = 'a'\nfloor = 'a'\nsubjects = ['b', 'a']\n\
         [workload]\nseconds = 3.0\ncommands_hz = 10.0\n[[link]]\nprofile = 'clean'\n{more}"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let cells = folder.join("cells");
    fs::create_dir_all(&cells).unwrap();
    for sample in samples {
        sample.write(&cells);
    }
}
