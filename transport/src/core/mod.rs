//! The pure session: no sockets, no clock, no tokio, no randomness, no locks, no `async`.
//!
//! Time, bytes and chance come in as arguments; decisions come out as values. Everything that one
//! semantics over three transports means is in here.

pub mod bulk_window;
pub mod connection;
pub mod control;
pub mod floor;
pub mod keeper;
pub mod lane;
mod peer;
pub mod pulse;
pub mod session;
pub mod signals;

pub use peer::Greeting;
pub use session::Session;
