//! What a vehicle's software implements so that the agent can watch and command it.

use std::fmt;

use carriageway_proto::{Class, Command, Controls, Moment, Reason, SafeCause, SignalPath, Value};

pub use carriageway_proto::EMERGENCY_STOP;

/// A vehicle, as the agent sees it: values to read, target states to reach, and a safe state.
///
/// The agent calls every method from the one task that owns the vehicle, never from two at once, each
/// with its boot clock's reading, which rises from call to call. Calls must return at once (well under a
/// millisecond): hand slow work to a task or a bus of your own and report its end from
/// [`Vehicle::progress`]. While a call lasts no command is carried out, an emergency stop included, and the
/// watchdog over control waits.
///
/// Targets are states, never toggles: applying a target that already holds is [`Applied::Done`]. The
/// agent has judged freshness, idempotency and rate before it calls [`Vehicle::apply`]; what the
/// vehicle's own state forbids is the vehicle's to refuse, and it must check the class too, so that no
/// target can be reached through a class of laxer policy.
pub trait Vehicle: Send {
    /// Appends to `changed` each signal worth sending now, by VSS path. Called at the configured signal
    /// rate (20 Hz unless told otherwise). Later values replace earlier ones on their way, so say what
    /// *is*, not what changed by how much, and repeat slow values now and then (once a second is
    /// good): a value that was lost is not resent by itself.
    fn observe(&mut self, now: Moment, changed: &mut Vec<(SignalPath, Value)>);

    /// Starts to bring about `target`. A newer target for a path that still moves replaces the older,
    /// whose end need not be reported any more; a refused one replaces nothing. Called once per command, and
    /// once per path and version of what is desired, only after the intent is durable.
    fn apply(&mut self, now: Moment, actuation: Actuation, target: &Target) -> Applied;

    /// The class in which `path` takes what is desired of it as a lasting state, or `None` where it does not:
    /// something momentary, a horn, say, must not be desired. Drive and safety are never asked of a vehicle
    /// this way. Unless a vehicle says otherwise, desired state comes in class config, where
    /// [`Vehicle::apply`] decides on it as on any command of that class.
    fn class_of(&self, _path: &SignalPath) -> Option<Class> {
        Some(Class::Config)
    }

    /// Enters the safe state and latches it: halt, hold, ignore what would move the vehicle. It cannot be
    /// refused. Reports from [`Vehicle::progress`] under this `actuation` when the vehicle stands.
    /// Called for every emergency stop, so more than once while it halts: each actuation is reported. Called
    /// also at every start of the agent, before anything else, while its journal holds such a stop. Only
    /// [`Drivable::arm`] releases it.
    fn stop(&mut self, now: Moment, actuation: Actuation);

    /// The end of one actuation that [`Vehicle::apply`] called moving or that [`Vehicle::stop`] began.
    /// Called every 50 ms while something moves, and before each look at the signals, until it says `None`.
    fn progress(&mut self, now: Moment) -> Option<Progress>;

    /// What can be driven from afar in this vehicle; `None`, unless implemented, where nothing can: then no
    /// re-arm leads out of its safe state. The answer stays the same for the vehicle's life.
    fn drivable(&mut self) -> Option<&mut dyn Drivable> {
        None
    }
}

/// A vehicle that follows control. The agent has judged each frame and keeps the watchdog; the vehicle has
/// to do as it is told, at once, and to keep its own limits: how fast its wheels may turn, how hard it may brake.
///
/// Before the first [`Drivable::arm`] the vehicle may have a driver of its own. From the first
/// [`Drivable::halt`] on it has not: it stands, or follows control.
pub trait Drivable {
    /// Enters the safe state for `cause` and latches it: halt, hold, ignore what would move the vehicle, until
    /// [`Drivable::arm`]. It cannot be refused. Called when re-arming begins, too, and again while it halts.
    fn halt(&mut self, now: Moment, cause: SafeCause);

    /// Leaves the safe state, the latch of an emergency stop included: somebody under a live lease has
    /// shown to be at the controls. Control follows.
    fn arm(&mut self, now: Moment);

    /// Follow this until something newer comes. Called for every accepted frame, at most some hundred
    /// times a second, and once with the throttle let go when control goes stale. Never between
    /// [`Drivable::halt`] and [`Drivable::arm`].
    fn control(&mut self, now: Moment, controls: Controls);
}

/// Numbers one attempt to reach a target. Counts up; means nothing after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actuation(pub u64);

/// A target state: what is to hold, and the class the wish came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The class of the command.
    pub class: Class,
    /// What is to change, by VSS path.
    pub path: SignalPath,
    /// The state to reach.
    pub value: Value,
}

impl Target {
    /// True of the emergency stop itself: the only target that acts before it is recorded.
    pub fn is_emergency_stop(&self) -> bool {
        self.class == Class::Safety && self.path.as_str() == EMERGENCY_STOP && self.value == Value::Bool(true)
    }
}

impl From<&Command> for Target {
    fn from(command: &Command) -> Self {
        Self { class: command.class, path: command.path.clone(), value: command.value.clone() }
    }
}

/// A vehicle's answer to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The target holds.
    Done,
    /// The actuator is on its way; [`Vehicle::progress`] tells the end: within the command's ttl, at
    /// least 30 s and at most 5 minutes. After that it is called UNKNOWN, and a report is ignored.
    Moving,
    /// Nothing was or will be done.
    Refused(Refusal),
}

/// Why a vehicle does not, or did not, reach a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason, for people; at most 256 bytes.
    pub detail: String,
}

impl Refusal {
    /// A refusal for `reason`, in words.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// The end of an actuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which one.
    pub actuation: Actuation,
    /// The target holds, or what went wrong.
    pub result: Result<(), Refusal>,
}
