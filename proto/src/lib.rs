//! What every Carriageway crate shares: the wire schema and its types, ids, classes, times and
//! close codes. Everything here is pure.
//!
//! Bytes become [`Frame`] and [`Message`] once, at the edge; nothing further in ever sees a raw id,
//! an unchecked enum or an absent field.

pub mod class;
pub mod close;
pub mod control;
pub mod desired;
pub mod drive;
pub mod frame;
pub mod framing;
pub mod id;
pub mod message;
pub mod rate;
pub mod sabotage;
pub mod scan;
pub mod time;
pub mod value;
pub mod wire;

pub use class::{Class, ClassMap, Policy, PolicyTable};
pub use close::CloseCode;
pub use control::{ControlFrame, ControlState, Controls};
pub use desired::{Desired, DesiredValue, PathState, StateReport, SyncStatus};
pub use drive::{DrivePhase, DriveState, EMERGENCY_STOP, Lease, Rearm, SafeCause};
pub use frame::{DecodeError, Frame};
pub use id::{BootId, CommandKey, Epoch, SessionId, Token, VehicleId};
pub use message::{Cancel, Chunk, Command, Message, Outcome, Phase, Reason};
pub use time::{Moment, Stamp};
pub use value::{SignalPath, Value};

/// The version of the wire protocol that this build speaks, as sent in hello and welcome.
pub const VERSION: u32 = 1;

/// ALPN of vehicle connections over QUIC.
pub const ALPN: &[u8] = b"carriageway/1";

/// WebSocket subprotocol of the fallback.
pub const SUBPROTOCOL: &str = "carriageway.v1";

/// Largest datagram of ours, in bytes: fits QUIC's 1,200-byte minimum with room for headers.
pub const MAX_DATAGRAM: usize = 1_100;

/// Largest reliable frame, in bytes: one lane's QUIC stream window holds it, as does one WebSocket
/// message.
pub const MAX_FRAME: usize = 64 * 1024;
