//! The journal: what a vehicle remembers of its commands across crashes, the highest session epoch it has
//! held, and the highest lease token it has seen.
//!
//! [`Sqlite`] keeps it in one file, which any number of vehicles of one process share; [`Keeper`] owns the
//! thread that writes it, several changes to one `fsync`; [`Journal`] is one vehicle's access.
//! [`Journal::volatile`] keeps nothing: with it neither ONCE nor the latch of an emergency stop survives a
//! restart.

mod desired;
mod keeper;
mod sqlite;

use std::path::PathBuf;

use carriageway_proto::{CommandKey, Epoch, SignalPath, Token, VehicleId};

use crate::core::executor::Record;
use crate::core::reconciler::Past;

pub use keeper::{Journal, Keeper, Outcome, SESSION, TOKEN};
pub use sqlite::Sqlite;

/// Something to keep, or not to keep any longer.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Keep this record, in place of an older one with its key.
    Put(Box<Record>),
    /// Forget the record of this key.
    Forget(CommandKey),
    /// A session of this epoch begins. The highest is kept.
    Epoch(Epoch),
    /// Nothing is decided any more on what is desired of `path` up to this version. The highest is kept.
    Desired {
        /// Which path.
        path: SignalPath,
        /// Which version of it.
        version: u64,
    },
    /// `path` is not kept any more: of paths that are not, nothing is decided on up to `floor`.
    Undesired {
        /// Which path.
        path: SignalPath,
        /// The version. The highest is kept.
        floor: u64,
    },
    /// A lease of this token was seen. The highest is kept.
    Token(Token),
}

/// What a journal holds of one vehicle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Its commands, oldest first.
    pub records: Vec<Record>,
    /// The highest epoch it has held.
    pub epoch: Epoch,
    /// How far it has come with desired state.
    pub desired: Past,
    /// The highest lease token it has seen; `None` before the first.
    pub token: Option<Token>,
}

/// Where journals are kept. Calls block; [`Keeper`] makes them from a thread of its own.
pub trait Store: Send + 'static {
    /// Reads everything of one vehicle.
    fn load(&mut self, vehicle: &VehicleId) -> Result<Loaded, JournalError>;

    /// Makes all of these changes, in order, or none. They are durable when this returns.
    fn commit(&mut self, changes: &[(VehicleId, Change)]) -> Result<(), JournalError>;
}

/// Why there is no journal, or none any more. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened.
    #[error("cannot open the journal {}: {source}; its directory must exist and be writable for this user", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// Somebody else has it open.
    #[error("the journal {} is in use by another process; stop that agent, or give this one a file of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another program's file.
    #[error("{} is a database, but no journal of Carriageway's; give `journal` another path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("the journal {} has format {found}, this agent knows {known}; run the agent that wrote it, or move the file away once no command in it can be alive", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A record that cannot be read.
    #[error("the journal {} holds a damaged record of vehicle {vehicle}: {why}; move the file away, and treat commands of the last minutes as unknown", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Whose.
        vehicle: VehicleId,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be read.
    #[error("cannot read the journal {}: {source}; check the disk", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// It cannot be written.
    #[error("cannot write the journal {}: {source}; check that the disk has room and is not read-only, then restart the agent", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// The thread that writes it is gone or could not be started.
    #[error("the journal's thread is not running{}; restart the agent", .0.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Stopped(Option<std::io::Error>),
}
