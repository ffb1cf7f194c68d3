//! The commands beside running the gateway.

pub mod certs;
pub mod config;
pub mod drive;
pub mod token;
