//! The wire from outside: its bytes never change by accident, and no bytes harm the decoder.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod decode_is_bounded;
mod golden;
mod measured;
mod refusals;
mod samples;
