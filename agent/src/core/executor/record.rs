//! What the journal keeps of a command, and how its age is judged.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{BootId, Class, Command, CommandKey, Moment, Outcome, Phase, Reason, Stamp};

use crate::core::vehicle::Refusal;

/// One command in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The command as it first came.
    pub command: Command,
    /// When it first came, by this host's clock.
    pub received: Stamp,
    /// How long after `received` a copy of it could still pass for fresh.
    pub keep_for: Duration,
    /// What became of it; `None`: intended, and perhaps acted upon.
    pub verdict: Option<Verdict>,
}

impl Record {
    /// The command's key.
    pub fn key(&self) -> &CommandKey {
        &self.command.key
    }

    /// When it may be forgotten, by the clock of `boot`. A record of another boot is kept as if it
    /// had come with this boot, which is later than it can have been.
    pub fn forget_at(&self, boot: BootId) -> Moment {
        let from = if self.received.boot == boot { self.received.clock } else { Moment::ZERO };
        from + self.keep_for
    }

    /// True where `other` asks for the same thing under the same key. Stamp, ttl and operator are no part
    /// of it: a gateway stamps each copy anew with what is left.
    pub fn is_same_wish(&self, other: &Command) -> bool {
        let own = &self.command;
        own.class == other.class && own.path == other.path && own.value == other.value
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
    pub fn expired(reason: Option<Reason>, detail: impl Into<String>) -> Self {
        Self { phase: Phase::Expired, reason, detail: detail.into() }
    }

    /// A newer target for the same thing won.
    pub fn superseded() -> Self {
        let detail = "a newer target for the same thing took over".into();
        Self { phase: Phase::Superseded, reason: None, detail }
    }

    /// The vehicle may have acted.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self { phase: Phase::Unknown, reason: None, detail: detail.into() }
    }

    /// True where it was refused: certainly no effect.
    pub fn is_refusal(&self) -> bool {
        matches!(self.phase, Phase::Rejected | Phase::Expired)
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

/// Judges ages by one host's clock, and notices when that clock cannot be trusted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) boot: BootId,
    latest: Moment,
    trust: Trust,
}

/// What a stamp of this boot is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Full,
    /// The clock has shown every reading up to this one before it went backwards while no agent ran: a stamp
    /// from there could be of either time.
    After(Moment),
    /// The clock went backwards under this agent, and so under the sessions whose gateways know it: the floor
    /// that they stamp by is ahead of it by as much, and no age can be told. A new agent's session has a floor
    /// of its own.
    None,
}

impl Judge {
    /// A judge that begins at `now`. The clock has shown `latest` before, as records of this boot say.
    pub(super) fn new(boot: BootId, latest: Moment, now: Moment) -> Self {
        let trust = if now < latest { Trust::After(latest) } else { Trust::Full };
        Self { boot, latest: now, trust }
    }

    /// Takes in a reading.
    pub(super) fn note(&mut self, now: Moment) {
        if now < self.latest && !sabotage::on(Sabotage::BackwardClockUnnoticed) {
            self.trust = Trust::None;
        }
        self.latest = now;
    }

    /// FRESH: nothing if `command` may still take effect, or why it may not.
    pub(super) fn too_old(&self, now: Moment, command: &Command) -> Option<Verdict> {
        let unknowable = |why: &str| Some(Verdict::expired(Some(Reason::AgeUnknowable), why));
        if command.stamp.boot != self.boot && !sabotage::on(Sabotage::BootNotCompared) {
            return unknowable("it was stamped for another boot of this vehicle");
        }
        let is_worthless = match self.trust {
            Trust::Full => false,
            Trust::After(through) => command.stamp.clock <= through,
            Trust::None => true,
        };
        if is_worthless {
            return unknowable("the vehicle's clock went backwards since it was stamped");
        }
        let boot = if sabotage::on(Sabotage::BootNotCompared) { command.stamp.boot } else { self.boot };
        let Some(age) = command.stamp.age(boot, now) else {
            return unknowable("its stamp lies ahead of the vehicle's clock");
        };
        (with_drift(age) > command.ttl).then(|| {
            let late = format!("{} ms old, ttl {} ms", age.as_millis(), command.ttl.as_millis());
            Verdict::expired(None, late)
        })
    }
}

/// A duration that a clock within 1 +- 0.001 of true time measured, at its longest in true time.
fn with_drift(measured: Duration) -> Duration {
    measured + measured / 999
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
