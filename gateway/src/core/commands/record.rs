//! One command's record: what was asked, and what became of it.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use carriageway_proto::message::fingerprint;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, CommandKey, Moment, Phase, Reason, SignalPath, Value, VehicleId};

use super::Limits;

/// Names a command at the gateway: 16 bytes from chance, so that no id of an earlier run is ever
/// mistaken for one of this. 32 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(u128);

impl CommandId {
    /// The id of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command id has 32 hexadecimal digits")]
pub struct BadCommandId;

impl FromStr for CommandId {
    type Err = BadCommandId;

    fn from_str(text: &str) -> Result<Self, BadCommandId> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let parsed = u128::from_str_radix(text, 16);
        parsed.ok().filter(|_| hex).map(Self).ok_or(BadCommandId)
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which vehicle.
    pub vehicle: VehicleId,
    /// The operator's idempotency key.
    pub key: CommandKey,
    /// Whose lane and policy it takes.
    pub class: Class,
    /// What is to change.
    pub path: SignalPath,
    /// The target state.
    pub value: Value,
    /// How long it lives; `None`: the class's default.
    pub ttl: Option<Duration>,
    /// Who asks.
    pub operator: String,
}

impl Request {
    /// What tells this wish from another under the same key, as the vehicle says it.
    pub fn fingerprint(&self) -> NonZeroU64 {
        fingerprint(self.class, &self.path, &self.value)
    }
}

/// A phase and when it was reached, by the gateway's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// When.
    pub at: Moment,
}

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name here.
    pub id: CommandId,
    /// What was asked.
    pub request: Request,
    /// How long it lives from its acceptance.
    pub ttl: Duration,
    /// When it began to come in: its ttl counts from here.
    pub accepted: Moment,
    /// Every phase it reached, in order.
    pub timeline: Vec<Step>,
    /// Why it was rejected or failed.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
    /// When the record has to be looked at next: the command's end, or the record's own.
    pub(super) due: Moment,
}

/// What the record says anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) phase: Phase,
    pub(super) reason: Option<Reason>,
    pub(super) detail: String,
}

impl News {
    pub(super) fn of(phase: Phase, detail: &str) -> Self {
        Self { phase, reason: None, detail: detail.into() }
    }
}

impl Record {
    pub(super) fn new(accepted: Moment, id: CommandId, request: Request, ttl: Duration) -> Self {
        let timeline = vec![Step { phase: Phase::Created, at: accepted }];
        let due = accepted + ttl;
        Self { id, request, ttl, accepted, timeline, reason: None, detail: String::new(), due }
    }

    /// How far it came.
    pub fn phase(&self) -> Phase {
        self.timeline.last().expect("a record begins with CREATED").phase
    }

    /// The end of its ttl: from here on it must not take effect.
    pub fn lives_until(&self) -> Moment {
        self.accepted + self.ttl
    }

    /// The record as it was when it reached `phase`.
    #[must_use]
    pub fn as_of(&self, phase: Phase) -> Self {
        let reached = self.timeline.iter().position(|step| step.phase == phase).map_or(1, |at| at + 1);
        if reached == self.timeline.len() {
            return self.clone();
        }
        let timeline = self.timeline[..reached].to_vec();
        Self { timeline, reason: None, detail: String::new(), ..self.clone() }
    }

    /// From acceptance to the first terminal phase.
    pub fn duration(&self) -> Option<Duration> {
        let end = self.timeline.iter().find(|step| step.phase.is_terminal())?;
        Some(end.at.since(self.accepted))
    }

    /// The same wish as `request`: class, target, value and ttl. Not who asks: whoever knows the key
    /// means the same command.
    pub(super) fn same_payload(&self, request: &Request, ttl: Duration) -> bool {
        self.request.class == request.class
            && self.request.path == request.path
            && self.request.value == request.value
            && self.ttl == ttl
    }

    /// Takes the news if it is any: phases only rise, and nothing follows a terminal one but the
    /// one resolution of UNKNOWN (ACK-TRUTH). True if it was taken.
    pub(super) fn rise(&mut self, now: Moment, news: News, limits: &Limits) -> bool {
        if !rises(self.phase(), news.phase) {
            return false;
        }
        self.timeline.push(Step { phase: news.phase, at: now });
        self.reason = news.reason;
        self.detail = news.detail;
        self.due = self.next_due(now, limits);
        true
    }

    /// A phase's own deadline. A command that the vehicle has not answered for may still have
    /// been carried out, so its silence ends in UNKNOWN, a little after the ttl; one that it said
    /// it is executing gets the longer grace, for actuators take their time.
    fn next_due(&self, now: Moment, limits: &Limits) -> Moment {
        let lives_until = self.lives_until();
        match self.phase() {
            Phase::Created => lives_until,
            Phase::Queued | Phase::Dispatched => lives_until + limits.silence_grace,
            Phase::Received | Phase::Executing => lives_until + limits.execution_grace,
            Phase::Succeeded
            | Phase::Failed
            | Phase::Rejected
            | Phase::Expired
            | Phase::Superseded
            | Phase::Canceled
            | Phase::Unknown => (now + limits.keep).max(lives_until + limits.execution_grace),
        }
    }
}

fn rises(from: Phase, to: Phase) -> bool {
    if sabotage::on(Sabotage::PhasesFall) && !from.is_terminal() {
        return to != from;
    }
    if sabotage::on(Sabotage::UnknownTwice) && to == Phase::Unknown {
        return true;
    }
    match from {
        Phase::Unknown => to.is_terminal() && to != Phase::Unknown,
        Phase::Created | Phase::Queued | Phase::Dispatched | Phase::Received | Phase::Executing => to > from,
        Phase::Succeeded
        | Phase::Failed
        | Phase::Rejected
        | Phase::Expired
        | Phase::Superseded
        | Phase::Canceled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_garbage_is_none() {
        let id = CommandId::from_bytes([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "xyz", "+0000000000000000000000000000000", "0"] {
            assert_eq!(bad.parse::<CommandId>(), Err(BadCommandId), "{bad:?}");
        }
    }

    #[test]
    fn nothing_follows_a_terminal_phase_but_the_resolution_of_unknown() {
        for from in Phase::ALL.iter().copied().filter(|phase| phase.is_terminal()) {
            for to in Phase::ALL.iter().copied() {
                let resolves = from == Phase::Unknown && to.is_terminal() && to != Phase::Unknown;
                assert_eq!(rises(from, to), resolves, "{from} to {to}");
            }
        }
    }
}
