//! The Carriageway server.

#[cfg(feature = "shell")]
pub mod auth;
#[cfg(feature = "shell")]
pub mod certs;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod page;
