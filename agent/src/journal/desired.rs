//! Desired state in a journal's file: up to which version of each path nothing is decided on any more.

use std::collections::BTreeMap;

use carriageway_proto::{SignalPath, VehicleId};
use rusqlite::{Connection, Transaction, params};

use super::sqlite::whole;
use crate::core::reconciler::Past;

/// The row of no path holds the floor, for paths without a row.
pub(super) const SCHEMA: &str = "
    CREATE TABLE desired (
        vehicle TEXT NOT NULL,
        path TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (vehicle, path)
    ) WITHOUT ROWID;
";

/// The path in the row that holds the floor: no signal has it.
const FLOOR: &str = "";

/// No version of `path` up to this one is decided on any more. The highest is kept.
pub(super) fn decide(
    transaction: &Transaction<'_>,
    vehicle: &VehicleId,
    path: &SignalPath,
    version: u64,
) -> rusqlite::Result<()> {
    raise(transaction, vehicle, path.as_str(), version)
}

/// `path` needs no row of its own where the floor rises to `floor`.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    vehicle: &VehicleId,
    path: &SignalPath,
    floor: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM desired WHERE vehicle = ?1 AND path = ?2")?
        .execute(params![vehicle.as_str(), path.as_str()])?;
    raise(transaction, vehicle, FLOOR, floor)
}

fn raise(
    transaction: &Transaction<'_>,
    vehicle: &VehicleId,
    path: &str,
    version: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO desired (vehicle, path, version) VALUES (?1, ?2, ?3)
             ON CONFLICT (vehicle, path) DO UPDATE SET version = max(version, excluded.version)",
        )?
        .execute(params![vehicle.as_str(), path, whole(version)])
        .map(drop)
}

/// The rows of one vehicle: path and version.
pub(super) fn rows(connection: &Connection, vehicle: &VehicleId) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement =
        connection.prepare_cached("SELECT path, version FROM desired WHERE vehicle = ?1 ORDER BY path")?;
    statement.query_map([vehicle.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// What these rows say.
pub(super) fn check(rows: Vec<(String, i64)>) -> Result<Past, String> {
    let (mut floor, mut decided) = (0, BTreeMap::new());
    for (path, version) in rows {
        let version = u64::try_from(version).map_err(|_| "a negative version".to_owned())?;
        if path == FLOOR {
            floor = version;
        } else {
            let path: SignalPath = path.parse().map_err(|error| format!("a desired state of {error}"))?;
            decided.insert(path, version);
        }
    }
    Ok(Past { floor, decided })
}
