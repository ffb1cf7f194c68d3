//! The end-to-end tests: real processes, real sockets, links that fail on command.
//!
//! Each test has a gateway, a relay and vehicles of its own, on loopback ports and with certificates of
//! its own. What a vehicle did is read where nobody can embellish it: from its journal, and from the
//! lines in which it says what it hands to its actuators.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod compare;
mod drain;
mod driven;
mod evidence;
mod expired_never_executes;
mod gateway_killed;
mod hostile;
mod process;
mod raw;
mod tidy;
mod torture;
mod udp_blocked;
mod unknown_and_offline;
mod vehicle_killed;
mod wait;
mod watchdog;
mod window_opens;
mod world;
