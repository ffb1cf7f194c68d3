//! Two sessions in virtual time, over connections that a test cuts, stalls and adds at will.
//!
//! Whatever happens: LANE (in order, exactly once, the rest a gap), LATEST, and what a sender is told
//! is true of the receiver.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::frame::{Goodbye, Heartbeat, Hello, Welcome};
use carriageway_proto::{
    BootId, Class, CloseCode, ControlFrame, Epoch, Frame, Moment, SessionId, Stamp, Token, VERSION, Value,
};
use proptest::prelude::*;

use super::{Config, Happening, Input, Output, Session};
use crate::core::Greeting;
use crate::core::connection::{Capabilities, Channel, ConnectionId, Ended, Lanes, Transport};
use crate::core::lane::{Fate, Ticket};

const NEAR: usize = 0;
const FAR: usize = 1;

/// One direction of a connection: frames on their way, each channel in order.
type Wire = VecDeque<(Channel, Bytes)>;

struct Joined {
    id: ConnectionId,
    wires: [Wire; 2],
    is_dark: bool,
    is_greeted: bool,
}

/// What one side was told.
#[derive(Default)]
struct Heard {
    messages: BTreeMap<Class, Vec<u64>>,
    order: Vec<Class>,
    gaps: BTreeMap<Class, u64>,
    fates: BTreeMap<Ticket, Fate>,
    signals: Vec<i64>,
    established: u32,
}

struct World {
    now: Moment,
    sides: [Session; 2],
    heard: [Heard; 2],
    capabilities: Capabilities,
    joined: Vec<Joined>,
    next_id: u32,
    sent: BTreeMap<Ticket, (Class, u64)>,
    next_number: u64,
    next_value: i64,
}

fn capabilities(lanes: Lanes) -> Capabilities {
    let datagram = (lanes == Lanes::Independent).then_some(1_100);
    Capabilities { transport: Transport::Memory, lanes, datagram, migrates: false }
}

impl World {
    fn new(lanes: Lanes) -> Self {
        let (config, id) = (Config::default(), SessionId::from_bytes([1; 16]));
        let near = Session::connecting(config.clone(), BootId::from_bytes([2; 16]), Epoch::NONE);
        let far = Session::accepting(config, BootId::from_bytes([3; 16]), id, Epoch::new(1));
        let mut world = Self {
            now: Moment::from_micros(1_000_000),
            sides: [near, far],
            heard: Default::default(),
            capabilities: capabilities(lanes),
            joined: Vec::new(),
            next_id: 0,
            sent: BTreeMap::new(),
            next_number: 0,
            next_value: 0,
        };
        world.join();
        world.settle();
        world
    }

    /// Another connection comes up.
    fn join(&mut self) {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.joined.push(Joined { id, wires: Default::default(), is_dark: false, is_greeted: false });
        let capabilities = self.capabilities;
        self.input(NEAR, Input::Opened { connection: id, capabilities, why: "test".into() });
        self.give_room(NEAR, id);
    }

    fn channels(&self) -> Vec<Channel> {
        match self.capabilities.lanes {
            Lanes::Shared => vec![Channel::Shared],
            Lanes::Independent => {
                Class::ALL.into_iter().map(Channel::Lane).chain([Channel::Datagram]).collect()
            }
        }
    }

    fn give_room(&mut self, side: usize, id: ConnectionId) {
        for channel in self.channels() {
            self.input(side, Input::Room(id, channel));
        }
    }

    /// The newest connection ends; what was on its way is lost.
    fn cut(&mut self) {
        if let Some(joined) = self.joined.pop() {
            for side in [NEAR, FAR] {
                if side == NEAR || joined.is_greeted {
                    self.input(side, Input::Ended(joined.id, Ended::Failed("cut".into())));
                }
            }
        }
    }

    /// From now on nothing handed to the newest connection arrives.
    fn darken(&mut self) {
        if let Some(joined) = self.joined.last_mut() {
            joined.is_dark = true;
        }
    }

    fn send(&mut self, class: Class, ttl: Option<Duration>) {
        let number = self.next_number;
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let expires = ttl.map(|ttl| self.now + ttl);
        if let Ok(ticket) = self.sides[NEAR].send(class, payload, expires) {
            self.sent.insert(ticket, (class, number));
            self.next_number += 1;
        }
        self.drain(NEAR);
    }

    fn signal(&mut self) {
        self.next_value += 1;
        let path = "Vehicle.Speed".parse().unwrap();
        self.sides[NEAR].signal(path, Value::Int(self.next_value), self.now);
        self.drain(NEAR);
    }

    fn input(&mut self, side: usize, input: Input) {
        self.sides[side].handle(self.now, input);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        loop {
            match self.sides[side].poll(self.now) {
                Output::Transmit(id, channel, frame) => {
                    if let Some(joined) = self.joined.iter_mut().find(|joined| joined.id == id)
                        && !joined.is_dark
                    {
                        joined.wires[side].push_back((channel, frame));
                    }
                }
                Output::Close(id, code, reason) => self.closed(side, id, code, reason),
                Output::Happened(happening) => self.hear(side, happening),
                Output::Wait(_) => return,
            }
        }
    }

    /// One side closes: it ends there at once, and at the other side after what is on its way.
    fn closed(&mut self, side: usize, id: ConnectionId, code: CloseCode, reason: String) {
        assert_ne!(code, CloseCode::ProtocolViolation, "between honest peers: {reason}");
        let Some(index) = self.joined.iter().position(|joined| joined.id == id) else { return };
        while let Some((channel, frame)) = self.joined[index].wires[side].pop_front() {
            self.arrive(1 - side, index, channel, frame);
        }
        let joined = self.joined.remove(index);
        self.sides[side].handle(self.now, Input::Ended(id, Ended::ByUs));
        if side == FAR || joined.is_greeted {
            self.sides[1 - side].handle(self.now, Input::Ended(id, Ended::ByPeer { code, reason }));
        }
    }

    fn arrive(&mut self, side: usize, index: usize, channel: Channel, frame: Bytes) {
        let joined = &mut self.joined[index];
        let id = joined.id;
        if side == FAR && !joined.is_greeted {
            let Ok((clock, Frame::Hello(hello))) = Frame::decode(frame) else { panic!("hello comes first") };
            joined.is_greeted = true;
            let greeting = Greeting { hello, clock, arrived: self.now };
            let capabilities = self.capabilities;
            self.sides[FAR].handle(self.now, Input::Greeted { connection: id, capabilities, greeting });
            for channel in self.channels() {
                self.sides[FAR].handle(self.now, Input::Room(id, channel));
            }
        } else {
            self.sides[side].handle(self.now, Input::Frame(id, channel, frame));
        }
        self.sides[1 - side].handle(self.now, Input::Room(id, channel));
    }

    /// Delivers the oldest frame on each wire; false where nothing was on its way.
    fn step(&mut self) -> bool {
        let mut moved = false;
        for id in self.joined.iter().map(|joined| joined.id).collect::<Vec<_>>() {
            for side in [NEAR, FAR] {
                let Some(index) = self.joined.iter().position(|joined| joined.id == id) else { continue };
                if let Some((channel, frame)) = self.joined[index].wires[side].pop_front() {
                    self.arrive(1 - side, index, channel, frame);
                    self.drain(NEAR);
                    self.drain(FAR);
                    moved = true;
                }
            }
        }
        moved
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.input(NEAR, Input::Tick);
        self.input(FAR, Input::Tick);
    }

    /// Lets everything on its way arrive, and time pass for what waits for it.
    fn settle(&mut self) {
        for _ in 0..50 {
            while self.step() {}
            self.pass(Duration::from_millis(10));
        }
    }

    fn hear(&mut self, side: usize, happening: Happening) {
        let heard = &mut self.heard[side];
        match happening {
            Happening::Message { class, payload } => {
                let number = u64::from_be_bytes(payload[..].try_into().unwrap());
                heard.messages.entry(class).or_default().push(number);
                heard.order.push(class);
            }
            Happening::Gap { class, frames } => *heard.gaps.entry(class).or_default() += frames,
            Happening::Settled { ticket, fate } => {
                assert_eq!(heard.fates.insert(ticket, fate), None, "{ticket:?} settled twice");
            }
            Happening::Signals(updates) => {
                for update in updates {
                    let Value::Int(value) = update.value else { panic!("another kind") };
                    assert!(heard.signals.last().is_none_or(|last| *last < value), "LATEST: went back");
                    heard.signals.push(value);
                }
            }
            Happening::Established { .. } => heard.established += 1,
            Happening::Moved { .. } | Happening::Control(_) | Happening::Ended(_) => {}
        }
    }

    /// What must be true once everything has settled on a good connection.
    fn judge(&self) {
        let far = &self.heard[FAR];
        for (class, numbers) in &far.messages {
            assert!(numbers.is_sorted_by(|a, b| a < b), "LANE: {class} out of order or twice: {numbers:?}");
        }
        let mut expired_on_the_way = BTreeMap::<Class, u64>::new();
        for (ticket, (class, number)) in &self.sent {
            let arrived = far.messages.get(class).is_some_and(|numbers| numbers.contains(number));
            match self.heard[NEAR].fates.get(ticket) {
                Some(Fate::Acknowledged) => assert!(arrived, "{class} {number} was acknowledged"),
                Some(Fate::Expired { sent: false }) => assert!(!arrived, "{class} {number} never left"),
                // It may have arrived with its acknowledgement lost.
                Some(Fate::Expired { sent: true }) => {
                    *expired_on_the_way.entry(*class).or_default() += u64::from(!arrived);
                }
                Some(Fate::Lost { .. }) => panic!("the session goes on"),
                None => panic!("{class} {number} is still open"),
            }
        }
        for class in Class::ALL {
            let missing = expired_on_the_way.get(&class).copied().unwrap_or(0);
            assert_eq!(far.gaps.get(&class).copied().unwrap_or(0), missing, "{class}: each gap is told");
        }
        assert_eq!(far.signals.last(), Some(&self.next_value), "the newest value is there");
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(usize, Option<u64>),
    Signal,
    Step,
    Pass(u64),
    Darken,
    Cut,
    Join,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0usize..8, prop::option::of(1u64..400)).prop_map(|(class, ttl)| Act::Send(class, ttl)),
        3 => Just(Act::Signal),
        8 => Just(Act::Step),
        3 => (1u64..200).prop_map(Act::Pass),
        1 => Just(Act::Darken),
        1 => Just(Act::Cut),
        2 => Just(Act::Join),
    ]
}

fn run(lanes: Lanes, acts: &[Act]) {
    let mut world = World::new(lanes);
    for act in acts {
        match act {
            Act::Send(class, ttl) => world.send(Class::ALL[*class], ttl.map(Duration::from_millis)),
            Act::Signal => world.signal(),
            Act::Step => drop(world.step()),
            Act::Pass(ms) => world.pass(Duration::from_millis(*ms)),
            Act::Darken => world.darken(),
            Act::Cut => world.cut(),
            Act::Join => world.join(),
        }
    }
    // The faults stop: dark connections end and a good one comes.
    while !world.joined.is_empty() {
        world.cut();
    }
    world.join();
    world.settle();
    world.signal();
    world.settle();
    world.judge();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lanes_and_signals_hold_over_independent_lanes(acts in prop::collection::vec(act(), 0..120)) {
        run(Lanes::Independent, &acts);
    }

    #[test]
    fn lanes_and_signals_hold_over_a_shared_stream(acts in prop::collection::vec(act(), 0..120)) {
        run(Lanes::Shared, &acts);
    }
}

#[test]
fn a_session_establishes_once_on_each_side() {
    let world = World::new(Lanes::Independent);
    assert_eq!([world.heard[NEAR].established, world.heard[FAR].established], [1, 1]);
}

/// ESTOP: tried on every live connection, and so is control; everything else goes on one.
#[test]
fn safety_and_control_go_out_on_every_live_connection() {
    let (now, id) = (Moment::from_micros(1), SessionId::from_bytes([1; 16]));
    let mut session = Session::accepting(Config::default(), BootId::from_bytes([3; 16]), id, Epoch::new(1));
    for connection in [ConnectionId(0), ConnectionId(1)] {
        let stamp = Stamp { boot: BootId::from_bytes([2; 16]), clock: now };
        let hello = Hello {
            version: VERSION,
            stamp,
            session: Some(id),
            epoch: Epoch::new(1),
            received: Vec::new(),
            software: String::new(),
            reason: String::new(),
        };
        let greeting = Greeting { hello, clock: now, arrived: now };
        let capabilities = capabilities(Lanes::Shared);
        session.handle(now, Input::Greeted { connection, capabilities, greeting });
        session.handle(now, Input::Room(connection, Channel::Shared));
        transmitted(&mut session, now);
        let beat = Frame::Heartbeat(Heartbeat { sequence: 1, echo: None }).encode(now);
        session.handle(now, Input::Frame(connection, Channel::Shared, beat));
        session.handle(now, Input::Room(connection, Channel::Shared));
        transmitted(&mut session, now);
        session.handle(now, Input::Room(connection, Channel::Shared));
    }
    session.send(Class::Safety, Bytes::from_static(b"stop"), None).unwrap();
    assert_eq!(transmitted(&mut session, now), [0, 1]);
    let give_room = |session: &mut Session| {
        for connection in [ConnectionId(0), ConnectionId(1)] {
            session.handle(now, Input::Room(connection, Channel::Shared));
        }
    };
    give_room(&mut session);
    let stamp = Stamp { boot: BootId::from_bytes([2; 16]), clock: now };
    session.control(ControlFrame { token: Token::FIRST, stamp, states: Vec::new() }, now);
    assert_eq!(transmitted(&mut session, now), [0, 1]);
    give_room(&mut session);
    session.send(Class::Body, Bytes::from_static(b"open"), None).unwrap();
    assert_eq!(transmitted(&mut session, now), [1], "the newest carries it");
}

/// Which connections were given a frame.
fn transmitted(session: &mut Session, now: Moment) -> Vec<u32> {
    let mut connections = Vec::new();
    loop {
        match session.poll(now) {
            Output::Transmit(connection, ..) => connections.push(connection.0),
            Output::Wait(_) => return connections,
            Output::Close(..) | Output::Happened(_) => {}
        }
    }
}

fn said(session: &mut Session, connection: u32, frame: &Frame) {
    let now = Moment::from_micros(1);
    session.handle(now, Input::Frame(ConnectionId(connection), Channel::Shared, frame.encode(now)));
    transmitted(session, now);
}

fn opened(session: &mut Session, connection: u32) {
    let (now, connection) = (Moment::from_micros(1), ConnectionId(connection));
    let (capabilities, why) = (capabilities(Lanes::Shared), "test".into());
    session.handle(now, Input::Opened { connection, capabilities, why });
    session.handle(now, Input::Room(connection, Channel::Shared));
    assert_eq!(transmitted(session, now), [connection.0], "its hello");
}

fn welcome(epoch: u64) -> Frame {
    let stamp = Stamp { boot: BootId::from_bytes([3; 16]), clock: Moment::from_micros(1) };
    let (session, received) = (SessionId::from_bytes([epoch as u8; 16]), Vec::new());
    let epoch = Epoch::new(epoch);
    Frame::Welcome(Welcome { version: VERSION, session, epoch, resumed: false, received, stamp })
}

fn goodbye(code: CloseCode) -> Frame {
    Frame::Goodbye(Goodbye { code, reason: String::new(), retry_after_ms: 0 })
}

fn is_over(session: &Session) -> bool {
    session.connectivity(Moment::from_micros(1)).over.is_some()
}

/// A welcome is lost, the next hello asks for a session again, and the gateway ends the first: that
/// is no reason to stop.
#[test]
fn being_taken_over_by_oneself_is_no_end() {
    for welcome_first in [true, false] {
        let mut session = Session::connecting(Config::default(), BootId::from_bytes([2; 16]), Epoch::NONE);
        opened(&mut session, 0);
        opened(&mut session, 1);
        if welcome_first {
            said(&mut session, 1, &welcome(2));
        }
        said(&mut session, 0, &goodbye(CloseCode::TakenOver));
        if !welcome_first {
            said(&mut session, 1, &welcome(2));
        }
        assert!(!is_over(&session));
    }
}

/// A hello was slow to be read; meanwhile the next one made a session, which the first then takes over.
#[test]
fn a_hello_of_ours_that_comes_late_is_no_clone() {
    let mut session = Session::connecting(Config::default(), BootId::from_bytes([2; 16]), Epoch::NONE);
    opened(&mut session, 0);
    opened(&mut session, 1);
    let now = Moment::from_micros(1);
    assert_eq!(session.connectivity(now).turned_away, 0, "given up here, not turned away");
    said(&mut session, 1, &welcome(2));
    said(&mut session, 1, &goodbye(CloseCode::TakenOver));
    assert!(!is_over(&session));
    let later = now + Duration::from_mins(1);
    session.handle(later, Input::Ended(ConnectionId(1), Ended::ByUs));
    opened(&mut session, 2);
    said(&mut session, 2, &welcome(4));
    let frame = goodbye(CloseCode::TakenOver).encode(later);
    session.handle(later, Input::Frame(ConnectionId(2), Channel::Shared, frame));
    assert!(is_over(&session), "a minute later it is another one");
}

/// Numbers from outside end in a violation at worst.
#[test]
fn gaps_beyond_any_lane_are_a_violation() {
    let mut session = Session::connecting(Config::default(), BootId::from_bytes([2; 16]), Epoch::NONE);
    opened(&mut session, 0);
    said(&mut session, 0, &welcome(2));
    for class in [Class::Body, Class::Comfort] {
        said(&mut session, 0, &Frame::Gap { class, through: u64::MAX });
    }
    assert_eq!(session.connectivity(Moment::from_micros(1)).carrier, None, "closed");
    assert!(!is_over(&session));
}

/// An emergency stop finds room where older ones have expired, however long the peer is silent.
#[test]
fn expired_frames_free_their_place_in_the_lane() {
    let mut world = World::new(Lanes::Shared);
    world.darken();
    for _ in 0..40 {
        for _ in 0..64 {
            world.send(Class::Safety, Some(Duration::from_millis(100)));
        }
        assert_eq!(world.sides[NEAR].status(world.now).queued_frames[Class::Safety], 64);
        world.pass(Duration::from_millis(101));
        assert_eq!(world.sides[NEAR].status(world.now).queued_frames[Class::Safety], 0);
    }
    world.cut();
    world.join();
    world.signal();
    world.settle();
    world.judge();
}

#[test]
fn a_refusal_that_will_not_change_ends_it_before_any_welcome() {
    for code in [CloseCode::VersionMismatch, CloseCode::Unauthorized] {
        let mut session = Session::connecting(Config::default(), BootId::from_bytes([2; 16]), Epoch::NONE);
        opened(&mut session, 0);
        said(&mut session, 0, &goodbye(code));
        assert!(is_over(&session), "{code}");
    }
}

/// OWNER: a welcome of an older epoch than one held before is refused.
#[test]
fn an_older_epoch_is_not_obeyed() {
    let mut session = Session::connecting(Config::default(), BootId::from_bytes([2; 16]), Epoch::new(5));
    opened(&mut session, 0);
    said(&mut session, 0, &welcome(5));
    assert_eq!(session.connectivity(Moment::from_micros(1)).carrier, None);
    assert_eq!(session.id(), None);
}

/// On a shared stream an urgent frame waits for at most what was handed over already: one frame.
#[test]
fn an_urgent_frame_is_next_on_a_shared_stream() {
    let mut world = World::new(Lanes::Shared);
    for _ in 0..50 {
        world.send(Class::Bulk, None);
    }
    world.send(Class::Body, None);
    world.send(Class::Safety, None);
    world.settle();
    let order = &world.heard[FAR].order;
    assert_eq!(order[..3], [Class::Bulk, Class::Safety, Class::Body]);
    assert_eq!(order.len(), 52, "bulk arrives in the end");
}

/// Where a connection goes dark beside a newer one, what was given to it to acknowledge is lost.
#[test]
fn what_arrived_is_acknowledged_on_the_newest_carrier() {
    let (now, id) = (Moment::from_micros(1), SessionId::from_bytes([1; 16]));
    let mut far = Session::accepting(Config::default(), BootId::from_bytes([3; 16]), id, Epoch::new(1));
    let join = |far: &mut Session, connection: u32| {
        let stamp = Stamp { boot: BootId::from_bytes([2; 16]), clock: now };
        let session = (connection > 0).then_some(id);
        let (received, software, reason) = (Vec::new(), String::new(), String::new());
        let hello =
            Hello { version: VERSION, stamp, session, epoch: Epoch::new(1), received, software, reason };
        let greeting = Greeting { hello, clock: now, arrived: now };
        let capabilities = capabilities(Lanes::Shared);
        far.handle(now, Input::Greeted { connection: ConnectionId(connection), capabilities, greeting });
        for _ in 0..3 {
            far.handle(now, Input::Room(ConnectionId(connection), Channel::Shared));
            transmitted(far, now);
        }
        said(far, connection, &Frame::Heartbeat(Heartbeat { sequence: 1, echo: None }));
        far.handle(now, Input::Room(ConnectionId(connection), Channel::Shared));
        transmitted(far, now);
    };
    let lane = |sequence| Frame::Lane { class: Class::Body, sequence, payload: Bytes::from_static(b"x") };
    let room = |far: &mut Session, connection: u32| {
        far.handle(now, Input::Room(ConnectionId(connection), Channel::Shared));
        transmitted(far, now)
    };
    join(&mut far, 0);
    join(&mut far, 1);
    far.handle(now, Input::Room(ConnectionId(0), Channel::Shared));
    far.handle(now, Input::Frame(ConnectionId(0), Channel::Shared, lane(1).encode(now)));
    assert_eq!(transmitted(&mut far, now), [1], "both have room");
    assert_eq!(room(&mut far, 1), [0; 0], "once");
    far.handle(now, Input::Ended(ConnectionId(1), Ended::Failed("dark".into())));
    assert_eq!(transmitted(&mut far, now), [0], "and what it took with it is said again");
}
