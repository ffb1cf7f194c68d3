//! One command's record: what was asked, and what became of it.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use carriageway_proto::message::fingerprint;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, CommandKey, Moment, Phase, Reason, SignalPath, Value, VehicleId};

use super::Limits;
use crate::core::lease::NotDriving;

/// Names a command at the gateway: 16 bytes from chance, so that no id of an earlier run is ever
/// mistaken for one of this. 32 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(u128);

impl CommandId {
    /// The id of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
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
    /// What to do while the vehicle is not connected.
    pub on_offline: OnOffline,
    /// Whether the operator may drive the vehicle now: commands of class drive need it (FENCE).
    pub drives: Result<(), NotDriving>,
}

/// What becomes of a command to a vehicle that is not connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOffline {
    /// It is refused.
    #[default]
    Fail,
    /// It waits on disk for the vehicle, for as long as it lives.
    Queue,
}

impl OnOffline {
    /// The name, as in HTTP and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Queue => "queue",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fail, Self::Queue].into_iter().find(|one| one.name() == name)
    }
}

impl Request {
    /// What tells this wish from another under the same key, as the vehicle says it.
    pub fn fingerprint(&self) -> NonZeroU64 {
        fingerprint(self.class, &self.path, &self.value)
    }
}

/// A phase, when it was reached by the gateway's clock, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// When.
    pub at: Moment,
    /// Why it was rejected, failed or superseded.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
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
    /// Every phase it reached, in order. Never empty.
    pub timeline: Vec<Step>,
    /// Its place in the order of acceptance.
    pub(super) place: u64,
    pub(super) stage: Stage,
    pub(super) disk: OnDisk,
    /// An operator wants it withdrawn.
    pub(super) is_unwanted: bool,
    /// Changes are told only once it is on disk: until then it is not accepted.
    pub(super) is_untold: bool,
    /// How many steps of its timeline were told.
    pub(super) told: usize,
    /// An end of it waits for the disk, and is told without it then.
    pub(super) tells_by: Option<Moment>,
    /// When its release is tried again.
    pub(super) retry: Option<Moment>,
    /// When the record has to be looked at next: the command's end, or the record's own.
    pub(super) due: Moment,
}

/// Where a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// At the gateway, for its target is not free yet.
    Held,
    /// At the gateway, for the vehicle is or was not connected.
    Queued,
    /// It may go as soon as the disk knows that it does.
    Leaving,
    /// Handed to the link.
    Away,
    /// It ends like this as soon as the disk knows.
    Ending(News),
    /// It has a terminal phase.
    Ended,
}

impl Stage {
    /// Never handed to a link, or back from one that never sent it.
    pub(super) fn is_here(&self) -> bool {
        match self {
            Self::Held | Self::Queued | Self::Leaving | Self::Ending(_) => true,
            Self::Away | Self::Ended => false,
        }
    }

    /// Is here, and nothing has ended it.
    pub(super) fn may_leave(&self) -> bool {
        self.is_waiting() || matches!(self, Self::Leaving)
    }

    /// Waits for its release.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Held | Self::Queued)
    }
}

/// What the disk knows of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// A record of it is or may be there.
    pub(super) is_written: bool,
    /// A record of it is certainly there.
    pub(super) is_durable: bool,
    /// By what may be there, a restarted gateway would release it.
    pub(super) is_releasable: bool,
    /// So many steps of its timeline are certainly there.
    pub(super) steps: usize,
}

/// What the record says anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) phase: Phase,
    pub(super) reason: Option<Reason>,
    pub(super) detail: String,
}

impl News {
    pub(super) fn of(phase: Phase, detail: impl Into<String>) -> Self {
        Self { phase, reason: None, detail: detail.into() }
    }

    pub(super) fn at(self, at: Moment) -> Step {
        Step { phase: self.phase, at, reason: self.reason, detail: self.detail }
    }
}

impl Record {
    pub(super) fn new(accepted: Moment, id: CommandId, request: Request, ttl: Duration) -> Self {
        let timeline = vec![News::of(Phase::Created, "").at(accepted)];
        Self::restored(id, request, ttl, accepted, timeline)
    }

    /// A record as it was written down. Where its timeline is empty, it is as one of a command that
    /// was just accepted.
    pub fn restored(
        id: CommandId,
        request: Request,
        ttl: Duration,
        accepted: Moment,
        mut timeline: Vec<Step>,
    ) -> Self {
        if timeline.is_empty() {
            timeline.push(News::of(Phase::Created, "").at(accepted));
        }
        Self {
            id,
            request,
            ttl,
            accepted,
            timeline,
            place: 0,
            stage: Stage::Held,
            disk: OnDisk::default(),
            is_unwanted: false,
            is_untold: false,
            told: 0,
            tells_by: None,
            retry: None,
            due: accepted + ttl,
        }
    }

    fn last(&self) -> &Step {
        self.timeline.last().expect("a record begins with CREATED")
    }

    /// How far it came.
    pub fn phase(&self) -> Phase {
        self.last().phase
    }

    /// Why it was rejected, failed or superseded.
    pub fn reason(&self) -> Option<Reason> {
        self.last().reason
    }

    /// Why it is where it is, for people.
    pub fn detail(&self) -> &str {
        &self.last().detail
    }

    /// Whether a record of it is on disk.
    pub fn is_durable(&self) -> bool {
        self.disk.is_durable
    }

    /// Whether it waits for its vehicle, which had no connection, and so takes no place among those under way.
    pub fn waits_for_vehicle(&self) -> bool {
        self.stage == Stage::Queued
    }

    /// Whether it is not accepted before it is on disk.
    pub fn is_pending(&self) -> bool {
        self.is_untold
    }

    /// The end of its ttl: from here on it must not take effect.
    pub fn lives_until(&self) -> Moment {
        self.accepted + self.ttl
    }

    /// The record as it was when it reached `phase`.
    #[must_use]
    pub fn as_of(&self, phase: Phase) -> Self {
        let reached = self.timeline.iter().position(|step| step.phase == phase).map_or(1, |at| at + 1);
        Self { timeline: self.timeline[..reached].to_vec(), ..self.clone() }
    }

    /// The record as it may be shown: without an end that the disk does not have yet.
    #[must_use]
    pub fn as_told(&self) -> Self {
        Self { timeline: self.timeline[..self.told.max(1)].to_vec(), ..self.clone() }
    }

    /// Whether the step at this place of the timeline is on disk.
    pub fn is_step_durable(&self, place: usize) -> bool {
        place < self.disk.steps
    }

    /// An end of it was told that is not on disk.
    pub(super) fn has_loose_end(&self) -> bool {
        let steps = self.timeline.iter().take(self.told);
        steps.skip(self.disk.steps).any(|step| step.phase.is_terminal())
    }

    /// From acceptance to the first terminal phase.
    pub fn duration(&self) -> Option<Duration> {
        let end = self.timeline.iter().find(|step| step.phase.is_terminal())?;
        Some(end.at.since(self.accepted))
    }

    /// The same wish as `request`: class, target, value, ttl and what to do offline. Not who asks:
    /// whoever knows the key means the same command.
    pub(super) fn same_payload(&self, request: &Request, ttl: Duration) -> bool {
        self.request.class == request.class
            && self.request.path == request.path
            && self.request.value == request.value
            && self.request.on_offline == request.on_offline
            && self.ttl == ttl
    }

    /// Takes the news if it is any: phases only rise, and nothing follows a terminal one but the
    /// one resolution of UNKNOWN (ACK-TRUTH). True if it was taken.
    pub(super) fn rise(&mut self, now: Moment, news: News) -> bool {
        if !rises(self.phase(), news.phase) {
            return false;
        }
        self.timeline.push(news.at(now));
        true
    }

    /// A phase's own deadline. What is still here certainly ends with its ttl. A command that the
    /// vehicle has not answered for may still have been carried out, so its silence ends in UNKNOWN,
    /// a little after the ttl; one that it said it is executing gets the longer grace, for actuators
    /// take their time.
    pub(super) fn next_due(&self, now: Moment, limits: &Limits) -> Moment {
        let lives_until = self.lives_until();
        match self.phase() {
            Phase::Created | Phase::Queued | Phase::Dispatched if self.stage.is_here() => lives_until,
            Phase::Created | Phase::Queued | Phase::Dispatched => lives_until + limits.silence_grace,
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
