//! The agent with its link, journal and simulated vehicle, over connections in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod agent;
mod crash;
mod daemon;
mod desired;
mod drive;
mod world;
