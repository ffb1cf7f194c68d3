//! Carriageway.
pub mod core;
#[cfg(feature = "shell")]
pub mod journal;
pub use crate::core::vehicle::Vehicle;
