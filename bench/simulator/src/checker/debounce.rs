//! DEBOUNCE: within the duplicate window of its class one target value acts once.
//!
//! Only what certainly holds makes a copy of it: after an effect that did not end well, after an emergency stop,
//! and after a restart, which may have interrupted it, the same value acts again.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};
use super::wish::Wish;

#[derive(Debug)]
pub(super) struct Debounce {
    windows: BTreeMap<Name, u64>,
    /// By vehicle and path.
    last: BTreeMap<(Name, Name), Effect>,
}

#[derive(Debug)]
struct Effect {
    key: Name,
    print: u64,
    at: u64,
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
        if matches!(event.what, What::Died | What::Stopped) {
            self.last.retain(|(node, _), _| *node != event.node);
        }
        if let What::Durable { key, verdict: Some(verdict), .. } = &event.what
            && &**verdict != "SUCCEEDED"
        {
            self.last.retain(|(node, _), last| *node != event.node || last.key != *key);
        }
        if let What::Wish(Wish::Acted { path, .. }) = &event.what {
            self.last.remove(&(event.node.clone(), path.clone()));
        }
        let What::Effect { key, class, path, print, .. } = &event.what else { return None };
        let window = self.windows.get(class).copied()?;
        // By a clock that may be quick by one per mille.
        let window = window - window / 500;
        let effect = Effect { key: key.clone(), print: *print, at: event.at };
        let last = self.last.insert((event.node.clone(), path.clone()), effect);
        let is_copy = last.is_some_and(|last| last.print == *print && event.at - last.at < window);
        is_copy.then(|| format!("{key} brought about what had just been brought about"))
    }
}
