//! Answers on their way: kept until they have arrived, sent again where they were lost.

use std::collections::{BTreeMap, VecDeque};

use carriageway_proto::{Class, ClassMap, CommandKey, Outcome};

/// Most answers that wait for one class. What belongs to a remembered command is bounded by what the
/// executor remembers, below this; the rest is for answers to commands that are not remembered.
const LIMIT: usize = 512;

/// Outcomes to send. `T` names what was sent, as the link does.
#[derive(Debug)]
pub struct Outbox<T> {
    waiting: ClassMap<VecDeque<Outcome>>,
    under_way: BTreeMap<T, (Class, Outcome)>,
    dropped: u64,
}

impl<T: Ord> Default for Outbox<T> {
    fn default() -> Self {
        Self { waiting: ClassMap::from_fn(|_| VecDeque::new()), under_way: BTreeMap::new(), dropped: 0 }
    }
}

impl<T: Ord> Outbox<T> {
    /// Queues an answer. It replaces one about the same command that still waits: phases only rise.
    pub fn push(&mut self, class: Class, outcome: Outcome) {
        let waiting = &mut self.waiting[class];
        if let Some(older) = waiting.iter_mut().find(|older| older.key == outcome.key) {
            *older = outcome;
        } else if waiting.len() < LIMIT {
            waiting.push_back(outcome);
        } else {
            self.dropped += 1;
        }
    }

    /// The answer of `class` to send next. Take it with [`Outbox::sent`] once the link has it.
    pub fn next(&self, class: Class) -> Option<&Outcome> {
        self.waiting[class].front()
    }

    /// The next answer of `class` is under way as `ticket`.
    pub fn sent(&mut self, class: Class, ticket: T) {
        if let Some(outcome) = self.waiting[class].pop_front() {
            self.under_way.insert(ticket, (class, outcome));
        }
    }

    /// `ticket` has arrived. Gives the command whose end is now known to whoever asked.
    pub fn arrived(&mut self, ticket: &T) -> Option<CommandKey> {
        let (_, outcome) = self.under_way.remove(ticket)?;
        outcome.phase.is_terminal().then_some(outcome.key)
    }

    /// `ticket` was lost with its session: an end is told again, and so is progress that nothing newer has
    /// overtaken.
    pub fn lost(&mut self, ticket: &T) {
        let Some((class, outcome)) = self.under_way.remove(ticket) else { return };
        let newer = |other: &Outcome| other.key == outcome.key && other.phase >= outcome.phase;
        let overtaken =
            self.waiting[class].iter().any(newer) || self.under_way.values().any(|(_, other)| newer(other));
        if !overtaken {
            self.push(class, outcome);
        }
    }

    /// Answers that wait or are under way.
    pub fn len(&self) -> usize {
        self.under_way.len() + self.waiting.iter().map(|(_, waiting)| waiting.len()).sum::<usize>()
    }

    /// True when every answer has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::Phase;

    use super::*;

    fn outcome(key: &str, phase: Phase) -> Outcome {
        Outcome { key: key.parse().unwrap(), phase, reason: None, detail: String::new(), fingerprint: None }
    }

    fn phases(outbox: &Outbox<u32>) -> Vec<Phase> {
        outbox.waiting[Class::Body].iter().map(|outcome| outcome.phase).collect()
    }

    #[test]
    fn the_newest_phase_replaces_one_that_still_waits() {
        let mut outbox = Outbox::<u32>::default();
        outbox.push(Class::Body, outcome("a", Phase::Received));
        outbox.push(Class::Body, outcome("b", Phase::Received));
        outbox.push(Class::Body, outcome("a", Phase::Succeeded));
        assert_eq!(phases(&outbox), [Phase::Succeeded, Phase::Received]);
    }

    #[test]
    fn only_the_end_of_a_command_counts_as_arrived() {
        let mut outbox = Outbox::default();
        outbox.push(Class::Body, outcome("a", Phase::Executing));
        outbox.sent(Class::Body, 1);
        outbox.push(Class::Body, outcome("a", Phase::Succeeded));
        outbox.sent(Class::Body, 2);
        assert_eq!(outbox.arrived(&1), None);
        assert_eq!(outbox.arrived(&2), Some("a".parse().unwrap()));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_lost_is_told_again_unless_something_newer_is() {
        let mut outbox = Outbox::default();
        for (ticket, phase) in [(1, Phase::Received), (2, Phase::Executing)] {
            outbox.push(Class::Body, outcome("a", phase));
            outbox.sent(Class::Body, ticket);
        }
        outbox.lost(&1);
        outbox.lost(&2);
        assert_eq!(phases(&outbox), [Phase::Executing]);
        outbox.lost(&2);
        assert_eq!(outbox.len(), 1, "a fate is told once");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut outbox = Outbox::<u32>::default();
        for number in 0..600 {
            outbox.push(Class::Body, outcome(&number.to_string(), Phase::Rejected));
        }
        assert_eq!((outbox.len(), outbox.dropped()), (512, 88));
    }
}
