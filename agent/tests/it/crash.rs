//! The journal under kill -9.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use carriageway_agent::core::executor::{Record, Wish};
use carriageway_agent::journal::{Change, Sqlite, Store};
use carriageway_proto::{BootId, Class, Command, Moment, Stamp, Value, VehicleId};

/// Tells the child where its journal is; without it the child does nothing.
const JOURNAL: &str = "CARRIAGEWAY_TEST_JOURNAL";

fn vehicle() -> VehicleId {
    "car".parse().unwrap()
}

fn record(number: u64) -> Record {
    let stamp = Stamp { boot: BootId::from_bytes([7; 16]), clock: Moment::from_micros(number) };
    let command = Command {
        key: format!("k{number}").parse().unwrap(),
        class: Class::Body,
        path: "Vehicle.Body.Horn.IsActive".parse().unwrap(),
        value: Value::Bool(true),
        stamp,
        ttl: Duration::from_secs(5),
        operator: String::new(),
        token: None,
        order: 0,
    };
    let keep_for = Duration::from_secs(5);
    Record {
        wish: Wish::Command(command),
        received: stamp,
        keep_for,
        acted: None,
        verdict: None,
        released: false,
    }
}

/// The process that is killed: writes for ever and says what is durable.
#[test]
fn child() {
    let Some(path) = std::env::var_os(JOURNAL).map(PathBuf::from) else { return };
    let mut store = Sqlite::open(&path).unwrap();
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        store.commit(&[(vehicle(), Change::Put(Box::new(record(number))))]).unwrap();
        writeln!(out, "durable {number}").unwrap();
    }
}

#[test]
fn what_was_called_durable_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let durable = write_and_be_killed(&path);
    let records = Sqlite::open(&path).unwrap().load(&vehicle()).unwrap().records;
    // One more may have been committed before its line was written.
    assert!(records.len() as u64 >= durable && records.len() as u64 <= durable + 2, "{durable} lines");
    let numbers = 0..records.len() as u64;
    assert!(records.iter().zip(numbers).all(|(kept, number)| *kept == record(number)));
}

/// How many records the killed process called durable.
fn write_and_be_killed(path: &Path) -> u64 {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(JOURNAL, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut durable = 0;
    for line in lines {
        if line.contains("durable ") {
            durable += 1;
        }
        if durable == 50 {
            child.kill().unwrap(); // SIGKILL; what it wrote until then is still in the pipe
        }
    }
    child.wait().unwrap();
    durable
}
