//! Reads the journal of a vehicle that does not run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use carriageway_proto::{Command, Message};
use rusqlite::Connection;

/// One command as the journal holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its target.
    pub path: String,
    /// The state to reach.
    pub value: String,
    /// Its end; `None`: an intent without a result.
    pub phase: Option<String>,
    /// Why, for programs.
    pub reason: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
}

/// Everything in it of `vehicle`, by key. It is read from a copy: opening it may replay what a killed agent
/// had not put in its place yet, and evidence is not touched.
pub fn read(file: &Path, vehicle: &str) -> Result<BTreeMap<String, Entry>> {
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("journal.db");
    fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
    let ahead = file.with_extension("db-wal");
    if ahead.exists() {
        fs::copy(ahead, copy.with_extension("db-wal"))?;
    }
    let connection = Connection::open(&copy)?;
    let mut rows =
        connection.prepare("SELECT key, command, phase, reason, detail FROM command WHERE vehicle = ?1")?;
    let mut rows = rows.query([vehicle])?;
    let mut entries = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let Command { path, value, .. } = command(row.get(1)?)?;
        let (path, value) = (path.to_string(), value.to_string());
        let entry = Entry { path, value, phase: row.get(2)?, reason: row.get(3)?, detail: row.get(4)? };
        entries.insert(row.get(0)?, entry);
    }
    Ok(entries)
}

fn command(blob: Vec<u8>) -> Result<Command> {
    match Message::decode(Bytes::from(blob)) {
        Ok(Message::Command(command)) => Ok(command),
        _ => bail!("the journal holds something that is no command"),
    }
}
