//! FRESH, of control: none is accepted beyond its age limit, in true time since an operator's hands made it.

use super::book::Book;
use super::event::{Event, What};

/// The age limit of control.
const LIMIT: u64 = 250_000;

/// The gateway's clock measures one part of the age, and may be slow by a per mille; microseconds are whole.
const DRIFT: u64 = 1_000;

#[derive(Debug)]
pub(super) struct FreshControl;

impl super::Rule for FreshControl {
    fn invariant(&self) -> &'static str {
        "FRESH"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let What::Controlled { print, .. } = &event.what else { return None };
        let age = event.at - book.steered(&event.node, *print)?.at;
        (age > LIMIT + DRIFT).then(|| format!("control was accepted {} ms after it was made", age / 1_000))
    }
}
