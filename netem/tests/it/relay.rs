//! The relay between real sockets on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use carriageway_netem::core::{Cause, Draws, Loss, Probability};
use carriageway_netem::profile::{Profile, Scenario, Tweak, units};
use carriageway_netem::relay::{Config, Rebinding, Relay, Sharing, Stats};

use crate::wait::{Stopwatch, until};

/// Longer than anything here takes, short enough to fail in.
const PATIENCE: Duration = Duration::from_secs(10);

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn udp_socket() -> UdpSocket {
    let socket = UdpSocket::bind(local()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn delayed(millis: u64) -> Profile {
    let tweak = Tweak { delay: Some(Duration::from_millis(millis)), ..Tweak::default() };
    Profile::perfect("test").tweaked(&tweak)
}

/// A relay, a server behind it and a client that talks to the relay.
struct UdpWorld {
    relay: Relay,
    server: UdpSocket,
    client: UdpSocket,
}

fn udp_world(profile: Profile) -> UdpWorld {
    let server = udp_socket();
    let relay =
        Relay::start(Config::new(profile).seed(7).udp(local(), server.local_addr().unwrap())).unwrap();
    let client = udp_socket();
    client.connect(relay.udp_addresses()[0]).unwrap();
    UdpWorld { relay, server, client }
}

impl UdpWorld {
    /// Sends one datagram and gives the address that the server sees.
    fn greet(&self) -> SocketAddr {
        self.client.send(b"hello").unwrap();
        let (length, from) = self.server.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(length, 5);
        from
    }

    fn wait_for(&self, condition: impl Fn(&Stats) -> bool) -> Stats {
        until(PATIENCE, || self.relay.stats().ok().filter(&condition))
    }
}

#[test]
fn a_datagram_takes_the_delay_both_ways() {
    let world = udp_world(delayed(20));
    let watch = Stopwatch::start();
    let from = world.greet();
    world.server.send_to(b"welcome", from).unwrap();
    let length = world.client.recv(&mut [0; 64]).unwrap();
    assert_eq!(length, 7);
    assert!(watch.elapsed() >= Duration::from_millis(40), "{:?}", watch.elapsed());
    let stats = world.relay.stats().unwrap();
    assert_eq!((stats.up.delivered, stats.down.delivered, stats.udp_flows), (1, 1, 1));
}

#[test]
fn blocked_udp_is_counted_and_comes_back() {
    let world = udp_world(delayed(1));
    world.relay.block_udp(true).unwrap();
    world.client.send(b"lost").unwrap();
    let stats = world.wait_for(|stats| stats.up.dropped_by(Cause::Blocked) == 1);
    assert!(stats.udp_blocked);
    world.relay.block_udp(false).unwrap();
    world.greet();
}

#[test]
fn an_outage_swallows_what_leaves_during_it() {
    let world = udp_world(delayed(1));
    world.relay.outage(Duration::from_mins(1)).unwrap();
    world.client.send(b"lost").unwrap();
    world.wait_for(|stats| stats.up.dropped_by(Cause::Outage) == 1);
    world.relay.outage(Duration::ZERO).unwrap();
    world.greet();
}

#[test]
fn a_held_link_delivers_afterwards() {
    let world = udp_world(delayed(1));
    world.relay.hold(Duration::from_mins(1)).unwrap();
    world.client.send(b"12345").unwrap();
    world.wait_for(|stats| stats.queued_up > 0);
    world.relay.hold(Duration::ZERO).unwrap();
    assert_eq!(world.server.recv(&mut [0; 64]).unwrap(), 5);
}

#[test]
fn by_index_a_seed_loses_the_same_datagrams() {
    let arrivals = || {
        let mut profile = delayed(1);
        profile.up.loss = Loss::Bernoulli(Probability::new(0.3).unwrap());
        profile.up.draws = Draws::ByIndex;
        let world = udp_world(profile);
        (0..200_u8).for_each(|number| assert_eq!(world.client.send(&[number]).unwrap(), 1));
        let stats = world.wait_for(|stats| stats.up.delivered + stats.up.dropped() == 200);
        let mut byte = [0];
        (0..stats.up.delivered)
            .map(|_| {
                world.server.recv(&mut byte).unwrap();
                byte[0]
            })
            .collect::<Vec<_>>()
    };
    let first = arrivals();
    assert!((100..180).contains(&first.len()), "{}", first.len());
    assert_eq!(first, arrivals());
}

#[test]
fn a_rebound_nat_shows_another_port() {
    let world = udp_world(delayed(1));
    let before = world.greet();
    world.relay.rebind_nat(Rebinding::Silent).unwrap();
    let after = world.greet();
    assert_ne!(before, after);
    world.server.send_to(b"to the old port", before).unwrap();
    world.server.send_to(b"new", after).unwrap();
    assert_eq!(world.client.recv(&mut [0; 64]).unwrap(), 3);
}

#[test]
fn flows_are_bounded() {
    let server = udp_socket();
    let mut config = Config::new(delayed(1)).udp(local(), server.local_addr().unwrap());
    config.most_flows = 2;
    let relay = Relay::start(config).unwrap();
    for _ in 0..3 {
        udp_socket().send_to(b"x", relay.udp_addresses()[0]).unwrap();
    }
    let stats = until(PATIENCE, || relay.stats().ok().filter(|stats| stats.refused_flows == 1));
    assert_eq!(stats.udp_flows, 2);
}

#[test]
fn a_flow_of_its_own_has_a_queue_of_its_own() {
    let server = udp_socket();
    let mut profile = delayed(1);
    profile.up.capacity = carriageway_netem::core::Capacity::Rate(units::rate("80 kbit/s").unwrap());
    let config = Config::new(profile).udp(local(), server.local_addr().unwrap()).sharing(Sharing::PerFlow);
    let relay = Relay::start(config).unwrap();
    let (busy, other) = (udp_socket(), udp_socket());
    for _ in 0..10 {
        busy.send_to(&[0; 972], relay.udp_addresses()[0]).unwrap();
    }
    let watch = Stopwatch::start();
    other.send_to(b"me first", relay.udp_addresses()[0]).unwrap();
    while server.recv(&mut [0; 2048]).unwrap() != 8 {}
    assert!(
        watch.elapsed() < Duration::from_millis(900),
        "the busy flow needs a second: {:?}",
        watch.elapsed()
    );
}

/// A relay with a TCP server behind it, and both ends of one connection through it.
struct TcpWorld {
    relay: Relay,
    client: TcpStream,
    server: TcpStream,
}

fn tcp_world(profile: Profile) -> TcpWorld {
    let listener = TcpListener::bind(local()).unwrap();
    let relay =
        Relay::start(Config::new(profile).seed(7).tcp(local(), listener.local_addr().unwrap())).unwrap();
    let client = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    TcpWorld { relay, client, server }
}

/// Bytes in which a swap or a gap shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

/// Sends `bytes` from one end, checks that they arrive whole at the other, and gives the time it took.
fn transfer(from: &TcpStream, to: &TcpStream, bytes: &[u8]) -> Duration {
    let watch = Stopwatch::start();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| (&*from).write_all(bytes).unwrap());
        let mut received = vec![0; bytes.len()];
        (&*to).read_exact(&mut received).unwrap();
        received
    });
    assert!(received == bytes, "the bytes are not the same");
    watch.elapsed()
}

#[test]
fn tcp_arrives_whole_both_ways_and_pays_the_round_trip() {
    let world = tcp_world(delayed(20));
    let bytes = pattern(100_000);
    assert!(transfer(&world.client, &world.server, &bytes) >= Duration::from_millis(20));
    assert!(transfer(&world.server, &world.client, &bytes) >= Duration::from_millis(20));
}

#[test]
fn tcp_survives_loss_in_order() {
    let mut profile = delayed(2);
    profile.up.loss = Loss::Bernoulli(Probability::new(0.03).unwrap());
    profile.up.draws = Draws::ByIndex;
    let world = tcp_world(profile);
    transfer(&world.client, &world.server, &pattern(400_000));
    let stats = world.relay.stats().unwrap();
    assert!(stats.resent_segments > 0 && stats.resent_segments == stats.up.dropped_by(Cause::Loss));
}

#[test]
fn tcp_keeps_to_the_rate_and_does_not_overflow_the_queue() {
    let tweak =
        Tweak { rate: units::rate("8 Mbit/s").ok(), queue: units::limit("16 KiB").ok(), ..Tweak::default() };
    let world = tcp_world(delayed(5).tweaked(&tweak));
    let took = transfer(&world.client, &world.server, &pattern(500_000));
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took <= Duration::from_millis(1500), "{took:?}");
    assert_eq!(world.relay.stats().unwrap().up.dropped_by(Cause::QueueFull), 0);
}

#[test]
fn an_end_passes_like_the_bytes_before_it() {
    let mut world = tcp_world(delayed(2));
    world.client.write_all(b"question").unwrap();
    world.client.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    world.server.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    world.server.write_all(b"answer").unwrap();
    drop(world.server);
    let mut answer = String::new();
    world.client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    until(PATIENCE, || world.relay.stats().ok().filter(|stats| stats.tcp_flows == 0));
}

#[test]
fn a_rebound_nat_resets_tcp() {
    let mut world = tcp_world(delayed(2));
    transfer(&world.client, &world.server, b"alive");
    world.relay.rebind_nat(Rebinding::Reset).unwrap();
    let error = world.client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_silently_rebound_nat_swallows_tcp() {
    let world = tcp_world(delayed(5));
    transfer(&world.client, &world.server, b"before");
    world.relay.rebind_nat(Rebinding::Silent).unwrap();
    assert_eq!(world.relay.stats().unwrap().tcp_flows, 0);
    for (from, to) in [(&world.client, &world.server), (&world.server, &world.client)] {
        let (mut from, mut to) = (from, to);
        from.write_all(b"after").unwrap();
        // Longer than a delay and a round trip: neither bytes, nor an end, nor a reset.
        to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let error = to.read(&mut [0; 8]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
}

#[test]
fn a_refused_upstream_resets_the_client() {
    let nobody = TcpListener::bind(local()).unwrap().local_addr().unwrap();
    let relay = Relay::start(Config::new(delayed(2)).tcp(local(), nobody)).unwrap();
    let mut client = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(client.read(&mut [0; 8]).is_err());
}

#[test]
fn connections_take_turns() {
    let listener = TcpListener::bind(local()).unwrap();
    let tweak =
        Tweak { rate: units::rate("20 Mbit/s").ok(), queue: units::limit("16 KiB").ok(), ..Tweak::default() };
    let config = Config::new(delayed(1).tweaked(&tweak)).tcp(local(), listener.local_addr().unwrap());
    let relay = Relay::start(config).unwrap();
    let bytes = pattern(250_000);
    let ends: Vec<_> = (0..2)
        .map(|_| {
            let client = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .collect();
    let took: Vec<_> = std::thread::scope(|scope| {
        let transfers: Vec<_> =
            ends.iter().map(|(client, server)| scope.spawn(|| transfer(client, server, &bytes))).collect();
        transfers.into_iter().map(|transfer| transfer.join().unwrap()).collect()
    });
    let (first, second) = (took[0].min(took[1]), took[0].max(took[1]));
    assert!(first * 4 > second * 3, "one waited for the other: {took:?}");
}

#[test]
fn a_stopped_relay_leaves_its_port() {
    let world = udp_world(delayed(1));
    let address = world.relay.udp_addresses()[0];
    world.relay.stop().unwrap();
    UdpSocket::bind(address).unwrap();
}

#[test]
fn a_scenario_happens_to_a_relay() {
    let text =
        "summary = 'x'\n[[event]]\nat = '0s'\ndo = 'udp-block'\n[[event]]\nat = '300ms'\ndo = 'udp-pass'\n";
    let scenario = Scenario::parse("test.toml", text, std::path::Path::new("")).unwrap();
    let server = udp_socket();
    let relay = Relay::start(Config::scenario(scenario).udp(local(), server.local_addr().unwrap())).unwrap();
    server.set_nonblocking(true).unwrap();
    let (client, watch) = (udp_socket(), Stopwatch::start());
    until(PATIENCE, || {
        client.send_to(b"x", relay.udp_addresses()[0]).unwrap();
        server.recv(&mut [0; 8]).ok()
    });
    assert!(watch.elapsed() > Duration::from_millis(200), "{:?}", watch.elapsed());
    let handover = Scenario::find("handover-lte-wifi").unwrap();
    let refused = Relay::start(Config { events: handover.events, ..Config::new(delayed(1)) }).err().unwrap();
    assert!(refused.to_string().contains("`carrier-off` cannot happen"), "{refused}");
}

#[test]
fn orders_by_word_do_the_same() {
    let world = udp_world(delayed(1));
    assert_eq!(world.relay.answer("udp drop"), "ok");
    assert!(world.relay.answer("status").contains(r#""udp_blocked":true"#));
    assert_eq!(world.relay.answer("profile tunnel"), "ok");
    assert!(world.relay.answer("status").contains(r#""udp_blocked":false"#));
    assert!(world.relay.answer("profile tunel").starts_with("error: tunel: no such profile"));
    assert!(world.relay.answer("dance").starts_with("error: `dance` is no order"));
}
