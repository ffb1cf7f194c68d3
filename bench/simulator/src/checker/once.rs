//! ONCE: at most one effect per key, and none before its intent is durable.

use super::book::{Book, OnDisk};
use super::event::{Event, What};

#[derive(Debug)]
pub(super) struct Once;

impl super::Rule for Once {
    fn invariant(&self) -> &'static str {
        "ONCE"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let What::Effect { key, .. } = &event.what else { return None };
        let entry = book.of(event)?;
        if !entry.effects.is_empty() {
            return Some(format!("{key} executed {} times", entry.effects.len() + 1));
        }
        (entry.durable != OnDisk::Intent).then(|| format!("{key} executed, its intent was not on the disk"))
    }
}
