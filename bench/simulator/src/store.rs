//! A gateway's disk: a write that is under way in a crash is there whole or not at all.

use std::collections::BTreeMap;

use carriageway_gateway::core::commands::{CommandId, Keep, Kept, Record, Request, Restored, Write, WriteId};
use carriageway_proto::{BootId, VehicleId};

use crate::chance::Chance;

/// What was put on the disk: whose record, and which.
pub(crate) type Put = (VehicleId, CommandId);

#[derive(Debug, Default)]
pub(crate) struct Store {
    /// With the order in which they were first written, and the boot whose clock they are by.
    records: BTreeMap<CommandId, (u64, BootId, Kept)>,
    written: u64,
    syncing: Option<(BootId, Write)>,
}

impl Store {
    /// Begins a write; the command service has one at a time.
    pub(crate) fn begin(&mut self, boot: BootId, write: Write) {
        self.syncing = Some((boot, write));
    }

    /// The write is done. Which one it was, and what it put there.
    pub(crate) fn finish(&mut self) -> Option<(WriteId, Vec<Put>)> {
        let (boot, write) = self.syncing.take()?;
        Some((write.id, self.keep(boot, write)))
    }

    /// The process is gone. What the write under way put there, if it came so far.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Vec<Put> {
        let Some((boot, write)) = self.syncing.take() else { return Vec::new() };
        if chance.percent(50) { Vec::new() } else { self.keep(boot, write) }
    }

    fn keep(&mut self, boot: BootId, write: Write) -> Vec<Put> {
        let mut put = Vec::new();
        for keep in write.keeps {
            match keep {
                Keep::Put(kept) => {
                    let id = kept.record.id;
                    put.push((kept.record.request.vehicle.clone(), id));
                    self.written += 1;
                    let place = self.records.get(&id).map_or(self.written, |(place, _, _)| *place);
                    self.records.insert(id, (place, boot, *kept));
                }
                Keep::Forget(id) => drop(self.records.remove(&id)),
            }
        }
        put
    }

    /// Everything it holds, oldest first, with no more of each record than the gateway's store writes down.
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
}
