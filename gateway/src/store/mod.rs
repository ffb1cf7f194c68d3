//! What the gateway keeps on disk: command records, desired states, lease tokens, and who was here.
//!
//! [`Sqlite`] keeps them in one file; [`Store`] owns the thread that writes it, all changes that wait to
//! one `fsync`. Documents are opaque here: whoever writes them gives them their form. A failed write is
//! not the end: what failed may be written again once the disk has room.

mod keeper;
mod sqlite;

use std::path::PathBuf;

use carriageway_proto::{Token, VehicleId};

pub use keeper::{Outcome, Store};
pub use sqlite::Sqlite;

/// Something to keep, or not to keep any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keep the record of a command, in place of an older one of its id, and in that one's place in the
    /// order.
    Command {
        /// Its id.
        id: [u8; 16],
        /// The record.
        document: Vec<u8>,
    },
    /// Forget the record of this command.
    ForgetCommand([u8; 16]),
    /// Keep a vehicle's desired state, in place of an older one.
    Desired {
        /// Whose.
        vehicle: VehicleId,
        /// The state.
        document: Vec<u8>,
    },
    /// A lease was granted under this token. The highest is kept.
    Token {
        /// Of which vehicle.
        vehicle: VehicleId,
        /// The token.
        token: Token,
    },
    /// This vehicle was here.
    Vehicle(VehicleId),
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Records of commands by id, in the order in which each was first kept.
    pub commands: Vec<([u8; 16], Vec<u8>)>,
    /// Desired states, by vehicle.
    pub desired: Vec<(VehicleId, Vec<u8>)>,
    /// The highest token granted, by vehicle.
    pub tokens: Vec<(VehicleId, Token)>,
    /// Vehicles that were here, the one that came last first.
    pub vehicles: Vec<VehicleId>,
}

/// Where changes are kept. Calls block; [`Store`] makes them from a thread of its own.
pub trait Disk: Send + 'static {
    /// Makes all of these changes, in order, or none. They are durable when this returns.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// Why there is no store, or why it did not take a change. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the store {}: {source}; its directory must exist and be writable for this user", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// Somebody else has it open.
    #[error("the store {} is in use by another process; stop that gateway, or set `store.path` to a file of this one's own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another program's file.
    #[error("{} is no store of Carriageway's gateway; set `store.path` to another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("the store {} has format {found}, this gateway knows {known}; run the gateway that wrote it, or move the file away once no command in it can be alive", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Something in it that cannot be read.
    #[error("the store {} is damaged: {why}; move the file away, and treat the commands in it as unknown", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot be written.
    #[error("cannot write the store {}: {source}; check that the disk has room and is not read-only", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// As many writes wait for the disk as may.
    #[error("the store has as many writes waiting as it takes; the disk is too slow for what is asked of it")]
    Busy,
    /// The thread that writes it is gone or could not be started.
    #[error("the store's thread is not running{}; restart the gateway", .0.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Stopped(Option<std::io::Error>),
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// Writers that wait each for their own write, as requests do; run by name, with `--nocapture`.
    #[test]
    #[ignore = "a measurement, not a test"]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "a measurement in real time, for people"
    )]
    fn durable_commands_per_second() {
        const WRITES: u32 = 2_000;
        for writers in [1, 16, 128, 512] {
            let directory = tempfile::tempdir_in(".").unwrap();
            let (disk, _) = Sqlite::open(&directory.path().join("gateway.db")).unwrap();
            let store = Store::start(disk).unwrap();
            let begun = Instant::now();
            let (done, finished) = mpsc::channel::<bool>();
            for n in 0..WRITES {
                if n >= writers {
                    assert!(finished.recv().unwrap());
                }
                let mut id = [0; 16];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let done = done.clone();
                let change = Change::Command { id, document: vec![b'x'; 700] };
                store.write(vec![change], move |outcome| done.send(outcome.is_ok()).unwrap()).unwrap();
            }
            assert!((0..writers).all(|_| finished.recv().unwrap()));
            let rate = f64::from(WRITES) / begun.elapsed().as_secs_f64();
            println!("{writers} at once: {rate:.0} durable commands per second");
        }
    }
}
