//! Two ends and the network between them, in virtual time.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Folder;
use tempfile::TempDir;
use tokio::time::timeout;

use super::super::tests::lone_end;
use super::super::{Papers, VEHICLE};
use super::channels::Lane;
use super::meet::Own;
use super::peer::Side;
use super::*;
use crate::compare::workload::Message;

const GATEWAY: SocketAddr = at(1, 4_000);
/// The vehicle's own address, and what a NAT or another network makes of it.
const HOMES: [SocketAddr; 3] = [at(2, 5_000), at(3, 6_000), at(4, 7_000)];

/// One way.
const DELAY: Duration = Duration::from_millis(20);

const fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A datagram under way.
#[derive(Debug)]
struct Flying {
    arrives: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    /// The vehicle, and the gateway.
    peers: [Peer; 2],
    flying: VecDeque<Flying>,
    /// Where the vehicle's datagrams come from; what is sent elsewhere does not find it.
    home: SocketAddr,
    is_cut: bool,
    heard: [Vec<Vec<u8>>; 2],
    ready: [usize; 2],
    /// Why an end has given up.
    ended: [Option<String>; 2],
    identities: [Identity; 2],
}

impl World {
    fn new() -> Self {
        let identities = identities();
        let now = now();
        let peers = meet(&identities, &identities, [HOMES[0], GATEWAY], now);
        Self {
            now,
            peers,
            flying: VecDeque::new(),
            home: HOMES[0],
            is_cut: false,
            heard: Default::default(),
            ready: [0; 2],
            ended: [None, None],
            identities,
        }
    }

    /// A world in which both ends are ready.
    fn connected() -> Self {
        let mut world = Self::new();
        world.run(ms(500));
        assert_eq!((world.ready, &world.ended), ([1, 1], &[None, None]));
        world
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let wakes = [0, 1].map(|end| self.poll(end));
            let next =
                wakes.into_iter().flatten().chain(self.flying.front().map(|first| first.arrives)).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if self.flying.front().is_some_and(|first| first.arrives <= self.now) {
                self.arrive();
            } else {
                let end = usize::from(wakes[0].is_none_or(|wake| wakes[1].is_some_and(|other| other < wake)));
                let done = self.peers[end].on_time(self.now);
                self.note(end, done);
            }
        }
        self.now = until;
    }

    /// When it wakes; `None` once it has ended.
    fn poll(&mut self, end: usize) -> Option<Instant> {
        while self.ended[end].is_none() {
            match self.peers[end].poll() {
                Ok(Step::Send(to, bytes)) => self.send(end, to, bytes),
                Ok(Step::Heard(message)) => self.heard[end].push(message),
                Ok(Step::Ready) => self.ready[end] += 1,
                Ok(Step::Wait(until)) => return Some(until),
                Err(error) => self.note(end, Err(error)),
            }
        }
        None
    }

    fn send(&mut self, end: usize, to: SocketAddr, bytes: Vec<u8>) {
        let from = if end == 0 { self.home } else { GATEWAY };
        if !self.is_cut {
            self.flying.push_back(Flying { arrives: self.now + DELAY, from, to, bytes });
        }
    }

    fn arrive(&mut self) {
        let Flying { from, to, bytes, .. } = self.flying.pop_front().expect("there is one");
        let end = usize::from(to == GATEWAY);
        if (end == 1 || to == self.home) && self.ended[end].is_none() {
            let done = self.peers[end].receive(self.now, from, &bytes);
            self.note(end, done);
        }
    }

    fn note(&mut self, end: usize, done: Result<()>) {
        if let Err(error) = done {
            self.ended[end] = Some(format!("{error:#}"));
        }
    }

    /// Says it as soon as there is room, which must be within seconds.
    fn say(&mut self, end: usize, message: Message) {
        let patience = self.now + Duration::from_secs(5);
        while !self.peers[end].has_room(message.kind) {
            assert!(self.now < patience, "no room for {message:?}; {:?}", self.ended);
            self.run(ms(5));
        }
        self.peers[end].say(message.kind, &encoded(message)).unwrap();
    }

    fn has_heard(&self, end: usize, message: Message) -> bool {
        self.heard[end].iter().any(|heard| heard[..] == encoded(message)[..])
    }

    /// How long the gateway's newest state takes to get through, in steps of 20 ms.
    fn silence(&mut self) -> Duration {
        let began = self.now;
        for number in 1_000.. {
            let state = Message::new(Kind::Control, number);
            if self.peers[1].has_room(Kind::Control) {
                self.say(1, state);
            }
            let heard = self.heard[0].len();
            self.run(ms(20));
            if self.heard[0].len() > heard {
                break;
            }
            assert!(self.now < began + Duration::from_secs(20), "it never comes back: {:?}", self.ended);
        }
        self.now - began
    }
}

fn encoded(message: Message) -> bytes::Bytes {
    if message.kind.is_file() { message.encode_in(piece_bytes(MANNER)) } else { message.encode() }
}

fn identities() -> [Identity; 2] {
    let place = TempDir::new().unwrap();
    let folder = Folder::new(place.path());
    folder.init(&[], unix_now()).unwrap();
    folder.vehicles([VEHICLE.parse().unwrap()], unix_now()).unwrap();
    let papers = Papers::new(place.path().to_owned());
    [papers.vehicle(), papers.gateway()].map(|pair| Identity::read(pair).unwrap())
}

/// Two ends, with what they are, what they are told of the other, and where they are.
fn meet(are: &[Identity; 2], said: &[Identity; 2], places: [SocketAddr; 2], now: Instant) -> [Peer; 2] {
    let drawn = said.each_ref().map(|one| Own::draw(one).unwrap());
    let [(mut vehicle, vehicle_card), (mut gateway, gateway_card)] = drawn;
    let [seen_by_vehicle, seen_by_gateway] =
        [vehicle.take(gateway_card).unwrap(), gateway.take(vehicle_card).unwrap()];
    let side = Side::Vehicle { gateway: places[1] };
    [
        Peer::new(side, places[0], &are[0], vehicle, seen_by_vehicle, now).unwrap(),
        Peer::new(Side::Gateway, places[1], &are[1], gateway, seen_by_gateway, now).unwrap(),
    ]
}

#[test]
fn all_kinds_arrive_in_both_directions() {
    let mut world = World::connected();
    for kind in Kind::ALL {
        let end = kind.direction().index();
        for number in 0..3 {
            world.say(end, Message::new(kind, number));
            world.run(ms(10));
        }
    }
    world.run(ms(500));
    for kind in Kind::ALL {
        let other = 1 - kind.direction().index();
        let missing: Vec<_> =
            (0..3).filter(|number| !world.has_heard(other, Message::new(kind, *number))).collect();
        assert!(missing.is_empty(), "{kind:?}: {missing:?} are missing");
    }
    assert_eq!(world.ended, [None, None]);
}

#[test]
fn both_are_ready_four_flights_after_they_have_met() {
    let mut world = World::new();
    let began = world.now;
    while world.ready != [1, 1] {
        world.run(ms(1));
        let has_room = world.peers.each_ref().map(|peer| usize::from(peer.has_room(Kind::Control)));
        assert_eq!(has_room, world.ready, "nothing is said before");
        assert!(world.now < began + Duration::from_secs(1), "{:?} {:?}", world.ready, world.ended);
    }
    // A check and its answer, the nomination 50 ms later at most, DTLS there and back; SCTP needs none.
    assert!(world.now - began < ms(200), "{:?}", world.now - began);
}

#[test]
fn files_that_fill_their_channel_shut_nothing_else_out() {
    let mut world = World::connected();
    world.is_cut = true;
    let mut number = 0;
    while world.peers[0].has_room(Kind::Log) {
        world.say(0, Message::new(Kind::Log, number));
        world.run(Duration::ZERO);
        number += 1;
    }
    assert!(number as usize * piece_bytes(MANNER) > Lane::Files.most(), "{number}");
    for kind in [Kind::Telemetry, Kind::Ack, Kind::Camera] {
        assert!(world.peers[0].has_room(kind), "{kind:?}");
        world.say(0, Message::new(kind, 0));
        world.run(Duration::ZERO);
    }
    world.is_cut = false;
    world.run(Duration::from_secs(8));
    assert!(world.peers[0].has_room(Kind::Log), "what was acknowledged makes room; {:?}", world.ended);
    assert!(
        world.has_heard(1, Message::new(Kind::Ack, 0))
            && world.has_heard(1, Message::new(Kind::Log, number - 1))
    );
}

#[test]
fn a_full_channel_has_room_again_before_all_of_it_has_arrived() {
    let mut world = World::connected();
    let mut said = 0;
    while world.peers[0].has_room(Kind::Log) {
        world.say(0, Message::new(Kind::Log, said));
        said += 1;
    }
    while !world.peers[0].has_room(Kind::Log) {
        world.run(ms(1));
        assert_eq!(world.ended, [None, None]);
    }
    let heard = world.heard[1].len();
    assert!(heard < said as usize / 2, "{heard} of {said}");
}

#[test]
fn a_state_that_is_lost_is_not_sent_again_and_a_command_is() {
    let mut world = World::connected();
    world.is_cut = true;
    let [state, command] = [Kind::Control, Kind::Command].map(|kind| Message::new(kind, 1));
    world.say(1, state);
    world.say(1, command);
    world.run(ms(100));
    world.is_cut = false;
    world.run(Duration::from_secs(6));
    assert!(world.has_heard(0, command) && !world.has_heard(0, state), "{:?}", world.ended);
}

#[test]
fn the_gateway_follows_a_vehicle_that_changes_its_address_and_back() {
    let mut world = World::connected();
    for home in [HOMES[1], HOMES[2], HOMES[0], HOMES[1]] {
        world.run(Duration::from_secs(2));
        world.home = home;
        let state = Message::new(Kind::Telemetry, u32::from(home.port()));
        world.say(0, state);
        world.run(ms(50));
        assert!(world.has_heard(1, state), "what the vehicle says arrives from wherever it is");
        let silence = world.silence();
        // A check every half a second, and what was lost meanwhile keeps SCTP waiting.
        assert!(silence < Duration::from_secs(2), "{silence:?} at {home}");
        assert_eq!((world.ready, &world.ended), ([1, 1], &[None, None]), "it is the same connection");
    }
}

#[test]
fn a_vehicle_that_moves_for_ever_is_met_anew() {
    let mut world = World::connected();
    for port in 0..101 {
        world.home = at(9, 1_000 + port);
        world.run(ms(600));
    }
    assert_eq!(world.ended[1].as_deref(), Some("the vehicle moves for ever"));
}

#[test]
fn a_path_whose_checks_find_no_answer_is_given_up_within_five_seconds() {
    let mut world = World::connected();
    world.run(Duration::from_secs(10));
    world.is_cut = true;
    world.run(Duration::from_secs(3));
    assert_eq!(world.ended, [None, None], "not at once");
    world.run(Duration::from_secs(2));
    assert_eq!(world.ended[0].as_deref(), Some("checks of the path find no answer"));
    world.run(Duration::from_secs(15));
    assert!(world.ended[1].is_some(), "the gateway gives it up in the end");
}

#[test]
fn who_never_answers_is_given_up() {
    let mut world = World::new();
    world.is_cut = true;
    world.run(HANDSHAKE);
    assert!(world.ended[0].is_some(), "the vehicle dials again");
    assert_eq!(world.ended[1].as_deref(), Some("the handshake takes too long"));
}

#[test]
fn a_gateway_that_goes_says_so() {
    let mut world = World::connected();
    world.peers[1].close();
    world.run(ms(100));
    assert_eq!(world.ended[0].as_deref(), Some("the other end has closed the connection"));
}

#[test]
fn an_end_whose_certificate_is_not_the_one_it_named_is_refused() {
    for liar in [0, 1] {
        let mut world = World::new();
        let mut are = world.identities.clone();
        are[liar] = world.identities[1 - liar].clone();
        world.peers = meet(&are, &world.identities, [HOMES[0], GATEWAY], world.now);
        world.run(Duration::from_secs(1));
        let why = world.ended[1 - liar].as_deref().expect("the other end sees it");
        assert!(why.contains("fingerprint"), "{why}");
        assert_eq!(world.ready[1 - liar], 0);
    }
}

#[test]
fn nobody_else_leads_the_gateway_astray() {
    let mut world = World::connected();
    // A check that is signed with the keys of another meeting.
    let mut other = World::new();
    let checks = loop {
        other.run(ms(1));
        let sent: Vec<_> = other.flying.drain(..).collect();
        if !sent.is_empty() {
            break sent;
        }
    };
    let others = [vec![], vec![7; 40], vec![25; 40], vec![200; 40]];
    let all: Vec<_> = checks.into_iter().map(|check| check.bytes).chain(others).collect();
    for turn in 0..200 {
        for bytes in &all {
            world.peers[1].receive(world.now, HOMES[1 + turn % 2], bytes).unwrap();
            world.run(Duration::ZERO);
        }
    }
    let state = Message::new(Kind::Control, 1);
    world.say(1, state);
    world.run(ms(50));
    assert!(world.has_heard(0, state), "it goes to where the vehicle is");
    assert_eq!(world.ended, [None, None]);
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_an_older_one() {
    let identities = identities();
    let bound = async || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let socket = bound().await;
    let (met, meetings) = mpsc::channel(1);
    let (gateway_end, _stop) = lone_end();
    let drive = async {
        for _ in 0..2 {
            let own = bound().await;
            let places = [own.local_addr().unwrap(), socket.local_addr().unwrap()];
            let [mut vehicle, gateway] = meet(&identities, &identities, places, now());
            met.send(gateway).await.unwrap();
            let (tell, mut ready) = mpsc::channel(1);
            let (end, _stop) = lone_end();
            let end = End { ready: tell, ..end };
            tokio::select! {
                Some(_) = ready.recv() => {}
                ended = talk(&mut vehicle, &own, &end) => panic!("{ended:?}"),
            }
        }
    };
    let both = async {
        tokio::select! {
            ended = work(&socket, meetings, &gateway_end) => panic!("{ended:?}"),
            () = drive => {}
        }
    };
    timeout(HANDSHAKE * 4, both).await.expect("the second is ready in time");
}
