//! QUIC connections over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::frame::Goodbye;
use carriageway_proto::framing::prefix;
use carriageway_proto::{Class, CloseCode, Frame, MAX_DATAGRAM, MAX_FRAME, Moment, PolicyTable};
use carriageway_transport::Connection;
use carriageway_transport::arrival::Arrival;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::{Channel, Ended};
use carriageway_transport::identity::Identity;
use carriageway_transport::quic::{
    Config, Congestion, DialError, Limits, ListenError, QuicListener, Secret, Target, dial,
};
use carriageway_transport::tls::{self, Credentials};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;

use crate::conformance::rig::Making;
use crate::support::{Ca, Held, PATIENCE, uri, without_certificate};

struct World {
    ca: Ca,
    listener: QuicListener,
    address: SocketAddr,
}

impl World {
    fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        let ca = Ca::new("ca");
        let listener = Self::bind(address, &ca).unwrap();
        let address = listener.addresses()[0];
        Self { ca, listener, address }
    }

    fn limited(limits: Limits) -> Self {
        let ca = Ca::new("ca");
        let listener = Self::bind_limited("127.0.0.1:0".parse().unwrap(), &ca, limits).unwrap();
        let address = listener.addresses()[0];
        Self { ca, listener, address }
    }

    fn bind(address: SocketAddr, ca: &Ca) -> Result<QuicListener, ListenError> {
        Self::bind_limited(address, ca, Limits::VEHICLE)
    }

    fn bind_limited(address: SocketAddr, ca: &Ca, limits: Limits) -> Result<QuicListener, ListenError> {
        let config = Config {
            addresses: vec![address],
            tls: tls::quic_server(&ca.authority(), ca.gateway()).unwrap(),
            secret: Secret::new([5; 32]),
            limits,
            congestion: Congestion::Cubic,
            policies: PolicyTable::defaults(),
        };
        QuicListener::bind(config, clock())
    }

    fn target(&self, own: Credentials) -> Target {
        Target {
            remote: self.address,
            server_name: "localhost".into(),
            bind: None,
            tls: Arc::new(tls::quic_client(&self.ca.authority(), own).unwrap()),
            limits: Limits::VEHICLE,
            congestion: Congestion::NewReno,
            policies: PolicyTable::defaults(),
        }
    }

    async fn arrival(&mut self) -> Arrival {
        timeout(PATIENCE, self.listener.accept()).await.expect("an arrival").expect("a listener")
    }

    /// A vehicle and the gateway's side of its connection.
    async fn pair(&mut self) -> (Held, Held) {
        let target = self.target(self.ca.vehicle("truck-7"));
        let (vehicle, arrival) = tokio::join!(dial(&target, clock()), self.arrival());
        let mut vehicle = Held::new(Box::new(vehicle.unwrap()) as Box<dyn Connection>);
        assert_eq!(arrival.identity, Identity::Vehicle("truck-7".parse().unwrap()));
        let mut gateway = Held::new(arrival.connection);
        vehicle.send(Channel::Lane(Class::Session), hello()).await;
        vehicle.until("room on every channel", |held| held.rooms.len() >= 9).await;
        assert_eq!(gateway.frame().await, (Channel::Lane(Class::Session), hello()));
        (vehicle, gateway)
    }

    /// Any QUIC client with a vehicle's certificate, which need not keep to our protocol.
    async fn stranger(&mut self) -> (quinn::Connection, Held) {
        let tls = tls::quic_client(&self.ca.authority(), self.ca.vehicle("stranger")).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(config, self.address, "localhost").unwrap();
        let (stranger, arrival) = tokio::join!(connecting, self.arrival());
        (stranger.unwrap(), Held::new(arrival.connection))
    }
}

fn clock() -> BootClock {
    BootClock::system().unwrap()
}

/// What a session sends first. Here any frame will do that is not an `Open`.
fn hello() -> Bytes {
    Frame::Ack(carriageway_proto::frame::Ack { received: Vec::new(), bulk_arrival: None })
        .encode(Moment::from_micros(1))
}

fn numbered(number: u32, size: usize) -> Bytes {
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(size, 7);
    frame.into()
}

#[tokio::test]
async fn every_lane_keeps_its_order_both_ways() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    for number in 0..50 {
        for class in Class::ALL {
            let frame = numbered(number, 40 + 17 * number as usize);
            let (here, there) = tokio::join!(
                vehicle.send(Channel::Lane(class), frame.clone()),
                gateway.send(Channel::Lane(class), frame),
            );
            let ((), ()) = (here, there);
        }
    }
    let all = |held: &Held| held.frames.len() == 400 && held.room.len() == 9;
    tokio::join!(vehicle.until("all frames", all), gateway.until("all frames", all));
    for held in [&vehicle, &gateway] {
        for class in Class::ALL {
            let lane: Vec<_> =
                held.frames.iter().filter(|(channel, _)| *channel == Channel::Lane(class)).collect();
            for (number, (_, frame)) in (0..).zip(&lane) {
                assert_eq!(*frame, numbered(number, 40 + 17 * number as usize));
            }
            assert_eq!(lane.len(), 50, "{class}");
        }
    }
}

#[tokio::test]
async fn room_comes_once_per_frame_and_stops_when_the_peer_does_not_read() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    let bulk = Channel::Lane(Class::Bulk);
    let mut taken = 0;
    // Nobody reads at the gateway: the stream's window is all there is.
    while timeout(Duration::from_millis(300), vehicle.send(bulk, numbered(taken, 8 * 1024))).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "a lane takes frames without end");
    }
    assert!((7..=9).contains(&taken), "64 KiB were to be taken, not {taken} frames of 8 KiB");
    // Another lane is not held up by it.
    vehicle.send(Channel::Lane(Class::Body), numbered(1, 20)).await;
    vehicle.until("room again", |held| held.room.contains(&Channel::Lane(Class::Body))).await;
    let sent = taken;
    let ((), ()) = tokio::join!(
        vehicle.until("room for bulk", |held| held.room.contains(&bulk)),
        gateway.until("the frames", |held| held.frames.len() > sent as usize)
    );
}

#[tokio::test]
async fn the_largest_frame_passes_on_every_lane() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    for class in Class::ALL {
        let ((), frame) = tokio::join!(
            async {
                vehicle.send(Channel::Lane(class), numbered(1, MAX_FRAME)).await;
                vehicle.until("room", |held| held.room.contains(&Channel::Lane(class))).await;
            },
            gateway.frame()
        );
        assert_eq!(frame, (Channel::Lane(class), numbered(1, MAX_FRAME)));
    }
}

#[tokio::test]
async fn datagrams_go_both_ways_and_wait_one_at_a_time() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    for number in 0..200 {
        vehicle.send(Channel::Datagram, numbered(number, MAX_DATAGRAM)).await;
        gateway.send(Channel::Datagram, numbered(number, 30)).await;
    }
    let last = |held: &Held| held.frames.iter().any(|(_, frame)| frame[..4] == [0, 0, 0, 199]);
    tokio::join!(vehicle.until("the last one", last), gateway.until("the last one", last));
    for held in [&vehicle, &gateway] {
        // What was not read in time gave way to the newer: 64 KiB are kept.
        assert!(held.frames.len() >= 50, "loopback loses little: {}", held.frames.len());
        assert!(held.frames.iter().is_sorted_by_key(|(_, frame)| frame[..4].to_vec()));
    }
}

#[tokio::test]
async fn a_connection_at_rest_is_left_alone() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    vehicle.send(Channel::Datagram, numbered(1, 30)).await;
    gateway.frame().await;
    vehicle.until("room", |held| held.room.len() == 9).await;
    gateway.until("room", |held| held.room.len() == 9).await;
    assert!(vehicle.polls_at_rest().await < 20);
    assert!(gateway.polls_at_rest().await < 20);
}

#[tokio::test]
async fn goodbye_gets_out_before_the_close_and_the_code_arrives() {
    let mut world = World::new();
    for code in [CloseCode::GoingAway, CloseCode::TakenOver, CloseCode::Other(4_321)] {
        let (mut vehicle, mut gateway) = world.pair().await;
        let goodbye = Frame::Goodbye(Goodbye { code, reason: "so long".into(), retry_after_ms: 7 });
        let goodbye = goodbye.encode(Moment::from_micros(2));
        gateway.send(Channel::Lane(Class::Session), goodbye.clone()).await;
        let (ours, theirs) = tokio::join!(gateway.close(code, "so long"), vehicle.end());
        assert_eq!(ours, Ended::ByUs);
        assert_eq!(theirs, Ended::ByPeer { code, reason: "so long".into() });
        assert_eq!(vehicle.frames, [(Channel::Lane(Class::Session), goodbye)]);
    }
}

#[tokio::test]
async fn the_vehicle_closes_too_and_every_frame_arrives_before_the_end() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    for number in 0..20 {
        vehicle.send(Channel::Lane(Class::Diagnostics), numbered(number, 1_000)).await;
    }
    assert_eq!(vehicle.close(CloseCode::Normal, "parked").await, Ended::ByUs);
    let by_peer = Ended::ByPeer { code: CloseCode::Normal, reason: "parked".into() };
    assert_eq!(gateway.end().await, by_peer);
    assert_eq!(gateway.frames.len(), 20);
}

#[tokio::test]
async fn a_close_that_cannot_deliver_ends_within_its_second() {
    let mut world = World::new();
    let (mut vehicle, gateway) = world.pair().await;
    for number in 0..9 {
        let full = timeout(
            Duration::from_millis(200),
            vehicle.send(Channel::Lane(Class::Bulk), numbered(number, 8_192)),
        );
        if full.await.is_err() {
            break;
        }
    }
    let ended = timeout(Duration::from_secs(2), vehicle.close(CloseCode::Normal, "")).await;
    assert_eq!(ended, Ok(Ended::ByUs));
    drop(gateway);
}

#[tokio::test]
async fn a_dropped_connection_is_noticed() {
    let mut world = World::new();
    let (vehicle, mut gateway) = world.pair().await;
    drop(vehicle);
    assert!(matches!(gateway.end().await, Ended::Failed(why) if why.contains("dropped")));
}

/// The gateway runs in a runtime of its own, which ends as a killed process does: without a word.
#[test]
fn a_restarted_gateway_is_noticed_at_once() {
    let vehicles =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first_life =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut world = {
        let _entered = first_life.enter();
        World::new()
    };
    let target = world.target(world.ca.vehicle("truck-7"));
    let dialed = vehicles.spawn(async move { dial(&target, clock()).await });
    let arrival = first_life.block_on(world.arrival());
    let vehicle = vehicles.block_on(dialed).unwrap().unwrap();
    let mut vehicle = Held::new(Box::new(vehicle) as Box<dyn Connection>);
    first_life.shutdown_timeout(PATIENCE);
    let World { ca, listener, address } = world;
    drop((listener, arrival));

    vehicles.block_on(async {
        let mut second_life = None;
        for _ in 0..500 {
            if let Ok(world) = World::bind(address, &ca) {
                second_life = Some(world);
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _second_life = second_life.expect("the port is free again");
        let ended = timeout(Duration::from_secs(2), async {
            vehicle.send(Channel::Lane(Class::Session), hello()).await;
            vehicle.end().await
        });
        let ended = ended.await.expect("noticed well before the idle timeout");
        assert!(matches!(&ended, Ended::Failed(why) if why.contains("restarted")), "{ended:?}");
    });
}

#[tokio::test]
async fn broken_framing_closes_only_that_connection() {
    let mut world = World::new();
    let (mut vehicle, mut gateway) = world.pair().await;
    let too_long = [&[0x81, 0x80, 0x04][..], &[0; 10]].concat();
    let open_body = Frame::Open(Class::Body).encode(Moment::ZERO);
    let twice = [&prefix(open_body.len())[..], &open_body].concat();
    let unknown = b"\x06\x2a\x04\x08\x63\x10\x01".to_vec();
    for (what, streams) in [
        ("oversize", vec![too_long]),
        ("garbage", vec![b"\x05hello".to_vec()]),
        ("an empty frame", vec![vec![0]]),
        ("an unknown class", vec![unknown]),
        ("a class opened twice", vec![twice.clone(), twice]),
    ] {
        let (stranger, mut theirs) = world.stranger().await;
        let mut open = Vec::new();
        for bytes in streams {
            let mut stream = stranger.open_bi().await.unwrap();
            stream.0.write_all(&bytes).await.unwrap();
            open.push(stream);
        }
        let ended = theirs.end().await;
        assert!(
            matches!(&ended, Ended::Failed(why) if why.contains("broke the protocol")),
            "{what}: {ended:?}"
        );
        let error = timeout(PATIENCE, stranger.closed()).await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = error else { panic!("{what}: {error}") };
        assert_eq!(close.error_code.into_inner(), u64::from(CloseCode::ProtocolViolation.number()), "{what}");
    }
    vehicle.send(Channel::Lane(Class::Body), numbered(1, 9)).await;
    let (_, ()) = tokio::join!(gateway.frame(), vehicle.until("room", |held| held.room.len() == 9));
}

#[tokio::test]
async fn streams_that_are_no_lanes_are_refused() {
    let mut world = World::new();
    let (stranger, mut theirs) = world.stranger().await;
    let mut uni = stranger.open_uni().await.unwrap();
    uni.write_all(b"x").await.unwrap();
    assert!(matches!(theirs.end().await, Ended::Failed(_)));

    let (stranger, mut theirs) = world.stranger().await;
    let (mut send, _receive) = stranger.open_bi().await.unwrap();
    send.write_all(&[&[9][..], b"half"].concat()).await.unwrap();
    send.finish().unwrap();
    assert!(matches!(theirs.end().await, Ended::Failed(why) if why.contains("middle")));
}

#[tokio::test]
async fn oversized_datagrams_are_dropped_alone() {
    let mut world = World::new();
    let (stranger, mut theirs) = world.stranger().await;
    stranger.send_datagram(vec![0; MAX_DATAGRAM + 1].into()).unwrap();
    stranger.send_datagram(b"small"[..].into()).unwrap();
    assert_eq!(theirs.frame().await, (Channel::Datagram, Bytes::from_static(b"small")));
    assert_eq!(theirs.connection.measured().oversized_received, 1, "counted");
}

/// What a vehicle with these credentials hears, and whether it arrived.
async fn refusal(world: &mut World, own: Credentials) -> String {
    let target = world.target(own);
    let vehicle = async {
        match dial(&target, clock()).await {
            Ok(connection) => Held::new(Box::new(connection) as Box<dyn Connection>).end().await.to_string(),
            Err(DialError::Refused(why)) => why,
            Err(other) => panic!("{other}"),
        }
    };
    tokio::select! {
        arrival = world.listener.accept() => panic!("{:?} was let in", arrival.map(|a| a.identity)),
        why = vehicle => why,
    }
}

#[tokio::test]
async fn wrong_certificates_are_refused_with_a_reason() {
    let mut world = World::new();
    let other = Ca::new("other").vehicle("truck-7");
    let why = refusal(&mut world, other).await;
    assert!(why.contains("certificate"), "{why}");

    let two = vec![uri("urn:carriageway:vehicle:a"), uri("urn:carriageway:vehicle:b")];
    let two = world.ca.issue(two);
    let why = refusal(&mut world, two).await;
    assert!(why.contains("unauthorized (4501)") && why.contains("2 subject alternative names"), "{why}");

    let common_name = world.ca.issue(vec![]);
    let why = refusal(&mut world, common_name).await;
    assert!(why.contains("no subject alternative name"), "{why}");

    let counts = world.listener.counters().read();
    assert!(counts.contains(&("unauthorized", 2)) && counts.contains(&("failed", 1)), "{counts:?}");
    world.pair().await;
}

#[tokio::test]
async fn no_certificate_is_refused_with_a_reason() {
    let mut world = World::new();
    let mut target = world.target(world.ca.vehicle("unused"));
    target.tls = Arc::new(without_certificate(&world.ca, carriageway_proto::ALPN));
    let vehicle = async {
        match dial(&target, clock()).await {
            Ok(connection) => Held::new(Box::new(connection) as Box<dyn Connection>).end().await.to_string(),
            Err(error) => error.to_string(),
        }
    };
    let why = tokio::select! {
        _ = world.listener.accept() => panic!("a vehicle without a certificate was let in"),
        why = vehicle => why,
    };
    assert!(why.contains("a client certificate is required"), "{why}");
}

#[tokio::test]
async fn a_gateway_with_another_authority_is_not_trusted() {
    let mut world = World::new();
    let mut target = world.target(world.ca.vehicle("truck-7"));
    target.tls = Arc::new(tls::quic_client(&Ca::new("other").authority(), world.ca.vehicle("a")).unwrap());
    let error = tokio::select! {
        _ = world.listener.accept() => panic!("arrived"),
        dialed = dial(&target, clock()) => dialed.err().expect("a refusal").to_string(),
    };
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_rebind_moves_the_connection_and_is_counted() {
    let mut world = World::new();
    let target = world.target(world.ca.vehicle("truck-7"));
    let (vehicle, arrival) = tokio::join!(dial(&target, clock()), world.arrival());
    let vehicle = vehicle.unwrap();
    let mut gateway = Held::new(arrival.connection);
    vehicle.rebind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut vehicle = Held::new(Box::new(vehicle) as Box<dyn Connection>);
    vehicle.send(Channel::Lane(Class::Session), hello()).await;
    vehicle.until("room", |held| held.room.len() == 9).await;
    gateway.frame().await;
    gateway.send(Channel::Lane(Class::Session), numbered(1, 8)).await;
    let (_, ()) = tokio::join!(
        vehicle.frame(),
        gateway.until("room", |held| held.room.contains(&Channel::Lane(Class::Session)))
    );
    let moved = async {
        while gateway.connection.measured().migrations == 0 {
            gateway.event().await;
        }
    };
    let pings = async {
        for number in 0..1_000 {
            vehicle.send(Channel::Lane(Class::Session), numbered(number, 8)).await;
        }
        vehicle.until("nothing more", |_| false).await;
    };
    tokio::select! { () = moved => {}, () = pings => {} }
    assert_eq!(gateway.connection.measured().migrations, 1);
    assert_ne!(gateway.connection.remote().unwrap(), arrival.remote);
}

#[tokio::test]
async fn a_crowd_must_prove_its_address_and_too_great_a_one_is_sent_away() {
    let mut world = World::limited(Limits { retry_above: 0, ..Limits::VEHICLE });
    world.pair().await;
    let counts = world.listener.counters().read();
    assert!(counts.contains(&("retried", 1)) && counts.contains(&("accepted", 1)), "{counts:?}");

    let mut world = World::limited(Limits { handshakes: 0, ..Limits::VEHICLE });
    let own = world.ca.vehicle("truck-7");
    let why = refusal(&mut world, own).await;
    assert!(why.contains("refused to accept"), "{why}");
}

/// Only the first packet of this client gets through: its handshake begins and never goes on.
#[tokio::test]
async fn a_stuck_handshake_holds_up_nobody_and_ends_at_its_deadline() {
    let mut world = World::limited(Limits { handshake: Duration::from_millis(300), ..Limits::VEHICLE });
    let relay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut stuck = world.target(world.ca.vehicle("stuck"));
    stuck.remote = relay.local_addr().unwrap();
    let gateway = world.address;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(dial(&stuck, clock()).await) });
    tasks.spawn(async move {
        let mut packet = [0; 1_500];
        let length = relay.recv(&mut packet).await.unwrap();
        relay.send_to(&packet[..length], gateway).await.unwrap();
        std::future::pending::<()>().await;
    });
    world.pair().await;
    let counters = world.listener.counters();
    let timed_out = async {
        while !counters.read().contains(&("timeout", 1)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        arrival = world.listener.accept() => panic!("{:?} arrived", arrival.map(|a| a.identity)),
        ended = timeout(PATIENCE, timed_out) => ended.unwrap(),
    }
}

#[tokio::test]
async fn who_moves_too_often_is_sent_away() {
    let mut world = World::new();
    let tls = tls::quic_client(&world.ca.authority(), world.ca.vehicle("restless")).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, world.address, "localhost").unwrap();
    let (restless, arrival) = tokio::join!(connecting, world.arrival());
    let restless = restless.unwrap();
    let mut gateway = Held::new(arrival.connection);
    let (mut send, _receive) = restless.open_bi().await.unwrap();
    let frame = [&prefix(hello().len())[..], &hello()].concat();
    for moves in 0..10 {
        send.write_all(&frame).await.unwrap();
        gateway.until("a frame or the end", |held| !held.frames.is_empty() || held.ended.is_some()).await;
        gateway.frames.clear();
        if gateway.ended.is_some() {
            break;
        }
        assert_eq!(gateway.connection.measured().migrations, moves);
        endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }
    assert_eq!(gateway.connection.measured().migrations, 5);
    assert!(matches!(gateway.ended, Some(Ended::Failed(why)) if why.contains("more than 4 times")));
}

#[tokio::test]
async fn a_busy_address_is_named() {
    let world = World::new();
    let error = World::bind(world.address, &world.ca).err().unwrap();
    assert!(error.to_string().contains(&world.address.to_string()), "{error}");
}

#[tokio::test]
async fn ipv6_has_an_endpoint_of_its_own() {
    let Ok(probe) = std::net::UdpSocket::bind("[::1]:0") else { return };
    drop(probe);
    let mut world = World::at("[::1]:0".parse().unwrap());
    let (vehicle, _gateway) = world.pair().await;
    assert!(vehicle.connection.remote().unwrap().is_ipv6());
}

#[tokio::test]
async fn measurements_come_from_below() {
    let mut world = World::new();
    let (vehicle, _gateway) = world.pair().await;
    let measured = vehicle.connection.measured();
    assert!(measured.rtt.unwrap() < Duration::from_secs(1));
    assert!(measured.sent_packets.unwrap() > 0 && measured.window.unwrap() > 0);
}

/// Connected pairs over QUIC, for the conformance suite: connecting end first.
pub(crate) fn pairs() -> impl Fn() -> Making + Send + Sync + 'static {
    let world = Arc::new(tokio::sync::Mutex::new(World::new()));
    move || {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let mut world = world.lock().await;
            let target = world.target(world.ca.vehicle("truck-7"));
            let (vehicle, arrival) = tokio::join!(dial(&target, clock()), world.arrival());
            (Box::new(vehicle.unwrap()) as Box<dyn Connection>, arrival.connection)
        })
    }
}
