//! The daemon: configuration, identities and the life of one or many agents in a process.

pub mod classes;
pub mod config;
pub mod drive;
pub mod fleet;
pub mod identity;
