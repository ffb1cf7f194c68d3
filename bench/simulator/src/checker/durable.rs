//! DURABLE: what was accepted for the queue is on the disk before the answer.

use std::collections::BTreeSet;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Durable {
    stored: BTreeSet<(Name, Name)>,
}

impl super::Rule for Durable {
    fn invariant(&self) -> &'static str {
        "DURABLE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        if let What::Stored { id, .. } = &event.what {
            self.stored.insert((event.node.clone(), id.clone()));
        }
        let What::Accepted { key, id, queued: true, .. } = &event.what else { return None };
        let is_stored = self.stored.contains(&(event.node.clone(), id.clone()));
        (!is_stored).then(|| format!("{key} was accepted for the queue before it was on the disk"))
    }
}
