//! Carriageway's own session over QUIC, or over its WebSocket fallback: the library that gateway and agent are made of, with
//! their settings, and without what they add.
//!
//! Control goes as control frames with the state before the newest in each, telemetry as signals, commands and answers on
//! the lane of their class, files on the bulk lane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{
    Class, ControlFrame, ControlState, Controls, Epoch, PolicyTable, SessionId, SignalPath, Stamp, Token,
    Value, VehicleId,
};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::keeper::{self, Allowed};
use carriageway_transport::dialer::Network;
use carriageway_transport::identity::Identity;
use carriageway_transport::link::{Happening, Happenings, MAX_BULK_PAYLOAD, SendError};
use carriageway_transport::lobby::{self, Greeted};
use carriageway_transport::quic::{self, Congestion, Limits, QuicListener, Secret};
use carriageway_transport::tls::{self, Authority, Credentials, Pem};
use carriageway_transport::{Connection, Link, client, link, websocket};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::fleet::ready;
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::virtual_time::{Arrival, Place, TcpPort};
use crate::compare::workload::{Kind, Manner, Message};

/// A command that has not left by then is told as a gap, as the gateway would have it.
const COMMAND_TTL: Duration = Duration::from_secs(5);

/// A picture that is as old as this is of no use.
const CAMERA_TTL: Duration = Duration::from_millis(500);

/// Signals of a look, besides the one that has its number: encoded about 300 bytes, as the others' telemetry.
const SIGNALS: usize = 7;

/// Signals of a snapshot: about 2,000 bytes.
const SNAPSHOT: usize = 54;

/// Connections that have come and whose hello nobody has read, for each vehicle.
const WAITING: usize = 8;

/// Ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours {
    allowed: Allowed,
    congestion: Congestion,
}

impl Ours {
    pub(super) const fn quic(congestion: Congestion) -> Self {
        Self { allowed: Allowed::QuicOnly, congestion }
    }

    pub(super) const fn websocket() -> Self {
        Self { allowed: Allowed::WebSocketOnly, congestion: Congestion::Cubic }
    }
}

impl Subject for Ours {
    fn facts(&self) -> Facts {
        let (title, setup) = match self.allowed {
            Allowed::WebSocketOnly => (
                "Carriageway, WebSocket fallback".into(),
                "TCP cubic, NOTSENT_LOWAT 2 KiB, bulk bounded by its own delay (RFC 6817)".into(),
            ),
            Allowed::Both | Allowed::QuicOnly => (
                format!("Carriageway, QUIC {}", self.congestion.name()),
                format!("quinn with {}, bulk bounded by its own delay (RFC 6817)", self.congestion.name()),
            ),
        };
        let version = concat!("carriageway ", env!("CARGO_PKG_VERSION")).into();
        Facts { title, version, setup, manner: Manner::NewestFirst }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        Box::pin(serve(*self, ends))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(drive(*self, end, reach))
    }

    fn has_virtual_time(&self) -> bool {
        true
    }
}

/// One listener for all vehicles, as the gateway has it.
async fn serve(ours: Ours, ends: Vec<End>) -> Result<()> {
    let end = ends.first().context("a gateway has a vehicle")?.clone();
    let clock = end.place.clock()?;
    let (arrived, arrivals) = mpsc::channel(WAITING * ends.len());
    let authority = Authority::new(&Pem::read(&end.papers.authority())?)?;
    let [chain, key] = end.papers.gateway();
    let own = || Ok::<_, anyhow::Error>(Credentials::new(&Pem::read(&chain)?, &Pem::read(&key)?)?);
    let config = quic::Config {
        addresses: vec![end.at(0)],
        tls: tls::quic_server(&authority, own()?)?,
        secret: Secret::new([7; 32]),
        limits: Limits::VEHICLE,
        congestion: ours.congestion,
        policies: PolicyTable::defaults(),
    };
    let listener = end.place.listen(config)?;
    let port = end.place.listen_tcp(end.host).await?;
    let udp = listener.addresses().first().context("the gateway has no UDP port")?.port();
    ready(&ends, Reach { udp, tcp: port.number()?, ..Reach::default() });
    let acceptor = TlsAcceptor::from(Arc::new(tls::tcp_server(&authority, own()?)?));
    tokio::select! {
        () = end.stopped() => Ok(()),
        () = accept_quic(listener, arrived.clone()) => bail!("the QUIC listener has ended"),
        ended = accept_websocket(port, acceptor, arrived, end.clone()) => ended,
        ended = sessions(arrivals, clock, ends) => ended,
    }
}

/// A connection, and whose it is by the certificate that it was made with.
struct Arrived {
    vehicle: VehicleId,
    connection: Box<dyn Connection>,
}

async fn accept_quic(mut listener: QuicListener, arrived: mpsc::Sender<Arrived>) {
    while let Some(arrival) = listener.accept().await {
        let Identity::Vehicle(vehicle) = arrival.identity;
        // A vehicle that finds no room dials again.
        let _full = arrived.try_send(Arrived { vehicle, connection: arrival.connection });
    }
}

async fn accept_websocket(
    mut port: TcpPort,
    acceptor: TlsAcceptor,
    arrived: mpsc::Sender<Arrived>,
    end: End,
) -> Result<()> {
    let mut handshakes = JoinSet::new();
    loop {
        let Arrival { stream, remote, congestion } = tokio::select! {
            accepted = port.accept() => accepted?,
            // A vehicle whose handshake fails dials again.
            Some(_done) = handshakes.join_next() => continue,
        };
        end.note(format!("gateway's TCP: {congestion}"));
        let (acceptor, arrived) = (acceptor.clone(), arrived.clone());
        handshakes.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let Ok(Identity::Vehicle(vehicle)) = Identity::from_chain(chain) else { return };
            if let Ok(connection) = websocket::accept(stream, Some(remote)).await {
                // A vehicle that finds no room dials again.
                let _full = arrived.try_send(Arrived { vehicle, connection: Box::new(connection) });
            }
        });
    }
}

/// All sessions: a vehicle's first connection begins its own, the others of the same vehicle are given to it.
async fn sessions(mut arrivals: mpsc::Receiver<Arrived>, clock: BootClock, ends: Vec<End>) -> Result<()> {
    let deadline = link::Config::default().greeting_deadline;
    let most = WAITING * ends.len();
    let mut all = BTreeMap::new();
    for (end, number) in ends.into_iter().zip(1..) {
        all.insert(end.vehicle().parse::<VehicleId>()?, Held { end, number, link: None, epoch: Epoch::NONE });
    }
    let (mut greetings, mut lives) = (JoinSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            Some(Arrived { vehicle, connection }) = arrivals.recv(), if greetings.len() < most => {
                let clock = clock.clone();
                // Each by itself: a vehicle whose hello is late keeps no other waiting.
                greetings.spawn(async move { (vehicle, lobby::greet(connection, &clock, deadline).await) });
            }
            Some(ended) = greetings.join_next() => {
                // Who says no hello, or is none of ours, gets no session.
                if let (vehicle, Ok(greeted)) = ended.context("a greeting")?
                    && let Some(held) = all.get_mut(&vehicle)
                {
                    held.take_in(greeted, &clock, &mut lives);
                }
            }
            Some(_over) = lives.join_next() => {}
            else => return Ok(()),
        }
    }
}

/// What the gateway holds of one vehicle.
struct Held {
    end: End,
    /// Counted from one.
    number: u16,
    link: Option<Link>,
    epoch: Epoch,
}

impl Held {
    fn take_in(&mut self, greeted: Greeted, clock: &BootClock, lives: &mut JoinSet<()>) {
        let over = self.link.as_ref().is_none_or(|link| link.connectivity().borrow().over.is_some());
        if let Some(link) = self.link.as_ref().filter(|_| !over) {
            // A vehicle that finds no room dials again.
            let _full = link.attach(greeted);
            return;
        }
        // Above all that the vehicle has held: it takes no other, though this gateway is new.
        self.epoch = self.epoch.max(greeted.greeting.hello.epoch).next();
        // No gateway gives an id twice: a vehicle that asks for a session of another one must not be taken for one of its own.
        let id = (u128::from(clock.now().as_micros()) << u16::BITS) | u128::from(self.number);
        let id = SessionId::from_bytes(id.to_be_bytes());
        let (link, happenings, driver) =
            link::accept(link::Config::default(), clock.clone(), id, self.epoch, greeted);
        lives.spawn(driver);
        lives.spawn(carry(link.clone(), happenings, self.end.clone(), clock.clone()));
        self.link = Some(link);
    }
}

async fn drive(ours: Ours, end: End, reach: Reach) -> Result<()> {
    if matches!((ours.allowed, &end.place), (Allowed::WebSocketOnly, Place::Kernel)) {
        end.note(format!("vehicle's TCP: {}", as_dialed()?));
    }
    let clock = end.place.clock()?;
    let authority = Authority::new(&Pem::read(&end.papers.authority())?)?;
    let [chain, key] = end.papers.vehicle();
    let credentials = Credentials::new(&Pem::read(&chain)?, &Pem::read(&key)?)?;
    let network = Network {
        host: end.host.to_string(),
        udp_port: reach.udp,
        tcp_port: reach.tcp,
        server_name: end.host.to_string(),
        bind: None,
        quic_tls: Arc::new(tls::quic_client(&authority, credentials.clone())?),
        tcp_tls: Arc::new(tls::tcp_client(&authority, credentials)?),
        limits: Limits::VEHICLE,
        congestion: ours.congestion,
        policies: PolicyTable::defaults(),
        deadline: Duration::from_secs(10),
        clock: clock.clone(),
    };
    let config = client::Config {
        keeper: keeper::Config { allowed: ours.allowed, ..keeper::Config::default() },
        ..client::Config::default()
    };
    let (link, happenings, session) =
        client::start(config, clock.clone(), end.place.dialer(network), Epoch::NONE, end.seed);
    tokio::select! {
        () = end.stopped() => Ok(()),
        ended = session => bail!("the session has ended: {ended}"),
        () = carry(link, happenings, end.clone(), clock) => bail!("the session tells nothing more"),
    }
}

/// The congestion control of a socket that is tuned as the dialer tunes its own, which it keeps to itself.
fn as_dialed() -> Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot open a socket")?;
    socket.set_nonblocking(true)?;
    let stream = TcpStream::from_std(std::net::TcpStream::from(socket))?;
    Ok(websocket::tune(&stream)?.congestion)
}

/// Carries the workload over one session, at either end.
async fn carry(link: Link, mut happenings: Happenings, end: End, clock: BootClock) {
    let mut speaker = Speaker::new(link, clock);
    let mut refused: Option<Bytes> = None;
    loop {
        tokio::select! {
            happening = happenings.recv() => match happening {
                Some(happening) => {
                    if matches!(happening, Happening::Established { .. }) {
                        end.ready(Reach::default());
                    }
                    if matches!(happening, Happening::Settled { .. })
                        && let Some(piece) = refused.take()
                    {
                        refused = speaker.piece(piece);
                    }
                    hear(&end, happening);
                }
                None => return,
            },
            message = end.feed.next() => speaker.say(message),
            piece = end.feed.piece(), if refused.is_none() => {
                refused = speaker.piece(piece.encode_in(MAX_BULK_PAYLOAD));
            }
        }
    }
}

fn hear(end: &End, happening: Happening) {
    let heard = match happening {
        Happening::Message { payload, .. } => end.ear.hear(&payload),
        Happening::Signals(updates) => {
            for update in updates {
                if let (Some(kind), Value::Int(number)) = (marked(&update.path), update.value) {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    end.ear.hear_message(Message::new(kind, number), kind.bytes());
                }
            }
            Ok(())
        }
        Happening::Control(frame) => {
            // Oldest first, so that the record stays in order.
            for state in frame.states.iter().rev() {
                end.ear.hear_message(Message::new(Kind::Control, state.counter), Kind::Control.bytes());
            }
            Ok(())
        }
        Happening::Established { .. }
        | Happening::Moved { .. }
        | Happening::Gap { .. }
        | Happening::Settled { .. }
        | Happening::Ended(_) => Ok(()),
    };
    if let Err(broken) = heard {
        end.note(broken.to_string());
    }
}

/// Which number a signal carries.
fn marked(path: &SignalPath) -> Option<Kind> {
    [Kind::Telemetry, Kind::Snapshot].into_iter().find(|kind| path.as_str() == mark(*kind))
}

/// The last signal of a look has its number. It goes after those that are offered with it, but for what of an older look
/// still waits: that is replaced in its old place.
fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Snapshot => "Vehicle.Bench.Snapshot",
        Kind::Control
        | Kind::Telemetry
        | Kind::Command
        | Kind::Ack
        | Kind::Log
        | Kind::Map
        | Kind::Camera => "Vehicle.Bench.Telemetry",
    }
}

/// Hands on the wheel and a foot on the pedal: zeros would be left out on the wire.
fn controls() -> Controls {
    Controls::new(0.25, 0.5, 0.125).expect("they are within their bounds")
}

/// Says what is due.
struct Speaker {
    link: Link,
    clock: BootClock,
    /// The state before the newest.
    before: Option<ControlState>,
    paths: Vec<SignalPath>,
    marks: [SignalPath; 2],
}

impl Speaker {
    fn new(link: Link, clock: BootClock) -> Self {
        let path = |text: &str| text.parse::<SignalPath>().expect("it is a VSS path");
        let paths = (0..SNAPSHOT).map(|number| path(&format!("Vehicle.Bench.S{number}"))).collect();
        Self {
            link,
            clock,
            before: None,
            paths,
            marks: [path(mark(Kind::Telemetry)), path(mark(Kind::Snapshot))],
        }
    }

    fn say(&mut self, message: Message) {
        match message.kind {
            Kind::Control => self.control(message.number),
            Kind::Telemetry => self.signals(SIGNALS, 0, message.number),
            Kind::Snapshot => self.signals(SNAPSHOT, 1, message.number),
            Kind::Command | Kind::Ack => self.send(message.class, message, COMMAND_TTL),
            Kind::Camera => self.send(Class::Bulk, message, CAMERA_TTL),
            Kind::Log | Kind::Map => {
                unreachable!("pieces of files come by themselves")
            }
        }
    }

    fn control(&mut self, number: u32) {
        let Some(stamp) = self.peer_clock() else { return };
        let token = Token::FIRST;
        let state = ControlState::seal(ROAD_VEHICLE, token, number, controls());
        let states = [Some(state), self.before.replace(state)].into_iter().flatten().collect();
        self.link.control(ControlFrame { token, stamp, states });
    }

    fn peer_clock(&self) -> Option<Stamp> {
        self.link.peer_clock()
    }

    fn signals(&mut self, count: usize, mark: usize, number: u32) {
        let value = f64::from(number) / 7.0;
        let values = self.paths[..count].iter().map(|path| (path.clone(), Value::Float(value)));
        self.link.signals(values.chain([(self.marks[mark].clone(), Value::Int(number.into()))]));
    }

    fn send(&self, class: Class, message: Message, ttl: Duration) {
        // Where the lane is full the message is lost, which the record shows.
        let _full = self.link.send(class, message.encode(), Some(self.clock.now() + ttl));
    }

    /// Gives the piece back where the lane has no room for it.
    fn piece(&self, piece: Bytes) -> Option<Bytes> {
        match self.link.send(Class::Bulk, piece, None) {
            Err(SendError::Full(piece)) => Some(piece),
            Ok(_) | Err(SendError::TooLarge(_) | SendError::Ended(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::frame::Signal;
    use carriageway_proto::{BootId, Frame, Moment};

    use super::*;

    const NOW: Moment = Moment::from_micros(46_000_000_000);

    fn look(count: usize, kind: Kind) -> usize {
        let signal = |path: String, value| Signal {
            path: path.parse().unwrap(),
            sequence: 600,
            value,
            waited_us: 300,
        };
        let signals = (0..count).map(|number| signal(format!("Vehicle.Bench.S{number}"), Value::Float(0.7)));
        let marked = signal(mark(kind).to_owned(), Value::Int(600));
        Frame::Signals(signals.chain([marked]).collect()).encode(NOW).len()
    }

    #[test]
    fn what_we_send_has_the_size_of_what_the_others_send() {
        for (count, kind) in [(SIGNALS, Kind::Telemetry), (SNAPSHOT, Kind::Snapshot)] {
            let (ours, theirs) = (look(count, kind), kind.bytes());
            assert!(ours.abs_diff(theirs) * 10 <= theirs, "{}: {ours} bytes of {theirs}", kind.name());
        }
        let state = ControlState::seal(ROAD_VEHICLE, Token::FIRST, 600, controls());
        let stamp = Stamp { boot: BootId::from_bytes([7; 16]), clock: NOW };
        let frame = ControlFrame { token: Token::FIRST, stamp, states: vec![state; 2] };
        let ours = Frame::Control(frame).encode(NOW).len();
        assert!(
            (Kind::Control.bytes()..2 * Kind::Control.bytes()).contains(&ours),
            "two states in {ours} bytes"
        );
    }
}
