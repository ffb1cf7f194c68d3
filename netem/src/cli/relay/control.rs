//! The control socket: one order per line, one answer per line.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::relay::Relay;
use carriageway_netem::relay::control::LONGEST_ORDER;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long an asker waits, and how long a silent asker is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where orders are taken.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Loopback(SocketAddr),
    Path(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(address) => {
                Err(format!("{address} is open to others and orders are not authenticated; use 127.0.0.1"))
            }
            Err(_) if text.contains('/') => Ok(Self::Path(text.into())),
            Err(_) => {
                Err("write a path with a `/`, like ./netem.ctl, or a loopback port, like 127.0.0.1:5434"
                    .into())
            }
        }
    }
}

/// Gives one order and returns the answer; an answer that is an error becomes one.
pub(super) fn ask(address: &Address, order: &str) -> anyhow::Result<String> {
    let answer = match address {
        Address::Loopback(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)
                .with_context(|| format!("{address}: no relay takes orders there"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            converse(stream, order)
        }
        Address::Path(path) => {
            let stream = UnixStream::connect(path)
                .with_context(|| format!("{}: no relay takes orders there", path.display()))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            converse(stream, order)
        }
    }?;
    match answer.strip_prefix("error: ") {
        Some(error) => anyhow::bail!("{error}"),
        None => Ok(answer),
    }
}

fn converse(mut stream: impl std::io::Read + Write, order: &str) -> anyhow::Result<String> {
    writeln!(stream, "{order}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the relay did not answer")?;
    if answer.is_empty() {
        anyhow::bail!("the relay closed without an answer");
    }
    Ok(answer.trim_end().into())
}

/// Takes orders, one asker at a time, until the socket fails.
pub(super) async fn serve(relay: &Relay, address: &Address) -> anyhow::Result<()> {
    match address {
        Address::Loopback(address) => {
            let listener = tokio::net::TcpListener::bind(address)
                .await
                .with_context(|| format!("--control {address}"))?;
            loop {
                let (stream, _) = listener.accept().await?;
                attend(relay, stream).await;
            }
        }
        Address::Path(path) => {
            remove_remains(path);
            let listener = tokio::net::UnixListener::bind(path)
                .with_context(|| format!("--control {}", path.display()))?;
            let _remains = Remains(path);
            loop {
                let (stream, _) = listener.accept().await?;
                attend(relay, stream).await;
            }
        }
    }
}

/// A socket file outlives a killed relay; one that still answers is in use, and anything else is not ours.
fn remove_remains(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// Removes the socket file at the end.
struct Remains<'a>(&'a Path);

impl Drop for Remains<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// Answers one asker until it leaves, falls silent or rambles.
async fn attend(relay: &Relay, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = tokio::io::BufReader::new(read);
    loop {
        let mut line = String::new();
        let mut bounded = (&mut read).take(LONGEST_ORDER as u64);
        let taken = tokio::time::timeout(PATIENCE, bounded.read_line(&mut line)).await;
        if !matches!(taken, Ok(Ok(1..))) || !line.ends_with('\n') {
            return;
        }
        let answer = relay.answer(&line) + "\n";
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
