//! DEDUP-BOUND: an entry goes only when FRESH already refuses every copy that the vehicle has seen.

use super::book::Book;
use super::event::{Event, What};

#[derive(Debug)]
pub(super) struct DedupBound;

impl super::Rule for DedupBound {
    fn invariant(&self) -> &'static str {
        "DEDUP-BOUND"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let What::Forgot { key } = &event.what else { return None };
        let entry = book.of(event)?;
        // Of several lives nobody can tell from here which one the vehicle has seen.
        let [life] = entry.lives.as_slice() else { return None };
        // Two clocks that are off by a per mille each measure a copy's ttl: by true time it is dead that much earlier.
        let is_young = entry.seen.is_some() && life.covers(event.at + life.ttl / 500);
        is_young.then(|| format!("{key} was forgotten while a copy of it would pass for fresh"))
    }
}
