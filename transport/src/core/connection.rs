//! What the core knows of a connection: an id, what it can do, and which of its channels have room.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode};

/// Names one connection within a session. Counts up, is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// The protocol under a connection. For people, metrics and the dialer; the core decides from
/// [`Capabilities`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC, RFC 9000, with datagrams, RFC 9221.
    Quic,
    /// WebSocket over TLS over TCP, RFC 6455.
    WebSocket,
    /// Two queues within one process, for tests and examples.
    Memory,
}

impl Transport {
    /// The name, as in HTTP and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a connection's lanes relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// A stream each: loss in one does not hold up another.
    Independent,
    /// One byte stream for all: the core multiplexes by urgency, in small pieces.
    Shared,
}

/// What a connection can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The protocol, for people.
    pub transport: Transport,
    /// How its lanes relate.
    pub lanes: Lanes,
    /// Most bytes of an unreliable datagram; `None` where signals share the byte stream.
    pub datagram: Option<usize>,
    /// Survives a change of the peer's address.
    pub migrates: bool,
}

/// A place to put a frame. A connection takes one frame per channel at a time and then announces
/// room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The ordered stream of one lane, where lanes are independent. The session's carries hello,
    /// welcome, heartbeats, acknowledgements and goodbye too.
    Lane(Class),
    /// The one ordered stream of a connection whose lanes share it.
    Shared,
    /// Unreliable datagrams.
    Datagram,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it with a code of ours.
    ByPeer {
        /// The code.
        code: CloseCode,
        /// The peer's words.
        reason: String,
    },
    /// We closed it.
    ByUs,
    /// The network or the peer's host stopped answering, or the protocol under it failed.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer { code, reason } if reason.is_empty() => write!(f, "closed by the peer: {code}"),
            Self::ByPeer { code, reason } => write!(f, "closed by the peer: {code}, {reason}"),
            Self::ByUs => f.write_str("closed here"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What a connection has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The channel takes another frame.
    Room(Channel),
    /// A frame came in. Its bytes are not decoded yet.
    Frame(Channel, Bytes),
    /// The last event.
    Ended(Ended),
}

/// What the protocol under a connection measures by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Packets (QUIC) or segments (TCP) sent.
    pub sent_packets: Option<u64>,
    /// Packets or segments declared lost or retransmitted.
    pub lost_packets: Option<u64>,
    /// Congestion window, in bytes.
    pub window: Option<u64>,
    /// Address changes of the peer that the connection survived.
    pub migrations: u64,
    /// Datagrams too large for the path, dropped before they were sent.
    pub oversized_sent: u64,
    /// Datagrams larger than any of ours, dropped on arrival.
    pub oversized_received: u64,
}
