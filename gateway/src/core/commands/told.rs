//! When an end is told: once the disk has it.
//!
//! A terminal phase that was told and not written would be UNKNOWN after a crash: a second end under one
//! key (ACK-TRUTH). The service itself goes by an end as soon as it knows it; only the telling waits, and
//! with it whatever came after. Three things do not wait: an emergency stop, a disk that is broken, and a
//! disk that takes longer than an end may be held back. What was told like that is counted until it is
//! on disk after all.

use std::collections::BTreeSet;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Moment};

use super::{Change, CommandId, Commands, Output, Record};

/// Ends and the disk.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Ends that wait for the disk, by when they are told without it.
    held: BTreeSet<(Moment, CommandId)>,
    /// Records with an end that was told without the disk, and is not on it yet.
    loose: BTreeSet<CommandId>,
}

impl Telling {
    pub(super) fn wakes_at(&self) -> Option<Moment> {
        self.held.first().map(|(by, _)| *by)
    }

    pub(super) fn loose(&self) -> usize {
        self.loose.len()
    }

    pub(super) fn forget(&mut self, record: &Record) {
        if let Some(by) = record.tells_by {
            self.held.remove(&(by, record.id));
        }
        self.loose.remove(&record.id);
    }
}

impl Commands {
    /// Tells every phase of a record that may be told and was not.
    pub(super) fn show(&mut self, now: Moment, id: CommandId) {
        let is_broken = self.disk.is_broken();
        let Some(record) = self.records.get_mut(&id).filter(|record| !record.is_untold) else { return };
        let is_stop = record.request.class == Class::Safety;
        let patience = self.limits.end_patience;
        let is_late = |step: &super::Step| step.at + patience <= now || sabotage::on(Sabotage::EndNotAwaited);
        let waits = |(place, step): (usize, &super::Step)| {
            step.phase.is_terminal() && place >= record.disk.steps && !(is_stop || is_broken || is_late(step))
        };
        let (from, all) = (record.told, record.timeline.len());
        let told = record.timeline.iter().enumerate().skip(from).position(waits).map_or(all, |n| from + n);
        for step in &record.timeline[from..told] {
            self.outputs.push_back(Output::Changed(Change { id, phase: step.phase }));
        }
        record.told = told;
        let before = record.tells_by;
        record.tells_by = record.timeline.get(told).map(|end| end.at + patience);
        let is_loose = record.has_loose_end() && (is_broken || !is_stop);
        if let Some(by) = before {
            self.telling.held.remove(&(by, id));
        }
        self.telling.held.extend(record.tells_by.map(|by| (by, id)));
        if is_loose {
            self.telling.loose.insert(id)
        } else {
            self.telling.loose.remove(&id)
        };
    }

    /// Tells the ends that have waited for the disk for as long as they may.
    pub(super) fn show_the_late(&mut self, now: Moment) {
        while let Some((by, id)) = self.telling.held.first().copied()
            && by <= now
        {
            self.show(now, id);
        }
    }

    /// Tells every end that waits for a disk that is broken.
    pub(super) fn show_all(&mut self, now: Moment) {
        let held: Vec<_> = self.telling.held.iter().map(|(_, id)| *id).collect();
        for id in held {
            self.show(now, id);
        }
    }
}
