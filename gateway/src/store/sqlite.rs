//! The store in one SQLite file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use carriageway_proto::{Token, VehicleId};
use rusqlite::{Connection, ErrorCode, Row, Transaction, TransactionBehavior, params};

use super::{Change, Disk, Loaded, StoreError};

/// Marks the file as ours: "CwG1".
const APPLICATION: i64 = 0x4377_4731;

/// The format that this build writes.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE command (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        document BLOB NOT NULL
    );
    CREATE TABLE desired (
        vehicle TEXT PRIMARY KEY,
        document BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE token (
        vehicle TEXT PRIMARY KEY,
        number INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// Added later: a build that does not know it leaves it alone, so the format's number stays.
const VEHICLES: &str = "
    CREATE TABLE IF NOT EXISTS vehicle (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        vehicle TEXT NOT NULL UNIQUE
    );
";

/// Vehicles that are remembered: ten full gateways, as of tokens. Of more, those that came longest ago are
/// forgotten at the start.
const MAX_VEHICLES: u32 = 100_000;

/// One file, held exclusively: a second process cannot open it, so that no two gateways release the same
/// queue. Written ahead (WAL) with an `fsync` per commit (`synchronous=FULL`).
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the store in this file, which is created if it is not there, and reads what it holds. Its
    /// directory must exist.
    pub fn open(path: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = path.to_path_buf();
        let opened = Connection::open(&path).and_then(|mut connection| {
            prepare(&connection)?;
            let found = create_if_new(&mut connection)?;
            Ok((connection, found))
        });
        let (connection, found) = opened.map_err(|source| not_opened(path.clone(), source))?;
        match found {
            (APPLICATION, VERSION) => {}
            (APPLICATION, found) => return Err(StoreError::Version { path, found, known: VERSION }),
            _ => return Err(StoreError::Foreign { path }),
        }
        let store = Self { connection, path };
        store.prepare_vehicles().map_err(|source| not_opened(store.path.clone(), source))?;
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    /// Bounds the file: beyond so many bytes it takes nothing new until something is forgotten, as a full
    /// disk would.
    pub fn limit(&self, bytes: u64) -> Result<(), StoreError> {
        let limited =
            self.connection.pragma_query_value(None, "page_size", |row| row.get(0)).and_then(|page: i64| {
                let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
                self.connection.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))
            });
        limited.map_err(|source| StoreError::Open { path: self.path.clone(), source })
    }

    fn prepare_vehicles(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(VEHICLES)?;
        let beyond = "SELECT place FROM vehicle ORDER BY place DESC LIMIT -1 OFFSET ?1";
        let forget = format!("DELETE FROM vehicle WHERE place IN ({beyond})");
        self.connection.execute(&forget, [MAX_VEHICLES]).map(drop)
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        let read = |source: rusqlite::Error| self.damaged(source.to_string());
        let commands = self.rows("SELECT id, document FROM command ORDER BY place").map_err(read)?;
        let desired: Vec<(String, _)> =
            self.rows("SELECT vehicle, document FROM desired ORDER BY vehicle").map_err(read)?;
        let tokens: Vec<(String, i64)> =
            self.rows("SELECT vehicle, number FROM token ORDER BY vehicle").map_err(read)?;
        let vehicles: Vec<(i64, String)> =
            self.rows("SELECT place, vehicle FROM vehicle ORDER BY place DESC").map_err(read)?;
        let vehicles = vehicles.into_iter().map(|(_, vehicle)| self.vehicle(&vehicle));
        let desired = desired.into_iter().map(|(vehicle, document)| Ok((self.vehicle(&vehicle)?, document)));
        let tokens = tokens.into_iter().map(|(vehicle, number)| {
            let token = u64::try_from(number).ok().and_then(Token::granted);
            let token = token.ok_or_else(|| self.damaged(format!("no lease has the token {number}")))?;
            Ok((self.vehicle(&vehicle)?, token))
        });
        Ok(Loaded {
            commands,
            desired: desired.collect::<Result<_, _>>()?,
            tokens: tokens.collect::<Result<_, _>>()?,
            vehicles: vehicles.collect::<Result<_, _>>()?,
        })
    }

    fn rows<A, B>(&self, query: &str) -> rusqlite::Result<Vec<(A, B)>>
    where
        A: rusqlite::types::FromSql,
        B: rusqlite::types::FromSql,
    {
        let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.connection.prepare(query)?.query_map([], pair)?.collect()
    }

    fn vehicle(&self, text: &str) -> Result<VehicleId, StoreError> {
        text.parse().map_err(|_| self.damaged(format!("no vehicle is named {text:?}")))
    }

    fn damaged(&self, why: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), why }
    }
}

impl Disk for Sqlite {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let written = self.connection.transaction().and_then(|transaction| {
            changes.iter().try_for_each(|change| write(&transaction, change))?;
            transaction.commit()
        });
        written.map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first read: with an exclusive lock WAL needs no shared memory, and a second process fails.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.busy_timeout(Duration::from_millis(500))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Application and format of the file, after giving an empty one ours.
fn create_if_new(connection: &mut Connection) -> rusqlite::Result<(i64, i64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let number = |name| transaction.pragma_query_value(None, name, |row| row.get(0));
    let found = (number("application_id")?, number("user_version")?);
    transaction.commit()?;
    Ok(found)
}

fn not_opened(path: PathBuf, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path },
        _ => StoreError::Open { path, source },
    }
}

fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let done = match change {
        Change::Command { id, document } => transaction
            .prepare_cached(
                "INSERT INTO command (id, document) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            )?
            .execute(params![id, document]),
        Change::ForgetCommand(id) => {
            transaction.prepare_cached("DELETE FROM command WHERE id = ?1")?.execute([id])
        }
        Change::Desired { vehicle, document } => transaction
            .prepare_cached(
                "INSERT INTO desired (vehicle, document) VALUES (?1, ?2)
                 ON CONFLICT (vehicle) DO UPDATE SET document = excluded.document",
            )?
            .execute(params![vehicle.as_str(), document]),
        Change::Token { vehicle, token } => transaction
            .prepare_cached(
                "INSERT INTO token (vehicle, number) VALUES (?1, ?2)
                 ON CONFLICT (vehicle) DO UPDATE SET number = max(number, excluded.number)",
            )?
            // Tokens stay below what SQLite's signed integers hold: a larger one is no token of ours.
            .execute(params![vehicle.as_str(), i64::try_from(token.number()).unwrap_or(i64::MAX)]),
        Change::Vehicle(vehicle) => transaction
            .prepare_cached("INSERT OR REPLACE INTO vehicle (vehicle) VALUES (?1)")?
            .execute([vehicle.as_str()]),
    };
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vehicle(id: &str) -> VehicleId {
        id.parse().unwrap()
    }

    fn command(id: u8, document: &str) -> Change {
        Change::Command { id: [id; 16], document: document.into() }
    }

    fn token(number: u64) -> Token {
        Token::granted(number).unwrap()
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.db");
        let (mut store, empty) = Sqlite::open(&path).unwrap();
        assert_eq!(empty, Loaded::default());
        let lease = |number| Change::Token { vehicle: vehicle("a"), token: token(number) };
        let desired = |document: &str| Change::Desired { vehicle: vehicle("a"), document: document.into() };
        let changes =
            [command(9, "first"), command(1, "second"), lease(7), lease(5), desired("old"), desired("new")];
        store.commit(&changes).unwrap();
        let here = |id| Change::Vehicle(vehicle(id));
        store.commit(&[here("a"), here("b")]).unwrap();
        store
            .commit(&[
                command(3, "third"),
                command(9, "first, later"),
                Change::ForgetCommand([1; 16]),
                here("a"),
            ])
            .unwrap();
        drop(store);
        let (_reopened, loaded) = Sqlite::open(&path).unwrap();
        let commands = vec![([9; 16], b"first, later".to_vec()), ([3; 16], b"third".to_vec())];
        let desired = vec![(vehicle("a"), b"new".to_vec())];
        let (tokens, vehicles) = (vec![(vehicle("a"), token(7))], vec![vehicle("a"), vehicle("b")]);
        assert_eq!(loaded, Loaded { commands, desired, tokens, vehicles });
    }

    #[test]
    fn it_is_as_durable_as_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Sqlite::open(&directory.path().join("gateway.db")).unwrap();
        let text = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        let number = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(text("journal_mode").unwrap(), "wal");
        assert_eq!(number("synchronous").unwrap(), 2, "FULL");
    }

    #[test]
    fn a_second_gateway_cannot_open_it_and_other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.db");
        let first = Sqlite::open(&path).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(StoreError::InUse { .. })));
        drop(first);
        let other = directory.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(Sqlite::open(&other), Err(StoreError::Foreign { .. })));
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(StoreError::Version { found: 99, .. })));
        let nowhere = Sqlite::open(&directory.path().join("missing/gateway.db")).unwrap_err().to_string();
        assert!(nowhere.contains("directory must exist"), "{nowhere}");
    }

    #[test]
    fn a_full_disk_takes_nothing_of_a_commit_and_all_of_it_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.db");
        let (mut store, _) = Sqlite::open(&path).unwrap();
        // No page beyond those there are: as on a full disk.
        store.limit(1).unwrap();
        let large = command(1, &"x".repeat(20_000));
        assert!(matches!(store.commit(&[command(2, "small"), large.clone()]), Err(StoreError::Write { .. })));
        store.limit(1 << 30).unwrap();
        store.commit(&[large]).unwrap();
        drop(store);
        assert_eq!(Sqlite::open(&path).unwrap().1.commands.len(), 1, "all of a commit or none");
    }
}
