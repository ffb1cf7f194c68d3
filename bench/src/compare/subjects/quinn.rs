//! Stock quinn: what an application does with QUIC that has no session of ours above it.
//!
//! Control and telemetry go as datagrams, or all messages on one ordered stream; what does not fit a datagram, and what must
//! arrive, on a stream of its own each; files on one stream. All on one connection, or files and camera on a second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{Connection, Endpoint, TransportConfig, VarInt};
use tokio::task::{JoinError, JoinSet};

use super::common::{Newest, Quic, Way, framed, hear, hear_frames, piece_bytes, quic, versions, write_frame};
use super::fleet::{Fleet, ready};
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::{Kind, Manner};

/// The application protocol.
const ALPN: &[u8] = b"bench";

/// Bytes of datagrams not yet sent, in the best practice: one of the largest, or some states.
const DATAGRAM_BUFFER: usize = 1_300;

/// Of each stream, in the best practice: no file fills a buffer that all streams share.
const STREAM_WINDOW: u32 = 64 * 1024;

/// In the best practice a dead connection is given up after this.
const IDLE: Duration = Duration::from_secs(15);
/// And an idle one is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Streams of one's own that may be under way at once for what is less urgent: quinn allows 100 of all.
const MOST_LESSER: usize = 32;
/// The same for what must arrive.
const MOST_URGENT: usize = 64;

/// quinn's controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Cubic,
    Bbr,
}

impl Controller {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// Has connections with this configuration use it.
    pub(super) fn set(self, config: &mut TransportConfig) {
        match self {
            Self::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
            Self::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        };
    }
}

/// How messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    /// States as datagrams, the others on a stream each.
    Datagrams,
    /// On one ordered stream.
    Stream,
}

/// quinn without us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quinn {
    controller: Controller,
    is_best: bool,
    carriage: Carriage,
    is_split: bool,
}

impl Quinn {
    /// With quinn's defaults.
    pub(super) const fn stock(controller: Controller) -> Self {
        Self { controller, is_best: false, carriage: Carriage::Datagrams, is_split: false }
    }

    /// Tuned, states as datagrams.
    pub(super) const fn datagrams(controller: Controller, is_split: bool) -> Self {
        Self { controller, is_best: true, carriage: Carriage::Datagrams, is_split }
    }

    /// Tuned, all messages on one ordered stream.
    pub(super) const fn stream(controller: Controller, is_split: bool) -> Self {
        Self { controller, is_best: true, carriage: Carriage::Stream, is_split }
    }

    const fn manner(self) -> Manner {
        if self.is_best { Manner::NewestFirst } else { Manner::AsTheyCome }
    }

    fn transport(self) -> Result<Arc<TransportConfig>> {
        let mut config = TransportConfig::default();
        self.controller.set(&mut config);
        if self.is_best {
            config
                .datagram_send_buffer_size(DATAGRAM_BUFFER)
                .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
                .max_idle_timeout(Some(IDLE.try_into()?))
                .keep_alive_interval(Some(KEEP_ALIVE));
        }
        Ok(Arc::new(config))
    }

    fn quic(self) -> Result<Quic> {
        Ok(Quic { alpn: ALPN, transport: self.transport()? })
    }
}

impl Subject for Quinn {
    fn facts(&self) -> Facts {
        let controller = self.controller.name();
        let (way, carriage) = match self.carriage {
            Carriage::Datagrams => {
                ("datagrams", "control and telemetry as datagrams, the others on a stream each")
            }
            Carriage::Stream => ("a stream", "all messages on one ordered stream"),
        };
        let tuned = if self.is_best {
            "datagram send buffer 1.3 kB, stream windows 64 KiB, keep-alive 4 s, idle timeout 15 s, priorities, files in pieces of 4 KiB"
        } else {
            "quinn's default transport, files in pieces of 16 KiB"
        };
        let split = if self.is_split { "; files and camera on a second connection" } else { "" };
        let connections = if self.is_split { "two connections" } else { "one connection" };
        let kind = if self.is_best { "quinn, best practice" } else { "quinn, as it comes" };
        Facts {
            title: format!("{kind}, {controller}, {way}, {connections}"),
            version: versions(&["quinn", "quinn-proto", "rustls"]),
            setup: format!("{controller}; {carriage}; files on one stream; {tuned}{split}"),
            manner: self.manner(),
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        let this = *self;
        Box::pin(async move {
            let end = ends.first().context("a gateway has a vehicle")?;
            let (first, udp) = this.quic()?.listen(end)?;
            let fleet = || Fleet::new(ends.clone(), |_| Newest::new());
            if !this.is_split {
                ready(&ends, Reach { udp, ..Reach::default() });
                return serve(this, first, Way::Everything, fleet()).await;
            }
            let (files, second) = this.quic()?.listen(end)?;
            ready(&ends, Reach { udp, second, ..Reach::default() });
            tokio::try_join!(
                serve(this, first, Way::Messages, fleet()),
                serve(this, files, Way::Files, fleet()),
            )?;
            Ok(())
        })
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        let this = *self;
        Box::pin(async move {
            if !this.is_split {
                return drive(this, reach.udp, Way::Everything, end).await;
            }
            tokio::try_join!(
                drive(this, reach.udp, Way::Messages, end.clone()),
                drive(this, reach.second, Way::Files, end),
            )?;
            Ok(())
        })
    }
}

async fn serve(quinn: Quinn, endpoint: Endpoint, way: Way, fleet: Fleet<Newest>) -> Result<()> {
    quic::serve(endpoint, fleet, move |connection, end| carry(quinn, connection, way, end)).await
}

async fn drive(quinn: Quinn, port: u16, way: Way, end: End) -> Result<()> {
    let quic = quinn.quic()?;
    quic.dial(port, &end, |connection| {
        if way != Way::Files {
            end.ready(Reach::default());
        }
        carry(quinn, connection, way, end.clone())
    })
    .await
}

/// Carries the workload over one connection, at either end, until it fails.
async fn carry(quinn: Quinn, connection: Connection, way: Way, end: End) -> Result<()> {
    let say = Say { quinn, connection: &connection, way, end: &end };
    tokio::select! {
        ended = hear_datagrams(&connection, &end) => ended,
        ended = hear_streams(&connection, &end) => ended,
        ended = say.messages() => ended,
        ended = say.files() => ended,
    }
}

async fn hear_datagrams(connection: &Connection, end: &End) -> Result<()> {
    loop {
        hear(end, &connection.read_datagram().await?);
    }
}

async fn hear_streams(connection: &Connection, end: &End) -> Result<()> {
    let mut streams = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.accept_uni() => stream?,
            Some(ended) = streams.join_next() => {
                settled(ended)?;
                continue;
            }
        };
        let end = end.clone();
        // As many at once as quinn lets the other end open.
        streams.spawn(async move { hear_frames(stream, &end).await });
    }
}

/// What one end says on one connection.
struct Say<'a> {
    quinn: Quinn,
    connection: &'a Connection,
    way: Way,
    end: &'a End,
}

/// What goes first, where it goes by that. quinn's default is zero for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Files,
    Camera,
    Lesser,
    Urgent,
}

impl Say<'_> {
    async fn messages(&self) -> Result<()> {
        match self.quinn.carriage {
            Carriage::Stream => self.on_one_stream().await,
            Carriage::Datagrams => {
                tokio::select! {
                    ended = self.as_datagrams([Kind::Control, Kind::Telemetry].into()) => ended,
                    ended = self.on_own_streams([Kind::Command, Kind::Ack].into(), Rank::Urgent, MOST_URGENT) => ended,
                    ended = self.on_own_streams([Kind::Snapshot].into(), Rank::Lesser, 1) => ended,
                    ended = self.on_own_streams([Kind::Camera].into(), Rank::Camera, MOST_LESSER) => ended,
                }
            }
        }
    }

    fn wants(&self, kinds: &BTreeSet<Kind>, kind: Kind) -> bool {
        self.way.has(kind) && kinds.contains(&kind)
    }

    async fn as_datagrams(&self, kinds: BTreeSet<Kind>) -> Result<()> {
        loop {
            let message = self.end.feed.next_of(|kind| self.wants(&kinds, kind)).await.encode();
            match self.quinn.manner() {
                // Never waits; where the buffer is full, the oldest goes.
                Manner::AsTheyCome => self.connection.send_datagram(message)?,
                // What waits stays where a newer one replaces it.
                Manner::NewestFirst => self.connection.send_datagram_wait(message).await?,
            }
        }
    }

    async fn on_own_streams(&self, kinds: BTreeSet<Kind>, rank: Rank, most: usize) -> Result<()> {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = under_way.join_next() => settled(ended)?,
                message = self.end.feed.next_of(|kind| self.wants(&kinds, kind)), if under_way.len() < most => {
                    let stream = self.open(rank).await?;
                    under_way.spawn(send_alone(stream, message.encode()));
                }
            }
        }
    }

    async fn on_one_stream(&self) -> Result<()> {
        let mut stream = self.open(Rank::Urgent).await?;
        loop {
            let is_wanted = |kind: Kind| self.way.has(kind) && !kind.is_file();
            let message = self.end.feed.next_of(is_wanted).await;
            write_frame(&mut stream, &message.encode()).await?;
        }
    }

    async fn files(&self) -> Result<()> {
        if !self.way.has(Kind::Log) {
            return std::future::pending().await;
        }
        let mut stream = self.open(Rank::Files).await?;
        loop {
            let piece = self.end.feed.piece().await;
            write_frame(&mut stream, &piece.encode_in(piece_bytes(self.quinn.manner()))).await?;
        }
    }

    async fn open(&self, rank: Rank) -> Result<quinn::SendStream> {
        let stream = self.connection.open_uni().await?;
        if self.quinn.is_best {
            stream.set_priority(rank as i32)?;
        }
        Ok(stream)
    }
}

/// Returns when all of it has arrived.
async fn send_alone(mut stream: quinn::SendStream, message: Bytes) -> Result<()> {
    stream.write_chunk(framed(&message)).await?;
    stream.finish()?;
    stream.stopped().await?;
    Ok(())
}

/// A stream that fails takes the connection with it, which tells it better; a task that panics is our own fault.
fn settled(ended: Result<Result<()>, JoinError>) -> Result<()> {
    match ended.context("a stream's task")? {
        Ok(()) => Ok(()),
        Err(error) => bail!("a stream: {error:#}"),
    }
}
