//! Journals in one SQLite file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::time::micros;
use carriageway_proto::{BootId, Epoch, Message, Moment, Phase, Reason, Stamp, Token, VehicleId};
use rusqlite::{Connection, ErrorCode, Row, Transaction, params};

use super::{Change, JournalError, Loaded, Store, desired};
use crate::core::executor::{Record, Verdict, Wish};

/// Marks the file as ours: "CwJ1".
const APPLICATION: i64 = 0x4377_4a31;

/// The format that this build writes.
const VERSION: i64 = 2;

/// The older format that [`MIGRATION`] brings up to date.
const BEFORE: i64 = 1;

/// From [`BEFORE`] to [`VERSION`], beside the tables of desired state: what it holds stays true. When a command
/// acted was not said then, no stop was ever released, and no lease was known.
const MIGRATION: &str = "
    ALTER TABLE command ADD COLUMN acted_us INTEGER;
    ALTER TABLE command ADD COLUMN released INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE lease (
        vehicle TEXT PRIMARY KEY,
        token INTEGER NOT NULL
    ) WITHOUT ROWID;
";

const SCHEMA: &str = "
    CREATE TABLE command (
        place INTEGER PRIMARY KEY,
        vehicle TEXT NOT NULL,
        key TEXT NOT NULL,
        command BLOB NOT NULL,
        boot BLOB NOT NULL,
        clock_us INTEGER NOT NULL,
        keep_us INTEGER NOT NULL,
        acted_us INTEGER,
        phase TEXT,
        reason TEXT,
        detail TEXT,
        released INTEGER NOT NULL DEFAULT 0,
        UNIQUE (vehicle, key)
    );
    CREATE TABLE session (
        vehicle TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE lease (
        vehicle TEXT PRIMARY KEY,
        token INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// One file, held exclusively: a second process cannot open it, so that no two agents execute by it.
/// Written ahead (WAL) with an `fsync` per commit (`synchronous=FULL`).
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the journal in this file, which is created if it is not there. Its directory must exist. One of
    /// the format before this one is brought up to date, with everything in it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let path = path.to_path_buf();
        let opened = Connection::open(&path).and_then(|mut connection| {
            prepare(&connection)?;
            let found = create_or_update(&mut connection)?;
            Ok((connection, found))
        });
        let (connection, found) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(not_opened(path, source)),
        };
        match found {
            (APPLICATION, VERSION) => Ok(Self { connection, path }),
            (APPLICATION, found) => Err(JournalError::Version { path, found, known: VERSION }),
            _ => Err(JournalError::Foreign { path }),
        }
    }
}

impl Store for Sqlite {
    fn load(&mut self, vehicle: &VehicleId) -> Result<Loaded, JournalError> {
        let read = |source| JournalError::Read { path: self.path.clone(), source };
        let rows = self.rows(vehicle).map_err(read)?;
        let epoch = self.epoch(vehicle).map_err(read)?;
        let token = self.token(vehicle).map_err(read)?;
        let desired = desired::rows(&self.connection, vehicle).map_err(read)?;
        let damaged = |why| JournalError::Damaged { path: self.path.clone(), vehicle: vehicle.clone(), why };
        let records = rows.into_iter().map(RawRecord::check).collect::<Result<_, _>>().map_err(&damaged)?;
        let desired = desired::check(desired).map_err(damaged)?;
        Ok(Loaded { records, epoch, desired, token })
    }

    fn commit(&mut self, changes: &[(VehicleId, Change)]) -> Result<(), JournalError> {
        let written = self.connection.transaction().and_then(|transaction| {
            changes.iter().try_for_each(|(vehicle, change)| write(&transaction, vehicle, change))?;
            transaction.commit()
        });
        written.map_err(|source| JournalError::Write { path: self.path.clone(), source })
    }
}

impl Sqlite {
    fn rows(&self, vehicle: &VehicleId) -> rusqlite::Result<Vec<RawRecord>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT command, boot, clock_us, keep_us, acted_us, phase, reason, detail, released FROM command
             WHERE vehicle = ?1 ORDER BY place",
        )?;
        statement.query_map([vehicle.as_str()], RawRecord::read)?.collect()
    }

    fn epoch(&self, vehicle: &VehicleId) -> rusqlite::Result<Epoch> {
        let mut statement = self.connection.prepare_cached("SELECT epoch FROM session WHERE vehicle = ?1")?;
        let mut rows = statement.query([vehicle.as_str()])?;
        let number = rows.next()?.map_or(Ok(0_i64), |row| row.get(0))?;
        Ok(Epoch::new(u64::try_from(number).unwrap_or(0)))
    }

    fn token(&self, vehicle: &VehicleId) -> rusqlite::Result<Option<Token>> {
        let mut statement = self.connection.prepare_cached("SELECT token FROM lease WHERE vehicle = ?1")?;
        let mut rows = statement.query([vehicle.as_str()])?;
        let number = rows.next()?.map_or(Ok(0_i64), |row| row.get(0))?;
        Ok(u64::try_from(number).ok().and_then(Token::granted))
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first read: with an exclusive lock WAL needs no shared memory, and a second process fails.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.busy_timeout(Duration::from_millis(500))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A thousand vehicles share it: what is read is read once.
    connection.pragma_update(None, "cache_size", -1_024)
}

/// Application and format of the file, after giving an empty one or one of the format before ours.
fn create_or_update(connection: &mut Connection) -> rusqlite::Result<(i64, i64)> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(desired::SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if (number("application_id")?, number("user_version")?) == (APPLICATION, BEFORE) {
        transaction.execute_batch(MIGRATION)?;
        transaction.execute_batch(desired::SCHEMA)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let found = (number("application_id")?, number("user_version")?);
    transaction.commit()?;
    Ok(found)
}

fn not_opened(path: PathBuf, source: rusqlite::Error) -> JournalError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::InUse { path },
        Some(ErrorCode::NotADatabase) => JournalError::Foreign { path },
        _ => JournalError::Open { path, source },
    }
}

fn write(transaction: &Transaction<'_>, vehicle: &VehicleId, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Put(record) => put(transaction, vehicle, record),
        Change::Forget(key) => transaction
            .prepare_cached("DELETE FROM command WHERE vehicle = ?1 AND key = ?2")?
            .execute(params![vehicle.as_str(), key.as_str()])
            .map(drop),
        Change::Epoch(epoch) => transaction
            .prepare_cached(
                "INSERT INTO session (vehicle, epoch) VALUES (?1, ?2)
                 ON CONFLICT (vehicle) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
            )?
            .execute(params![vehicle.as_str(), whole(epoch.number())])
            .map(drop),
        Change::Desired { path, version } => desired::decide(transaction, vehicle, path, *version),
        Change::Undesired { path, floor } => desired::forget(transaction, vehicle, path, *floor),
        Change::Token(token) => transaction
            .prepare_cached(
                "INSERT INTO lease (vehicle, token) VALUES (?1, ?2)
                 ON CONFLICT (vehicle) DO UPDATE SET token = max(token, excluded.token)",
            )?
            .execute(params![vehicle.as_str(), whole(token.number())])
            .map(drop),
    }
}

fn put(transaction: &Transaction<'_>, vehicle: &VehicleId, record: &Record) -> rusqlite::Result<()> {
    let verdict = record.verdict.as_ref();
    let wish = match &record.wish {
        Wish::Command(command) => Message::Command(command.clone()),
        Wish::Withdrawn(cancel) => Message::Cancel(cancel.clone()),
    };
    let mut statement = transaction.prepare_cached(
        "INSERT INTO command (vehicle, key, command, boot, clock_us, keep_us, acted_us, phase, reason, detail, released)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (vehicle, key) DO UPDATE SET command = excluded.command, boot = excluded.boot,
             clock_us = excluded.clock_us, keep_us = excluded.keep_us, acted_us = excluded.acted_us,
             phase = excluded.phase, reason = excluded.reason, detail = excluded.detail,
             released = excluded.released",
    )?;
    statement
        .execute(params![
            vehicle.as_str(),
            record.key().as_str(),
            wish.encode().as_ref(),
            record.received.boot.as_bytes(),
            whole(record.received.clock.as_micros()),
            whole(micros(record.keep_for)),
            record.acted.map(|acted| whole(acted.as_micros())),
            verdict.map(|verdict| verdict.phase.name()),
            verdict.and_then(|verdict| verdict.reason).map(Reason::name),
            verdict.map(|verdict| verdict.detail.as_str()),
            record.released,
        ])
        .map(drop)
}

/// SQLite's integers have a sign; ours that exceed them are kept at the largest.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A row as it stands in the file.
struct RawRecord {
    command: Vec<u8>,
    boot: [u8; 16],
    clock: i64,
    keep: i64,
    acted: Option<i64>,
    phase: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
    released: bool,
}

impl RawRecord {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            command: row.get(0)?,
            boot: row.get(1)?,
            clock: row.get(2)?,
            keep: row.get(3)?,
            acted: row.get(4)?,
            phase: row.get(5)?,
            reason: row.get(6)?,
            detail: row.get(7)?,
            released: row.get(8)?,
        })
    }

    fn check(self) -> Result<Record, String> {
        let wish = match Message::decode(Bytes::from(self.command)) {
            Ok(Message::Command(command)) => Wish::Command(command),
            Ok(Message::Cancel(cancel)) => Wish::Withdrawn(cancel),
            Ok(_) => return Err("neither a command nor its withdrawal".into()),
            Err(error) => return Err(error.to_string()),
        };
        let positive = |number: i64| u64::try_from(number).map_err(|_| "a negative time".to_owned());
        let clock = Moment::from_micros(positive(self.clock)?);
        let verdict = self.phase.map(|phase| {
            let phase = Phase::from_name(&phase).ok_or_else(|| format!("the phase {phase:?}"))?;
            let reason = self.reason.as_deref().and_then(Reason::from_name);
            Ok::<_, String>(Verdict { phase, reason, detail: self.detail.unwrap_or_default() })
        });
        Ok(Record {
            wish,
            received: Stamp { boot: BootId::from_bytes(self.boot), clock },
            keep_for: Duration::from_micros(positive(self.keep)?),
            acted: self.acted.map(positive).transpose()?.map(Moment::from_micros),
            verdict: verdict.transpose()?,
            released: self.released,
        })
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::{Cancel, Class, Command, SignalPath, Value};

    use super::*;
    use crate::core::reconciler::Past;

    fn vehicle(id: &str) -> VehicleId {
        id.parse().unwrap()
    }

    fn record(key: &str, verdict: Option<Verdict>) -> Record {
        let stamp = Stamp { boot: BootId::from_bytes([7; 16]), clock: Moment::from_micros(1_234) };
        Record {
            wish: Wish::Command(Command {
                key: key.parse().unwrap(),
                class: Class::Body,
                path: "Vehicle.Body.Horn.IsActive".parse().unwrap(),
                value: Value::Bool(true),
                stamp,
                ttl: Duration::from_secs(5),
                operator: "ada".into(),
                token: None,
                order: 0,
            }),
            received: stamp,
            keep_for: Duration::from_millis(5_011),
            acted: None,
            verdict,
            released: false,
        }
    }

    fn put(record: &Record) -> Change {
        Change::Put(Box::new(record.clone()))
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let rejected = Verdict::rejected(Reason::Busy, "no room");
        let (one, two) = (record("one", None), record("two", Some(rejected)));
        let mut store = Sqlite::open(&path).unwrap();
        let mine = vehicle("a");
        let epochs = [7, 5].map(|epoch| Change::Epoch(Epoch::new(epoch)));
        let tokens = [9, 8].map(|token| Change::Token(Token::granted(token).unwrap()));
        let changes = [put(&one), put(&two)].into_iter().chain(epochs).chain(tokens);
        store.commit(&changes.map(|change| (mine.clone(), change)).collect::<Vec<_>>()).unwrap();
        store.commit(&[(vehicle("b"), put(&two))]).unwrap();
        drop(store);

        let mut store = Sqlite::open(&path).unwrap();
        let settled = Record { verdict: Some(Verdict::succeeded()), released: true, ..one };
        store.commit(&[(mine.clone(), put(&settled))]).unwrap();
        let loaded = store.load(&mine).unwrap();
        assert_eq!(
            loaded,
            Loaded {
                records: vec![settled, two.clone()],
                epoch: Epoch::new(7),
                token: Token::granted(9),
                ..Loaded::default()
            }
        );
        store.commit(&[(mine.clone(), Change::Forget("one".parse().unwrap()))]).unwrap();
        assert_eq!(store.load(&mine).unwrap().records, std::slice::from_ref(&two));
        assert_eq!(store.load(&vehicle("b")).unwrap(), Loaded { records: vec![two], ..Loaded::default() });
    }

    #[test]
    fn what_was_desired_and_withdrawn_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let (seat, light): (SignalPath, SignalPath) =
            ("Vehicle.Seat".parse().unwrap(), "Vehicle.Light".parse().unwrap());
        let cancel = Cancel { key: "k".parse().unwrap(), class: Class::Body, fingerprint: None };
        let withdrawn = Record {
            wish: Wish::Withdrawn(cancel),
            acted: Some(Moment::from_micros(99)),
            ..record("k", Some(Verdict::canceled()))
        };
        let mine = vehicle("a");
        let changes = [
            put(&withdrawn),
            Change::Desired { path: seat.clone(), version: 4 },
            Change::Desired { path: seat.clone(), version: 3 },
            Change::Desired { path: light.clone(), version: 5 },
            Change::Undesired { path: light, floor: 6 },
        ];
        let mut store = Sqlite::open(&path).unwrap();
        store.commit(&changes.map(|change| (mine.clone(), change))).unwrap();
        drop(store);
        let loaded = Sqlite::open(&path).unwrap().load(&mine).unwrap();
        let desired = Past { floor: 6, decided: [(seat, 4)].into() };
        assert_eq!(loaded, Loaded { records: vec![withdrawn], desired, ..Loaded::default() });
    }

    /// As the format before wrote it.
    const FORMAT_1: &str = "
        CREATE TABLE command (place INTEGER PRIMARY KEY, vehicle TEXT NOT NULL, key TEXT NOT NULL,
            command BLOB NOT NULL, boot BLOB NOT NULL, clock_us INTEGER NOT NULL, keep_us INTEGER NOT NULL,
            phase TEXT, reason TEXT, detail TEXT, UNIQUE (vehicle, key));
        CREATE TABLE session (vehicle TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO session VALUES ('a', 7);
        PRAGMA application_id = 0x43774a31;
        PRAGMA user_version = 1;
    ";

    #[test]
    fn the_format_before_is_taken_over_with_all_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let (old, mine) = (record("one", Some(Verdict::succeeded())), vehicle("a"));
        let before = Connection::open(&path).unwrap();
        before.execute_batch(FORMAT_1).unwrap();
        let command = Message::Command(old.command().unwrap().clone()).encode();
        before
            .execute(
                "INSERT INTO command VALUES (1, 'a', 'one', ?1, ?2, 1234, 5011000, 'SUCCEEDED', NULL, '')",
                params![command.as_ref(), old.received.boot.as_bytes()],
            )
            .unwrap();
        drop(before);
        let mut store = Sqlite::open(&path).unwrap();
        let loaded = store.load(&mine).unwrap();
        assert_eq!(loaded, Loaded { records: vec![old], epoch: Epoch::new(7), ..Loaded::default() });
        store.commit(&[(mine.clone(), Change::Token(Token::FIRST))]).unwrap();
        drop(store);
        assert_eq!(Sqlite::open(&path).unwrap().load(&mine).unwrap().token, Some(Token::FIRST));
    }

    #[test]
    fn it_is_as_durable_as_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&directory.path().join("journal.db")).unwrap();
        let text = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        let number = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(text("journal_mode").unwrap(), "wal");
        assert_eq!(number("synchronous").unwrap(), 2, "FULL");
    }

    #[test]
    fn a_second_agent_cannot_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let _first = Sqlite::open(&path).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(JournalError::InUse { .. })));
    }

    #[test]
    fn other_files_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("notes.txt");
        std::fs::write(
            &text,
            "not a database, but long enough to have a header of a hundred bytes or more. ".repeat(4),
        )
        .unwrap();
        assert!(matches!(Sqlite::open(&text), Err(JournalError::Foreign { .. })));
        let other = directory.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(Sqlite::open(&other), Err(JournalError::Foreign { .. })));
        let newer = directory.path().join("newer.db");
        drop(Sqlite::open(&newer).unwrap());
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Sqlite::open(&newer).unwrap_err();
        assert!(matches!(error, JournalError::Version { found: 99, .. }), "{error}");
        let nowhere = directory.path().join("missing/journal.db");
        let error = Sqlite::open(&nowhere).unwrap_err().to_string();
        assert!(error.contains("missing/journal.db") && error.contains("directory must exist"), "{error}");
    }

    #[test]
    fn a_damaged_record_is_named_not_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&directory.path().join("journal.db")).unwrap();
        let mine = vehicle("a");
        store.commit(&[(mine.clone(), put(&record("one", None)))]).unwrap();
        store.connection.execute("UPDATE command SET command = x'ff'", []).unwrap();
        assert!(matches!(store.load(&mine), Err(JournalError::Damaged { .. })));
    }
}
