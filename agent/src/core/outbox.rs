//! Answers on their way: kept until they have arrived, sent again where they were lost.

use std::collections::{BTreeMap, VecDeque};

use carriageway_proto::{Class, ClassMap, CommandKey, Outcome};

/// Most answers that wait for one class: far more than are under way at once, and few enough to look through. The
/// executor remembers many more commands than this, and takes back what finds no room.
const LIMIT: usize = 512;

/// Of what is told late, such as all that a journal holds after a restart, so many answers of one class wait or are
/// under way at once: what is new finds room, and no more than these stand before it.
const LATE: usize = 64;

/// Outcomes to send. `T` names what was sent, as the link does.
#[derive(Debug)]
pub struct Outbox<T> {
    waiting: ClassMap<VecDeque<Outcome>>,
    under_way: BTreeMap<T, (Class, Outcome)>,
    /// Of [`Self::under_way`], by class.
    counts: ClassMap<usize>,
}

impl<T: Ord> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            waiting: ClassMap::from_fn(|_| VecDeque::new()),
            under_way: BTreeMap::new(),
            counts: ClassMap::from_fn(|_| 0),
        }
    }
}

impl<T: Ord> Outbox<T> {
    /// Queues an answer. It replaces one about the same command that still waits: phases only rise. Where there is
    /// no room it is given back, for the executor to know.
    pub fn push(&mut self, class: Class, outcome: Outcome) -> Result<(), Outcome> {
        let waiting = &mut self.waiting[class];
        if let Some(older) = waiting.iter_mut().find(|older| is_same_command(older, &outcome)) {
            *older = outcome;
        } else if waiting.len() < LIMIT {
            waiting.push_back(outcome);
        } else {
            return Err(outcome);
        }
        Ok(())
    }

    /// True where so little of `class` is on its way that something is to be told that could be told later.
    pub fn has_room(&self, class: Class) -> bool {
        self.waiting[class].len() + self.counts[class] < LATE
    }

    /// The answer of `class` to send next. Take it with [`Outbox::sent`] once the link has it.
    pub fn next(&self, class: Class) -> Option<&Outcome> {
        self.waiting[class].front()
    }

    /// The next answer of `class` is under way as `ticket`.
    pub fn sent(&mut self, class: Class, ticket: T) {
        if let Some(outcome) = self.waiting[class].pop_front() {
            self.under_way.insert(ticket, (class, outcome));
            self.counts[class] += 1;
        }
    }

    /// `ticket` has arrived. Gives the command whose end is now known to whoever asked.
    pub fn arrived(&mut self, ticket: &T) -> Option<CommandKey> {
        let (_, outcome) = self.take(ticket)?;
        outcome.phase.is_terminal().then_some(outcome.key)
    }

    /// `ticket` was lost with its session: an end is told again, and so is progress that nothing newer has
    /// overtaken. Where there is no room it is given back, as by [`Outbox::push`].
    pub fn lost(&mut self, ticket: &T) -> Result<(), Outcome> {
        let Some((class, outcome)) = self.take(ticket) else { return Ok(()) };
        let newer = |other: &Outcome| is_same_command(other, &outcome) && other.phase >= outcome.phase;
        let overtaken =
            self.waiting[class].iter().any(newer) || self.under_way.values().any(|(_, other)| newer(other));
        if overtaken { Ok(()) } else { self.push(class, outcome) }
    }

    fn take(&mut self, ticket: &T) -> Option<(Class, Outcome)> {
        let (class, outcome) = self.under_way.remove(ticket)?;
        self.counts[class] -= 1;
        Some((class, outcome))
    }

    /// Answers that wait or are under way.
    pub fn len(&self) -> usize {
        self.under_way.len() + self.waiting.iter().map(|(_, waiting)| waiting.len()).sum::<usize>()
    }

    /// True when every answer has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A key may have been used with another command, and the refusal of that says nothing about this one.
fn is_same_command(one: &Outcome, other: &Outcome) -> bool {
    one.key == other.key && one.fingerprint == other.fingerprint
}

#[cfg(test)]
mod tests {
    use carriageway_proto::Phase;

    use super::*;

    fn outcome(key: &str, phase: Phase) -> Outcome {
        Outcome { key: key.parse().unwrap(), phase, reason: None, detail: String::new(), fingerprint: None }
    }

    fn push(outbox: &mut Outbox<u32>, outcome: Outcome) {
        outbox.push(Class::Body, outcome).expect("there is room");
    }

    fn phases(outbox: &Outbox<u32>) -> Vec<Phase> {
        outbox.waiting[Class::Body].iter().map(|outcome| outcome.phase).collect()
    }

    #[test]
    fn the_newest_phase_replaces_one_that_still_waits() {
        let mut outbox = Outbox::<u32>::default();
        push(&mut outbox, outcome("a", Phase::Received));
        push(&mut outbox, outcome("b", Phase::Received));
        push(&mut outbox, outcome("a", Phase::Succeeded));
        assert_eq!(phases(&outbox), [Phase::Succeeded, Phase::Received]);
    }

    #[test]
    fn only_the_end_of_a_command_counts_as_arrived() {
        let mut outbox = Outbox::default();
        push(&mut outbox, outcome("a", Phase::Executing));
        outbox.sent(Class::Body, 1);
        push(&mut outbox, outcome("a", Phase::Succeeded));
        outbox.sent(Class::Body, 2);
        assert_eq!(outbox.arrived(&1), None);
        assert_eq!(outbox.arrived(&2), Some("a".parse().unwrap()));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_lost_is_told_again_unless_something_newer_is() {
        let mut outbox = Outbox::default();
        for (ticket, phase) in [(1, Phase::Received), (2, Phase::Executing)] {
            push(&mut outbox, outcome("a", phase));
            outbox.sent(Class::Body, ticket);
        }
        outbox.lost(&1).unwrap();
        outbox.lost(&2).unwrap();
        assert_eq!(phases(&outbox), [Phase::Executing]);
        outbox.lost(&2).unwrap();
        assert_eq!(outbox.len(), 1, "a fate is told once");
    }

    #[test]
    fn a_flood_is_bounded_and_given_back() {
        let mut outbox = Outbox::default();
        push(&mut outbox, outcome("lost", Phase::Succeeded));
        outbox.sent(Class::Body, 1);
        let refused = (0..600).filter(|number| {
            outbox.push(Class::Body, outcome(&number.to_string(), Phase::Rejected)).is_err()
        });
        assert_eq!(refused.count(), 88);
        assert_eq!(outbox.lost(&1), Err(outcome("lost", Phase::Succeeded)));
        assert_eq!(outbox.len(), 512);
    }

    #[test]
    fn what_can_wait_gets_room_only_while_little_is_on_its_way() {
        let mut outbox = Outbox::default();
        for number in 0..64 {
            assert!(outbox.has_room(Class::Body), "after {number}");
            push(&mut outbox, outcome(&number.to_string(), Phase::Succeeded));
        }
        assert!(!outbox.has_room(Class::Body) && outbox.has_room(Class::Comfort), "each class for itself");
        for ticket in 0..64 {
            outbox.sent(Class::Body, ticket);
        }
        assert!(!outbox.has_room(Class::Body), "all are under way");
        outbox.arrived(&0);
        assert!(outbox.has_room(Class::Body));
        push(&mut outbox, outcome("new", Phase::Succeeded));
        outbox.lost(&1).unwrap();
        assert!(!outbox.has_room(Class::Body), "what was lost waits again");
    }

    #[test]
    fn the_refusal_of_another_command_replaces_nothing() {
        let refusal =
            || Outcome { fingerprint: std::num::NonZeroU64::new(7), ..outcome("a", Phase::Rejected) };
        let mut outbox = Outbox::default();
        push(&mut outbox, outcome("a", Phase::Succeeded));
        push(&mut outbox, refusal());
        assert_eq!(phases(&outbox), [Phase::Succeeded, Phase::Rejected]);
        outbox.sent(Class::Body, 1);
        outbox.lost(&1).unwrap();
        assert_eq!(phases(&outbox), [Phase::Rejected, Phase::Succeeded], "nor does it overtake the end");
    }
}
