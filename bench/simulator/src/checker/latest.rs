//! LATEST: nobody is shown an older value of a signal after a newer one.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By gateway, vehicle and path.
    shown: BTreeMap<(Name, Name, Name), u64>,
}

impl super::Rule for Latest {
    fn invariant(&self) -> &'static str {
        "LATEST"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let What::Shown { vehicle, path, number } = &event.what else { return None };
        let shown = self.shown.entry((event.node.clone(), vehicle.clone(), path.clone())).or_default();
        let before = *shown;
        *shown = before.max(*number);
        (*number <= before).then(|| format!("{path} of {vehicle} went from {before} back to {number}"))
    }
}
