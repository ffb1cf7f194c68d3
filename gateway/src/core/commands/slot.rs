//! What is kept of one vehicle, and of each of its targets.

use std::collections::BTreeMap;

use carriageway_proto::{Class, ClassMap, CommandKey, Moment, PolicyTable, SignalPath};

use super::bucket::Bucket;
use super::record::Stage;
use super::{CommandId, Reach};

/// What a command is about.
pub(super) type Target = (Class, SignalPath);

/// One target: one command in flight, one that waits.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Leaving or away.
    pub(super) away: Option<CommandId>,
    /// Held or queued.
    pub(super) waiting: Option<CommandId>,
    /// When the newest one was released.
    pub(super) released: Option<Moment>,
}

/// One vehicle's commands.
#[derive(Debug)]
pub(super) struct Vehicle {
    pub(super) keys: BTreeMap<CommandKey, CommandId>,
    /// For what is submitted.
    pub(super) buckets: ClassMap<Bucket>,
    /// For what is released.
    pub(super) releases: ClassMap<Bucket>,
    pub(super) reach: Reach,
    pub(super) slots: BTreeMap<Target, Slot>,
    /// Held, leaving or away.
    pub(super) under_way: ClassMap<u32>,
    /// Leaving or away.
    pub(super) away: ClassMap<u32>,
    /// Queued, by their place in the order of acceptance.
    pub(super) queues: ClassMap<BTreeMap<u64, CommandId>>,
}

impl Vehicle {
    pub(super) fn new(policies: &PolicyTable, now: Moment, reach: Reach) -> Self {
        let buckets = ClassMap::from_fn(|class| Bucket::full(&policies[class], now));
        Self {
            keys: BTreeMap::new(),
            buckets,
            releases: buckets,
            reach,
            slots: BTreeMap::new(),
            under_way: ClassMap::default(),
            away: ClassMap::default(),
            queues: ClassMap::default(),
        }
    }

    /// Keeps the counts true to a command that is now, or no longer, at `stage`.
    pub(super) fn count(&mut self, class: Class, stage: &Stage, place: u64, id: CommandId, is_there: bool) {
        let step = |count: &mut u32| *count = if is_there { *count + 1 } else { *count - 1 };
        match stage {
            Stage::Held => step(&mut self.under_way[class]),
            Stage::Leaving | Stage::Away => {
                step(&mut self.under_way[class]);
                step(&mut self.away[class]);
            }
            Stage::Queued if is_there => drop(self.queues[class].insert(place, id)),
            Stage::Queued => drop(self.queues[class].remove(&place)),
            Stage::Ending(_) | Stage::Ended => {}
        }
    }

    pub(super) fn under_way_of_all(&self) -> u32 {
        self.under_way.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(|(_, queue)| queue.len()).sum()
    }
}
