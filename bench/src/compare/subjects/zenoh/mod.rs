//! Zenoh: a router beside the gateway's application, and the vehicle as its client, over TLS, over QUIC, or over QUIC with
//! states in datagrams.
//!
//! Keys are `vehicles/bench-1/down/<kind>` and `vehicles/bench-1/up/<kind>`. States and pictures are published with
//! `Drop`, commands, answers and files with `Block`, which is what holds files back; control has the highest priority, files the
//! lowest. Over QUIC each priority has a stream of its own.
//!
//! The library keeps one set of runtimes for the whole process, and a thread belongs to one namespace: the vehicle therefore
//! has a process of its own (`apart`). With both in one, it would reach the gateway past the link once it reconnects.

mod apart;
mod carry;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zenoh::Config;

use super::common::Tuning;
use super::{End, Facts, Papers, Reach, Subject, Work, fleet};
use crate::compare::workload::{Feed, Manner, Message};
pub use apart::{Vehicle, run_vehicle};
use carry::{Side, Source, Told};

/// Messages between the feed and the library: one, so that what waits does so where the newest replaces it.
const HANDED: usize = 1;

/// Zenoh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zenoh {
    way: Way,
}

/// What is under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// TLS over TCP.
    Tls,
    /// QUIC streams.
    Quic,
    /// QUIC streams, and datagrams for what may be lost.
    Mixed,
}

impl Zenoh {
    pub(super) const fn tcp() -> Self {
        Self { way: Way::Tls }
    }

    pub(super) const fn quic() -> Self {
        Self { way: Way::Quic }
    }

    pub(super) const fn mixed() -> Self {
        Self { way: Way::Mixed }
    }
}

impl Way {
    fn endpoint(self, host: std::net::Ipv4Addr, port: u16) -> String {
        match self {
            Self::Tls => format!("tls/{host}:{port}"),
            Self::Quic => format!("quic/{host}:{port}"),
            Self::Mixed => format!("quic/{host}:{port}?mixed_rel=1"),
        }
    }
}

impl Subject for Zenoh {
    fn facts(&self) -> Facts {
        let (title, under) = match self.way {
            Way::Tls => ("Zenoh, TCP", "TLS over TCP with the kernel's own congestion control"),
            Way::Quic => ("Zenoh, QUIC", "QUIC (quinn) with a stream per priority"),
            Way::Mixed => (
                "Zenoh, QUIC with mixed reliability",
                "QUIC (quinn), states in datagrams, a stream per priority",
            ),
        };
        let setup = format!(
            "mutual TLS; {under}; router and client, scouting off; states with Drop, commands and files with Block, \
             priorities from RealTime for control to Background for files; else as it is; the vehicle's process is its own \
             (its memory is not counted)"
        );
        Facts { title: title.into(), version: "zenoh 1.10.2".into(), setup, manner: Manner::NewestFirst }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        fleet::apart(ends, |end| Box::pin(serve(self.way, end)))
    }

    fn no_fleet(&self) -> Option<&'static str> {
        Some("its router is set up for one vehicle")
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        let port = match self.way {
            Way::Tls => reach.tcp,
            Way::Quic | Way::Mixed => reach.udp,
        };
        let endpoint = self.way.endpoint(end.host, port);
        // All of a test is in one namespace, and its program has no such command.
        if cfg!(test) { Box::pin(drive_here(end, endpoint)) } else { Box::pin(apart::drive(end, endpoint)) }
    }
}

async fn serve(way: Way, end: End) -> Result<()> {
    if way == Way::Tls {
        // The library opens its sockets itself and leaves this to the system, at both ends.
        Tuning::NONE.prove("gateway", &end)?;
    }
    let port = free_port(way, end.host)?;
    let reach = Reach { udp: port, tcp: port, ..Reach::default() };
    let mut config = configuration(end.papers.place(), Side::Gateway)?;
    set(&mut config, "mode", "router")?;
    set(&mut config, "listen/endpoints", [way.endpoint(end.host, port)])?;
    here(Side::Gateway, config, end, reach).await
}

async fn drive_here(end: End, endpoint: String) -> Result<()> {
    let config = client(end.papers.place(), &endpoint)?;
    here(Side::Vehicle, config, end, Reach::default()).await
}

/// Carries in this process, on threads of its own: the library cannot work on a runtime of one thread.
async fn here(side: Side, config: Config, end: End, reach: Reach) -> Result<()> {
    let (told, mut tidings) = mpsc::channel(HANDED);
    let own = end.clone();
    let hear = move |tiding: Told<'_>| match tiding {
        Told::Connected => own.ready(reach),
        Told::Heard(bytes) => {
            if let Err(broken) = own.ear.hear(bytes) {
                own.note(broken.to_string());
            }
        }
    };
    let (live, live_source) = mpsc::channel(HANDED);
    let (pieces, piece_source) = mpsc::channel(HANDED);
    let source = Source { live: live_source, pieces: piece_source };
    let work = move || {
        // Nobody listens where the run is over.
        let _over = told.blocking_send(carry::carry(side, config, source, hear));
    };
    std::thread::Builder::new().name("bench-zenoh".into()).spawn(work).context("cannot start a thread")?;
    let mut hands = JoinSet::new();
    hands.spawn(hand_live(end.feed.clone(), live));
    hands.spawn(hand_pieces(end.feed.clone(), pieces));
    tokio::select! {
        // The channels close with the hands: the thread ends by itself.
        () = end.stopped() => Ok(()),
        ended = tidings.recv() => ended.unwrap_or_else(|| Err(anyhow!("its thread has panicked"))),
    }
}

async fn hand_live(feed: Feed, to: mpsc::Sender<Message>) {
    while to.send(feed.next().await).await.is_ok() {}
}

async fn hand_pieces(feed: Feed, to: mpsc::Sender<Message>) {
    while to.send(feed.piece().await).await.is_ok() {}
}

fn free_port(way: Way, host: std::net::Ipv4Addr) -> Result<u16> {
    let found = match way {
        Way::Tls => std::net::TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr()),
        Way::Quic | Way::Mixed => std::net::UdpSocket::bind((host, 0)).and_then(|socket| socket.local_addr()),
    };
    Ok(found.context("cannot find a free port")?.port())
}

/// The vehicle's.
fn client(folder: &Path, endpoint: &str) -> Result<Config> {
    let mut config = configuration(folder, Side::Vehicle)?;
    set(&mut config, "mode", "client")?;
    set(&mut config, "connect/endpoints", [endpoint])?;
    // For as long as it takes, as a vehicle would.
    set(&mut config, "connect/timeout_ms", -1)?;
    set(&mut config, "connect/exit_on_failure", false)?;
    Ok(config)
}

/// What both ends have, and the papers of this one.
fn configuration(folder: &Path, side: Side) -> Result<Config> {
    let papers = Papers::new(folder.to_owned());
    let mut config = Config::default();
    set(&mut config, "scouting/multicast/enabled", false)?;
    set(&mut config, "scouting/gossip/enabled", false)?;
    let mut tls = |name: &str, path: PathBuf| set(&mut config, &format!("transport/link/tls/{name}"), path);
    tls("root_ca_certificate", papers.authority())?;
    let (kind, [chain, key]) = match side {
        Side::Gateway => ("listen", papers.gateway()),
        Side::Vehicle => ("connect", papers.vehicle()),
    };
    tls(&format!("{kind}_certificate"), chain)?;
    tls(&format!("{kind}_private_key"), key)?;
    set(&mut config, "transport/link/tls/enable_mtls", true)?;
    Ok(config)
}

fn set(config: &mut Config, key: &str, value: impl serde::Serialize) -> Result<()> {
    let value = serde_json::to_string(&value)?;
    config.insert_json5(key, &value).map_err(|error| anyhow!("{key}: {error}"))
}
