//! A world in virtual time that does its worst to the cores of Carriageway, and the checker that watches it.
//!
//! A seed draws a [`plan`]: vehicles, gateways, what operators click, and which faults happen when. The
//! [`run`] puts the cores that production runs into that world, and tells everything that happens to the
//! [`checker`], which knows the true time. The same seed does the same again.

mod air;
mod body;
#[cfg(feature = "sabotage")]
pub mod bugs;
mod chance;
pub mod checker;
mod disk;
mod gateway;
mod host;
mod network;
mod pilot;
pub mod plan;
mod probes;
mod queue;
pub mod run;
pub mod shrink;
mod store;
mod vehicle;
mod world;
