//! Raw datagrams, without congestion control and in the clear: the impolite bound.
//!
//! States go once. Commands and answers go again until the other end has said that it has them, and are heard once. Files go
//! at a fixed rate, whatever the link does. There is no connection: the gateway answers where it last heard from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use carriageway_netem::clock;
use carriageway_netem::core::Moment;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};

use super::common::{hear, versions};
use super::fleet::apart;
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::{HEADER, Kind, Manner, Message};

/// Bytes of a message in one packet: with all headers below 1,280, which every link carries.
const PART: usize = 1_180;

/// Bytes of a packet before its part of a message.
const PART_HEADER: usize = 7;

/// After this without an answer it is sent again.
const RESEND: Duration = Duration::from_millis(100);

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often the vehicle says where it is, until it has been welcomed. Afterwards each fifth time.
const HELLO: Duration = Duration::from_millis(200);

/// Files go at 1 Mbit/s: one piece in so long.
const PIECE_EVERY: Duration = Duration::from_micros(PART as u64 * 8);

/// Messages that wait for their answer; while there are as many, no more are sent of those.
const MOST_WAITING: usize = 1_024;

/// Messages that are known to have been heard; the oldest numbers are forgotten beyond it.
const MOST_KNOWN: usize = 10_000;

/// Raw UDP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp;

impl Subject for Udp {
    fn facts(&self) -> Facts {
        Facts {
            title: "UDP, no congestion control, no encryption".into(),
            version: versions(&["tokio"]),
            setup: "states once; commands and answers again every 100 ms until acknowledged; files at a fixed 1 Mbit/s, not repeated".into(),
            manner: Manner::NewestFirst,
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        apart(ends, |end| Box::pin(serve(end)))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(async move {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).await.context("cannot open a UDP socket")?;
            let gateway = end.at(reach.udp);
            Talk::new(socket, end, Some(gateway)).work().await
        })
    }
}

async fn serve(end: End) -> Result<()> {
    let socket = UdpSocket::bind(end.at(0)).await.context("cannot listen on UDP")?;
    end.ready(Reach { udp: socket.local_addr()?.port(), ..Reach::default() });
    Talk::new(socket, end, None).work().await
}

/// What packets begin with.
const HELLO_TAG: u8 = 0;
const WELCOME_TAG: u8 = 1;
const PART_TAG: u8 = 2;
const RECEIPT_TAG: u8 = 3;

/// A packet that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packet<'a> {
    /// The vehicle is here.
    Hello,
    /// The gateway knows.
    Welcome,
    /// One of `count` parts of a message, whose number is the sender's own.
    Part { number: u32, index: u8, count: u8, bytes: &'a [u8] },
    /// This message was heard.
    Receipt(Message),
}

impl<'a> Packet<'a> {
    /// `None` where it is none of ours.
    fn read(packet: &'a [u8]) -> Option<Self> {
        let (tag, rest) = packet.split_first()?;
        match *tag {
            HELLO_TAG => Some(Self::Hello),
            WELCOME_TAG => Some(Self::Welcome),
            RECEIPT_TAG => Some(Self::Receipt(Message::decode(rest).ok()?)),
            PART_TAG => {
                let (number, rest) = rest.split_first_chunk()?;
                let ([index, count], bytes) = rest.split_first_chunk()?;
                let number = u32::from_be_bytes(*number);
                (index < count).then_some(Self::Part { number, index: *index, count: *count, bytes })
            }
            _ => None,
        }
    }
}

fn parts(number: u32, message: &[u8]) -> Vec<Bytes> {
    let count = u8::try_from(message.chunks(PART).count()).expect("messages are small");
    let packet = |(index, part): (u8, &[u8])| {
        let mut packet = BytesMut::with_capacity(PART_HEADER + part.len());
        packet.put_u8(PART_TAG);
        packet.put_u32(number);
        packet.put_slice(&[index, count]);
        packet.put_slice(part);
        packet.freeze()
    };
    (0..count).zip(message.chunks(PART)).map(packet).collect()
}

/// The newest message that came in several parts; what is missing of the one before is lost.
#[derive(Debug, Default)]
struct Assembly {
    number: u32,
    parts: BTreeMap<u8, Bytes>,
}

impl Assembly {
    /// The whole message, with its last part.
    fn add(&mut self, number: u32, index: u8, count: u8, bytes: &[u8]) -> Option<Bytes> {
        if count == 1 {
            return Some(Bytes::copy_from_slice(bytes));
        }
        if number != self.number {
            *self = Self { number, parts: BTreeMap::new() };
        }
        self.parts.insert(index, Bytes::copy_from_slice(bytes));
        if self.parts.len() < usize::from(count) {
            return None;
        }
        let whole = self.parts.values().fold(BytesMut::new(), |mut whole, part| {
            whole.put_slice(part);
            whole
        });
        self.parts.clear();
        Some(whole.freeze())
    }
}

/// A message that waits for its receipt.
#[derive(Debug)]
struct Waiting {
    packets: Vec<Bytes>,
    sent: Moment,
}

/// One end.
struct Talk {
    socket: UdpSocket,
    end: End,
    /// The gateway's address, where this is the vehicle.
    gateway: Option<SocketAddr>,
    /// Where the other end was last heard from.
    peer: Option<SocketAddr>,
    next: u32,
    waiting: BTreeMap<(Kind, u32), Waiting>,
    known: BTreeSet<(Kind, u32)>,
    assembly: Assembly,
}

impl Talk {
    fn new(socket: UdpSocket, end: End, gateway: Option<SocketAddr>) -> Self {
        let (waiting, known) = (BTreeMap::new(), BTreeSet::new());
        Self { socket, end, gateway, peer: None, next: 1, waiting, known, assembly: Assembly::default() }
    }

    async fn work(mut self) -> Result<()> {
        let end = self.end.clone();
        let mut buffer = [0; 2_048];
        let [mut hello, mut look, mut pace] = [HELLO, LOOK, PIECE_EVERY].map(interval);
        for ticks in [&mut hello, &mut look, &mut pace] {
            // What was missed is not made up for at once.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut hellos = 0_u32;
        let mut may_send_piece = false;
        loop {
            let has_room = self.waiting.len() < MOST_WAITING;
            tokio::select! {
                () = end.stopped() => return Ok(()),
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, from) = received.context("cannot receive")?;
                    self.receive(&buffer[..length], from).await;
                }
                message = end.feed.next_of(|kind| has_room || !is_repeated(kind)), if self.peer.is_some() => {
                    self.say(message, message.encode()).await;
                }
                _tick = look.tick() => self.resend().await,
                _tick = hello.tick() => {
                    if hellos.is_multiple_of(5) || self.peer.is_none() {
                        self.hello().await;
                    }
                    hellos = hellos.wrapping_add(1);
                }
                _tick = pace.tick(), if !may_send_piece => may_send_piece = true,
                piece = end.feed.piece(), if may_send_piece && self.peer.is_some() => {
                    may_send_piece = false;
                    self.say(piece, piece.encode_in(PART)).await;
                }
            }
        }
    }

    async fn receive(&mut self, packet: &[u8], from: SocketAddr) {
        let Some(packet) = Packet::read(packet) else {
            self.end.note(format!("{} bytes arrived that are no packet", packet.len()));
            return;
        };
        self.peer = Some(from);
        match packet {
            Packet::Hello => self.send(&[WELCOME_TAG]).await,
            Packet::Welcome => self.end.ready(Reach::default()),
            Packet::Receipt(message) => drop(self.waiting.remove(&(message.kind, message.number))),
            Packet::Part { number, index, count, bytes } => {
                if let Some(message) = self.assembly.add(number, index, count, bytes) {
                    self.heard(&message).await;
                }
            }
        }
    }

    async fn heard(&mut self, bytes: &[u8]) {
        if let Ok(message) = Message::decode(bytes)
            && is_repeated(message.kind)
        {
            let receipt = [&[RECEIPT_TAG], &message.encode_in(HEADER)[..]].concat();
            self.send(&receipt).await;
            if !self.known.insert((message.kind, message.number)) {
                return;
            }
            if self.known.len() > MOST_KNOWN {
                self.known.pop_first();
            }
        }
        hear(&self.end, bytes);
    }

    async fn say(&mut self, message: Message, bytes: Bytes) {
        let packets = parts(self.next, &bytes);
        self.next = self.next.wrapping_add(1);
        for packet in &packets {
            self.send(packet).await;
        }
        if is_repeated(message.kind) {
            let waiting = Waiting { packets, sent: clock::now() };
            self.waiting.insert((message.kind, message.number), waiting);
        }
    }

    async fn resend(&mut self) {
        let now = clock::now();
        let mut due = Vec::new();
        for waiting in self.waiting.values_mut().filter(|waiting| now.since(waiting.sent) >= RESEND) {
            waiting.sent = now;
            due.extend(waiting.packets.iter().cloned());
        }
        for packet in due {
            self.send(&packet).await;
        }
    }

    async fn hello(&self) {
        if let Some(gateway) = self.gateway {
            // As below.
            let _lost = self.socket.send_to(&[HELLO_TAG], gateway).await;
        }
    }

    async fn send(&self, packet: &[u8]) {
        if let Some(peer) = self.gateway.or(self.peer) {
            // What the system does not send is lost, as on the way.
            let _lost = self.socket.send_to(packet, peer).await;
        }
    }
}

/// Whether it goes again until it is answered.
const fn is_repeated(kind: Kind) -> bool {
    matches!(kind, Kind::Command | Kind::Ack)
}

#[cfg(test)]
mod tests {
    use super::super::tests::lone_end;
    use super::*;

    /// An end that has heard from the other, which is here a socket and no more.
    async fn talk() -> (Talk, UdpSocket) {
        let [near, far] = [bound().await, bound().await];
        let mut talk = Talk::new(near, lone_end().0, None);
        talk.peer = Some(far.local_addr().unwrap());
        (talk, far)
    }

    async fn bound() -> UdpSocket {
        UdpSocket::bind(("127.0.0.1", 0)).await.unwrap()
    }

    async fn received(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2_048];
        let length = socket.recv(&mut buffer).await.unwrap();
        buffer[..length].to_vec()
    }

    #[tokio::test]
    async fn a_command_that_comes_twice_is_heard_once_and_answered_twice() {
        let (mut talk, far) = talk().await;
        let command = Message::new(Kind::Command, 3);
        for number in [1, 2] {
            for packet in parts(number, &command.encode()) {
                talk.receive(&packet, far.local_addr().unwrap()).await;
            }
            assert_eq!(Packet::read(&received(&far).await), Some(Packet::Receipt(command)));
        }
        assert_eq!(talk.end.ear.take().len(), 1);
    }

    #[tokio::test]
    async fn a_command_goes_again_until_its_receipt_comes_and_a_state_does_not() {
        let (mut talk, far) = talk().await;
        let (command, state) = (Message::new(Kind::Command, 3), Message::new(Kind::Control, 4));
        for message in [command, state] {
            talk.say(message, message.encode()).await;
        }
        let [first, _state] = [received(&far).await, received(&far).await];
        talk.resend().await;
        let waiting = talk.waiting.values_mut().next().unwrap();
        waiting.sent = Moment::ZERO;
        talk.resend().await;
        assert_eq!(received(&far).await, first);
        let receipt = [&[RECEIPT_TAG], &command.encode_in(HEADER)[..]].concat();
        talk.receive(&receipt, far.local_addr().unwrap()).await;
        assert!(talk.waiting.is_empty());
    }

    #[test]
    fn long_messages_come_back_from_their_parts_and_newer_ones_replace_older() {
        let message = Message::new(Kind::Snapshot, 9).encode();
        let packets = parts(5, &message);
        assert_eq!(packets.len(), 2);
        assert!(packets.iter().all(|packet| packet.len() <= PART + PART_HEADER));
        let mut assembly = Assembly::default();
        let mut add = |packet: &Bytes| {
            let Some(Packet::Part { number, index, count, bytes }) = Packet::read(packet) else {
                panic!("it is a part")
            };
            assembly.add(number, index, count, bytes)
        };
        let older = parts(4, &message);
        assert_eq!([add(&older[0]), add(&packets[1]), add(&packets[0])], [None, None, Some(message.clone())]);
        assert_eq!(add(&parts(6, b"short")[0]), Some(Bytes::from_static(b"short")));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for packet in [&b""[..], &[9], &[PART_TAG, 0, 0, 0, 1, 1, 1], &[PART_TAG, 0], &[RECEIPT_TAG, 1]] {
            assert_eq!(Packet::read(packet), None, "{packet:?}");
        }
    }
}
