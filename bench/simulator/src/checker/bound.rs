//! BOUND: what is held is within its limit.

use super::book::Book;
use super::event::{Event, What};

#[derive(Debug)]
pub(super) struct Bound;

impl super::Rule for Bound {
    fn invariant(&self) -> &'static str {
        "BOUND"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let What::Held { what, count, limit } = &event.what else { return None };
        (count > limit).then(|| format!("{} holds {count} {what}, {limit} are allowed", event.node))
    }
}
