//! MQTT 5 through a broker (mosquitto), with rumqttc at both ends.
//!
//! The broker runs beside the gateway and listens with TLS on the link and in the clear on loopback, where the gateway is its
//! second client: one for each vehicle, all on one broker. A broker drops what nobody has asked for, so the vehicle says on
//! `vehicles/bench-1/up/here` when it listens, and the gateway waits for that. Topics are `vehicles/bench-1/down/<kind>` and `vehicles/bench-1/up/<kind>`. A broker has no end-to-end
//! flow control and drops what its queue cannot hold, so the vehicle confirms pieces of a map on
//! `vehicles/bench-1/up/got`, and the gateway has a bounded number of them on the way.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use carriageway_netem::core::Direction;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::common::{Taking, Tuning, Way};
use super::topics::{other, topics};
use super::{End, Facts, Papers, Reach, Subject, Work};
use crate::compare::workload::{Kind, Manner, Message};

/// The broker, by its name in the path and where Debian has it.
const BROKERS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// A broker that does not listen within this has failed.
const LISTENS: Duration = Duration::from_secs(10);

/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// How often a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long the broker remembers a vehicle that is gone, where messages are to arrive at least once, in seconds.
const SESSION: u32 = 300;

/// Messages between us and the library: one, so that what waits does so where it can be seen.
const CAPACITY: usize = 1;

/// The largest packet: a piece and its topic fit.
const LARGEST: u32 = 64 * 1024;

/// Pieces of a map that may be on their way, 512 KiB: more than the link holds.
const PIECES: usize = 32;

/// Without any confirmation for so long those under way are taken for lost.
const LOST: Duration = Duration::from_secs(2);

/// MQTT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mqtt {
    qos: QoS,
}

impl Mqtt {
    /// At most once.
    pub(super) const fn at_most_once() -> Self {
        Self { qos: QoS::AtMostOnce }
    }

    /// At least once.
    pub(super) const fn at_least_once() -> Self {
        Self { qos: QoS::AtLeastOnce }
    }
}

impl Subject for Mqtt {
    fn facts(&self) -> Facts {
        let (title, session) = match self.qos {
            QoS::AtMostOnce => ("MQTT 5, QoS 0", "QoS 0 for all, clean sessions"),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                ("MQTT 5, QoS 1", "QoS 1 for all, the broker keeps the session for 300 s")
            }
        };
        let setup = format!(
            "mutual TLS over TCP with TCP_NODELAY and the kernel's own congestion control; {session}; keep-alive 10 s; \
             broker beside the gateway, as it is but for TCP_NODELAY; at most {PIECES} pieces of a map on the way"
        );
        let version = "rumqttc 0.25.1, Debian's mosquitto".into();
        Facts { title: title.into(), version, setup, manner: Manner::AsTheyCome }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        Box::pin(serve(*self, ends))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(drive(*self, end, reach))
    }
}

/// A running broker. It is killed with this.
struct Broker {
    child: Child,
    /// With TLS, on the link.
    tls: u16,
    /// In the clear, on loopback.
    plain: u16,
}

impl Broker {
    /// In the namespace of this thread.
    async fn start(end: &End) -> Result<Self> {
        let (tls, plain) = (free_port(end.host)?, free_port(std::net::Ipv4Addr::LOCALHOST)?);
        let config = end.papers.place().join("mosquitto.conf");
        fs::write(&config, configuration(end, tls, plain)?).context("cannot write the broker's file")?;
        let mut child = spawn(&config, end)?;
        let listening = async {
            while TcpStream::connect((end.host, tls)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            listens = timeout(LISTENS, listening) => listens.context("mosquitto does not listen")?,
            ended = child.wait() => bail!("mosquitto has ended: {}; see its file {}", ended?, config.display()),
        }
        Ok(Self { child, tls, plain })
    }

    /// Ends it and waits, so that its processor time is counted.
    async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end mosquitto")
    }
}

fn spawn(config: &std::path::Path, end: &End) -> Result<Child> {
    for broker in BROKERS {
        let mut command = Command::new(broker);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.kill_on_drop(true).spawn() {
            Ok(child) => {
                end.note(version(broker));
                return Ok(child);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot start {broker}")),
        }
    }
    bail!("mosquitto is not on this machine; install it: apt-get install -y mosquitto")
}

/// What it calls itself.
fn version(broker: &str) -> String {
    // Asked for help it answers with an exit code of its own; only its first line counts.
    let help = std::process::Command::new(broker).arg("-h").output().map(|output| output.stdout);
    let help = help.unwrap_or_default();
    String::from_utf8_lossy(&help).lines().next().unwrap_or("mosquitto of an unknown version").to_owned()
}

fn configuration(end: &End, tls: u16, plain: u16) -> Result<String> {
    let [chain, key] = end.papers.gateway();
    let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path is no text");
    let (authority, chain, key) = (path(&end.papers.authority())?, path(&chain)?, path(&key)?);
    let host = end.host;
    // Started as root it would become a user who cannot read the run's papers.
    Ok(format!(
        "user root\nlog_dest none\npersistence false\nallow_anonymous true\nset_tcp_nodelay true\n\
         listener {tls} {host}\ncafile {authority}\ncertfile {chain}\nkeyfile {key}\nrequire_certificate true\n\
         listener {plain} 127.0.0.1\n"
    ))
}

fn free_port(host: std::net::Ipv4Addr) -> Result<u16> {
    let listener = std::net::TcpListener::bind((host, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The vehicle's way to the broker.
fn secured(papers: &Papers) -> Result<Transport> {
    let read =
        |path: &std::path::Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let [chain, key] = papers.vehicle();
    let (ca, client_auth) = (read(&papers.authority())?, Some((read(&chain)?, read(&key)?)));
    Ok(Transport::Tls(TlsConfiguration::Simple { ca, alpn: None, client_auth }))
}

fn options(mqtt: Mqtt, id: &str, host: String, port: u16, transport: Transport) -> MqttOptions {
    let mut options = MqttOptions::new(id, host, port);
    options.set_transport(transport).set_keep_alive(KEEPALIVE).set_max_packet_size(Some(LARGEST));
    if mqtt.qos == QoS::AtLeastOnce {
        options.set_clean_start(false).set_session_expiry_interval(Some(SESSION));
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options
}

async fn serve(mqtt: Mqtt, ends: Vec<End>) -> Result<()> {
    let end = ends.first().context("a gateway has a vehicle")?.clone();
    let mut broker = Broker::start(&end).await?;
    Tuning::NONE.prove("gateway", &end)?;
    let reach = Reach { tcp: broker.tls, ..Reach::default() };
    let mut clients = JoinSet::new();
    for end in ends {
        let id =
            if end.papers.is_of_fleet() { format!("gateway-{}", end.vehicle()) } else { "gateway".into() };
        let options = options(mqtt, &id, "127.0.0.1".into(), broker.plain, Transport::Tcp);
        clients.spawn(async move { carry(mqtt, options, &end, Direction::Down, reach).await });
    }
    let done = tokio::select! {
        () = end.stopped() => Ok(()),
        ended = broker.child.wait() => Err(anyhow::anyhow!("mosquitto has ended: {ended:?}")),
        Some(ended) = clients.join_next() => ended.context("a client of the broker").flatten(),
    };
    // Before the broker, whose end is not theirs to tell.
    clients.shutdown().await;
    broker.stop().await?;
    done
}

async fn drive(mqtt: Mqtt, end: End, reach: Reach) -> Result<()> {
    // The library opens its sockets itself and leaves this to the system.
    Tuning::NONE.prove("vehicle", &end)?;
    let options = options(mqtt, end.vehicle(), end.host.to_string(), reach.tcp, secured(&end.papers)?);
    tokio::select! {
        () = end.stopped() => Ok(()),
        ended = carry(mqtt, options, &end, Direction::Up, Reach::default()) => ended,
    }
}

/// One client of the broker: what it sends, and what it asks for.
struct Client<'a> {
    mqtt: Mqtt,
    end: &'a End,
    /// Which way its messages go.
    sends: Direction,
    handle: AsyncClient,
    /// It is connected and has yet to say what it wants to hear.
    connected: Notify,
    /// It listens and has yet to say so.
    listening: Notify,
    /// Whether there is anybody to send to: the vehicle is connected; the gateway has heard that the vehicle is.
    is_open: watch::Sender<bool>,
    /// Pieces of a map that may still leave.
    room: Semaphore,
    /// A piece was confirmed.
    confirmed: Notify,
    /// Pieces of a map that have come and are to be confirmed.
    owed: Semaphore,
}

async fn carry(mqtt: Mqtt, options: MqttOptions, end: &End, sends: Direction, reach: Reach) -> Result<()> {
    let (handle, events) = AsyncClient::new(options, CAPACITY);
    let client = Client {
        mqtt,
        end,
        sends,
        handle,
        connected: Notify::new(),
        listening: Notify::new(),
        is_open: watch::Sender::new(false),
        room: Semaphore::new(PIECES),
        confirmed: Notify::new(),
        owed: Semaphore::new(0),
    };
    tokio::select! {
        ended = client.send() => ended,
        () = client.listen(events, reach) => bail!("the client has ended"),
        () = client.give_up_lost() => bail!("it waits for ever"),
    }
}

impl Client<'_> {
    /// Sends what is due, and what the session itself needs.
    async fn send(&self) -> Result<()> {
        let [got, here] =
            ["got", "here"].map(|word| format!("{}{word}", topics(self.end.vehicle(), Direction::Up)));
        let mut is_open = self.is_open.subscribe();
        let mut taking = Taking::new(self.end, Way::Everything, Manner::AsTheyCome);
        loop {
            tokio::select! {
                biased;
                () = self.connected.notified() => {
                    let filter = format!("{}+", topics(self.end.vehicle(), other(self.sends)));
                    self.handle.subscribe(filter, self.mqtt.qos).await?;
                }
                () = self.listening.notified() => {
                    self.handle.publish_bytes(&here, self.mqtt.qos, false, Bytes::new()).await?;
                }
                Ok(owed) = self.owed.acquire() => {
                    owed.forget();
                    self.handle.publish_bytes(&got, self.mqtt.qos, false, Bytes::new()).await?;
                }
                message = self.next(&mut is_open, &mut taking) => {
                    let topic = format!("{}{}", topics(self.end.vehicle(), self.sends), message.kind.name());
                    self.handle.publish_bytes(topic, self.mqtt.qos, false, message.encode()).await?;
                }
            }
        }
    }

    /// The next message that may leave. Cancel safe.
    async fn next(&self, is_open: &mut watch::Receiver<bool>, taking: &mut Taking) -> Message {
        is_open.wait_for(|is_open| *is_open).await.expect("this client keeps the other half");
        match self.sends {
            // TCP alone is between the vehicle and the broker: it says when there is room.
            Direction::Up => taking.take().await,
            Direction::Down => tokio::select! {
                biased;
                message = self.end.feed.next() => message,
                piece = self.piece() => piece,
            },
        }
    }

    /// The next piece, where one may leave. Cancel safe: a permit that is not used goes back.
    async fn piece(&self) -> Message {
        let room = self.room.acquire().await.expect("nobody closes it");
        let piece = self.end.feed.piece().await;
        room.forget();
        piece
    }

    /// Gives room again for pieces that nobody confirms any more.
    async fn give_up_lost(&self) {
        loop {
            let full = self.room.available_permits() == 0;
            if timeout(LOST, self.confirmed.notified()).await.is_err() && full {
                self.room.add_permits(PIECES.saturating_sub(self.room.available_permits()));
            }
        }
    }

    /// Hears what comes, and connects again where it must.
    async fn listen(&self, mut events: EventLoop, reach: Reach) {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.connected.notify_one(),
                Ok(Event::Incoming(Packet::SubAck(_))) => self.listens(reach),
                Ok(Event::Incoming(Packet::Publish(publish))) => self.hear(&publish),
                Ok(_) => {}
                Err(error) => {
                    self.is_open.send_replace(false);
                    self.end.note(format!("a client of the broker: {error}"));
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn listens(&self, reach: Reach) {
        if self.sends == Direction::Up {
            self.is_open.send_replace(true);
            self.listening.notify_one();
        }
        self.end.ready(reach);
    }

    fn hear(&self, publish: &Publish) {
        if publish.topic.ends_with(b"/here") {
            self.is_open.send_replace(true);
            return;
        }
        if publish.topic.ends_with(b"/got") {
            if self.room.available_permits() < PIECES {
                self.room.add_permits(1);
            }
            self.confirmed.notify_one();
            return;
        }
        if publish.topic.ends_with(Kind::Map.name().as_bytes()) {
            self.owed.add_permits(1);
        }
        if let Err(broken) = self.end.ear.hear(&publish.payload) {
            self.end.note(broken.to_string());
        }
    }
}
