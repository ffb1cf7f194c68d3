//! ORDER: within a class, effects happen in the order that the gateway gave; an older command that arrives
//! later has none.

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, ClassMap, Command, CommandKey, Reason, Token};

use super::Verdict;

/// Orders the commands of one class: by the lease first where the class is driven under one.
type Place = (Option<Token>, u64);

/// The place of `command`; `None`: the gateway gave it none.
fn place(command: &Command) -> Option<Place> {
    let token = command.token.filter(|_| command.class == Class::Drive);
    (command.order > 0).then_some((token, command.order))
}

/// The highest place that has acted, or may have, of each class.
#[derive(Debug)]
pub(super) struct Marks(ClassMap<Option<Mark>>);

#[derive(Debug)]
struct Mark {
    place: Place,
    key: CommandKey,
}

impl Marks {
    pub(super) fn none() -> Self {
        Self(ClassMap::from_fn(|_| None))
    }

    /// Why `command` may not act after what has acted. Two commands in one place cannot be told apart by
    /// age: the gateway that gave it twice is at fault, and the second does not act.
    pub(super) fn refuses(&self, command: &Command) -> Option<Verdict> {
        let (place, mark) = (place(command)?, self.0[command.class].as_ref()?);
        if place > mark.place || sabotage::on(Sabotage::OrderNotKept) {
            return None;
        }
        let key = &mark.key;
        if place == mark.place {
            let why = format!("its place in the order, {}, was given to command {key}, too", place.1);
            return Some(Verdict::rejected(Reason::Malformed, why));
        }
        Some(Verdict::superseded(format!("command {key} is newer and came first")))
    }

    /// `command` acts, or may have. Gives the key that held the mark before, if it does not any more.
    pub(super) fn raise(&mut self, command: &Command) -> Option<CommandKey> {
        let place = place(command)?;
        let mark = &mut self.0[command.class];
        if mark.as_ref().is_some_and(|mark| place <= mark.place) {
            return None;
        }
        mark.replace(Mark { place, key: command.key.clone() }).map(|old| old.key)
    }

    /// True where the record of `key` is what a restart will know the order from.
    pub(super) fn is_held_by(&self, class: Class, key: &CommandKey) -> bool {
        self.0[class].as_ref().is_some_and(|mark| mark.key == *key)
    }
}
