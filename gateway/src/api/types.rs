//! What goes over HTTP as JSON. Stable: fields are added, never renamed or given another meaning.
//!
//! Ages and durations are in milliseconds and come from the boot clock. Dates are RFC 3339, for
//! people: nothing here is decided by them. Requests refuse fields they do not know.

mod drive;
mod state;

use carriageway_proto::{Moment, SignalPath, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use drive::{
    ControlReport, DrainEvent, DriveEvent, DriveStateView, DriveView, LeaseAction, LeaseEvent, LeaseRequest,
    LeaseView, RearmRequest,
};
pub use state::{PathStateView, StateEvent, StateView};

use super::wall::Wall;
use crate::core::board::Shown;
use crate::core::commands::Record;
use crate::core::registry::View;
use crate::hub::{Glance, LinkView};

/// A value of a signal or the target of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum JsonValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text, at most 512 bytes.
    Text(String),
}

impl From<&Value> for JsonValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Bool(boolean) => Self::Bool(*boolean),
            Value::Int(integer) => Self::Int(*integer),
            Value::Float(number) => Self::Float(*number),
            Value::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl From<JsonValue> for Value {
    fn from(value: JsonValue) -> Self {
        match value {
            JsonValue::Bool(boolean) => Self::Bool(boolean),
            JsonValue::Int(integer) => Self::Int(integer),
            JsonValue::Float(number) => Self::Float(number),
            JsonValue::Text(text) => Self::Text(text),
        }
    }
}

/// A request to reach a target state.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// `safety`, `drive`, `body`, `comfort`, `config` or `diagnostics`.
    #[schema(example = "body")]
    pub class: String,
    /// What is to change, as a VSS path.
    #[schema(example = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position")]
    pub path: String,
    /// The state to reach: boolean, number or text.
    #[schema(example = 50)]
    pub value: JsonValue,
    /// How long the command may wait to take effect, in milliseconds from when the
    /// gateway had read the request's head. Absent: the class's own
    /// (body 5000, safety 2000, drive 500). At most ten times that.
    #[schema(example = 5000)]
    pub ttl_ms: Option<u64>,
    /// What to do while the vehicle is not connected. `fail` (absent): 404 at once. `queue`, in body,
    /// comfort, config and diagnostics: the command waits on disk for as long as it lives.
    #[schema(example = "fail")]
    pub on_offline: Option<String>,
}

/// A command and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CommandView {
    /// Its id at this gateway.
    pub id: String,
    /// The vehicle.
    pub vehicle: String,
    /// The operator's idempotency key.
    pub key: String,
    /// Its class.
    pub class: &'static str,
    /// What is to change.
    pub path: String,
    /// The state to reach.
    pub value: JsonValue,
    /// How long it lives from its acceptance.
    pub ttl_ms: u64,
    /// Who asked.
    pub operator: String,
    /// What it does while the vehicle is not connected: `fail` or `queue`.
    pub on_offline: &'static str,
    /// Whether its record is on disk and outlives the gateway's process.
    pub durable: bool,
    /// `CREATED`, `QUEUED`, `DISPATCHED`, `RECEIVED`, `EXECUTING`; then one of `SUCCEEDED`, `FAILED`,
    /// `REJECTED`, `EXPIRED`, `SUPERSEDED`, `CANCELED`, `UNKNOWN`. Unknown: the vehicle may have acted.
    #[schema(example = "SUCCEEDED")]
    pub phase: &'static str,
    /// Whether the phase is final. UNKNOWN is, but may once be resolved by the vehicle.
    pub terminal: bool,
    /// Why it was rejected, failed or superseded: `UNSUPPORTED`, `OUT_OF_RANGE`, `KEY_CONFLICT`, `BUSY`,
    /// `RATE_LIMITED`, `AGE_UNKNOWABLE`, `NOT_PERMITTED`, `MALFORMED`, `ACTUATOR_FAULT`, `NO_LEASE`;
    /// `DUPLICATE`: another command had just brought about the same.
    pub reason: Option<&'static str>,
    /// Why it is where it is, for people.
    pub detail: String,
    /// When it was accepted.
    pub accepted_at: String,
    /// How long ago that was.
    pub age_ms: u64,
    /// From acceptance to the first final phase.
    pub duration_ms: Option<u64>,
    /// Every phase it reached, in order, with the reason of each.
    pub timeline: Vec<StepView>,
}

/// A phase, when it was reached, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StepView {
    /// The phase.
    pub phase: &'static str,
    /// When.
    pub at: String,
    /// Since acceptance.
    pub after_ms: u64,
    /// Why, as `reason` of the command.
    pub reason: Option<&'static str>,
    /// Why, for people.
    pub why: String,
    /// Whether it is on the gateway's disk. A terminal phase is told once it is; one that is not was told
    /// by a gateway whose disk is broken or slow, or of an emergency stop, and may be told otherwise after
    /// a crash.
    pub durable: bool,
}

impl CommandView {
    /// The record as it stands at `wall`'s now.
    pub fn of(record: &Record, wall: &Wall) -> Self {
        let request = &record.request;
        Self {
            id: record.id.to_string(),
            vehicle: request.vehicle.to_string(),
            key: request.key.to_string(),
            class: request.class.name(),
            path: request.path.to_string(),
            value: (&request.value).into(),
            ttl_ms: millis(record.ttl),
            operator: request.operator.clone(),
            on_offline: request.on_offline.name(),
            durable: record.is_durable(),
            phase: record.phase().name(),
            terminal: record.phase().is_terminal(),
            reason: record.reason().map(carriageway_proto::Reason::name),
            detail: record.detail().into(),
            accepted_at: wall.date(record.accepted),
            age_ms: wall.age_ms(record.accepted),
            duration_ms: record.duration().map(millis),
            timeline: record
                .timeline
                .iter()
                .enumerate()
                .map(|(place, step)| StepView {
                    phase: step.phase.name(),
                    at: wall.date(step.at),
                    after_ms: millis(step.at.since(record.accepted)),
                    reason: step.reason.map(carriageway_proto::Reason::name),
                    why: step.detail.clone(),
                    durable: record.is_step_durable(place),
                })
                .collect(),
        }
    }
}

/// A vehicle at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VehicleView {
    /// Its id.
    pub id: String,
    /// `online`: heard within three heartbeats; `stale`: connected but silent; `offline`.
    #[schema(example = "online")]
    pub presence: &'static str,
    /// How long ago it was last heard.
    pub heard_age_ms: u64,
    /// What carries its session now: `quic`, `websocket`.
    pub transport: Option<&'static str>,
    /// Its session, also while that waits to be resumed.
    pub session: Option<String>,
    /// The epoch of its newest session.
    pub epoch: u64,
    /// Sessions it has opened at this gateway.
    pub sessions: u64,
    /// How often one of them was resumed.
    pub resumes: u64,
    /// When it first came to this gateway.
    pub first_seen_at: String,
}

/// Every vehicle that the caller may observe.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VehicleList {
    /// By id.
    pub vehicles: Vec<VehicleView>,
}

impl VehicleView {
    /// One vehicle as it is now.
    pub fn of(glance: &Glance, wall: &Wall) -> Self {
        let View { presence, age, session, epoch, first_seen, sessions, resumes } = glance.view;
        Self {
            id: glance.vehicle.to_string(),
            presence: presence.name(),
            heard_age_ms: millis(age),
            transport: glance.transport.map(carriageway_transport::core::connection::Transport::name),
            session: session.map(|session| session.to_string()),
            epoch: epoch.number(),
            sessions,
            resumes,
            first_seen_at: wall.date(first_seen),
        }
    }
}

/// The newest values of a vehicle's signals.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SignalList {
    /// The vehicle.
    pub vehicle: String,
    /// By path.
    pub signals: Vec<SignalView>,
}

/// The newest value of one signal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SignalView {
    /// Its VSS path.
    pub path: String,
    /// The value.
    pub value: JsonValue,
    /// How old the value is: since the vehicle took it, estimated without synchronised clocks.
    pub age_ms: u64,
    /// When the vehicle took it, by the gateway's wall clock.
    pub sampled_at: String,
}

impl SignalList {
    /// These values of `vehicle`.
    pub fn of(vehicle: &str, shown: impl IntoIterator<Item = Shown>, wall: &Wall) -> Self {
        let signals = shown.into_iter().map(|shown| SignalView::of(shown, wall)).collect();
        Self { vehicle: vehicle.into(), signals }
    }
}

impl SignalView {
    fn of(Shown { path, value, sampled }: Shown, wall: &Wall) -> Self {
        Self {
            path: SignalPath::to_string(&path),
            value: (&value).into(),
            age_ms: wall.age_ms(sampled),
            sampled_at: wall.date(sampled),
        }
    }
}

/// How a vehicle is connected.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LinkReport {
    /// The vehicle.
    pub vehicle: String,
    /// As in the vehicle's own view.
    pub presence: &'static str,
    /// How long ago it was last heard.
    pub heard_age_ms: u64,
    /// What carries the lanes now.
    pub transport: Option<&'static str>,
    /// Why that transport, in the vehicle's words.
    pub why: Option<String>,
    /// Smoothed round trip of what carries the lanes.
    pub rtt_ms: Option<f64>,
    /// Share of packets sent to the vehicle that the protocol below saw lost, 0 to 1.
    pub loss: Option<f64>,
    /// The session.
    pub session: Option<String>,
    /// Its epoch.
    pub epoch: u64,
    /// How often this session was resumed or moved to another connection.
    pub resumes: u64,
    /// Its connections, oldest first.
    pub connections: Vec<ConnectionView>,
    /// Each class's lane.
    pub lanes: Vec<LaneView>,
    /// The signals' ages.
    pub signals: SignalSummary,
    /// Signals that wait to be sent.
    pub queued_signals: u64,
    /// What the gateway has dropped of this session, by stage and reason.
    pub drops: Vec<DropView>,
}

/// One connection of a session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Counts up within the session.
    pub id: u32,
    /// `quic` or `websocket`.
    pub transport: &'static str,
    /// Why this transport, in the vehicle's words.
    pub why: String,
    /// True of the one that carries the lanes.
    pub carries_lanes: bool,
    /// `good`, `suspect` or `dead`.
    pub health: &'static str,
    /// The vehicle's address, as seen from here.
    pub remote: Option<String>,
    /// Smoothed round trip of heartbeats.
    pub rtt_ms: Option<f64>,
    /// Its variation.
    pub jitter_ms: Option<f64>,
    /// Packets sent, where the protocol tells.
    pub sent_packets: Option<u64>,
    /// Packets lost on the way to the vehicle.
    pub lost_packets: Option<u64>,
    /// Congestion window.
    pub window_bytes: Option<u64>,
    /// Changes of the vehicle's address that the connection survived.
    pub migrations: u64,
    /// How long it has been part of the session.
    pub age_ms: u64,
    /// How long since anything came in on it.
    pub silent_ms: u64,
}

/// One class's lane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LaneView {
    /// The class.
    pub class: &'static str,
    /// Frames that wait for the vehicle or its acknowledgement.
    pub queued_frames: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// How long since the vehicle's last message in this class.
    pub heard_age_ms: Option<u64>,
}

/// The ages of a vehicle's signals.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct SignalSummary {
    /// How many there are.
    pub count: u64,
    /// The age of the newest value.
    pub newest_age_ms: Option<u64>,
    /// The age of the oldest value.
    pub oldest_age_ms: Option<u64>,
}

/// A counter of things dropped.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DropView {
    /// Where: `send`, `receive`.
    pub stage: &'static str,
    /// What and why.
    pub reason: &'static str,
    /// How many since the session began.
    pub count: u64,
}

impl LinkReport {
    /// The link as it is now.
    pub fn of(view: &LinkView, wall: &Wall) -> Self {
        let glance = VehicleView::of(&view.glance, wall);
        let connections: Vec<_> = view.connections().collect();
        let carrier = connections.iter().find(|connection| connection.carries_lanes);
        let loss = carrier.and_then(|carrier| {
            let sent = carrier.sent_packets.filter(|sent| *sent > 0)?;
            Some(carrier.lost_packets? as f64 / sent as f64)
        });
        Self {
            transport: carrier.map(|carrier| carrier.transport),
            why: carrier.map(|carrier| carrier.why.clone()),
            rtt_ms: carrier.and_then(|carrier| carrier.rtt_ms),
            loss,
            vehicle: glance.id,
            presence: glance.presence,
            heard_age_ms: glance.heard_age_ms,
            session: glance.session,
            epoch: glance.epoch,
            resumes: view.status.as_ref().map_or(0, |status| status.session.resumes),
            connections,
            lanes: view.lanes(wall),
            signals: SignalSummary {
                count: view.sampled.len() as u64,
                newest_age_ms: view.sampled.iter().max().map(|newest| wall.age_ms(*newest)),
                oldest_age_ms: view.sampled.iter().min().map(|oldest| wall.age_ms(*oldest)),
            },
            queued_signals: view.status.as_ref().map_or(0, |status| status.session.queued_signals as u64),
            drops: view.drops().collect(),
        }
    }
}

/// Something happened, as an event's data. The event's name is the variant's.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    /// `presence`: a vehicle went online, stale or offline.
    Presence {
        /// Whose.
        vehicle: String,
        /// Its presence now.
        presence: &'static str,
        /// When it changed.
        at: String,
    },
    /// `session`: a vehicle opened or resumed its session, or the session ended.
    Session {
        /// Whose.
        vehicle: String,
        /// Which session.
        session: String,
        /// Its epoch.
        epoch: u64,
        /// `opened`, `resumed` or `ended`.
        change: &'static str,
        /// Why it ended.
        detail: String,
        /// When.
        at: String,
    },
    /// `link`: the lanes moved to another connection.
    Link {
        /// Whose.
        vehicle: String,
        /// What carries them now.
        transport: &'static str,
        /// Why, in the vehicle's words.
        why: String,
        /// When.
        at: String,
    },
    /// `command`: a command reached a phase.
    Command(Box<CommandView>),
    /// `lease`: a lease was granted or ended.
    Lease(LeaseEvent),
    /// `drive`: a vehicle said whether it can be driven, at most once a second.
    Drive(DriveEvent),
    /// `drain`: the gateway is on its way out while this vehicle's lease is held.
    Drain(DrainEvent),
    /// `state`: a desired or reported state changed, at most once a second.
    State(StateEvent),
    /// `signals`: what changed since the last event of this name, at most five times a second.
    Signals(SignalList),
    /// `vehicles`: all of them, at the beginning of a stream and after a `reset`.
    Vehicles(VehicleList),
    /// `reset`: events were missed; what is known is to be replaced by the `vehicles` that follow.
    Reset {
        /// For people.
        detail: &'static str,
    },
}

/// A moment's distance in whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with their fraction, to the microsecond.
pub(crate) fn fine_millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// The age of a moment that may not have been.
pub(crate) fn age_ms(moment: Option<Moment>, wall: &Wall) -> Option<u64> {
    moment.map(|moment| wall.age_ms(moment))
}
