//! What is still to be done for a cell, by what there is of it. Pure.

use std::path::PathBuf;

use crate::compare::cell::{Outcome, Spec};

/// A cell is run so often until it is valid: fixed before any run, like the limits that make one void.
pub const ATTEMPTS: u32 = 3;

/// One run of a cell that came to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// What was run.
    pub spec: Spec,
    /// Whether it counts.
    pub is_valid: bool,
}

impl From<&Outcome> for Past {
    fn from(outcome: &Outcome) -> Self {
        Self { spec: outcome.spec.clone(), is_valid: outcome.is_valid() }
    }
}

/// How a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A valid run is there.
    Done,
    /// Void as often as may be; it is listed and stays so.
    Exhausted,
    /// To be run, as this attempt.
    Next(u32),
}

/// The folder holds something else under a cell's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is of another run: its {differs} differ; name another folder with --out, or move that one away",
    file.display()
)]
pub struct Alien {
    /// Its outcome.
    pub file: PathBuf,
    /// What of it.
    pub differs: String,
}

/// How the cell of `spec` stands where `past` is there of it.
pub fn standing(spec: &Spec, past: &[Past]) -> Result<Standing, Alien> {
    for one in past {
        let as_there = Spec { attempt: one.spec.attempt, folder: one.spec.folder.clone(), ..spec.clone() };
        if as_there != one.spec {
            let file = Spec { attempt: one.spec.attempt, ..spec.clone() }.outcome();
            return Err(Alien { file, differs: differing(&as_there, &one.spec) });
        }
    }
    if past.iter().any(|one| one.is_valid) {
        return Ok(Standing::Done);
    }
    // An attempt that was cut off left nothing, and is made again.
    let missing = (1..=ATTEMPTS).find(|attempt| past.iter().all(|one| one.spec.attempt != *attempt));
    Ok(missing.map_or(Standing::Exhausted, Standing::Next))
}

/// Names of the fields in which two values differ.
pub(super) fn differing<T: serde::Serialize>(one: &T, other: &T) -> String {
    let value = |of: &T| serde_json::to_value(of).unwrap_or_default();
    let (one, other) = (value(one), value(other));
    let keys = |of: &serde_json::Value| {
        of.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let mut all = keys(&one);
    all.extend(keys(&other));
    all.sort();
    all.dedup();
    all.retain(|key| one.get(key) != other.get(key));
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compare::conduct::cells::expand;

    fn spec() -> Spec {
        let plan = "title = 't'\nblocks = 1\nreference = 'a'\nfloor = 'a'\nsubjects = ['a']\n[[link]]\nprofile = 'clean'\n";
        expand(&toml::from_str(plan).unwrap(), Path::new("/out/cells"), true).remove(0)
    }

    fn past(attempt: u32, is_valid: bool) -> Past {
        Past { spec: Spec { attempt, ..spec() }, is_valid }
    }

    #[test]
    fn a_cell_is_run_until_it_is_valid_but_not_for_ever() {
        let stands = |past: &[Past]| standing(&spec(), past).unwrap();
        assert_eq!(stands(&[]), Standing::Next(1));
        assert_eq!(stands(&[past(1, true)]), Standing::Done);
        assert_eq!(stands(&[past(1, false)]), Standing::Next(2));
        assert_eq!(stands(&[past(1, false), past(2, true)]), Standing::Done);
        assert_eq!(stands(&[past(1, false), past(2, false)]), Standing::Next(3));
        assert_eq!(stands(&[past(1, false), past(2, false), past(3, false)]), Standing::Exhausted);
        assert_eq!(stands(&[past(2, false)]), Standing::Next(1), "the first was cut off");
    }

    #[test]
    fn the_folder_may_be_elsewhere_and_nothing_else_may_differ() {
        let moved = Past { spec: Spec { folder: "/moved".into(), ..spec() }, is_valid: true };
        assert_eq!(standing(&spec(), &[moved]), Ok(Standing::Done));
        for (other, what) in [
            (Spec { seed: 2, ..spec() }, "seed"),
            (Spec { realtime: false, ..spec() }, "realtime"),
            (Spec { subject: "b".into(), ..spec() }, "subject"),
        ] {
            let alien = standing(&spec(), &[Past { spec: other, is_valid: true }]).unwrap_err();
            assert_eq!(alien.differs, what);
            assert!(
                alien.to_string().contains("clean-b1-") && alien.to_string().contains("--out"),
                "{alien}"
            );
        }
    }
}
