//! The load that every subject carries: what is due when, how it waits for its subject, and what arrived.
//!
//! Open loop: a message is due at its moment whether or not earlier ones have arrived, and its age counts from there.

mod ear;
mod feed;
mod hand;
mod message;
mod schedule;

pub use ear::{Ear, Heard};
pub use feed::{Feed, Manner, Shed};
pub use hand::{Account as HandAccount, Hand};
pub use message::{BadMessage, HEADER, Kind, Message};
pub use schedule::{Due, Schedule, Workload, seed_of};
