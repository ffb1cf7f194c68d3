//! Does the checker bite? Each deliberate bug, run until it is found.

use std::fmt;

use carriageway_proto::sabotage::{self, Sabotage};

use crate::plan::Size;
use crate::run;

/// How one bug was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which bug.
    pub bug: Sabotage,
    /// The invariant that it broke, and how many seeds it took; `None`: it was not found.
    pub by: Option<(&'static str, u64)>,
}

/// Runs seeds from 1 on with `bug` until one breaks an invariant; at most `most`.
pub fn hunt(bug: Sabotage, size: Size, most: u64) -> Found {
    sabotage::set(Some(bug));
    let mut seeds = (1..=most).map(|seed| (seed, run::run(seed, size).violation));
    let by = seeds.find_map(|(seed, violation)| Some((violation?.invariant, seed)));
    sabotage::set(None);
    Found { bug, by }
}

impl fmt::Display for Found {
    /// A row of a table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some((invariant, seeds)) => write!(f, "| {:?} | {invariant} | {seeds} |", self.bug),
            None => write!(f, "| {:?} | not found | |", self.bug),
        }
    }
}
