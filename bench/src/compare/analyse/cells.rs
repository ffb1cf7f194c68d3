//! The cells of a folder: which of them count.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Remark;
use crate::compare::cell::Outcome;
use crate::compare::plan::Plan;
use crate::stage::{Origin, Stage};

/// All cells of a folder.
pub(super) struct Cells {
    /// The latest that counts of each link, block and label.
    pub(super) valid: Vec<Outcome>,
    /// Those that do not, with their faults.
    pub(super) void: Vec<(String, Vec<String>)>,
    /// What could not be read or does not belong.
    pub(super) remarks: Vec<Remark>,
    /// Where and by what.
    pub(super) stage: Stage,
}

impl Cells {
    /// Fails where no cell can be read.
    pub(super) fn read(folder: &Path, plan: &Plan) -> Result<Self> {
        let mut remarks = Vec::new();
        let mut remark = |words: String| remarks.push((String::new(), String::new(), words));
        let (mut latest, mut void, mut stage) = (BTreeMap::new(), Vec::new(), None::<Stage>);
        for path in outcomes(folder)? {
            let outcome = match read(&path) {
                Ok(outcome) => outcome,
                Err(error) => {
                    remark(format!("left out: {error:#}"));
                    continue;
                }
            };
            let (origin, known) = (&outcome.stage.origin, stage.as_ref().map(|stage| &stage.origin));
            if let Some(known) = known.filter(|known| known.binary_sha256 != origin.binary_sha256) {
                let of = |origin: &Origin| {
                    let digest: String = origin.binary_sha256.chars().take(12).collect();
                    format!("{digest} (commit {})", origin.commit)
                };
                remark(format!("not all of one build: {} and {}", of(known), of(origin)));
            }
            stage.get_or_insert_with(|| outcome.stage.clone());
            let spec = &outcome.spec;
            if spec.workload != plan.workload && spec.workload != plan.workload.without_files() {
                remark(format!("left out: {} was run under another load than the plan's", path.display()));
            } else if outcome.is_valid() {
                let key = (spec.link.name.clone(), spec.block, spec.label.clone());
                let newer = latest.get(&key).is_none_or(|known: &Outcome| known.spec.attempt < spec.attempt);
                if newer {
                    latest.insert(key, outcome);
                }
            } else {
                void.push((format!("{}-{}", spec.name, spec.attempt), outcome.faults));
            }
        }
        let stage = stage.with_context(|| {
            format!("there is no cell in {} that can be read; run the plan first", folder.display())
        })?;
        let valid: Vec<_> = latest.into_values().collect();
        remarks.extend(other_weather(&valid));
        Ok(Self { valid, void, remarks, stage })
    }
}

/// By name.
fn outcomes(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read {}", folder.display());
    let entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).with_context(cannot)?;
    let paths = entries.into_iter().map(|entry: fs::DirEntry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Outcome> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no outcome of a cell", path.display()))
}

/// Cells of a block whose link was not that of the others: their differences are the link's, too.
fn other_weather(valid: &[Outcome]) -> Vec<Remark> {
    let mut first = BTreeMap::new();
    let mut remarks = Vec::new();
    for Outcome { spec, link_sha256, .. } in valid {
        let known = *first.entry((&spec.link.name, spec.block)).or_insert((link_sha256, spec.seed));
        if known != (link_sha256, spec.seed) {
            let words = format!(
                "met another link in block {} than the others: its differences there mean little",
                spec.block
            );
            remarks.push((spec.label.clone(), spec.link.name.clone(), words));
        }
    }
    remarks
}
