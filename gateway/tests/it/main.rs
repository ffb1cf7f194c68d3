//! The gateway's integration tests, in one binary: a whole gateway on loopback, vehicles that speak
//! through the session's own core, and operators over HTTPS.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod car;
mod commands;
mod control;
mod drive;
mod events;
mod hostile;
mod lease;
mod queue;
mod state;
mod support;
mod vehicles;
