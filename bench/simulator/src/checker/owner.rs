//! OWNER: session epochs rise strictly, at the vehicle and at each gateway.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Owner {
    /// By vehicle, what its journal holds.
    durable: BTreeMap<Name, u64>,
    /// By node that saw it and vehicle, the newest since that node began.
    newest: BTreeMap<(Name, Name), u64>,
}

impl super::Rule for Owner {
    fn invariant(&self) -> &'static str {
        "OWNER"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        if let What::EpochDurable { epoch } = &event.what {
            let durable = self.durable.entry(event.node.clone()).or_default();
            *durable = (*durable).max(*epoch);
        } else if event.what == What::Died {
            self.newest.retain(|(node, _), _| *node != event.node);
        }
        let What::Established { vehicle, epoch, resumed } = &event.what else { return None };
        let (epoch, resumed) = (*epoch, *resumed);
        let at_vehicle = *vehicle == event.node;
        let newest = self.newest.entry((event.node.clone(), vehicle.clone())).or_default();
        let before = std::mem::replace(newest, epoch.max(*newest));
        let durable = self.durable.get(vehicle).copied().filter(|_| at_vehicle && !resumed).unwrap_or(0);
        let floor = before.max(durable);
        // At a gateway the first word on an older connection may come after a resume on a newer one.
        let falls = if resumed || !at_vehicle { epoch < floor } else { epoch <= floor };
        (falls && floor > 0)
            .then(|| format!("{vehicle} came from epoch {floor} to {epoch} at {}", event.node))
    }
}
