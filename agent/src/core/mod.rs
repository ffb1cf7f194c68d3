//! The pure part of the agent: no sockets, no clock, no tokio, no global randomness, no locks, no `async`.
//!
//! Time comes in as [`carriageway_proto::Moment`], chance as a seed, bytes as checked types; decisions come
//! out as values. [`executor`] decides what a command may do, [`drive`] whether the vehicle follows control,
//! [`reconciler`] what is done for the desired state; [`freshness`] judges ages for all three. [`vehicle`] is what
//! they act upon, [`outbox`] keeps answers until they have arrived, and [`sim`] is a vehicle that needs no hardware.

pub mod drive;
pub mod executor;
pub mod freshness;
pub mod outbox;
pub mod reconciler;
pub mod sim;
pub mod vehicle;
