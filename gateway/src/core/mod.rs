//! The gateway's decisions: no sockets, no clock, no tokio, no randomness, no locks, no `async`.
//!
//! Time comes in as [`carriageway_proto::Moment`]s of the gateway's own boot clock, chance as
//! arguments; decisions come out as values. The shell (`hub`, `sessions`, `api`) does what they say.

pub mod board;
pub mod commands;
pub mod control;
pub mod lease;
pub mod registry;
pub mod ring;
pub mod shadow;
