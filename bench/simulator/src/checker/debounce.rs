//! DEBOUNCE: within the duplicate window of its class one target value acts once.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

#[derive(Debug)]
pub(super) struct Debounce {
    windows: BTreeMap<Name, u64>,
    /// By vehicle and path: the last effect's fingerprint and time.
    last: BTreeMap<(Name, Name), (u64, u64)>,
}

impl Debounce {
    pub(super) fn new(rules: &super::Rules) -> Self {
        Self { windows: rules.duplicate_windows.clone(), last: BTreeMap::new() }
    }
}

impl super::Rule for Debounce {
    fn invariant(&self) -> &'static str {
        "DEBOUNCE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let What::Effect { key, class, path, print, .. } = &event.what else { return None };
        let window = self.windows.get(class).copied()?;
        let last = self.last.insert((event.node.clone(), path.clone()), (*print, event.at));
        let is_copy = last.is_some_and(|(before, at)| before == *print && event.at - at < window);
        is_copy.then(|| format!("{key} brought about what had just been brought about"))
    }
}
