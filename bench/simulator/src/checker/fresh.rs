//! FRESH: a command takes effect only within its ttl, in true time, from an acceptance of exactly this wish.

use super::book::Book;
use super::event::{Event, What};

#[derive(Debug)]
pub(super) struct Fresh;

impl super::Rule for Fresh {
    fn invariant(&self) -> &'static str {
        "FRESH"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let What::Effect { key, print, .. } = &event.what else { return None };
        let Some(entry) = book.of(event) else { return Some(format!("{key} executed, nobody asked for it")) };
        if entry.lives_at(event.at, *print) {
            return None;
        }
        let newest = entry.lives.iter().rfind(|life| life.print == *print && life.born <= event.at)?;
        let late = event.at - newest.born - newest.ttl;
        Some(format!("{key} executed {} ms after its ttl of {} ms", late / 1_000, newest.ttl / 1_000))
    }
}
