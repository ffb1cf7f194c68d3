//! What must hold when the vehicle acts, and when somebody is told.

use std::collections::BTreeSet;
use std::time::Duration;

use carriageway_proto::{Class, Command, CommandKey, Outcome, Phase, Reason};
use proptest::prelude::*;

use super::{LastEffect, Wish, World};
use crate::core::executor::{Input, Stage};
use crate::core::vehicle::{Actuation, Applied, Target};

impl World {
    pub(super) fn act(&mut self, actuation: Actuation, target: &Target) -> Result<(), TestCaseError> {
        let (_, key) = self.executor.acting[&actuation].clone();
        let own = self.executor.entries[&key].record.command().expect("only a command acts").clone();
        prop_assert_eq!(&Target::from(&own), target);
        self.in_order_and_alone(&own)?;
        let wish = self.wishes.iter().find(|wish| wish.command.key == key).expect("somebody wished it");
        let Wish { command, born } = wish;
        let age = Duration::from_millis(self.time - born);
        prop_assert!(age <= command.ttl, "FRESH: {} acted {age:?} after its birth", command.key);
        let times = self.executed.entry(command.key.clone()).or_default();
        *times += 1;
        prop_assert_eq!(*times, 1, "ONCE: {}", &command.key);
        prop_assert_eq!(
            self.disk.get(&command.key).map(|record| &record.verdict),
            Some(&None),
            "intent first"
        );
        for phase in self.told.get(&command.key).into_iter().flatten() {
            prop_assert!(!phase.is_terminal(), "{} acted after {phase} was told", command.key);
        }
        self.moving.push(actuation);
        self.acted_at.insert(key.clone(), self.time);
        let effect =
            LastEffect { key: Some(key), value: own.value.clone(), at: self.time, stands: !self.jumped };
        self.effects.insert(own.path.clone(), effect);
        self.executor.handle(self.here().clock, Input::Applied { actuation, applied: Applied::Moving });
        Ok(())
    }

    /// ACK-TRUTH needs somebody to tell: what has ended is owed, on its way, or has arrived. What holds the latch is
    /// told anew once it is released.
    pub(super) fn nothing_is_forgotten_to_be_told(&self) -> Result<(), TestCaseError> {
        let executor = &self.executor;
        let arrived: BTreeSet<&CommandKey> =
            executor.dying.iter().map(|(_, key)| key).chain(&executor.spared).collect();
        let ended = executor.entries.values().filter(|entry| entry.stage == Stage::Settled);
        for record in ended.map(|entry| &entry.record) {
            let is_told = self.unarrived.contains(record.key()) || arrived.contains(record.key());
            let may_be_latched = record.is_emergency_stop() && executor.is_latched();
            let is_owed = executor.owed.contains(record.key());
            prop_assert!(is_told || is_owed || may_be_latched, "{} is told to nobody", record.key());
        }
        Ok(())
    }

    /// ORDER, FENCE and DEBOUNCE of a command that is about to act.
    fn in_order_and_alone(&mut self, own: &Command) -> Result<(), TestCaseError> {
        let drives = own.class == Class::Drive;
        if drives {
            let (newest, until) = self.lease.expect("FENCE: nobody has a lease");
            prop_assert!(own.token == Some(newest) && self.here().clock < until, "FENCE: {}", own.key);
        }
        if own.order > 0 {
            let place = (own.token, own.order);
            let last = self.acted.insert(own.class, place);
            prop_assert!(last < Some(place), "ORDER: {} acted after {last:?}", own.key);
        }
        if let Some(last) = self.effects.get(&own.path).filter(|last| last.stands && !drives) {
            let same = last.value == own.value && self.is_of_class(last.key.as_ref(), own.class);
            let early = self.time - last.at < 500;
            prop_assert!(!(same && early), "DEBOUNCE: {} acted after {:?}", own.key, last.key);
        }
        Ok(())
    }

    fn is_of_class(&self, key: Option<&CommandKey>, class: Class) -> bool {
        self.wishes.iter().any(|wish| Some(&wish.command.key) == key && wish.command.class == class)
    }

    /// A lone command is never held back: a duplicate is one of what was brought about a moment ago.
    pub(super) fn is_duplicate(&mut self, key: &CommandKey, detail: &str) -> Result<(), TestCaseError> {
        if !self.duplicates.insert(key.clone()) || self.jumped {
            return Ok(());
        }
        let named = detail.strip_prefix("already brought about by command ").expect("it names the other");
        let wish =
            |key: &str| &self.wishes.iter().find(|wish| wish.command.key.as_str() == key).unwrap().command;
        let (own, other) = (wish(key.as_str()), wish(named));
        prop_assert_eq!((own.class, &own.path, &own.value), (other.class, &other.path, &other.value));
        let at = self.acted_at.get(&other.key).expect("DEBOUNCE: of what never acted");
        prop_assert!(self.time - at < 500, "DEBOUNCE: {key} was alone");
        Ok(())
    }

    pub(super) fn hear(&mut self, outcome: &Outcome) -> Result<(), TestCaseError> {
        let key = &outcome.key;
        if outcome.reason == Some(Reason::Duplicate) {
            self.is_duplicate(key, &outcome.detail)?;
        }
        if outcome.phase == Phase::Succeeded {
            let durable = self.disk.get(key).and_then(|record| record.verdict.as_ref());
            prop_assert_eq!(
                durable.map(|verdict| verdict.phase),
                Some(Phase::Succeeded),
                "ACK-TRUTH: {}",
                key
            );
        }
        let is_stop = |wish: &Wish| wish.command.key == *key && wish.command.class == Class::Safety;
        let is_released = self.disk.get(key).is_some_and(|record| record.released);
        self.latched |= outcome.phase == Phase::Succeeded && !is_released && self.wishes.iter().any(is_stop);
        let known = !self.forgotten.contains(key);
        let refused = matches!(outcome.phase, Phase::Expired | Phase::Rejected | Phase::Canceled);
        prop_assert!(
            !(refused && known && self.executed.contains_key(key)),
            "{key} acted, then {}",
            outcome.phase
        );
        if known {
            self.told.entry(key.clone()).or_default().insert(outcome.phase);
        }
        if outcome.phase.is_terminal() {
            self.unarrived.insert(key.clone());
        }
        Ok(())
    }
}
