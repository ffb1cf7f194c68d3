//! The network between vehicles and gateways: connections whose frames are late, lost, held up or copied.

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode};
use carriageway_transport::core::connection::{Capabilities, Channel, Ended, Lanes, Transport};

use crate::chance::Chance;
use crate::plan::{Fault, MS, Plan, SECOND};
use crate::queue::{Queue, Task};

/// Frames that one channel of a connection takes in before it announces room by arrival only.
const WINDOW: u32 = 8;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Vehicle,
    Gateway,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Vehicle => Self::Gateway,
            Self::Gateway => Self::Vehicle,
        }
    }
}

/// One direction of one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    under_way: u32,
    /// The sender waits for room.
    starved: bool,
    last_arrival: u64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) vehicle: usize,
    pub(crate) gateway: usize,
    is_quic: bool,
    /// Its path is gone: nothing passes any more.
    dark: bool,
    open: [bool; 2],
    streams: [[Stream; 10]; 2],
}

/// All connections of a world, by number.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: Vec<Connection>,
}

fn place(channel: Channel) -> usize {
    match channel {
        Channel::Lane(class) => Class::ALL.iter().position(|each| *each == class).expect("all are there"),
        Channel::Shared => 8,
        Channel::Datagram => 9,
    }
}

/// What a network call needs beside the network.
pub(crate) struct Weather<'a> {
    pub(crate) now: u64,
    pub(crate) plan: &'a Plan,
    pub(crate) chance: &'a mut Chance,
    pub(crate) queue: &'a mut Queue,
}

impl Weather<'_> {
    /// Until when nothing passes this way.
    fn blocked(&self, vehicle: usize, gateway: usize, from: Side, at: u64) -> Option<u64> {
        self.plan.faults.iter().find_map(|fault| {
            let Fault::Partition { vehicle: whose, gateway: which, up, down, span } = fault else {
                return None;
            };
            let direction = if from == Side::Vehicle { *up } else { *down };
            let here = *whose == vehicle && which.is_none_or(|which| which == gateway) && direction;
            (here && (span.0..span.1).contains(&at)).then_some(span.1)
        })
    }

    fn loss(&self, vehicle: usize, at: u64) -> u64 {
        let more = |fault: &Fault| {
            let Fault::Lossy { vehicle: whose, percent, span } = fault else { return 0 };
            if *whose == vehicle && (span.0..span.1).contains(&at) { *percent } else { 0 }
        };
        if at >= self.plan.mix.horizon {
            return self.plan.mix.loss.min(10);
        }
        self.plan.mix.loss.max(self.plan.faults.iter().map(more).max().unwrap_or(0))
    }

    fn delay(&mut self, vehicle: usize, at: u64) -> u64 {
        let more = |fault: &Fault| {
            let Fault::Slow { vehicle: whose, delay, span } = fault else { return 0 };
            if *whose == vehicle && (span.0..span.1).contains(&at) { *delay } else { 0 }
        };
        let slow: u64 = self.plan.faults.iter().map(more).sum();
        let jitter = self.chance.below(self.plan.mix.jitter + 1);
        self.plan.mix.delay + jitter + self.chance.below(slow + 1)
    }

    /// When something that is sent until it arrives arrives.
    pub(crate) fn reliably(&mut self, vehicle: usize, gateway: usize, from: Side) -> u64 {
        let mut at = self.now;
        let mut backoff = 200 * MS;
        loop {
            if let Some(until) = self.blocked(vehicle, gateway, from, at) {
                at = until + self.chance.below(SECOND);
            } else if self.chance.below(100) < self.loss(vehicle, at) {
                at += backoff;
                backoff = (backoff * 2).min(2 * SECOND);
            } else {
                return at + self.delay(vehicle, at);
            }
        }
    }
}

impl Network {
    /// A connection that is up at both ends. Gives its number.
    pub(crate) fn connect(&mut self, vehicle: usize, gateway: usize, is_quic: bool) -> u32 {
        let (dark, open, streams) = (false, [true; 2], Default::default());
        self.connections.push(Connection { vehicle, gateway, is_quic, dark, open, streams });
        u32::try_from(self.connections.len() - 1).expect("a world is short")
    }

    pub(crate) fn of(&self, connection: u32) -> &Connection {
        &self.connections[connection as usize]
    }

    pub(crate) fn capabilities(&self, connection: u32) -> Capabilities {
        if self.of(connection).is_quic {
            let (transport, lanes) = (Transport::Quic, Lanes::Independent);
            Capabilities { transport, lanes, datagram: Some(1_100), migrates: true }
        } else {
            let (transport, lanes) = (Transport::WebSocket, Lanes::Shared);
            Capabilities { transport, lanes, datagram: None, migrates: false }
        }
    }

    /// Every channel of a connection.
    pub(crate) fn channels(&self, connection: u32) -> Vec<Channel> {
        if self.of(connection).is_quic {
            Class::ALL.into_iter().map(Channel::Lane).chain([Channel::Datagram]).collect()
        } else {
            vec![Channel::Shared]
        }
    }

    pub(crate) fn is_open(&self, connection: u32, side: Side) -> bool {
        self.of(connection).open[side as usize]
    }

    /// Takes a frame. True where the channel has room for another at once.
    pub(crate) fn send(
        &mut self,
        weather: &mut Weather<'_>,
        (number, from): (u32, Side),
        channel: Channel,
        bytes: Bytes,
    ) -> bool {
        let connection = &mut self.connections[number as usize];
        let (vehicle, gateway) = (connection.vehicle, connection.gateway);
        let frame = |bytes| Task::Frame { connection: number, to: from.other(), channel, bytes };
        if channel == Channel::Datagram {
            let lost = connection.dark
                || weather.blocked(vehicle, gateway, from, weather.now).is_some()
                || weather.chance.below(100) < weather.loss(vehicle, weather.now);
            let copies =
                if lost { 0 } else { 1 + u64::from(weather.chance.percent(weather.plan.mix.duplicates)) };
            for _ in 0..copies {
                let at = weather.now + weather.delay(vehicle, weather.now);
                weather.queue.push(at, frame(bytes.clone()));
            }
            return true;
        }
        let stream = &mut connection.streams[from as usize][place(channel)];
        stream.under_way += 1;
        stream.starved = stream.under_way >= WINDOW;
        let has_room = !stream.starved;
        if !connection.dark {
            let at = weather.reliably(vehicle, gateway, from).max(stream.last_arrival);
            connection.streams[from as usize][place(channel)].last_arrival = at;
            weather.queue.push(at, frame(bytes));
        }
        has_room
    }

    /// A frame has come to `to`'s end: whether that end is still there to take it.
    pub(crate) fn arrive(
        &mut self,
        weather: &mut Weather<'_>,
        number: u32,
        to: Side,
        channel: Channel,
    ) -> bool {
        let connection = &mut self.connections[number as usize];
        if channel != Channel::Datagram {
            let from = to.other();
            let stream = &mut connection.streams[from as usize][place(channel)];
            stream.under_way -= 1;
            if std::mem::take(&mut stream.starved) && !connection.dark {
                let at = weather.reliably(connection.vehicle, connection.gateway, to);
                weather.queue.push(at, Task::Room { connection: number, side: from, channel });
            }
        }
        self.is_open(number, to) && !self.of(number).dark
    }

    /// One end closes the connection, with a code for the other.
    pub(crate) fn close(
        &mut self,
        weather: &mut Weather<'_>,
        (number, side): (u32, Side),
        code: CloseCode,
        reason: &str,
    ) {
        let ended = Ended::ByPeer { code, reason: reason.into() };
        self.end(weather, (number, side), ended);
    }

    /// One end's process is gone.
    pub(crate) fn abandon(&mut self, weather: &mut Weather<'_>, number: u32, side: Side) {
        // The kernel resets a TCP connection; of a QUIC one nobody hears any more.
        if self.of(number).is_quic {
            self.connections[number as usize].open[side as usize] = false;
        } else {
            self.end(weather, (number, side), Ended::Failed("connection reset".into()));
        }
    }

    fn end(&mut self, weather: &mut Weather<'_>, (number, side): (u32, Side), ended: Ended) {
        let connection = &mut self.connections[number as usize];
        if !std::mem::replace(&mut connection.open[side as usize], false) || connection.dark {
            return;
        }
        let (vehicle, gateway, now) = (connection.vehicle, connection.gateway, weather.now);
        let is_lost = weather.blocked(vehicle, gateway, side, now).is_some()
            || weather.chance.below(100) < weather.loss(vehicle, now);
        if connection.is_quic && is_lost {
            return;
        }
        let flushed = connection.streams[side as usize].iter().map(|stream| stream.last_arrival).max();
        let mut at = weather.reliably(vehicle, gateway, side);
        // What was sent before may be delivered before, or dropped with the connection.
        if !connection.is_quic || weather.chance.percent(70) {
            at = at.max(flushed.unwrap_or(0));
        }
        weather.queue.push(at, Task::Closed { connection: number, to: side.other(), ended });
    }

    /// The other end closed it. False where this end is gone as well.
    pub(crate) fn closed(&mut self, number: u32, side: Side) -> bool {
        let connection = &mut self.connections[number as usize];
        !connection.dark && std::mem::replace(&mut connection.open[side as usize], false)
    }

    /// The paths of these connections vanish.
    pub(crate) fn darken(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.connections[*number as usize].dark = true;
        }
    }

    /// Every connection that a vehicle ever had.
    pub(crate) fn ever_of(&self, vehicle: usize) -> Vec<u32> {
        let all = self.connections.iter().enumerate();
        let its = all.filter(|(_, connection)| connection.vehicle == vehicle);
        its.map(|(number, _)| u32::try_from(number).expect("a world is short")).collect()
    }

    /// The connections of a vehicle, or of a gateway, that are open at that end.
    pub(crate) fn open_at(&self, side: Side, index: usize) -> Vec<u32> {
        let is_its = |connection: &Connection| match side {
            Side::Vehicle => connection.vehicle == index,
            Side::Gateway => connection.gateway == index,
        };
        let all = self.connections.iter().enumerate();
        let its = all.filter(|(_, connection)| is_its(connection) && connection.open[side as usize]);
        its.map(|(number, _)| u32::try_from(number).expect("a world is short")).collect()
    }
}
