//! What was decided on is not decided on again, be its path desired all the time or dropped and brought back.

use std::collections::{BTreeMap, BTreeSet};

use carriageway_proto::scan::MAX_VALUES;
use carriageway_proto::{DesiredValue, SignalPath};

use super::path::{Path, Rest, Stage, number};
use super::{Output, Reconciler, Wanted};
use crate::core::executor::WriteId;

/// Dropped paths that are remembered one by one; a vehicle has some hundred. One floor ends what was before.
pub(super) const MOST_DROPPED: usize = 1_024;

impl Reconciler {
    /// How it stands with what is wanted now, where `known` is what was wanted of the path so far.
    pub(super) fn take_up(&mut self, known: Option<Path>, wanted: Wanted) -> Path {
        if let Some(known) = known {
            let version = known.wanted.value.version;
            if version == wanted.value.version && known.wanted.value.value == wanted.value.value {
                return known;
            }
            // An older version, or the same one with another value, is of a gateway that knows nothing of this one.
            if version >= wanted.value.version && self.ended(&known.wanted).is_none() {
                self.record(&known.wanted.value.path, version);
            }
        }
        self.begin(wanted)
    }

    /// A version of a path that was not there so far: to be decided on, or ended already.
    fn begin(&self, wanted: Wanted) -> Path {
        let Some(why) = self.ended(&wanted) else { return Path { wanted, stage: Stage::Waiting } };
        let mut path = Path { stage: Stage::Resting(Rest::unclear(why)), wanted };
        if let Some(reading) = self.settled(&path.wanted.value.path) {
            path.read(reading);
        }
        path
    }

    /// Why nothing is decided on this version any more.
    fn ended(&self, wanted: &Wanted) -> Option<&'static str> {
        let DesiredValue { path, version, .. } = &wanted.value;
        let decided = self.past.decided.get(path).unwrap_or(&self.past.floor);
        if version > decided {
            return None;
        }
        Some(if self.dropped.contains(path) {
            "a newer state did not have it, and it is not tried again; desire it anew"
        } else {
            "it ended before the agent restarted, or by another version, and is not tried again; desire it anew"
        })
    }

    /// A newer state of all is there. It ends what it does not have: `left_out`, and what a restart has left.
    pub(super) fn end_dropped(&mut self, left_out: BTreeMap<SignalPath, Path>) {
        let is_gone = |path: &&SignalPath| !self.paths.contains_key(*path) && !self.dropped.contains(*path);
        let decided = self.past.decided.keys().filter(is_gone).cloned();
        let gone: BTreeSet<SignalPath> = left_out.into_keys().chain(decided).collect();
        self.end_all(gone);
    }

    /// One version says one thing: what another copy of it left out is wanted all the same, as far as a report
    /// holds it. What it does not hold has ended, as if a newer state had dropped it.
    pub(super) fn go_on_with(&mut self, left_out: BTreeMap<SignalPath, Path>) {
        let room = MAX_VALUES.saturating_sub(self.paths.len());
        let mut left_out = left_out.into_iter();
        self.paths.extend(left_out.by_ref().take(room));
        self.end_all(left_out.map(|(path, _)| path).collect());
    }

    fn end_all(&mut self, gone: BTreeSet<SignalPath>) {
        for path in gone {
            self.record(&path, self.version);
            self.dropped.insert(path);
        }
        while self.dropped.len() > MOST_DROPPED {
            self.forget_oldest();
        }
    }

    /// From here on nothing is decided on `path` up to this version; once written, after a restart neither.
    pub(super) fn record(&mut self, path: &SignalPath, version: u64) -> WriteId {
        self.past.decided.insert(path.clone(), version);
        let id = WriteId(number(&mut self.last_write));
        self.outputs.push_back(Output::Decide { id, path: path.clone(), version });
        id
    }

    fn forget_oldest(&mut self) {
        let oldest = self.dropped.iter().min_by_key(|path| self.past.decided[*path]).cloned();
        let path = oldest.expect("the caller has counted them");
        self.dropped.remove(&path);
        let version = self.past.decided.remove(&path).expect("what is dropped is recorded");
        self.past.floor = self.past.floor.max(version);
        self.outputs.push_back(Output::Forget { path, floor: version });
    }
}
