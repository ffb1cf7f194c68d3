//! Carries the workload over one session, at either end.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use carriageway_netem::core::Direction;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zenoh::Config;
use zenoh::matching::MatchingListener;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority, Reliability};

use crate::compare::subjects::VEHICLE;
use crate::compare::workload::{Kind, Message};

/// Threads that publish: states, what must arrive and files block one another on none of them.
const THREADS: usize = 3;

/// Commands that may wait for one that the library does not take yet.
const WAITING: usize = 64;

/// An end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Vehicle,
}

/// What is to be sent. Closed when the run is over.
pub(super) struct Source {
    pub(super) live: mpsc::Receiver<Message>,
    pub(super) pieces: mpsc::Receiver<Message>,
}

/// What happens at this end.
pub(super) enum Told<'a> {
    /// The gateway listens; the vehicle has found it and is heard.
    Connected,
    /// These bytes arrived.
    Heard(&'a [u8]),
}

type Publishers = Arc<BTreeMap<Kind, Way>>;

/// What carries one kind.
struct Way {
    publisher: Publisher<'static>,
    /// Whether anybody hears it: what is put while nobody does is lost.
    is_heard: watch::Receiver<bool>,
    _listener: MatchingListener<()>,
}

impl Way {
    async fn new(publisher: Publisher<'static>) -> Result<Self> {
        let (tell, is_heard) = watch::channel(false);
        let told = tell.clone();
        let listener = publisher
            .matching_listener()
            .callback(move |status| {
                told.send_replace(status.matching());
            })
            .await
            .map_err(plain)?;
        if publisher.matching_status().await.map_err(plain)?.matching() {
            tell.send_replace(true);
        }
        Ok(Self { publisher, is_heard, _listener: listener })
    }

    async fn heard(&self) -> Result<()> {
        self.is_heard.clone().wait_for(|is_heard| *is_heard).await.context("the session is gone")?;
        Ok(())
    }
}

/// Works until the source closes. Blocks; it has a runtime of its own.
pub(super) fn carry(
    side: Side,
    config: Config,
    source: Source,
    tell: impl Fn(Told<'_>) + Send + Sync + 'static,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let done = runtime.block_on(session(side, config, source, Arc::new(tell)));
    runtime.shutdown_background();
    done
}

async fn session(
    side: Side,
    config: Config,
    source: Source,
    tell: Arc<impl Fn(Told<'_>) + Send + Sync + 'static>,
) -> Result<()> {
    let session = zenoh::open(config).await.map_err(plain)?;
    let own = tell.clone();
    let incoming = format!("vehicles/{VEHICLE}/{}/*", word(other(side)));
    let _subscriber = session
        .declare_subscriber(incoming)
        .callback(move |sample| own(Told::Heard(&sample.payload().to_bytes())))
        .await
        .map_err(plain)?;
    let publishers = publishers(&session, side).await?;
    if side == Side::Vehicle {
        for way in publishers.values() {
            way.heard().await?;
        }
    }
    tell(Told::Connected);
    let (sure, surely) = mpsc::channel(WAITING);
    let mut ways = JoinSet::new();
    ways.spawn(publish(publishers.clone(), surely));
    ways.spawn(publish(publishers.clone(), source.pieces));
    ways.spawn(live(publishers, source.live, sure));
    while let Some(ended) = ways.join_next().await {
        ended.context("a way of publishing has panicked")??;
    }
    session.close().await.map_err(plain)
}

async fn publishers(session: &zenoh::Session, side: Side) -> Result<Publishers> {
    let mut publishers = BTreeMap::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.direction() == direction(side)) {
        let (priority, congestion, reliability) = quality(kind);
        let publisher = session
            .declare_publisher(format!("vehicles/{VEHICLE}/{}/{}", word(side), kind.name()))
            .priority(priority)
            .congestion_control(congestion)
            .reliability(reliability)
            .await
            .map_err(plain)?;
        publishers.insert(kind, Way::new(publisher).await?);
    }
    Ok(Arc::new(publishers))
}

/// Best effort means datagrams where there are any.
const fn quality(kind: Kind) -> (Priority, CongestionControl, Reliability) {
    use {CongestionControl as Control, Reliability as Reliable};
    match kind {
        Kind::Control => (Priority::RealTime, Control::Drop, Reliable::BestEffort),
        Kind::Command | Kind::Ack => (Priority::InteractiveHigh, Control::Block, Reliable::Reliable),
        Kind::Telemetry => (Priority::DataHigh, Control::Drop, Reliable::BestEffort),
        Kind::Snapshot => (Priority::Data, Control::Drop, Reliable::BestEffort),
        Kind::Camera => (Priority::DataLow, Control::Drop, Reliable::BestEffort),
        Kind::Log | Kind::Map => (Priority::Background, Control::Block, Reliable::Reliable),
    }
}

/// States at once; what must arrive goes its own way.
async fn live(
    publishers: Publishers,
    mut messages: mpsc::Receiver<Message>,
    sure: mpsc::Sender<Message>,
) -> Result<()> {
    while let Some(message) = messages.recv().await {
        match message.kind {
            Kind::Command | Kind::Ack => sure.send(message).await.context("a way of publishing is gone")?,
            Kind::Control | Kind::Telemetry | Kind::Snapshot | Kind::Camera | Kind::Log | Kind::Map => {
                put(&publishers, message).await?;
            }
        }
    }
    Ok(())
}

async fn publish(publishers: Publishers, mut messages: mpsc::Receiver<Message>) -> Result<()> {
    while let Some(message) = messages.recv().await {
        put(&publishers, message).await?;
    }
    Ok(())
}

/// Once somebody hears. Blocks the thread where the library blocks.
async fn put(publishers: &Publishers, message: Message) -> Result<()> {
    let way = publishers.get(&message.kind).context("a message of the other end")?;
    way.heard().await?;
    way.publisher.put(message.encode()).await.map_err(plain)
}

const fn direction(side: Side) -> Direction {
    match side {
        Side::Gateway => Direction::Down,
        Side::Vehicle => Direction::Up,
    }
}

const fn other(side: Side) -> Side {
    match side {
        Side::Gateway => Side::Vehicle,
        Side::Vehicle => Side::Gateway,
    }
}

/// What an end sends, in a key.
const fn word(side: Side) -> &'static str {
    match side {
        Side::Gateway => "down",
        Side::Vehicle => "up",
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn plain(error: zenoh::Error) -> anyhow::Error {
    anyhow!("{error}")
}
