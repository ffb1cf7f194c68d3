//! What the journal keeps of a command.

use std::num::NonZeroU64;
use std::time::Duration;

use carriageway_proto::{BootId, Cancel, Class, Command, CommandKey, Moment, Outcome, Phase, Reason, Stamp};

use crate::core::freshness::TooOld;
use crate::core::vehicle::{Refusal, Target};

/// What a record is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// A command, as it first came.
    Command(Command),
    /// A command that was withdrawn before it came, if it ever does.
    Withdrawn(Cancel),
}

/// One key in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it is about.
    pub wish: Wish,
    /// When it first came, by this host's clock.
    pub received: Stamp,
    /// How long after `received` a copy of it could still pass for fresh.
    pub keep_for: Duration,
    /// When the vehicle took it, by the clock of `received`. Durable with the verdict only: an intent without
    /// one may have acted all the same.
    pub acted: Option<Moment>,
    /// What became of it; `None`: intended, and perhaps acted upon.
    pub verdict: Option<Verdict>,
    /// An emergency stop whose latch was released.
    pub released: bool,
}

impl Record {
    /// An emergency stop that holds the vehicle, if it was let in.
    pub fn holds_the_latch(&self) -> bool {
        !self.released && self.is_emergency_stop()
    }

    /// The command's key.
    pub fn key(&self) -> &CommandKey {
        match &self.wish {
            Wish::Command(command) => &command.key,
            Wish::Withdrawn(cancel) => &cancel.key,
        }
    }

    /// The command's class.
    pub fn class(&self) -> Class {
        match &self.wish {
            Wish::Command(command) => command.class,
            Wish::Withdrawn(cancel) => cancel.class,
        }
    }

    /// The command, if it came.
    pub fn command(&self) -> Option<&Command> {
        match &self.wish {
            Wish::Command(command) => Some(command),
            Wish::Withdrawn(_) => None,
        }
    }

    /// True where the command was withdrawn before it came.
    pub fn is_withdrawn(&self) -> bool {
        self.command().is_none()
    }

    /// True of an emergency stop.
    pub fn is_emergency_stop(&self) -> bool {
        self.command().is_some_and(|command| Target::from(command).is_emergency_stop())
    }

    /// When it may be forgotten, by the clock of `boot`. A record of another boot is kept as if it
    /// had come with this boot, which is later than it can have been.
    pub fn forget_at(&self, boot: BootId) -> Moment {
        let from = if self.received.boot == boot { self.received.clock } else { Moment::ZERO };
        from + self.keep_for
    }

    /// True where `other` asks for the same thing under the same key. Stamp, ttl, order and operator are no
    /// part of it: a gateway stamps each copy anew with what is left.
    pub fn is_same_wish(&self, other: &Command) -> bool {
        match &self.wish {
            Wish::Command(own) => {
                own.class == other.class && own.path == other.path && own.value == other.value
            }
            Wish::Withdrawn(cancel) => {
                let meant = cancel.fingerprint.is_none_or(|print| print == other.fingerprint());
                cancel.class == other.class && meant
            }
        }
    }

    /// True where `cancel`, which names this key, means this wish.
    pub fn is_meant_by(&self, cancel: &Cancel) -> bool {
        let differs = self.fingerprint().zip(cancel.fingerprint).is_some_and(|(own, other)| own != other);
        self.class() == cancel.class && !differs
    }

    /// False where it certainly had no effect and never will have.
    pub fn may_have_acted(&self) -> bool {
        let Some(verdict) = &self.verdict else { return true };
        match verdict.phase {
            Phase::Rejected | Phase::Expired | Phase::Canceled => false,
            Phase::Superseded => self.acted.is_some(),
            Phase::Created
            | Phase::Queued
            | Phase::Dispatched
            | Phase::Received
            | Phase::Executing
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Unknown => true,
        }
    }

    /// `verdict` as told to whoever asked.
    pub fn outcome(&self, verdict: &Verdict) -> Outcome {
        Outcome { fingerprint: self.fingerprint(), ..verdict.outcome_of_unread(self.key()) }
    }

    fn fingerprint(&self) -> Option<NonZeroU64> {
        match &self.wish {
            Wish::Command(command) => Some(command.fingerprint()),
            Wish::Withdrawn(cancel) => cancel.fingerprint,
        }
    }
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A terminal phase.
    pub phase: Phase,
    /// Why, where it did not succeed.
    pub reason: Option<Reason>,
    /// For people; at most 256 bytes.
    pub detail: String,
}

impl Verdict {
    /// It holds.
    pub fn succeeded() -> Self {
        Self { phase: Phase::Succeeded, reason: None, detail: String::new() }
    }

    /// It was tried and did not work.
    pub fn failed(refusal: Refusal) -> Self {
        Self { phase: Phase::Failed, reason: Some(refusal.reason), detail: refusal.detail }
    }

    /// Certainly not executed, for `reason`.
    pub fn rejected(reason: Reason, detail: impl Into<String>) -> Self {
        Self { phase: Phase::Rejected, reason: Some(reason), detail: detail.into() }
    }

    /// Certainly not executed: too late, or nobody can tell.
    pub fn expired(TooOld { reason, detail }: TooOld) -> Self {
        Self { phase: Phase::Expired, reason, detail }
    }

    /// Something newer won.
    pub fn superseded(detail: impl Into<String>) -> Self {
        Self { phase: Phase::Superseded, reason: None, detail: detail.into() }
    }

    /// Command `other` has just brought about the same.
    pub fn duplicate(other: &CommandKey) -> Self {
        let detail = format!("already brought about by command {other}");
        Self { phase: Phase::Superseded, reason: Some(Reason::Duplicate), detail }
    }

    /// Withdrawn; certainly not executed.
    pub fn canceled() -> Self {
        let detail = "withdrawn before it took effect".into();
        Self { phase: Phase::Canceled, reason: None, detail }
    }

    /// The vehicle may have acted.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self { phase: Phase::Unknown, reason: None, detail: detail.into() }
    }

    /// As told to whoever asked for `command`.
    pub fn outcome(&self, command: &Command) -> Outcome {
        Outcome { fingerprint: Some(command.fingerprint()), ..self.outcome_of_unread(&command.key) }
    }

    /// As told to whoever asked for something that could not be read.
    pub fn outcome_of_unread(&self, key: &CommandKey) -> Outcome {
        let Self { phase, reason, detail } = self.clone();
        Outcome { key: key.clone(), phase, reason, detail, fingerprint: None }
    }
}

/// How long after its receipt a command could still be fresh at its most generous: it was stamped before
/// it came, so it is dead `ttl` later in true time; twice the drift for both clocks that measure it.
pub(super) fn life(ttl: Duration) -> Duration {
    ttl + ttl / 500 + Duration::from_millis(1)
}

/// Frames carry classes of commands only; this text answers one that does not.
pub(super) fn no_command_class(class: Class) -> Verdict {
    Verdict::rejected(Reason::Unsupported, format!("class {class} takes no commands"))
}
