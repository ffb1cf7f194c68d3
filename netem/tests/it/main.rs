//! Everything that is tested from outside, as one binary: linking is the cost.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test")]

mod cli;
mod crosscheck;
mod distributions;
mod laws;
mod log;
mod oracle;
mod relay;
mod run;
mod testbed;
mod wait;
