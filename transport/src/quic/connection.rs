//! A QUIC connection of ours: a stream for each lane, and datagrams.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::class::ClassMap;
use carriageway_proto::{Class, CloseCode, Frame, MAX_DATAGRAM, Moment};
use futures_util::future::join_all;
use futures_util::{Stream, stream};
use quinn::{ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::time::{Sleep, sleep};

use super::datagrams::{Incoming, Outgoing};
use super::ended::{DROPPED, ended, wire};
use super::lane::{Broken, Lane};
use super::limits::{Limits, MIGRATION_WINDOW};
use super::socket;
use crate::clock::BootClock;
use crate::connection::Connection;
use crate::core::connection::{Capabilities, Channel, Ended, Event, Lanes, Measured, Transport};

/// How long a close waits for what was handed over to arrive.
const CLOSE: Duration = Duration::from_secs(1);

/// A place where frames come in: the lanes in their order, then the datagrams.
const SOURCES: usize = Class::ALL.len() + 1;

/// One QUIC connection, in either role. After [`Connection::start_send`] and [`Connection::close`]
/// it must be polled, as after any wake.
pub struct QuicConnection {
    connection: quinn::Connection,
    role: Role,
    limits: Limits,
    clock: BootClock,
    capabilities: Capabilities,
    priorities: ClassMap<i32>,
    lanes: ClassMap<Option<Lane>>,
    /// Streams whose first frame has not come.
    unnamed: Vec<Lane>,
    opened: Opened,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The source that is asked first.
    turn: usize,
    address: Address,
    life: Life,
}

enum Role {
    /// Opens the lanes. The endpoint is this connection's own.
    Connecting(Endpoint),
    /// Learns the lanes from the streams that the peer opens.
    Accepting,
}

enum Life {
    Open,
    Closing {
        code: CloseCode,
        reason: String,
        rest: Rest,
        deadline: Pin<Box<Sleep>>,
    },
    /// The end has been announced.
    Over,
}

/// What is still to be done before a close.
enum Rest {
    /// quinn has not taken every frame.
    Writing,
    /// The peer has not acknowledged every byte.
    Confirming(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Streams that the peer opens.
struct Opened {
    bidi: Accepts<(SendStream, RecvStream)>,
    uni: Accepts<RecvStream>,
}

type Accepts<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send>>;

/// The peer's address and how often it changed.
struct Address {
    last: SocketAddr,
    changes: u64,
    recent: VecDeque<Moment>,
}

/// How a peer broke the protocol.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Lane(#[from] Broken),
    #[error("a stream was opened that is none of a lane's")]
    Stream,
    #[error("a lane's first frame cannot be read: {0}")]
    FirstFrame(carriageway_proto::DecodeError),
    #[error("the {0} lane was opened twice")]
    Twice(Class),
}

impl QuicConnection {
    /// The connecting side: opens every lane's stream, the session's first. The others begin with a
    /// frame that names their class.
    pub(super) async fn connecting(
        endpoint: Endpoint,
        connection: quinn::Connection,
        shared: Shared,
    ) -> Result<Self, ConnectionError> {
        let mut lanes = ClassMap::from_fn(|_| None);
        for class in Class::ALL {
            let mut lane = Lane::new(connection.open_bi().await?);
            lane.prioritise(shared.priorities[class]);
            if class != Class::Session {
                // The clock in it is not read: it names the stream and carries nothing else.
                lane.start_send(Frame::Open(class).encode(Moment::ZERO));
            }
            lanes[class] = Some(lane);
        }
        Ok(Self::new(connection, Role::Connecting(endpoint), shared, lanes))
    }

    /// The accepting side.
    pub(super) fn accepting(connection: quinn::Connection, shared: Shared) -> Self {
        Self::new(connection, Role::Accepting, shared, ClassMap::from_fn(|_| None))
    }

    fn new(connection: quinn::Connection, role: Role, shared: Shared, lanes: ClassMap<Option<Lane>>) -> Self {
        let datagram = connection.max_datagram_size().map(|size| size.min(MAX_DATAGRAM));
        let Shared { limits, clock, priorities } = shared;
        Self {
            role,
            limits,
            clock,
            capabilities: Capabilities {
                transport: Transport::Quic,
                lanes: Lanes::Independent,
                datagram,
                migrates: true,
            },
            priorities,
            lanes,
            unnamed: Vec::new(),
            opened: Opened::by_peer_of(&connection),
            incoming: Incoming::new(&connection),
            outgoing: Outgoing::new(&connection),
            turn: 0,
            address: Address { last: connection.remote_address(), changes: 0, recent: VecDeque::new() },
            life: Life::Open,
            connection,
        }
    }

    /// Moves the connecting side to another local address, which the connection survives. Of no
    /// effect on the accepting side.
    pub fn rebind(&self, local: SocketAddr) -> io::Result<()> {
        match &self.role {
            Role::Connecting(endpoint) => {
                endpoint.rebind(socket::bind(local, self.limits.socket_buffer)?.socket)
            }
            Role::Accepting => Ok(()),
        }
    }

    /// Closes at once for what the peer did; the end says what.
    fn violated(&mut self, violation: &Violation) -> Event {
        let why = violation.to_string();
        self.connection.close(wire(CloseCode::ProtocolViolation), why.as_bytes());
        self.over(Ended::Failed(format!("the peer broke the protocol: {why}")))
    }

    fn over(&mut self, ended: Ended) -> Event {
        self.life = Life::Over;
        Event::Ended(ended)
    }

    /// Takes in the streams that the peer opened, until there are no more for now.
    fn poll_opened(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        while let Poll::Ready(Some(Ok(stream))) = self.opened.bidi.as_mut().poll_next(context) {
            let lanes = self.unnamed.len() + self.lanes.iter().filter(|(_, lane)| lane.is_some()).count();
            if lanes == Class::ALL.len() || matches!(self.role, Role::Connecting(_)) {
                return Err(Violation::Stream);
            }
            self.unnamed.push(Lane::new(stream));
        }
        match self.opened.uni.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(_))) => Err(Violation::Stream),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => Ok(()),
        }
    }

    /// Names the streams whose first frame has come. The session's first frame is for the session.
    fn poll_unnamed(&mut self, context: &mut Context<'_>) -> Result<Option<Bytes>, Violation> {
        let mut first = None;
        for mut lane in mem::take(&mut self.unnamed) {
            let Poll::Ready(frame) = lane.poll_frame(context) else {
                self.unnamed.push(lane);
                continue;
            };
            let frame = frame?;
            match Frame::decode(frame.clone()) {
                Ok((_, Frame::Open(class))) => self.name(class, lane)?,
                Ok(_) => {
                    self.name(Class::Session, lane)?;
                    first = Some(frame);
                }
                Err(error) => return Err(Violation::FirstFrame(error)),
            }
        }
        Ok(first)
    }

    fn name(&mut self, class: Class, lane: Lane) -> Result<(), Violation> {
        lane.prioritise(self.priorities[class]);
        match self.lanes[class].replace(lane) {
            None => Ok(()),
            Some(_) => Err(Violation::Twice(class)),
        }
    }

    /// Moves every lane's frame on, and returns the first channel that has room again.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Result<Option<Channel>, Violation> {
        for (class, lane) in self.lanes.iter_mut() {
            let Some(lane) = lane else { continue };
            if let Poll::Ready(written) = lane.poll_room(context) {
                written?;
                return Ok(Some(Channel::Lane(class)));
            }
        }
        match self.outgoing.poll_room(&self.connection, context) {
            Poll::Ready(()) => Ok(Some(Channel::Datagram)),
            Poll::Pending => Ok(None),
        }
    }

    /// The next frame, each source in turn.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Result<Option<(Channel, Bytes)>, Violation> {
        for source in (self.turn..SOURCES).chain(0..self.turn) {
            let Poll::Ready(frame) = self.poll_source(source, context) else { continue };
            self.turn = (source + 1) % SOURCES;
            return frame.map(Some);
        }
        Ok(None)
    }

    fn poll_source(
        &mut self,
        source: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Channel, Bytes), Violation>> {
        let Some(class) = Class::ALL.get(source).copied() else {
            return self.incoming.poll_datagram(context).map(|datagram| Ok((Channel::Datagram, datagram)));
        };
        let Some(lane) = &mut self.lanes[class] else { return Poll::Pending };
        lane.poll_frame(context).map(|frame| Ok((Channel::Lane(class), frame?)))
    }

    /// Everything that goes on while the connection is open or closing.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Result<Option<Event>, Violation> {
        self.poll_opened(context)?;
        if let Some(frame) = self.poll_unnamed(context)? {
            return Ok(Some(Event::Frame(Channel::Lane(Class::Session), frame)));
        }
        if let Life::Open = self.life
            && let Some(channel) = self.poll_room(context)?
        {
            return Ok(Some(Event::Room(channel)));
        }
        Ok(self.poll_frame(context)?.map(|(channel, frame)| Event::Frame(channel, frame)))
    }

    /// Moves a close on. True when nothing is left to wait for.
    fn poll_closing(&mut self, context: &mut Context<'_>) -> bool {
        let Life::Closing { rest, deadline, .. } = &mut self.life else { return false };
        if deadline.as_mut().poll(context).is_ready() {
            return true;
        }
        if let Rest::Writing = rest {
            let mut lanes: Vec<_> = self.lanes.iter_mut().filter_map(|(_, lane)| lane.as_mut()).collect();
            for lane in &mut lanes {
                // A lane that the peer stopped takes nothing more; the others still may.
                if let Poll::Ready(Err(_)) = lane.poll_room(context) {
                    lane.shut();
                }
            }
            if lanes.iter().any(|lane| lane.is_writing()) {
                return false;
            }
            let confirmed = join_all(lanes.iter_mut().map(|lane| lane.finish()));
            *rest = Rest::Confirming(Box::pin(async move {
                confirmed.await;
            }));
        }
        let Rest::Confirming(confirmed) = rest else { return false };
        confirmed.as_mut().poll(context).is_ready()
    }

    fn finish_closing(&mut self) -> Event {
        if let Life::Closing { code, reason, .. } = &self.life {
            self.connection.close(wire(*code), reason.as_bytes());
        }
        self.over(Ended::ByUs)
    }

    /// quinn follows a peer that moves without a word: this counts, and ends what moves too often.
    fn watch_address(&mut self) -> Option<Event> {
        let seen = self.connection.remote_address();
        if seen == self.address.last {
            return None;
        }
        let now = self.clock.now();
        tracing::debug!(from = %self.address.last, to = %seen, "the peer's address changed");
        self.address.last = seen;
        self.address.changes += 1;
        self.address.recent.push_back(now);
        self.address.recent.retain(|change| now.since(*change) < MIGRATION_WINDOW);
        if self.address.recent.len() <= self.limits.migrations {
            return None;
        }
        let why = format!("the address changed more than {} times in 10 s", self.limits.migrations);
        self.connection.close(wire(CloseCode::Overloaded), why.as_bytes());
        Some(self.over(Ended::Failed(why)))
    }
}

impl Connection for QuicConnection {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn remote(&self) -> Option<SocketAddr> {
        Some(self.connection.remote_address())
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Life::Over = self.life {
            return Poll::Pending;
        }
        loop {
            // Asked before the sources: what they hold once it has ended is all there will ever be.
            let end = self.connection.close_reason();
            if let Some(event) = self.watch_address() {
                return Poll::Ready(event);
            }
            if end.is_none() && self.poll_closing(context) {
                return Poll::Ready(self.finish_closing());
            }
            match self.poll_open(context) {
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) => {}
                Err(violation) => return Poll::Ready(self.violated(&violation)),
            }
            match end {
                Some(error) => return Poll::Ready(self.over(ended(&error))),
                // Sources that were asked while it was open wake the task when it ends.
                None if self.connection.close_reason().is_none() => return Poll::Pending,
                None => {}
            }
        }
    }

    fn start_send(&mut self, channel: Channel, frame: Bytes) {
        let Life::Open = self.life else { return };
        match channel {
            Channel::Lane(class) => {
                let lane = self.lanes[class].as_mut();
                lane.expect("a lane that announced room exists").start_send(frame);
            }
            Channel::Datagram => self.outgoing.start_send(&self.connection, frame),
            Channel::Shared => unreachable!("a connection with independent lanes announces no shared room"),
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        let Life::Open = self.life else { return };
        let deadline = Box::pin(sleep(CLOSE));
        self.life = Life::Closing { code, reason: reason.into(), rest: Rest::Writing, deadline };
    }

    fn measured(&self) -> Measured {
        let path = self.connection.stats().path;
        Measured {
            rtt: Some(path.rtt),
            sent_packets: Some(path.sent_packets),
            lost_packets: Some(path.lost_packets),
            window: Some(path.cwnd),
            migrations: self.address.changes,
            oversized_sent: self.outgoing.dropped,
            oversized_received: self.incoming.dropped,
        }
    }
}

impl Drop for QuicConnection {
    fn drop(&mut self) {
        // Before the streams go, which would end them in good order first.
        self.connection.close(DROPPED, b"");
    }
}

impl Opened {
    fn by_peer_of(connection: &quinn::Connection) -> Self {
        let bidi = stream::unfold(connection.clone(), |connection| async move {
            let opened = connection.accept_bi().await;
            Some((opened, connection))
        });
        let uni = stream::unfold(connection.clone(), |connection| async move {
            let opened = connection.accept_uni().await;
            Some((opened, connection))
        });
        Self { bidi: Box::pin(bidi), uni: Box::pin(uni) }
    }
}

/// What connections of one listener or dialer have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) clock: BootClock,
    pub(super) priorities: ClassMap<i32>,
}
