//! The emulator itself: laws, stages and their composition. No socket, clock, lock, thread or global randomness: time comes
//! in as [`Moment`], chance as a [`Seed`], and everything that happens to a packet goes out as a value.
//!
//! One direction of a link is a [`Pipe`]: `gate -> queue -> server -> air -> line`.
//!
//! - the gate refuses what a network would refuse at its edge (too big, UDP blocked, UDP throttled),
//! - the queue is bounded and either drops the tail or runs `CoDel`,
//! - the server takes the time that the capacity demands (a rate, or the delivery opportunities of a trace),
//! - the air decides, for the 1 ms slot in which a packet leaves, whether it is lost, duplicated or corrupted,
//! - the line holds it for the propagation delay and the jitter.
//!
//! What the air does is a pure function of seed, direction and the moment a packet leaves, and loss, duplication and corruption of
//! that moment's slot: two transports that send in the same slot meet the same fate, whatever they or others sent before.

mod air;
mod burst;
mod chance;
mod check;
mod codel;
mod counts;
mod fluid;
mod gate;
mod jitter;
mod law;
mod line;
mod moment;
mod oracle;
mod outage;
mod pipe;
mod queue;
mod server;
mod trace;

pub use air::{Air, Fate};
pub use chance::{Chance, Direction, Draw, Seed};
pub use check::Unsound;
pub use counts::{Cause, Counts};
pub use gate::Kind;
pub use law::{
    Capacity, Discipline, Draws, Jitter, Law, Limit, Loss, Order, Outage, OutageMode, Probability, Queue,
    Rate, Shape, UdpPolicy,
};
pub use moment::{Moment, Slot};
pub use oracle::{Message, Oracle};
pub use pipe::{Delivery, Dropped, Event, Packet, Pipe};
pub use trace::{OPPORTUNITY_BYTES, Trace, TraceError};
