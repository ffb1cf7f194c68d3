//! FRESH: a command takes effect only within its ttl, in true time, from an acceptance of exactly this wish, and the
//! effect is what the journal intends.

use super::book::{Book, Life};
use super::event::{Event, Name, What};

#[derive(Debug)]
pub(super) struct Fresh;

impl super::Rule for Fresh {
    fn invariant(&self) -> &'static str {
        "FRESH"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let What::Effect { key, print, .. } = &event.what else { return None };
        let unasked = || Some(format!("{key} executed, nobody asked for it"));
        let Some(entry) = book.of(event) else { return unasked() };
        if entry.print.is_some_and(|kept| kept != *print) {
            return Some(format!("{key} did something else than its journal intends"));
        }
        let is_asked = |(_, asked, until): &(Name, u64, u64)| asked == print && event.at <= *until;
        if entry.lives_at(event.at, *print) || entry.asked.iter().any(is_asked) {
            return None;
        }
        let of_this = |life: &&Life| life.print == *print && life.born <= event.at;
        let Some(newest) = entry.lives.iter().rfind(of_this) else { return unasked() };
        let late = event.at - newest.born - newest.ttl;
        Some(format!("{key} executed {} ms after its ttl of {} ms", late / 1_000, newest.ttl / 1_000))
    }
}
