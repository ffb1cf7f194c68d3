//! The folder of a plan's results: the plan as it is run, and its cells.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::standing::{ATTEMPTS, Past, differing};
use crate::compare::cell::{Outcome, Spec};
use crate::compare::plan::Plan;

/// A folder that holds the results of one plan, and that nobody else works in as long as this lives.
pub(super) struct Folder {
    root: PathBuf,
    /// Locked.
    _plan: File,
}

impl Folder {
    /// Makes it, or opens one that holds results of the same plan. `text` is the plan's file, which is kept word for word where it
    /// says all of the plan.
    pub(super) fn open(root: &Path, plan: &Plan, text: &str) -> Result<Self> {
        let root = std::path::absolute(root).context("cannot tell where this is")?;
        let cells = root.join("cells");
        fs::create_dir_all(&cells).with_context(|| format!("cannot make {}", cells.display()))?;
        let path = root.join("plan.toml");
        let cannot = || format!("cannot open {}", path.display());
        // Without truncation: what stands there is compared first.
        let file = File::options().read(true).append(true).create(true).open(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another run works in {}; wait for it, or name another folder with --out",
                    root.display()
                )
            }
            Err(TryLockError::Error(why)) => return Err(why).with_context(cannot),
        }
        let there = fs::read_to_string(&path).with_context(cannot)?;
        if there.is_empty() {
            refuse_strangers(&cells)?;
            fs::write(&path, as_run(plan, text)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        } else {
            compare(plan, &there, &root)?;
        }
        Ok(Self { root, _plan: file })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where outcomes and samples are.
    pub(super) fn cells(&self) -> PathBuf {
        self.root.join("cells")
    }
}

/// What is there of a cell, first attempt first.
pub(super) fn outcomes(cell: &Spec) -> Result<Vec<Outcome>> {
    let attempts = (1..=ATTEMPTS).map(|attempt| Spec { attempt, ..cell.clone() });
    attempts.filter_map(|spec| read(&spec).transpose()).collect()
}

/// The same, as far as it decides what is still to be done.
pub(super) fn past(cell: &Spec) -> Result<Vec<Past>> {
    Ok(outcomes(cell)?.iter().map(Past::from).collect())
}

/// The outcome of an attempt; `None` where there is none, or only a part: the run was cut off while it was written.
pub(super) fn read(spec: &Spec) -> Result<Option<Outcome>> {
    let path = spec.outcome();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let outcome: Option<Outcome> = serde_json::from_str(&text).ok();
            Ok(outcome.filter(|_| spec.samples().exists()))
        }
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Outcomes that no plan tells of.
fn refuse_strangers(cells: &Path) -> Result<()> {
    let mut there = fs::read_dir(cells).with_context(|| format!("cannot read {}", cells.display()))?;
    if there.next().is_some() {
        bail!("{} holds cells of nobody knows which plan; name another folder with --out", cells.display());
    }
    Ok(())
}

/// The plan as it is run, as TOML.
fn as_run(plan: &Plan, text: &str) -> Result<String> {
    if toml::from_str::<Plan>(text).is_ok_and(|written| written == *plan) {
        return Ok(text.to_owned());
    }
    let changed = toml::to_string(plan).context("a plan is plain data")?;
    Ok(format!("# As it is run: with what the command line changed, and with whole paths.\n{changed}"))
}

fn compare(plan: &Plan, there: &str, root: &Path) -> Result<()> {
    let run: Plan = toml::from_str(there).with_context(|| {
        format!("{}/plan.toml is no plan; name another folder with --out", root.display())
    })?;
    if run != *plan {
        bail!(
            "{} holds results of another plan: {} differ; name another folder with --out, or run the plan that is there: \
             `carriageway-bench run {0}/plan.toml --out {0}`",
            root.display(),
            differing(&run, plan)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Why.\ntitle = 't'\nblocks = 1\nreference = 'a'\nfloor = 'a'\nsubjects = ['a']\n\
        [[link]]\nprofile = 'clean'\n[workload]\nseconds = 2\n";

    fn plan() -> Plan {
        toml::from_str(TEXT).unwrap()
    }

    #[test]
    fn a_plan_is_kept_word_for_word_and_found_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("a/b");
        let folder = Folder::open(&root, &plan(), TEXT).unwrap();
        assert_eq!(fs::read_to_string(root.join("plan.toml")).unwrap(), TEXT);
        let busy = Folder::open(&root, &plan(), TEXT).err().unwrap().to_string();
        assert!(busy.contains("another run works in"), "{busy}");
        drop(folder);
        Folder::open(&root, &plan(), "the same with other comments").unwrap();
    }

    #[test]
    fn what_the_command_line_changed_is_written_down() {
        let place = tempfile::tempdir().unwrap();
        let changed = plan().on_trace(&["/x.up".into(), "/x.down".into()]);
        drop(Folder::open(place.path(), &changed, TEXT).unwrap());
        let text = fs::read_to_string(place.path().join("plan.toml")).unwrap();
        assert_eq!(toml::from_str::<Plan>(&text).unwrap(), changed, "{text}");
        drop(Folder::open(place.path(), &changed, TEXT).unwrap());
    }

    #[test]
    fn another_plan_is_refused_and_so_are_cells_of_none() {
        let place = tempfile::tempdir().unwrap();
        drop(Folder::open(place.path(), &plan(), TEXT).unwrap());
        let other = Plan { blocks: 2, ..plan() };
        let told = Folder::open(place.path(), &other, TEXT).err().unwrap().to_string();
        assert!(told.contains("another plan: blocks differ") && told.contains("--out"), "{told}");
        let strange = tempfile::tempdir().unwrap();
        fs::create_dir_all(strange.path().join("cells/x")).unwrap();
        let told = Folder::open(strange.path(), &plan(), TEXT).err().unwrap().to_string();
        assert!(told.contains("nobody knows which plan"), "{told}");
    }
}
