//! The one face of every connection.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use carriageway_proto::CloseCode;

use crate::core::connection::{Capabilities, Channel, Event, Measured};

/// A connection that can carry a session. It has no task of its own: whoever holds it polls it.
///
/// The contract, which the conformance suite holds for each implementation:
/// - Every channel announces [`Event::Room`] once when it first can take a frame, and once more
///   after each frame given to it has been handed on. Room is announced late rather than early: what
///   has been handed on can no longer be overtaken or replaced.
/// - A frame goes in without its length prefix and comes out without it.
/// - [`Event::Ended`] comes exactly once, after every frame that arrived before the end.
/// - Dropping a connection closes it abruptly.
pub trait Connection: Send {
    /// What it can do. Constant for its life.
    fn capabilities(&self) -> Capabilities;

    /// The peer's address as seen now; it may change where the connection migrates.
    fn remote(&self) -> Option<SocketAddr>;

    /// The next event. Poll it only when the event can be taken in: that is the back-pressure.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event>;

    /// Hands over one frame for `channel`, which must have announced room since the last one.
    fn start_send(&mut self, channel: Channel, frame: Bytes);

    /// Closes with a code, after what was handed over has had its chance: at once if nothing is
    /// pending, within one second in any case. [`Event::Ended`] follows.
    fn close(&mut self, code: CloseCode, reason: &str);

    /// What the protocol below measures.
    fn measured(&self) -> Measured;
}
