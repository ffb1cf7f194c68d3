//! `carriageway-gateway drive`: steer a vehicle from a terminal.

pub mod place;
pub mod socket;
