//! RATE: in any window executions are at most the burst and the rate's share.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};
use super::wish::Wish;

const MILLION: u64 = 1_000_000;

/// The vehicle counts by its own clock, which may be quick by one per mille; and microseconds are whole.
const PER_MILLE: u64 = 1_002;

#[derive(Debug)]
pub(super) struct Rate {
    rates: BTreeMap<Name, (u32, u32)>,
    /// By vehicle and class: executions in hand, in millionths, and as of when.
    hands: BTreeMap<(Name, Name), (u64, u64)>,
}

impl Rate {
    pub(super) fn new(rules: &super::Rules) -> Self {
        Self { rates: rules.rates.clone(), hands: BTreeMap::new() }
    }
}

impl super::Rule for Rate {
    fn invariant(&self) -> &'static str {
        "RATE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let (What::Effect { key, class, .. } | What::Wish(Wish::Acted { path: key, class, .. })) =
            &event.what
        else {
            return None;
        };
        let (rate, burst) = self.rates.get(class).copied()?;
        let brim = u64::from(burst) * MILLION;
        let (hand, since) = self.hands.entry((event.node.clone(), class.clone())).or_insert((brim, event.at));
        let gained = (event.at - *since) * u64::from(rate) * PER_MILLE / 1_000 + u64::from(rate);
        (*hand, *since) = ((*hand + gained).min(brim), event.at);
        if *hand < MILLION {
            return Some(format!(
                "{key} is one too many of class {class}: {burst} at once and {rate}/s are allowed"
            ));
        }
        *hand -= MILLION;
        None
    }
}
