//! The duplicate window: a second command for what another has just brought about has nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{BootId, Class, Command, CommandKey, Moment, Phase, SignalPath, Value};

use super::Record;

/// The last effect on each path, as long as nothing else may have changed it since. No more of them than
/// commands are remembered.
#[derive(Debug, Default)]
pub(super) struct Effects(BTreeMap<SignalPath, Effect>);

#[derive(Debug)]
struct Effect {
    class: Class,
    value: Value,
    key: CommandKey,
    at: Moment,
}

impl Effects {
    /// What the journal knows of it: effects of this boot that ended well. Where another command may have
    /// acted on the same path, nobody knows when, there is none.
    pub(super) fn recover(boot: BootId, journal: &[Record]) -> Self {
        let mut last: BTreeMap<&SignalPath, (Moment, &Record)> = BTreeMap::new();
        let mut unclear: BTreeSet<&SignalPath> = BTreeSet::new();
        for record in journal.iter().filter(|record| record.received.boot == boot && record.may_have_acted())
        {
            let Some(command) = record.command() else { continue };
            match record.acted {
                None => drop(unclear.insert(&command.path)),
                Some(at) if last.get(&command.path).is_none_or(|(other, _)| *other < at) => {
                    last.insert(&command.path, (at, record));
                }
                Some(_) => {}
            }
        }
        let mut effects = Self::default();
        for (path, (at, record)) in last {
            let succeeded = record.verdict.as_ref().is_some_and(|end| end.phase == Phase::Succeeded);
            if let Some(command) = record.command().filter(|_| succeeded && !unclear.contains(path)) {
                effects.note(at, command);
            }
        }
        effects
    }

    /// The command that has brought about what `command` asks for, less than `window` before `now`.
    pub(super) fn duplicated_by(
        &self,
        now: Moment,
        command: &Command,
        window: Duration,
    ) -> Option<&CommandKey> {
        let effect = self.0.get(&command.path).filter(|_| command.class != Class::Safety)?;
        let same = effect.class == command.class && effect.value == command.value;
        // A clock that went backwards says nothing about how long ago it was.
        let just_now = now >= effect.at && now.since(effect.at) < window;
        (same && just_now && !sabotage::on(Sabotage::DuplicatesActed)).then_some(&effect.key)
    }

    /// The vehicle takes `command` at `now`.
    pub(super) fn note(&mut self, now: Moment, command: &Command) {
        let Command { class, value, key, .. } = command.clone();
        self.0.insert(command.path.clone(), Effect { class, value, key, at: now });
    }

    /// What `command` did is not what holds, or not known to.
    pub(super) fn void(&mut self, command: &Command) {
        if self.0.get(&command.path).is_some_and(|effect| effect.key == command.key) {
            self.0.remove(&command.path);
        }
    }

    /// Something that is no command changed `path`.
    pub(super) fn overwritten(&mut self, path: &SignalPath) {
        self.0.remove(path);
    }

    /// Something that is no command changed who knows what.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
