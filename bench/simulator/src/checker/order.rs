//! ORDER: within a vehicle and class, effects happen in the order of (token, order).

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Order {
    highest: BTreeMap<(Name, Name), (u64, u64)>,
}

impl super::Rule for Order {
    fn invariant(&self) -> &'static str {
        "ORDER"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let What::Effect { key, class, token, order, .. } = &event.what else { return None };
        if *order == 0 || &**class == "safety" {
            return None;
        }
        let highest = self.highest.entry((event.node.clone(), class.clone())).or_default();
        if (*token, *order) < *highest {
            return Some(format!("{key} executed after a later one of its class"));
        }
        *highest = (*token, *order);
        None
    }
}
