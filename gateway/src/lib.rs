//! The Carriageway server: vehicles on one side, operators on the other.
//!
//! [`core`] holds its decisions as pure state machines. Around it, behind the feature `shell`: the
//! [`hub`] where they meet the clock and the sessions, the [`store`] that outlives the process, the
//! listeners, the HTTP API, configuration and tokens; [`serve`] puts it all together.

pub mod core;

#[cfg(feature = "shell")]
pub mod api;
#[cfg(feature = "shell")]
pub mod auth;
#[cfg(feature = "shell")]
pub mod certs;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod closing;
#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod hub;
#[cfg(feature = "shell")]
pub mod listeners;
#[cfg(feature = "shell")]
pub mod metrics;
#[cfg(feature = "shell")]
pub mod page;
#[cfg(feature = "shell")]
pub mod serve;
#[cfg(feature = "shell")]
pub mod sessions;
#[cfg(feature = "shell")]
pub mod store;
