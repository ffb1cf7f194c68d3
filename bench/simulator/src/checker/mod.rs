//! Reads a log and says which invariants it breaks, whether the log comes from the simulator or from real runs.
//!
//! Each rule is a small file of its own with its own state; the `book` holds what most of them have to know.
//! A rule is told every event before the book is. What it finds is reported with the invariant's name and the
//! events that prove it.

mod ack_truth;
mod book;
mod boot;
mod bound;
mod debounce;
mod dedup_bound;
mod desired;
mod drain;
mod durable;
mod estop;
mod event;
mod fed;
mod fence;
mod flight;
mod fresh;
mod fresh_control;
mod key;
mod lane;
mod latest;
mod liveness;
mod lone;
mod offline;
mod once;
mod order;
mod owner;
mod rate;
mod sent_away;
#[cfg(test)]
mod tests;
mod watchdog;
mod wish;

use std::collections::BTreeMap;
use std::fmt;

use book::Book;
use carriageway_proto::{Class, Policy, PolicyTable};
pub use event::{Event, LaneFate, Name, Refused, What};
pub use wish::Wish;

/// What a run allows, beyond what is in its log.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Per class, executions per second and at once on a vehicle; a class that is absent has no limit.
    pub rates: BTreeMap<Name, (u32, u32)>,
    /// Per class, the window within which one target value acts once, in microseconds.
    pub duplicate_windows: BTreeMap<Name, u64>,
}

impl Rules {
    /// What vehicles and gateways allow that keep to these policies.
    pub fn of(policies: &PolicyTable) -> Self {
        let rate = |(class, policy): (Class, &Policy)| {
            Some((class.name().into(), (policy.rate_per_second?, policy.burst)))
        };
        let window = |(class, policy): (Class, &Policy)| {
            let micros = policy.duplicate_window.as_micros();
            (class.name().into(), u64::try_from(micros).unwrap_or(u64::MAX))
        };
        Self {
            rates: policies.iter().filter_map(rate).collect(),
            duplicate_windows: policies.iter().map(window).collect(),
        }
    }
}

/// An invariant that the log breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, as in the documentation.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
    /// The events that prove it, in order.
    pub proof: Vec<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)?;
        for event in &self.proof {
            write!(f, "\n    {:>13} {:<10} {:?}", micros(event.at), event.node, event.what)?;
        }
        Ok(())
    }
}

fn micros(at: u64) -> String {
    format!("{}.{:06}s", at / 1_000_000, at % 1_000_000)
}

/// One invariant, with what it has to remember.
trait Rule: fmt::Debug {
    /// What is wrong with this event, after those before it.
    fn look(&mut self, event: &Event, book: &Book) -> Option<String>;

    /// Its name.
    fn invariant(&self) -> &'static str;

    /// What is wrong with the log as a whole, which ends at `at`.
    fn finish(&mut self, _at: u64, _book: &Book) -> Option<(String, Vec<Event>)> {
        None
    }
}

/// Reads events in order.
#[derive(Debug)]
pub struct Checker {
    rules: Vec<Box<dyn Rule>>,
    book: Book,
}

impl Checker {
    /// A checker before the first event.
    pub fn new(rules: &Rules) -> Self {
        let of_commands: Vec<Box<dyn Rule>> = vec![
            Box::new(offline::Offline::default()),
            Box::new(key::Key::default()),
            Box::new(fresh::Fresh),
            Box::new(once::Once),
            Box::new(dedup_bound::DedupBound),
            Box::new(order::Order::default()),
            Box::new(fence::Fence::default()),
            Box::new(estop::Estop::default()),
            Box::new(fresh_control::FreshControl),
            Box::new(watchdog::Watchdog::default()),
            Box::new(fed::Fed::default()),
            Box::new(latest::Latest::default()),
            Box::new(lane::Lane::default()),
            Box::new(owner::Owner::default()),
            Box::new(ack_truth::AckTruth::default()),
            Box::new(durable::Durable::default()),
            Box::new(rate::Rate::new(rules)),
            Box::new(debounce::Debounce::new(rules)),
            Box::new(bound::Bound),
            Box::new(drain::Drain::default()),
            Box::new(sent_away::SentAway::default()),
            Box::new(liveness::Liveness::default()),
            Box::new(boot::Boot::default()),
            Box::new(flight::Flight::default()),
            Box::new(lone::Lone::default()),
        ];
        Self { rules: of_commands.into_iter().chain(desired::rules()).collect(), book: Book::default() }
    }

    /// Takes in the next event; what it breaks, if anything.
    pub fn take(&mut self, event: &Event) -> Option<Violation> {
        let mut found = None;
        for rule in &mut self.rules {
            if let Some(what) = rule.look(event, &self.book) {
                found.get_or_insert((rule.invariant(), what));
            }
        }
        let violation = found.map(|(invariant, what)| {
            let before = self.book.of(event).map_or_else(Vec::new, |entry| entry.events.clone());
            let proof = before.into_iter().chain([event.clone()]).collect();
            Violation { invariant, what, proof }
        });
        self.book.note(event);
        violation
    }

    /// The log ends at `at`: what is missing in it, if anything.
    pub fn finish(&mut self, at: u64) -> Option<Violation> {
        for rule in &mut self.rules {
            if let Some((what, proof)) = rule.finish(at, &self.book) {
                return Some(Violation { invariant: rule.invariant(), what, proof });
            }
        }
        None
    }
}

/// Reads a log of JSON lines to its end; everything it breaks. Errors name the line.
pub fn check(log: &str, rules: &Rules) -> Result<Vec<Violation>, String> {
    let mut checker = Checker::new(rules);
    let mut violations = Vec::new();
    let mut end = 0;
    for (index, line) in log.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let event: Event = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", index + 1))?;
        end = event.at;
        violations.extend(checker.take(&event));
    }
    violations.extend(checker.finish(end));
    Ok(violations)
}
