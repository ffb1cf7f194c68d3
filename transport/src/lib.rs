//! The Carriageway session and the connections under it.
//!
//! [`core`] holds the session as a pure state machine. Around it, behind the feature `shell`:
//! connections over QUIC, WebSocket and memory, which all answer to [`Connection`]; the driver that
//! moves values between a session and its connections; the dialer and the listeners.

pub mod core;

#[cfg(feature = "shell")]
pub mod arrival;
#[cfg(feature = "shell")]
pub mod client;
#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod connection;
#[cfg(feature = "shell")]
pub mod daemon;
#[cfg(feature = "shell")]
pub mod dialer;
#[cfg(feature = "shell")]
mod driver;
#[cfg(feature = "shell")]
pub mod identity;
#[cfg(feature = "shell")]
pub mod link;
#[cfg(feature = "shell")]
pub mod lobby;
#[cfg(feature = "shell")]
pub mod memory;
#[cfg(feature = "shell")]
pub mod quic;
#[cfg(feature = "shell")]
pub mod settings;
#[cfg(feature = "shell")]
pub mod tls;
#[cfg(feature = "shell")]
pub mod websocket;

#[cfg(feature = "shell")]
pub use connection::Connection;
#[cfg(feature = "shell")]
pub use link::Link;
