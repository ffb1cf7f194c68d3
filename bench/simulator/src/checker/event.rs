//! The log that the checker reads: one event per line, as JSON, in order of time.
//!
//! ```text
//! {"at":5120000,"node":"truck-1","what":{"Effect":{"key":"k7","class":"body","path":"Vehicle.Door","print":81}}}
//! ```
//!
//! `at` is in microseconds of one clock for all nodes: true time in a simulation; in a real run the clock of
//! the machine that all processes share. `node` is the vehicle's id where the vehicle speaks, and the
//! gateway's name where a gateway speaks. `what` is one of [`What`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::wish::Wish;

/// A name or another short text.
pub type Name = Arc<str>;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// When, in microseconds.
    pub at: u64,
    /// Where.
    pub node: Name,
    /// What.
    pub what: What,
}

/// Why a gateway did not take a command, as far as a rule depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refused {
    /// The vehicle has no connection.
    Offline,
    /// The key belongs to another wish.
    KeyConflict,
    /// Too many, or no room.
    Busy,
    /// Its disk failed to keep it: it is taken back, and gone for good once the disk works again.
    TakenBack,
    /// Anything else.
    Other,
}

/// What became of a message that a sender gave to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LaneFate {
    /// The peer has it.
    Acknowledged,
    /// Its ttl passed.
    Expired {
        /// It may have arrived.
        sent: bool,
    },
    /// Its session ended.
    Lost {
        /// It may have arrived.
        sent: bool,
    },
}

/// What can happen. Times are in microseconds, `print` is the fingerprint of class, path and value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum What {
    /// A gateway took a new command.
    Accepted {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// The record.
        id: Name,
        /// Its class.
        class: Name,
        /// Its target's path.
        path: Name,
        /// Its fingerprint.
        print: u64,
        /// When the request began to come in.
        born: u64,
        /// How long it lives from there.
        ttl: u64,
        /// It waits for a vehicle that is offline.
        queued: bool,
    },
    /// A gateway was asked for a command, and may have taken it before whoever asked has an answer.
    Asked {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// The record; empty: the log does not say.
        #[serde(default)]
        id: Name,
        /// Its class.
        class: Name,
        /// Its target's path.
        path: Name,
        /// Its fingerprint.
        print: u64,
        /// Until when it could live, had it been accepted.
        until: u64,
    },
    /// A gateway answered with a record that it had.
    Repeated {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// The record.
        id: Name,
        /// The fingerprint of what was asked this time.
        print: u64,
    },
    /// A gateway did not take a command.
    Refused {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// Its class.
        class: Name,
        /// Its fingerprint.
        #[serde(default)]
        print: u64,
        /// Why.
        why: Refused,
    },
    /// A record at a gateway reached a phase.
    Phase {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// The record.
        id: Name,
        /// The phase's name.
        phase: Name,
        /// The gateway says that it is on its disk.
        #[serde(default)]
        durable: bool,
        /// How long the gateway has known of it, by its own clock.
        #[serde(default)]
        waited: u64,
    },
    /// A gateway has a record on its disk.
    Stored {
        /// For whom.
        vehicle: Name,
        /// The record.
        id: Name,
        /// The phase that is on the disk; empty: the log does not say.
        #[serde(default)]
        phase: Name,
        /// By what is on the disk it may have left.
        #[serde(default)]
        left: bool,
    },
    /// A gateway handed a command to its vehicle's session.
    Sent {
        /// To whom.
        vehicle: Name,
        /// The record.
        id: Name,
        /// Its class.
        class: Name,
        /// Its target's path.
        path: Name,
        /// It had waited on the disk for its vehicle.
        waited: bool,
    },
    /// It certainly never left, or was not taken: it is at the gateway again.
    Unsent {
        /// To whom.
        vehicle: Name,
        /// The record.
        id: Name,
    },
    /// The gateway goes by the end of a record that was sent: it may be told later, once it is on the disk.
    Over {
        /// The record.
        id: Name,
    },
    /// A copy of a command reached the vehicle's agent.
    Seen {
        /// Its key.
        key: Name,
        /// Its fingerprint.
        print: u64,
    },
    /// The vehicle's journal holds the command now.
    Durable {
        /// Its key.
        key: Name,
        /// Its end; `None`: intended.
        verdict: Option<Name>,
        /// Its fingerprint.
        #[serde(default)]
        print: Option<u64>,
    },
    /// The vehicle's journal forgot the command.
    Forgot {
        /// Its key.
        key: Name,
    },
    /// The vehicle began to bring about a target.
    Effect {
        /// The command's key.
        key: Name,
        /// Its class.
        class: Name,
        /// Its target's path.
        path: Name,
        /// Its fingerprint.
        print: u64,
        /// The lease's token; 0: none.
        #[serde(default)]
        token: u64,
        /// Its place in the order of its class; 0: none.
        #[serde(default)]
        order: u64,
    },
    /// The vehicle's emergency stop was carried out.
    Stopped,
    /// The vehicle told an outcome.
    Said {
        /// The command's key.
        key: Name,
        /// Its class.
        class: Name,
        /// The phase's name.
        phase: Name,
        /// The reason's name.
        reason: Option<Name>,
        /// The fingerprint of the command meant.
        print: Option<u64>,
    },
    /// From now on nothing passes between the node and others, one way or both.
    Partitioned {
        /// Until then.
        until: u64,
    },
    /// A process began.
    Began,
    /// A process was killed or ended.
    Died,
    /// The node's host boots anew.
    Rebooted,
    /// Something happened to a desired state.
    Wish(Wish),
    /// A write to the node's disk failed: a vehicle's journal, or a gateway's records of commands.
    DiskFailed,
    /// The vehicle's journal holds this epoch now.
    EpochDurable {
        /// Which.
        epoch: u64,
    },
    /// A session lives, as `node` sees it.
    Established {
        /// Whose.
        vehicle: Name,
        /// Its epoch.
        epoch: u64,
        /// It lived before.
        resumed: bool,
    },
    /// A message was given to a lane.
    Handed {
        /// The session's vehicle.
        vehicle: Name,
        /// Lane and direction, and the sending process.
        lane: Name,
        /// Counts from 1.
        number: u64,
        /// When it expires.
        expires: Option<u64>,
    },
    /// The sender learned what became of a message.
    Settled {
        /// The session's vehicle.
        vehicle: Name,
        /// As above.
        lane: Name,
        /// Which.
        number: u64,
        /// What became of it.
        fate: LaneFate,
    },
    /// A message came out of a lane.
    Delivered {
        /// The session's vehicle.
        vehicle: Name,
        /// The session's epoch.
        epoch: u64,
        /// As above.
        lane: Name,
        /// Which.
        number: u64,
    },
    /// The receiver was told that messages expired.
    Gap {
        /// The session's vehicle.
        vehicle: Name,
        /// The session's epoch.
        epoch: u64,
        /// The lane's class.
        class: Name,
        /// How many.
        frames: u64,
    },
    /// A value of a signal is shown.
    Shown {
        /// The vehicle.
        vehicle: Name,
        /// Of which path.
        path: Name,
        /// Counts up at its source.
        number: u64,
    },
    /// A gateway granted or renewed a lease.
    Lease {
        /// For whom.
        vehicle: Name,
        /// Its token.
        token: u64,
        /// Who holds it.
        #[serde(default)]
        operator: Name,
        /// When it ends unless it is renewed; `None`: not known.
        #[serde(default)]
        until: Option<u64>,
    },
    /// The disk of a vehicle or of a gateway holds the token of a lease now.
    TokenDurable {
        /// Of which vehicle.
        vehicle: Name,
        /// The token.
        token: u64,
    },
    /// The vehicle heard of a lease, of its renewal or of its end.
    LeaseHeard {
        /// Its token.
        token: u64,
        /// It has ended.
        ended: bool,
    },
    /// An operator's hands made a state of control.
    Steered {
        /// For whom.
        vehicle: Name,
        /// Who.
        operator: Name,
        /// The lease's token.
        token: u64,
        /// Its place among those of its lease.
        counter: u64,
        /// The fingerprint of all of it.
        print: u64,
        /// It asks for no movement.
        neutral: bool,
    },
    /// The vehicle accepted control under a token: it feeds the watchdog, or counts towards being armed.
    Controlled {
        /// The lease's token.
        token: u64,
        /// The fingerprint of the state; 0: not known.
        #[serde(default)]
        print: u64,
    },
    /// The vehicle took a re-arm, and waits for neutral control.
    Rearmed {
        /// The lease's token.
        token: u64,
        /// Of the safe state that the re-arm names.
        nonce: u64,
    },
    /// The vehicle follows control (`armed`), or is in its safe state.
    Driving {
        /// Follows control.
        armed: bool,
        /// Its watchdog's limit.
        limit: u64,
        /// Of this safe state; 0: none, or not known.
        #[serde(default)]
        nonce: u64,
        /// The highest token that the vehicle says it has seen; 0: none, or not known.
        #[serde(default)]
        token: u64,
    },
    /// The vehicle's journal holds that this emergency stop is released.
    ReleaseDurable {
        /// Its key.
        key: Name,
    },
    /// The vehicle's latch of the emergency stop is open again.
    Released,
    /// The node's host sleeps until then.
    Suspended {
        /// When.
        until: u64,
    },
    /// The end of a drive in a healthy world: the vehicle was armed since the faults stopped (`armed`), or is in
    /// its safe state now.
    ExpectedDriving {
        /// Which vehicle.
        vehicle: Name,
        /// Which of the two.
        armed: bool,
    },
    /// Something bounded holds so much.
    Held {
        /// What.
        what: Name,
        /// How much.
        count: u64,
        /// How much it may.
        limit: u64,
    },
    /// A gateway began to drain and has to be done by then.
    Draining {
        /// When.
        until: u64,
    },
    /// A gateway that drains ends a vehicle's session.
    SentAway {
        /// Whose.
        vehicle: Name,
        /// Nothing of it is to be under way there any more; else the drain's time is over, whatever is.
        in_time: bool,
    },
    /// All faults have stopped.
    Healed,
    /// The state of a vehicle long after.
    Rested {
        /// Whose.
        vehicle: Name,
        /// Sessions that gateways hold for it.
        sessions: u64,
        /// Its gateway calls it online.
        online: bool,
        /// Outcomes that have not arrived.
        outcomes: u64,
        /// The newest value of each signal is shown.
        is_shown: bool,
    },
    /// A command of good ttl given to a healthy world has to have ended like this.
    Expected {
        /// For whom.
        vehicle: Name,
        /// Under which key.
        key: Name,
        /// The phase's name.
        phase: Name,
    },
}

/// True of the names of phases after which nothing more comes.
pub(super) fn is_end(phase: &str) -> bool {
    carriageway_proto::Phase::from_name(phase).is_some_and(carriageway_proto::Phase::is_terminal)
}
