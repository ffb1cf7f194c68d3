//! The vehicle's end in a process of its own. What is due goes to it by a pipe, and what it hears comes back by another, as
//! records of one size; it asks for pieces of files, so that none wait in the pipe. A record takes well under a tenth of a
//! millisecond.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;

use super::carry::{Side, Source, Told, carry};
use super::{End, HANDED, Reach, client};
use crate::compare::workload::{HEADER, Message};

/// How long the process may take to end by itself.
const ENDS: Duration = Duration::from_millis(800);

/// A tag, the length of a message, and its beginning.
const RECORD: usize = 1 + 4 + HEADER;

/// It is connected.
const CONNECTED: u8 = b'c';
/// A message: due, or heard.
const MESSAGE: u8 = b'm';
/// It would take a piece of a file.
const WANTED: u8 = b'w';

/// The vehicle's end of Zenoh, in a process of its own.
#[derive(Clone, Debug, Args)]
pub struct Vehicle {
    /// The folder of certificates and keys
    #[arg(long, value_name = "FOLDER")]
    papers: PathBuf,
    /// The gateway's endpoint
    #[arg(long)]
    endpoint: String,
}

/// Starts the process and stands between it and the run.
pub(super) async fn drive(end: End, endpoint: String) -> Result<()> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(program);
    command.arg("zenoh-vehicle").arg("--papers").arg(end.papers.place()).arg("--endpoint").arg(endpoint);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start the vehicle's process")?;
    let to = Arc::new(Mutex::new(child.stdin.take().context("it has no standard input")?));
    let from = child.stdout.take().context("it has no standard output")?;
    let wanted = Semaphore::new(0);
    let done = tokio::select! {
        () = end.stopped() => Ok(()),
        told = listen(&end, from, &wanted) => told,
        fed = feed_live(&end, &to) => fed,
        fed = feed_pieces(&end, &to, &wanted) => fed,
    };
    // The process ends when nothing more can come.
    drop(to);
    if timeout(ENDS, child.wait()).await.is_err() {
        child.kill().await.context("cannot end the vehicle's process")?;
    }
    done
}

async fn listen(end: &End, mut from: impl AsyncRead + Unpin, wanted: &Semaphore) -> Result<()> {
    loop {
        let mut record = [0; RECORD];
        from.read_exact(&mut record).await.context("the vehicle's process has ended")?;
        match record[0] {
            CONNECTED => end.ready(Reach::default()),
            WANTED => wanted.add_permits(1),
            MESSAGE => {
                let (bytes, message) = parse(&record)?;
                end.ear.hear_message(message, bytes);
            }
            tag => bail!("the vehicle's process says {tag}, which is no tag"),
        }
    }
}

async fn feed_live(end: &End, to: &Mutex<ChildStdin>) -> Result<()> {
    loop {
        let message = end.feed.next().await;
        to.lock().await.write_all(&record(MESSAGE, message, 0)).await?;
    }
}

async fn feed_pieces(end: &End, to: &Mutex<ChildStdin>, wanted: &Semaphore) -> Result<()> {
    loop {
        wanted.acquire().await?.forget();
        let message = end.feed.piece().await;
        to.lock().await.write_all(&record(MESSAGE, message, 0)).await?;
    }
}

fn record(tag: u8, message: Message, bytes: usize) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[0] = tag;
    record[1..5].copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
    record[5..].copy_from_slice(&message.encode_in(HEADER));
    record
}

fn parse(record: &[u8; RECORD]) -> Result<(usize, Message)> {
    let [_, a, b, c, d, ..] = *record;
    Ok((u32::from_be_bytes([a, b, c, d]) as usize, Message::decode(&record[5..])?))
}

/// The process.
pub fn run_vehicle(vehicle: &Vehicle) -> Result<()> {
    let config = client(&vehicle.papers, &vehicle.endpoint)?;
    let (live, live_source) = mpsc::channel(HANDED);
    let (pieces, piece_source) = mpsc::channel(HANDED);
    let source = Source { live: live_source, pieces: piece_source };
    // One piece at a time is asked for: the reader never waits for its place.
    let (arrived, arrivals) = sync_channel(1);
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    thread("bench-pipe").spawn(move || read(&live, &arrived)).context("cannot start a thread")?;
    thread("bench-pieces").spawn(move || ask(&arrivals, &pieces)).context("cannot start a thread")?;
    carry(Side::Vehicle, config, source, |told| match told {
        Told::Connected => say(&[CONNECTED; RECORD]),
        Told::Heard(bytes) => match Message::decode(bytes) {
            Ok(message) => say(&record(MESSAGE, message, bytes.len())),
            Err(broken) => tracing::warn!("{broken}"),
        },
    })
}

/// Hands on what is due; the end of the pipe closes the source.
fn read(live: &mpsc::Sender<Message>, pieces: &SyncSender<Message>) {
    let mut input = std::io::stdin().lock();
    let mut record = [0; RECORD];
    while input.read_exact(&mut record).is_ok() {
        let Ok((_, message)) = parse(&record) else { return };
        let is_taken = if message.kind.is_file() {
            pieces.send(message).is_ok()
        } else {
            live.blocking_send(message).is_ok()
        };
        if !is_taken {
            return;
        }
    }
}

/// Asks for a piece once the one before has found a place.
fn ask(arrivals: &Receiver<Message>, pieces: &mpsc::Sender<Message>) {
    loop {
        say(&[WANTED; RECORD]);
        let Ok(piece) = arrivals.recv() else { return };
        if pieces.blocking_send(piece).is_err() {
            return;
        }
    }
}

fn say(record: &[u8; RECORD]) {
    let mut output = std::io::stdout().lock();
    // Where nobody reads any more the run is over.
    let _over = output.write_all(record).and_then(|()| output.flush());
}
