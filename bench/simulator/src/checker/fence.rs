//! FENCE: nothing acts under a lease once the vehicle has seen a newer one.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Fence {
    newest: BTreeMap<Name, u64>,
    granted: BTreeMap<Name, u64>,
}

impl super::Rule for Fence {
    fn invariant(&self) -> &'static str {
        "FENCE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        if let What::Lease { vehicle, token } = &event.what {
            let granted = self.granted.entry(vehicle.clone()).or_default();
            *granted = (*granted).max(*token);
        }
        let (What::Effect { token, .. } | What::Controlled { token }) = event.what else { return None };
        if token == 0 {
            return None;
        }
        let newest = self.newest.entry(event.node.clone()).or_default();
        if token < *newest {
            return Some(format!("acted under token {token} after token {newest}"));
        }
        *newest = token;
        let granted = self.granted.get(&event.node).copied().unwrap_or_default();
        (token > granted).then(|| format!("acted under token {token}, which nobody was granted"))
    }
}
