//! Measures Carriageway: the real gateway and the real agent, on an emulated link or by the thousand.
//!
//! [`stats`] is pure. The rest drives processes, namespaces and clocks, and says beside each number what
//! it was measured on, with which seed, and whether the emulator kept its promises meanwhile.

pub mod compare;
pub mod cores;
pub mod daemon;
pub mod fleet;
pub mod journal;
pub mod lanes;
mod local;
mod operator;
mod shuffle;
pub mod stage;
pub mod stats;
pub mod torture;
mod usage;
pub mod watchdog;

/// A line of progress.
#[expect(clippy::print_stderr, reason = "progress belongs on stderr, and a benchmark has no log of its own")]
fn say(text: &str) {
    eprintln!("{text}");
}
