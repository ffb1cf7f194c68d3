//! The last gate before the vehicle, and what the vehicle says.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, CommandKey, Moment, Phase, SignalPath};

use super::{Executor, Output, Stage, Verdict, too_many};
use crate::core::vehicle::{Actuation, Applied, Refusal, Target};

/// A vehicle has at least so long to report an end: a short ttl says when to begin, not how fast to be.
const SHORTEST_ACTUATION: Duration = Duration::from_secs(30);

/// And at most so long: whoever asked must learn some end.
const LONGEST_ACTUATION: Duration = Duration::from_mins(5);

impl Executor {
    /// The last gate: hands the target over, or settles the command without having acted.
    pub(super) fn act(&mut self, now: Moment, key: &CommandKey) -> Option<Output> {
        let entry = self.entries.get(key).expect("what is ready is remembered");
        let command = entry.record.command().expect("only a command acts");
        let too_old = self.judge.too_old(now, command.stamp, Some(command.ttl)).map(Verdict::expired);
        let too_old = too_old.filter(|_| !sabotage::on(Sabotage::AgeNotJudgedAgain));
        if let Some(verdict) = too_old.or_else(|| self.forbids(now, command)) {
            self.counts.refused += 1;
            self.settle(key, verdict, false);
            return None;
        }
        let (class, target) = (command.class, Target::from(command));
        if self.buckets[class].take(&self.policy[class], now).is_err() {
            self.counts.refused += 1;
            self.settle(key, too_many(class), false);
            return None;
        }
        let ttl = command.ttl;
        self.counts.acted += 1;
        let actuation = self.next_actuation();
        self.expect_end(now, actuation, key.clone(), ttl);
        self.entries.set_stage(key, Stage::Acting(actuation));
        Some(Output::Apply { actuation, target })
    }

    pub(super) fn on_applied(&mut self, now: Moment, actuation: Actuation, applied: Applied) {
        let Some((_, key)) = self.acting.get(&actuation).cloned() else { return };
        match applied {
            Applied::Moving => {
                self.note_effect(now, &key);
                self.supersede_before(actuation, &key);
                self.tell_as(&key, Phase::Executing);
            }
            Applied::Done => {
                self.note_effect(now, &key);
                self.supersede_before(actuation, &key);
                self.on_end(actuation, Verdict::succeeded());
            }
            Applied::Refused(Refusal { reason, detail }) => {
                self.take_acting(actuation);
                self.counts.refused += 1;
                self.settle(&key, Verdict::rejected(reason, detail), false);
            }
        }
    }

    /// The vehicle drops an older target for a path that still moves when it takes a newer one.
    fn supersede_before(&mut self, newer: Actuation, key: &CommandKey) {
        let Some(path) = self.entries[key].record.command().map(|command| command.path.clone()) else {
            return;
        };
        let why = format!("command {key} took over");
        self.supersede(newer, &path, &why);
    }

    /// The vehicle has taken a target for `path` that is no command's.
    pub(super) fn on_taken_over(&mut self, path: &SignalPath) {
        self.effects.overwritten(path);
        self.supersede(Actuation(self.last_actuation + 1), path, "the desired state took over");
    }

    fn supersede(&mut self, before: Actuation, path: &SignalPath, why: &str) {
        let moves_it = |key: &CommandKey| {
            let command = self.entries[key].record.command();
            command.is_some_and(|command| command.class != Class::Safety && command.path == *path)
        };
        let older: Vec<Actuation> = self
            .acting
            .range(..before)
            .filter(|(_, (_, key))| moves_it(key))
            .map(|(actuation, _)| *actuation)
            .collect();
        for actuation in older {
            self.on_end(actuation, Verdict::superseded(why));
        }
    }

    pub(super) fn on_end(&mut self, actuation: Actuation, verdict: Verdict) {
        let Some(key) = self.take_acting(actuation) else { return };
        if verdict.phase != Phase::Succeeded
            && let Some(command) = self.entries[&key].record.command()
        {
            self.effects.void(command);
        }
        self.settle(&key, verdict, true);
    }

    pub(super) fn expect_end(&mut self, now: Moment, actuation: Actuation, key: CommandKey, ttl: Duration) {
        let until = now + ttl.clamp(SHORTEST_ACTUATION, LONGEST_ACTUATION);
        self.acting.insert(actuation, (until, key));
        self.overdue.insert((until, actuation));
    }

    fn take_acting(&mut self, actuation: Actuation) -> Option<CommandKey> {
        let (until, key) = self.acting.remove(&actuation)?;
        self.overdue.remove(&(until, actuation));
        Some(key)
    }

    /// A vehicle that never reports must not keep its commands' places for ever.
    pub(super) fn give_up_overdue(&mut self, now: Moment) {
        while let Some((_, actuation)) = self.overdue.first().copied().filter(|(until, _)| *until <= now) {
            self.on_end(actuation, Verdict::unknown("the vehicle did not report an end"));
        }
    }

    pub(super) fn next_actuation(&mut self) -> Actuation {
        self.last_actuation += 1;
        Actuation(self.last_actuation)
    }
}
