//! The Carriageway server: vehicles on one side, operators on the other.
//!
//! [`core`] holds its decisions as pure state machines.

pub mod core;
