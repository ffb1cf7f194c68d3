//! Connections over QUIC: RFC 9000, with datagrams of RFC 9221.
//!
//! Each lane has a bidirectional stream, opened by the connecting side; on it go frames, each after its
//! length. Signals go as datagrams. quinn drives the packets; a [`QuicConnection`] is polled by whoever
//! holds it and has no task of its own.

mod connection;
mod datagrams;
mod dial;
mod ended;
mod lane;
mod limits;
mod listener;
mod socket;
mod watched;

pub use connection::QuicConnection;
pub use dial::{DialError, Target, dial, dial_from};
pub use limits::{Congestion, Limits, MIGRATION_WINDOW, Secret, UnknownCongestion};
pub use listener::{Config, Counters, ListenError, QuicListener};
pub use socket::Ground;
