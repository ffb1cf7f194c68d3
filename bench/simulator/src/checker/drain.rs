//! DRAIN: a drain ends within its deadline.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Drain {
    until: BTreeMap<Name, u64>,
}

impl super::Rule for Drain {
    fn invariant(&self) -> &'static str {
        "DRAIN"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        if let What::Draining { until } = &event.what {
            self.until.insert(event.node.clone(), *until);
            return None;
        }
        let is_late = self.until.get(&event.node).is_some_and(|until| event.at > *until);
        if is_late || event.what == What::Died {
            self.until.remove(&event.node);
        }
        is_late.then(|| format!("{} goes on after its drain's deadline", event.node))
    }
}
