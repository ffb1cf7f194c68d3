//! What goes into a session and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{
    Class, CloseCode, ControlFrame, Epoch, Moment, PolicyTable, SessionId, SignalPath, Value,
};

use crate::core::bulk_window;
use crate::core::connection::{Capabilities, Channel, ConnectionId, Ended, Transport};
use crate::core::lane::{Fate, Ticket};
use crate::core::peer::Greeting;
use crate::core::pulse;

/// The knobs of a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// Queue limits and priorities per class.
    pub policies: PolicyTable,
    /// Liveness.
    pub pulse: pulse::Config,
    /// The bulk lane's window.
    pub bulk: bulk_window::Config,
    /// Most signal paths per direction.
    pub max_signal_paths: usize,
    /// Least time between two signal frames on a connection.
    pub signal_interval: Duration,
    /// Time for the peer to answer a hello.
    pub greeting_deadline: Duration,
    /// Most connections at once; a further one replaces the oldest.
    pub max_connections: usize,
    /// Name and version of this software, for people.
    pub software: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policies: PolicyTable::defaults(),
            pulse: pulse::Config::default(),
            bulk: bulk_window::Config::default(),
            // A rich vehicle publishes under two hundred.
            max_signal_paths: 512,
            // 200 frames/s: a flood of signals must not starve a lane behind them.
            signal_interval: Duration::from_millis(5),
            greeting_deadline: Duration::from_secs(5),
            max_connections: 4,
            software: concat!("carriageway/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// What goes into a session.
#[derive(Debug)]
pub enum Input {
    /// Connecting side: a connection is up.
    Opened {
        /// Never used before in this session.
        connection: ConnectionId,
        /// What it can do.
        capabilities: Capabilities,
        /// Why this transport, for people.
        why: String,
    },
    /// Accepting side: a connection whose hello was read.
    Greeted {
        /// Never used before in this session.
        connection: ConnectionId,
        /// What it can do.
        capabilities: Capabilities,
        /// Its hello.
        greeting: Greeting,
    },
    /// A channel takes another frame.
    Room(ConnectionId, Channel),
    /// A frame came in.
    Frame(ConnectionId, Channel, Bytes),
    /// A connection is over.
    Ended(ConnectionId, Ended),
    /// Time has passed.
    Tick,
}

/// What comes out of a session.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Hand this frame to the connection.
    Transmit(ConnectionId, Channel, Bytes),
    /// Close the connection.
    Close(ConnectionId, CloseCode, String),
    /// Tell the application.
    Happened(Happening),
    /// Nothing more before this moment, or before the next input.
    Wait(Option<Moment>),
}

/// What the application is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The session lives: first of all, after every resume, and after every new session.
    Established {
        /// Its id.
        session: SessionId,
        /// Its epoch; keep the highest.
        epoch: Epoch,
        /// False: the lanes started over.
        resumed: bool,
    },
    /// The lanes ride on another connection now.
    Moved {
        /// Its protocol.
        transport: Transport,
        /// Why this transport.
        why: String,
    },
    /// A message, in order and exactly once per lane.
    Message {
        /// Its lane.
        class: Class,
        /// An encoded [`carriageway_proto::Message`].
        payload: Bytes,
    },
    /// Messages that outlived their ttl at the sender.
    Gap {
        /// Their lane.
        class: Class,
        /// How many.
        frames: u64,
    },
    /// Newer values.
    Signals(Vec<SignalUpdate>),
    /// Control, as it came: a copy or an older one may follow it, on another connection.
    Control(ControlFrame),
    /// What became of a message that was sent.
    Settled {
        /// The message.
        ticket: Ticket,
        /// What became of it.
        fate: Fate,
    },
    /// Last: the session is over.
    Ended(Ended),
}

/// A newer value of a signal.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalUpdate {
    /// What the value is of.
    pub path: SignalPath,
    /// The value.
    pub value: Value,
    /// When it was taken, by the peer's clock.
    pub sampled: Moment,
    /// How old it was on arrival: an estimate, from the floor under the peer's clock and half the
    /// quickest round trip.
    pub age: Duration,
}

/// Why a message was not taken in. Each gives it back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The lane's queue is full; try again when something has been settled.
    #[error("the lane is full")]
    Full(Bytes),
    /// Beyond [`MAX_PAYLOAD`](super::MAX_PAYLOAD), or [`MAX_BULK_PAYLOAD`](super::MAX_BULK_PAYLOAD) on the bulk lane.
    #[error("the message is too large for its lane")]
    TooLarge(Bytes),
    /// The session is over.
    #[error("the session has ended")]
    Ended(Bytes),
}

/// Whether and where the session is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connectivity {
    /// The connection that carries it.
    pub carrier: Option<Carrier>,
    /// How many connections ended before they carried anything.
    pub turned_away: u64,
    /// Why the last connection ended.
    pub last_end: Option<Ended>,
    /// The peer asked for at least this wait before the next connection.
    pub retry_after: Option<Duration>,
    /// The session is over, and why.
    pub over: Option<Ended>,
}

/// The connection that carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Which.
    pub connection: ConnectionId,
    /// Its protocol.
    pub transport: Transport,
    /// True where it has fallen silent.
    pub is_suspect: bool,
}
