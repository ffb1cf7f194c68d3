//! What a vehicle really did.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use carriageway_proto::{Command, Message};
use rusqlite::Connection;
use serde_json::Value as Json;

/// How often each (path, value) was handed to the actuators, over every run of the vehicle, from the
/// line that the agent logs before it does so.
pub(crate) fn effects(log: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let applied = lines.filter(|line| line["fields"]["message"] == "applying");
    applied
        .map(|line| {
            let field = |name: &str| line["fields"][name].as_str().unwrap().to_owned();
            (field("path"), field("value").parse().unwrap_or(f64::NAN))
        })
        .collect()
}

/// One command as the journal holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) value: String,
    /// `None`: an intent without a result.
    pub(crate) phase: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
}

/// The journal of a vehicle that does not run, by key. It is read from a copy: opening it may replay
/// what a killed agent had not put in its place yet, and evidence is not touched.
pub(crate) fn journal(file: &Path, vehicle: &str) -> BTreeMap<String, Entry> {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("journal.db");
    fs::copy(file, &copy).unwrap();
    let ahead = file.with_extension("db-wal");
    if ahead.exists() {
        fs::copy(ahead, copy.with_extension("db-wal")).unwrap();
    }
    let connection = Connection::open(&copy).unwrap();
    let mut rows = connection
        .prepare("SELECT key, command, phase, reason, detail FROM command WHERE vehicle = ?1")
        .unwrap();
    let rows = rows.query_map([vehicle], |row| {
        let Command { path, value, .. } = command(row.get(1)?);
        let (path, value) = (path.to_string(), value.to_string());
        let entry = Entry { path, value, phase: row.get(2)?, reason: row.get(3)?, detail: row.get(4)? };
        Ok((row.get(0)?, entry))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn command(blob: Vec<u8>) -> Command {
    let Message::Command(command) = Message::decode(Bytes::from(blob)).unwrap() else {
        panic!("the journal holds something that is no command")
    };
    command
}
