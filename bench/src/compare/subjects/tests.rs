//! Every subject on loopback: what each end offers arrives at the other, and again after the gateway has been replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Folder;
use carriageway_proto::Class;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{End, FEATURES, Notes, Papers, Reach, Subject, VEHICLE, absence, named, names};
use crate::compare::timeline::Timeline;
use crate::compare::virtual_time::Place;
use crate::compare::workload::{Ear, Feed, Heard, Kind, Manner, Message};

/// A debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Pieces of a file that must have arrived.
const PIECES: usize = 3;

/// Of commands.
const CLASSES: [Class; 4] = [Class::Safety, Class::Drive, Class::Body, Class::Config];

/// Subjects that send pictures in datagrams, of which some may be lost.
const IN_DATAGRAMS: &[&str] = &["zenoh-quic-mixed"];

/// What arrived: how often each, by kind and number.
type Arrived = BTreeMap<(Kind, u32), usize>;

/// An end with nobody at the other, and what stops it.
pub(super) fn lone_end() -> (End, watch::Sender<bool>) {
    let feed = Feed::new(Manner::NewestFirst);
    let (stop, stopped) = watch::channel(false);
    let end = End {
        ear: Ear::new(Timeline::starting_now(), feed.clone()),
        feed,
        papers: Papers::new("none".into()),
        host: Ipv4Addr::LOCALHOST,
        seed: 7,
        place: Place::Kernel,
        ready: mpsc::channel(1).0,
        stop: stopped,
        notes: Notes::default(),
    };
    (end, stop)
}

/// One end of a subject that runs.
struct Running {
    ready: mpsc::Receiver<Reach>,
    stop: watch::Sender<bool>,
    ended: JoinSet<anyhow::Result<()>>,
}

impl Running {
    fn start(work: impl FnOnce(End) -> super::Work, bench: &Bench, side: usize) -> Self {
        let (tell, ready) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let end = End {
            feed: bench.feeds[side].clone(),
            ear: bench.ears[side].clone(),
            papers: Papers::new(bench.place.path().to_owned()),
            host: Ipv4Addr::LOCALHOST,
            seed: 7,
            place: Place::Kernel,
            ready: tell,
            stop: stopped,
            notes: bench.notes.clone(),
        };
        let mut ended = JoinSet::new();
        ended.spawn(work(end));
        Self { ready, stop, ended }
    }

    async fn ready(&mut self) -> Reach {
        tokio::select! {
            reach = timeout(PATIENCE, self.ready.recv()) => reach.expect("it is ready in time").expect("it says so"),
            Some(ended) = self.ended.join_next() => panic!("it ended before it was ready: {ended:?}"),
        }
    }

    /// Tells it to stop, and waits until it has.
    async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = timeout(PATIENCE, self.ended.join_next()).await.expect("it stops in time");
        ended.expect("there is one").unwrap().unwrap();
    }
}

/// Two ends and what they said and heard: at zero the vehicle's, at one the gateway's.
struct Bench {
    subject: Box<dyn Subject>,
    feeds: [Feed; 2],
    ears: [Ear; 2],
    notes: Notes,
    place: TempDir,
    arrived: Arrived,
}

impl Bench {
    fn new(name: &str) -> Self {
        // Another test may have been first; there is one then.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let subject = named(name).unwrap();
        let place = TempDir::new().unwrap();
        let folder = Folder::new(place.path());
        folder.init(&[Ipv4Addr::LOCALHOST.to_string()], unix_now()).unwrap();
        folder.vehicles([VEHICLE.parse().unwrap()], unix_now()).unwrap();
        let manner = subject.facts().manner;
        let feeds = [Feed::new(manner), Feed::new(manner)];
        let timeline = Timeline::starting_now();
        let ears = feeds.each_ref().map(|feed| Ear::new(timeline.clone(), feed.clone()));
        Self { subject, feeds, ears, notes: Notes::default(), place, arrived: Arrived::new() }
    }

    fn serve(&self) -> Running {
        Running::start(|end| self.subject.serve(vec![end]), self, 1)
    }

    fn drive(&self, reach: Reach) -> Running {
        Running::start(|end| self.subject.drive(end, reach), self, 0)
    }

    fn offer(&self, kind: Kind, number: u32) {
        let class = CLASSES[number as usize % CLASSES.len()];
        let message = Message::new(kind, number);
        let message = if kind == Kind::Command { Message { class, ..message } } else { message };
        self.feeds[kind.direction().index()].offer(message);
    }

    fn transfer(&self, on: bool) {
        for kind in [Kind::Log, Kind::Map] {
            self.feeds[kind.direction().index()].transfer(kind, on);
        }
    }

    /// How many of a kind have arrived, copies apart.
    fn pieces(&self, kind: Kind) -> usize {
        self.arrived.keys().filter(|(heard, _)| *heard == kind).count()
    }

    /// Waits until all of these have arrived.
    async fn wait_for(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_there(self) {
                sleep(LOOK).await;
                let heard = self.ears.each_ref().map(Ear::take).into_iter().flatten();
                for Heard { kind, number, .. } in heard.collect::<Vec<_>>() {
                    *self.arrived.entry((kind, number)).or_default() += 1;
                }
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        let messages: Arrived =
            self.arrived.clone().into_iter().filter(|((kind, _), _)| !kind.is_file()).collect();
        let pieces = [Kind::Log, Kind::Map].map(|kind| self.pieces(kind));
        assert!(
            waited.is_ok(),
            "{what}: these messages {messages:?} and {pieces:?} pieces arrived; {:?}",
            self.notes.all()
        );
    }

    async fn wait_for_commands(&mut self, numbers: std::ops::Range<u32>) {
        let all: BTreeSet<_> =
            numbers.flat_map(|number| [(Kind::Command, number), (Kind::Ack, number)]).collect();
        self.wait_for("commands", |bench| all.iter().all(|one| bench.arrived.contains_key(one))).await;
    }

    fn assert_in_order(&self) {
        let twice = |kind: &Kind| [Kind::Command, Kind::Ack].contains(kind);
        let twice: Vec<_> =
            self.arrived.iter().filter(|((kind, _), count)| twice(kind) && **count != 1).collect();
        assert!(twice.is_empty(), "heard more than once: {twice:?}");
        let broken: Vec<_> =
            self.notes.all().into_iter().filter(|note| note.contains("arrived that are no")).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

async fn everything_arrives(name: &str) {
    let mut bench = Bench::new(name);
    let mut gateway = bench.serve();
    let reach = gateway.ready().await;
    let mut vehicle = bench.drive(reach);
    vehicle.ready().await;
    for number in 0..8 {
        for kind in [Kind::Command, Kind::Control, Kind::Telemetry, Kind::Snapshot, Kind::Camera] {
            bench.offer(kind, number);
        }
    }
    bench.wait_for_commands(0..8).await;
    let newest = [Kind::Control, Kind::Telemetry, Kind::Snapshot].map(|kind| (kind, 7));
    bench.wait_for("states", |bench| newest.iter().all(|one| bench.arrived.contains_key(one))).await;
    let least = if IN_DATAGRAMS.contains(&name) { 5 } else { 8 };
    let pictures = move |bench: &Bench| bench.pieces(Kind::Camera) >= least;
    bench.wait_for("pictures", pictures).await;
    bench.transfer(true);
    let files = |bench: &Bench| [Kind::Log, Kind::Map].iter().all(|kind| bench.pieces(*kind) >= PIECES);
    bench.wait_for("files", files).await;
    bench.offer(Kind::Command, 8);
    // Some of these keep megabytes in front of it: no more of them than that.
    bench.transfer(false);
    bench.wait_for_commands(8..9).await;
    bench.assert_in_order();
    vehicle.stop().await;
    gateway.stop().await;
}

async fn a_replaced_gateway_is_found(name: &str) {
    let mut bench = Bench::new(name);
    let mut first = bench.serve();
    let switch = Switch::start(first.ready().await).await;
    let mut vehicle = bench.drive(switch.reach);
    vehicle.ready().await;
    bench.offer(Kind::Command, 0);
    bench.wait_for_commands(0..1).await;
    first.stop().await;
    let mut second = bench.serve();
    switch.to.send_replace(second.ready().await);
    for number in 1..4 {
        bench.offer(Kind::Command, number);
    }
    bench.wait_for_commands(1..4).await;
    // Only now: what the vehicle says to a gateway that has just gone is lost.
    bench.offer(Kind::Telemetry, 0);
    bench.wait_for("telemetry", |bench| bench.arrived.contains_key(&(Kind::Telemetry, 0))).await;
    bench.assert_in_order();
    vehicle.stop().await;
    second.stop().await;
}

/// A gateway's ports that stay while the gateway behind them is replaced.
struct Switch {
    reach: Reach,
    to: watch::Sender<Reach>,
    _work: JoinSet<()>,
}

impl Switch {
    async fn start(first: Reach) -> Self {
        let (to, target) = watch::channel(first);
        let mut work = JoinSet::new();
        let mut reach = Reach::default();
        let tcp: [fn(&mut Reach) -> &mut u16; 2] = [|reach| &mut reach.tcp, |reach| &mut reach.second];
        for port in tcp {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            *port(&mut reach) = listener.local_addr().unwrap().port();
            let target = target.clone();
            work.spawn(relay_tcp(listener, move || local(*port(&mut target.borrow().clone()))));
        }
        let udp: [fn(&mut Reach) -> &mut u16; 2] = [|reach| &mut reach.udp, |reach| &mut reach.second];
        for port in udp {
            // The second port is one of TCP and of UDP.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, *port(&mut reach))).await.unwrap();
            *port(&mut reach) = socket.local_addr().unwrap().port();
            let target = target.clone();
            work.spawn(relay_udp(socket, move || local(*port(&mut target.borrow().clone()))));
        }
        Self { reach, to, _work: work }
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn relay_tcp(listener: TcpListener, target: impl Fn() -> SocketAddr) {
    let mut pairs = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let target = target();
        pairs.spawn(async move {
            // Whoever fails takes the other with it.
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            let _ended = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

async fn relay_udp(near: UdpSocket, target: impl Fn() -> SocketAddr) {
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut vehicle = None;
    loop {
        // What cannot be sent is lost.
        let _sent = tokio::select! {
            Ok((length, from)) = near.recv_from(&mut up) => {
                vehicle = Some(from);
                far.send_to(&up[..length], target()).await
            }
            Ok((length, _)) = far.recv_from(&mut down) => match vehicle {
                Some(vehicle) => near.send_to(&down[..length], vehicle).await,
                None => Ok(0),
            },
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_by_our_quic() {
    everything_arrives("quic-cubic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_by_our_websocket() {
    everything_arrives("websocket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_gateway_is_found_by_our_quic() {
    a_replaced_gateway_is_found("quic-cubic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_gateway_is_found_by_our_websocket() {
    a_replaced_gateway_is_found("websocket").await;
}

/// A module for each peer.
macro_rules! subjects {
    ($($(#[$has:meta])* $module:ident: $name:literal,)*) => {
        /// Those that are tested so.
        const TESTED: &[&str] = &[$($(#[$has])* $name),*];
        $($(#[$has])* mod $module {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn everything_arrives() {
                super::everything_arrives($name).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_replaced_gateway_is_found() {
                super::a_replaced_gateway_is_found($name).await;
            }
        })*
    };
}

subjects! {
    ws_plain: "ws-plain",
    ws_best: "ws-best",
    tcp: "tcp",
    tcp_best: "tcp-best",
    tcp_two_bbr: "tcp-two-bbr",
    tcp_two_cubic: "tcp-two-cubic",
    sse_post: "sse-post",
    quinn_cubic: "quinn-cubic",
    quinn_bbr: "quinn-bbr",
    quinn_best_cubic: "quinn-best-cubic",
    quinn_best_bbr: "quinn-best-bbr",
    udp: "udp",
    abl_tcp_cubic_one: "abl-tcp-cubic-one",
    abl_tcp_cubic_split: "abl-tcp-cubic-split",
    abl_tcp_bbr_one: "abl-tcp-bbr-one",
    abl_tcp_bbr_split: "abl-tcp-bbr-split",
    abl_quic_stream_cubic_one: "abl-quic-stream-cubic-one",
    abl_quic_stream_cubic_split: "abl-quic-stream-cubic-split",
    abl_quic_stream_bbr_one: "abl-quic-stream-bbr-one",
    abl_quic_stream_bbr_split: "abl-quic-stream-bbr-split",
    abl_quic_datagram_cubic_one: "abl-quic-datagram-cubic-one",
    abl_quic_datagram_cubic_split: "abl-quic-datagram-cubic-split",
    abl_quic_datagram_bbr_one: "abl-quic-datagram-bbr-one",
    abl_quic_datagram_bbr_split: "abl-quic-datagram-bbr-split",
    #[cfg(feature = "peer-grpc")] grpc: "grpc",
    #[cfg(feature = "peer-grpc")] grpc_best: "grpc-best",
    #[cfg(feature = "peer-moq")] moq_cubic: "moq-cubic",
    #[cfg(feature = "peer-moq")] moq_bbr: "moq-bbr",
    #[cfg(feature = "peer-mqtt")] mqtt_qos0: "mqtt-qos0",
    #[cfg(feature = "peer-mqtt")] mqtt_qos1: "mqtt-qos1",
    #[cfg(feature = "peer-mqtt-quic")] mqtt_quic: "mqtt-quic",
    #[cfg(feature = "peer-webrtc")] webrtc: "webrtc",
    #[cfg(feature = "peer-zenoh")] zenoh_tcp: "zenoh-tcp",
    #[cfg(feature = "peer-zenoh")] zenoh_quic: "zenoh-quic",
    #[cfg(feature = "peer-zenoh")] zenoh_quic_mixed: "zenoh-quic-mixed",
}

/// While nothing goes up, telemetry and answers pile up in the library; what comes after commands is known to be there.
#[cfg(feature = "peer-moq")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_waits_moq_brings_the_newest_state_and_every_answer() {
    let mut bench = Bench::new("moq-cubic");
    let mut gateway = bench.serve();
    let switch = Switch::start(gateway.ready().await).await;
    let mut vehicle = bench.drive(switch.reach);
    vehicle.ready().await;
    bench.offer(Kind::Telemetry, 0);
    bench.wait_for("telemetry", |bench| bench.arrived.contains_key(&(Kind::Telemetry, 0))).await;
    let reach = switch.to.send_replace(Reach::default());
    for number in 0..20 {
        bench.offer(Kind::Telemetry, number + 1);
        bench.offer(Kind::Command, number);
        bench.wait_for("a command", |bench| bench.arrived.contains_key(&(Kind::Command, number))).await;
    }
    switch.to.send_replace(reach);
    bench.wait_for_commands(0..20).await;
    bench.wait_for("telemetry", |bench| bench.arrived.contains_key(&(Kind::Telemetry, 20))).await;
    // Of the one before, whoever opens the way may be ahead of the newest.
    let pieces = bench.pieces(Kind::Telemetry);
    assert!((2..=3).contains(&pieces), "{pieces} of 21 states arrived");
    bench.assert_in_order();
    vehicle.stop().await;
    gateway.stop().await;
}

/// Two groups and a beginning, each of many times what may be unconfirmed.
#[cfg(feature = "peer-moq")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_moq_go_on_from_confirmation_to_confirmation_and_group_to_group() {
    let mut bench = Bench::new("moq-cubic");
    let mut gateway = bench.serve();
    let reach = gateway.ready().await;
    let mut vehicle = bench.drive(reach);
    vehicle.ready().await;
    bench.transfer(true);
    let files = |bench: &Bench| [Kind::Log, Kind::Map].iter().all(|kind| bench.pieces(*kind) >= 600);
    bench.wait_for("files", files).await;
    bench.transfer(false);
    for kind in [Kind::Log, Kind::Map] {
        let heard: Vec<_> =
            bench.arrived.keys().filter(|(of, _)| *of == kind).map(|(_, number)| *number).collect();
        assert!(
            heard.iter().copied().eq(0..heard.len() as u32),
            "{kind:?}: a piece is missing of {}",
            heard.len()
        );
    }
    vehicle.stop().await;
    gateway.stop().await;
}

#[test]
fn every_peer_of_this_file_is_a_subject_and_says_what_it_is() {
    let known: BTreeSet<_> = names().collect();
    for name in TESTED {
        assert!(known.contains(name), "{name}");
        let facts = named(name).unwrap().facts();
        assert!(!facts.title.is_empty() && !facts.setup.is_empty(), "{name}: {facts:?}");
        assert!(!facts.version.contains("unknown"), "{name}: {facts:?}");
    }
}

#[test]
fn a_subject_that_another_build_has_is_known_by_name() {
    for (name, feature) in FEATURES {
        let is_here = names().any(|known| known == *name);
        assert!(is_here == named(name).is_ok() && absence(name).contains(feature), "{name}");
    }
    let why = named("pigeon").err().expect("there is none").to_string();
    assert!(why.contains("pigeon") && why.contains("quic-cubic"), "{why}");
}
