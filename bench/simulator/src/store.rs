//! A gateway's disk: all that waits goes in one commit, which fails as a whole while the disk is bad, and is there
//! whole or not at all if the process dies meanwhile. One that failed may be there all the same, as long as no other
//! has taken its place: a process that begins then finds it.

use std::collections::BTreeMap;

use carriageway_gateway::core::commands::{CommandId, Keep, Kept, Record, Request, Restored, Write, WriteId};
use carriageway_proto::{BootId, Desired, Phase, VehicleId};

use crate::chance::Chance;

/// What is to be on the disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Records of commands.
    Commands(Write),
    /// What is desired of the vehicle of this index.
    Desired(usize, Desired),
}

/// What was put on the disk of a command: whose record, which, its phase, and whether it may have left.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) vehicle: VehicleId,
    pub(crate) id: CommandId,
    pub(crate) phase: Phase,
    pub(crate) may_have_left: bool,
}

/// A change that is on the disk, or is not.
#[derive(Debug)]
pub(crate) enum Done {
    /// Records of commands; nothing was put there where it failed.
    Commands { id: WriteId, kept: bool, put: Vec<Put> },
    /// A desired state.
    Desired { vehicle: usize, version: u64, kept: bool },
}

/// What a process that is gone left on the disk.
#[derive(Debug)]
pub(crate) struct Crashed {
    /// By the commit that was under way.
    pub(crate) under_way: Vec<Done>,
    /// By the last one, which had failed.
    pub(crate) failed: Vec<Done>,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    /// With the order in which they were first written, and the boot whose clock they are by.
    records: BTreeMap<CommandId, (u64, BootId, Kept)>,
    desired: BTreeMap<usize, Desired>,
    written: u64,
    waiting: Vec<(BootId, Change)>,
    syncing: Vec<(BootId, Change)>,
    /// The last commit, if it failed.
    failed: Vec<(BootId, Change)>,
}

impl Store {
    pub(crate) fn push(&mut self, boot: BootId, change: Change) {
        self.waiting.push((boot, change));
    }

    /// Begins a commit of all that waits; false where one is under way or nothing waits.
    pub(crate) fn begin(&mut self) -> bool {
        if !self.syncing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.syncing.append(&mut self.waiting);
        true
    }

    /// Nothing waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.syncing.is_empty() && self.waiting.is_empty()
    }

    /// The commit is done, or has failed.
    pub(crate) fn finish(&mut self, is_bad: bool) -> Vec<Done> {
        let changes = std::mem::take(&mut self.syncing);
        self.failed.clear();
        if is_bad {
            self.failed = changes;
            return self.failed.iter().map(|(_, change)| failed(change)).collect();
        }
        self.keep_all(changes)
    }

    fn keep_all(&mut self, changes: Vec<(BootId, Change)>) -> Vec<Done> {
        changes.into_iter().map(|(boot, change)| self.keep(boot, change)).collect()
    }

    /// The process is gone. What the commit under way put there, if it came so far; or what the one that failed before
    /// it did.
    pub(crate) fn crash(&mut self, is_bad: bool, chance: &mut Chance) -> Crashed {
        self.waiting.clear();
        let under_way = std::mem::take(&mut self.syncing);
        let failed = std::mem::take(&mut self.failed);
        let is_there = (!under_way.is_empty() || !failed.is_empty()) && chance.percent(50);
        if under_way.is_empty() || is_bad {
            Crashed {
                under_way: Vec::new(),
                failed: self.keep_all(if is_there { failed } else { Vec::new() }),
            }
        } else {
            Crashed {
                under_way: self.keep_all(if is_there { under_way } else { Vec::new() }),
                failed: Vec::new(),
            }
        }
    }

    fn keep(&mut self, boot: BootId, change: Change) -> Done {
        let write = match change {
            Change::Commands(write) => write,
            Change::Desired(vehicle, desired) => {
                let version = desired.version;
                self.desired.insert(vehicle, desired);
                return Done::Desired { vehicle, version, kept: true };
            }
        };
        let mut put = Vec::new();
        for keep in write.keeps {
            match keep {
                Keep::Put(kept) => {
                    let Record { id, request, .. } = &kept.record;
                    let (id, vehicle) = (*id, request.vehicle.clone());
                    let (phase, may_have_left) = (kept.record.phase(), kept.may_have_left);
                    put.push(Put { vehicle, id, phase, may_have_left });
                    self.written += 1;
                    let place = self.records.get(&id).map_or(self.written, |(place, _, _)| *place);
                    self.records.insert(id, (place, boot, *kept));
                }
                Keep::Forget(id) => drop(self.records.remove(&id)),
            }
        }
        Done::Commands { id: write.id, kept: true, put }
    }

    /// Everything it holds of commands, oldest first, with no more of each record than the gateway's store writes
    /// down.
    pub(crate) fn load(&self, boot: BootId) -> Vec<Restored> {
        let mut records: Vec<_> = self.records.values().collect();
        records.sort_by_key(|(place, _, _)| *place);
        let restored = |(_, written, kept): &(u64, BootId, Kept)| {
            let Record { id, request, ttl, accepted, timeline, .. } = kept.record.clone();
            let request = Request { ttl: None, ..request };
            let record = Record::restored(id, request, ttl, accepted, timeline);
            Restored {
                kept: Kept { record, may_have_left: kept.may_have_left },
                is_same_boot: *written == boot,
            }
        };
        records.into_iter().map(restored).collect()
    }

    /// What is desired, by vehicle.
    pub(crate) fn desired(&self) -> impl Iterator<Item = (usize, &Desired)> {
        self.desired.iter().map(|(vehicle, desired)| (*vehicle, desired))
    }
}

fn failed(change: &Change) -> Done {
    match change {
        Change::Commands(write) => Done::Commands { id: write.id, kept: false, put: Vec::new() },
        Change::Desired(vehicle, desired) => {
            Done::Desired { vehicle: *vehicle, version: desired.version, kept: false }
        }
    }
}
