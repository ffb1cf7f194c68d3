//! Carriageway.
pub mod core;
pub use crate::core::vehicle::Vehicle;
