//! The fate of every packet as CSV, written by a thread of its own so that a slow disk does not delay packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use super::wire::Mishap;
use crate::core::{Cause, Direction, Kind, Moment, Slot};

/// Records that may wait for the disk; one that finds no room is counted as missing.
const MOST_WAITING: usize = 65_536;

const HEADER: &str = "offered_us,vehicle,path,direction,number,bytes,kind,left_us,slot,fate,copies,corrupt,due_us,handed_over_us";

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) vehicle: usize,
    pub(super) path: usize,
    pub(super) direction: Direction,
    /// Counted per wire and direction; `None` if the model never had it.
    pub(super) number: Option<u64>,
    pub(super) bytes: u32,
    pub(super) kind: Kind,
    pub(super) offered: Moment,
    pub(super) left: Moment,
    pub(super) fate: Fate,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Dropped(Cause),
    Astray(Mishap),
    Delivered { copies: u8, corrupt: bool, due: Moment, handed_over: Moment },
}

/// Takes records without ever waiting.
pub(super) struct Log {
    records: Option<SyncSender<Record>>,
    writer: Option<thread::JoinHandle<io::Result<()>>>,
    missing: u64,
}

impl Log {
    /// Times in the file count from `start`.
    pub(super) fn start(mut file: BufWriter<File>, start: Moment, paths: Vec<String>) -> io::Result<Self> {
        let (records, inbox) = mpsc::sync_channel(MOST_WAITING);
        let writer = thread::Builder::new().name("netem-log".into()).spawn(move || {
            while let Ok(record) = inbox.recv() {
                write_line(&mut file, &record, start, &paths)?;
            }
            file.flush()
        })?;
        Ok(Self { records: Some(records), writer: Some(writer), missing: 0 })
    }

    pub(super) fn write(&mut self, record: Record) {
        let taken = self.records.as_ref().is_some_and(|records| records.try_send(record).is_ok());
        self.missing += u64::from(!taken);
    }

    /// Records that did not make it into the file.
    pub(super) const fn missing(&self) -> u64 {
        self.missing
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.records = None;
        match self.writer.take() {
            Some(writer) => writer.join().expect("the log's thread does not panic"),
            None => Ok(()),
        }
    }
}

fn write_line(file: &mut impl Write, record: &Record, start: Moment, paths: &[String]) -> io::Result<()> {
    let micros = |moment: Moment| moment.since(start).as_micros();
    let Record { vehicle, path, direction, number, bytes, kind, offered, left, fate } = *record;
    let kind = match kind {
        Kind::Udp => "udp",
        Kind::Tcp => "tcp",
        Kind::Other => "other",
    };
    write!(
        file,
        "{},{},{},{},{},{bytes},{kind},{},{},",
        micros(offered),
        vehicle + 1,
        paths[path],
        direction.name(),
        number.map_or_else(String::new, |number| number.to_string()),
        micros(left),
        Slot::of(left, start).0
    )?;
    match fate {
        Fate::Dropped(cause) => writeln!(file, "{},0,0,,", cause.name()),
        Fate::Astray(mishap) => writeln!(file, "{},0,0,,", mishap.name()),
        Fate::Delivered { copies, corrupt, due, handed_over } => {
            writeln!(file, "delivered,{copies},{},{},{}", u8::from(corrupt), micros(due), micros(handed_over))
        }
    }
}

/// Makes the file, so that one that cannot be written is found out before anything runs.
pub(super) fn create(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "{HEADER}")?;
    file.flush()?;
    Ok(file)
}
