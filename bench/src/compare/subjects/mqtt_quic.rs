//! MQTT 5 over QUIC (mqtt5), with the library's own broker beside the gateway and a stream per topic.
//!
//! Topics are `vehicles/bench-1/down/<kind>` and `vehicles/bench-1/up/<kind>`. States and pictures go with QoS 0, from the
//! vehicle in datagrams where they fit; commands and answers with QoS 1; files with QoS 0 on the stream of their topic. The
//! broker drops what nobody has asked for, so the vehicle says on `<topics>/here` that it listens until the gateway answers.
//! The receiver confirms pieces on `<topics>/got`, and a bounded number of them is on the way: the broker drops what its queue
//! cannot hold.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use carriageway_netem::core::Direction;
use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{AuthConfig, BrokerConfig, QuicConfig, StorageBackend, StorageConfig};
use mqtt5::transport::StreamStrategy;
use mqtt5::types::Message as Incoming;
use mqtt5::{ConnectOptions, ConnectionEvent, MqttClient, QoS, SubscribeOptions};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::topics::{other, topics};
use super::{End, Facts, Papers, Reach, Subject, Work};
use crate::compare::workload::{Kind, Manner, Message};

/// Between attempts to connect, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// How often a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long the broker remembers a client that is gone, in seconds.
const SESSION: u32 = 300;

/// Messages that may wait for their acknowledgement or their stream.
const UNDER_WAY: usize = 64;

/// Pieces of files that may be on their way, 512 KiB: more than the link holds.
const PIECES: usize = 32;

/// Without any confirmation for so long those under way are taken for lost.
const LOST: Duration = Duration::from_secs(2);

/// MQTT over QUIC.
#[derive(Clone, Copy, Debug)]
pub(super) struct MqttQuic;

impl Subject for MqttQuic {
    fn facts(&self) -> Facts {
        let setup = format!(
            "a stream per topic, states of the vehicle with QoS 0 in datagrams, states for it with QoS 0 in streams (the broker \
             sends no datagrams), commands with QoS 1; the server's certificate is verified; session of {SESSION} s, keep-alive \
             10 s; the library's broker beside the gateway; at most {PIECES} pieces of a file on the way"
        );
        Facts {
            title: "MQTT 5 over QUIC".into(),
            version: "mqtt5 0.49.0 (client and broker, over quinn)".into(),
            setup,
            manner: Manner::NewestFirst,
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        Box::pin(serve(ends))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(drive(end, reach))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn broker(end: &End) -> BrokerConfig {
    let [chain, key] = end.papers.gateway();
    let storage = StorageConfig {
        backend: StorageBackend::Memory,
        enable_persistence: false,
        ..StorageConfig::default()
    };
    BrokerConfig::default()
        .with_bind_addresses(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
        .with_auth(AuthConfig { allow_anonymous: true, ..AuthConfig::default() })
        .with_storage(storage)
        .with_sys_topics_enabled(false)
        .with_quic(QuicConfig::new(chain, key).with_bind_addresses(vec![end.at(0)]))
}

/// One broker, and a client of it for each vehicle.
async fn serve(ends: Vec<End>) -> Result<()> {
    let end = ends.first().context("a gateway has a vehicle")?.clone();
    let mut broker = MqttBroker::with_config(broker(&end)).await?;
    let udp = broker.quic_local_addr().context("the broker has no UDP port")?.port();
    let plain = broker.local_addr().context("the broker has no TCP port")?;
    let reach = Reach { udp, ..Reach::default() };
    let mut clients = JoinSet::new();
    for end in ends {
        let id =
            if end.papers.is_of_fleet() { format!("gateway-{}", end.vehicle()) } else { "gateway".into() };
        let address = format!("mqtt://{plain}");
        clients.spawn(async move { carry(&id, address, &end, Direction::Down, reach).await });
    }
    tokio::select! {
        () = end.stopped() => Ok(()),
        ended = broker.run() => bail!("the broker has ended: {ended:?}"),
        Some(ended) = clients.join_next() => ended.context("a client of the broker")?,
    }
}

async fn drive(end: End, reach: Reach) -> Result<()> {
    let address = format!("quics://{}", end.at(reach.udp));
    tokio::select! {
        () = end.stopped() => Ok(()),
        ended = carry(end.vehicle(), address, &end, Direction::Up, Reach::default()) => ended,
    }
}

/// A client that connects again by itself.
async fn client(id: &str, papers: &Papers) -> Result<MqttClient> {
    let [first, most] = RETRY;
    let options = ConnectOptions::new(id)
        .with_keep_alive(KEEPALIVE)
        .with_session_expiry_interval(SESSION)
        .with_automatic_reconnect(true)
        .with_reconnect_delay(first, most)
        .with_max_reconnect_attempts(u32::MAX);
    let client = MqttClient::with_options(options);
    let [chain, key] = papers.vehicle();
    client.set_tls_config(Some(read(&chain)?), Some(read(&key)?), Some(read(&papers.authority())?)).await;
    client.set_quic_stream_strategy(StreamStrategy::DataPerTopic).await;
    client.set_quic_datagrams(true).await;
    Ok(client)
}

/// What both directions know.
struct Talk {
    /// Whether the other end listens, as far as it has said so.
    is_open: watch::Sender<bool>,
    /// The vehicle has said that it listens and is to be answered.
    greeted: Notify,
    /// Pieces that may still leave.
    room: Semaphore,
    /// A piece was confirmed.
    confirmed: Notify,
    /// Pieces that have come and are to be confirmed.
    owed: Semaphore,
}

async fn carry(id: &str, address: String, end: &End, sends: Direction, reach: Reach) -> Result<()> {
    let client = client(id, &end.papers).await?;
    while let Err(error) = client.connect(&address).await {
        end.note(format!("a client of the broker: {error}"));
        sleep(RETRY[0]).await;
    }
    let talk = Arc::new(Talk {
        is_open: watch::Sender::new(false),
        greeted: Notify::new(),
        room: Semaphore::new(PIECES),
        confirmed: Notify::new(),
        owed: Semaphore::new(0),
    });
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let (own, heard) = (end.clone(), talk.clone());
    client
        .subscribe_with_options(
            format!("{}+", topics(end.vehicle(), other(sends))),
            options,
            move |message| {
                hear(&own, &heard, &message);
            },
        )
        .await?;
    let lost = talk.clone();
    client
        .on_connection_event(move |event| {
            if matches!(event, ConnectionEvent::Disconnected { .. }) && sends == Direction::Up {
                lost.is_open.send_replace(false);
            }
        })
        .await?;
    if sends == Direction::Down {
        end.ready(reach);
    }
    tokio::select! {
        () = greet(&client, end, sends, &talk) => bail!("it greets for ever"),
        () = live(&client, end, sends, &talk) => bail!("it sends for ever"),
        () = send_pieces(&client, end, sends, &talk) => bail!("it sends for ever"),
        () = confirm(&client, end, sends, &talk) => bail!("it confirms for ever"),
        () = give_up_lost(&talk) => bail!("it waits for ever"),
    }
}

fn hear(end: &End, talk: &Talk, message: &Incoming) {
    let kind = message.topic.rsplit('/').next().unwrap_or_default();
    if kind == "here" {
        talk.is_open.send_replace(true);
        talk.greeted.notify_one();
        return;
    }
    if kind == "got" {
        if talk.room.available_permits() < PIECES {
            talk.room.add_permits(1);
        }
        talk.confirmed.notify_one();
        return;
    }
    if Kind::named(kind).is_some_and(Kind::is_file) {
        talk.owed.add_permits(1);
    }
    if let Err(broken) = end.ear.hear(&message.payload) {
        end.note(broken.to_string());
    }
}

/// The vehicle says that it listens until it is answered, and again when it was cut off; the gateway answers.
async fn greet(client: &MqttClient, end: &End, sends: Direction, talk: &Talk) {
    let topic = format!("{}here", topics(end.vehicle(), sends));
    let mut is_open = talk.is_open.subscribe();
    loop {
        match sends {
            Direction::Down => talk.greeted.notified().await,
            Direction::Up => {
                if timeout(RETRY[0], is_open.wait_for(|is_open| *is_open)).await.is_ok() {
                    end.ready(Reach::default());
                    // An error means that the end is over.
                    let _over = is_open.wait_for(|is_open| !is_open).await;
                }
            }
        }
        // Where it is lost the vehicle says it again.
        let _lost = client.publish_qos(topic.as_str(), Vec::new(), QoS::AtMostOnce).await;
    }
}

/// The next message, where somebody listens. Cancel safe.
async fn next(end: &End, is_open: &mut watch::Receiver<bool>) -> Message {
    is_open.wait_for(|is_open| *is_open).await.expect("the talk keeps the other half");
    end.feed.next().await
}

/// States that fit a datagram leave at once; what waits for a stream or an acknowledgement holds nothing up.
async fn live(client: &MqttClient, end: &End, sends: Direction, talk: &Talk) {
    let mut under_way = JoinSet::new();
    let mut is_open = talk.is_open.subscribe();
    loop {
        tokio::select! {
            message = next(end, &mut is_open), if under_way.len() < UNDER_WAY => {
                let topic = format!("{}{}", topics(end.vehicle(), sends), message.kind.name());
                let client = client.clone();
                under_way.spawn(async move { publish(&client, topic, message).await });
            }
            Some(_done) = under_way.join_next() => {}
        }
    }
}

/// While there is no connection the library keeps what has QoS 1 and refuses the rest, which is lost then.
async fn publish(client: &MqttClient, topic: String, message: Message) -> bool {
    let qos = match message.kind {
        Kind::Command | Kind::Ack => QoS::AtLeastOnce,
        Kind::Control | Kind::Telemetry | Kind::Snapshot | Kind::Log | Kind::Map | Kind::Camera => {
            QoS::AtMostOnce
        }
    };
    client.publish_qos(topic, message.encode(), qos).await.is_ok()
}

async fn send_pieces(client: &MqttClient, end: &End, sends: Direction, talk: &Talk) {
    loop {
        talk.room.acquire().await.expect("nobody closes it").forget();
        let piece = end.feed.piece().await;
        let topic = format!("{}{}", topics(end.vehicle(), sends), piece.kind.name());
        if !publish(client, topic, piece).await {
            sleep(RETRY[0]).await;
        }
    }
}

async fn confirm(client: &MqttClient, end: &End, sends: Direction, talk: &Talk) {
    let topic = format!("{}got", topics(end.vehicle(), sends));
    loop {
        talk.owed.acquire().await.expect("nobody closes it").forget();
        // Where it is lost, so is the piece, after a while.
        let _lost = client.publish_qos(topic.as_str(), Vec::new(), QoS::AtMostOnce).await;
    }
}

async fn give_up_lost(talk: &Talk) {
    loop {
        let full = talk.room.available_permits() == 0;
        if timeout(LOST, talk.confirmed.notified()).await.is_err() && full {
            talk.room.add_permits(PIECES.saturating_sub(talk.room.available_permits()));
        }
    }
}
