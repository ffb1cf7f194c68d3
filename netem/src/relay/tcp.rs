//! TCP through the relay: two kernel connections with a [`Stream`] each way between them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::end::{Dead, End, edges};
use super::engine::{Ports, Source};
use super::link::{Cargo, FlowId};
use super::stream::{Body, Segment, Stream};
use super::{Forward, socket};
use crate::core::{Direction, Moment};
use crate::poller::EventFlags;

/// Payload of a full segment on the emulated link: 1,500 bytes less IP, TCP and timestamps.
const SEGMENT: usize = 1448;
/// Headers of a segment with timestamps, over IPv4.
const HEADERS: usize = 52;

/// How long sockets of connections that a NAT has forgotten stay open and silent: longer than Linux tries to send again before it
/// gives up (15 min), so that nobody who waits for an answer is told by us.
const SILENCE: Duration = Duration::from_mins(16);
/// Bytes between the sockets of all connections together, in the links or not: half of what the relay may hold.
const MOST_IN_FLIGHT: usize = super::MOST_BYTES / 2;

/// All TCP sockets of a relay.
pub(super) struct Tcp {
    listeners: Vec<(TcpListener, SocketAddr)>,
    connections: BTreeMap<FlowId, Connection>,
    /// Whose turn it is to read first.
    turn: FlowId,
    most_flows: usize,
    pub(super) refused_flows: u64,
    resent_by_closed: u64,
    /// Sockets of connections that a NAT has forgotten, oldest first: open, but nobody reads or writes them any more.
    forgotten: VecDeque<(Moment, Vec<TcpStream>)>,
    /// Listeners that are not watched because the process has no more file descriptors.
    paused: Vec<usize>,
}

/// A client's connection and its counterpart upstream.
struct Connection {
    client: End,
    server: Server,
    upstream: SocketAddr,
    streams: [Stream; 2],
}

/// How far the handshake has come.
enum Server {
    /// The hello is on its way up.
    Greeting,
    /// It has arrived; the kernel connects.
    Connecting(TcpStream),
    /// The hello's answer is on its way down.
    Answering(End),
    Open(End),
}

impl Tcp {
    pub(super) fn listen(forwards: &[Forward], most_flows: usize) -> io::Result<Self> {
        let bind = |forward: &Forward| Ok((socket::tcp_listener(forward.listen)?, forward.upstream));
        Ok(Self {
            listeners: forwards.iter().map(bind).collect::<io::Result<_>>()?,
            connections: BTreeMap::new(),
            turn: 0,
            most_flows,
            refused_flows: 0,
            resent_by_closed: 0,
            forgotten: VecDeque::new(),
            paused: Vec::new(),
        })
    }

    pub(super) fn watch(&self, ports: &Ports) -> io::Result<()> {
        for (index, (listener, _)) in self.listeners.iter().enumerate() {
            ports.watch(listener, Source::TcpListener(index), EventFlags::IN)?;
        }
        Ok(())
    }

    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(|(listener, _)| listener.local_addr()).collect()
    }

    pub(super) fn flow_count(&self) -> usize {
        self.connections.len()
    }

    /// Segments that were sent again, over all connections that ever were.
    pub(super) fn resent(&self) -> u64 {
        self.resent_by_closed + self.connections.values().map(Connection::resent).sum::<u64>()
    }

    /// Accepts clients. Above the limit they are reset.
    pub(super) fn on_listener(&mut self, index: usize, now: Moment, ports: &mut Ports) {
        loop {
            let client = match self.listeners[index].0.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // It would be announced again at once, and fail again at once.
                Err(_) => return self.pause(index, ports),
            };
            if self.connections.len() >= self.most_flows || socket::accepted(&client).is_err() {
                socket::reset_on_close(&client);
                self.refused_flows += 1;
                continue;
            }
            let id = ports.new_flow(now);
            if ports.watch(&client, Source::TcpClient(id), edges()).is_err() {
                ports.links.remove_flow(id);
                continue;
            }
            let rtt = ports.links.base_rtt();
            let mut streams = [Stream::new(rtt), Stream::new(rtt)];
            let hello = streams[Direction::Up.index()].send(Body::Hello);
            let (client, upstream) = (End::new(client), self.listeners[index].1);
            self.connections.insert(id, Connection { client, server: Server::Greeting, upstream, streams });
            self.offer(id, Direction::Up, hello, now, ports);
        }
    }

    fn pause(&mut self, index: usize, ports: &Ports) {
        self.refused_flows += 1;
        self.paused.push(index);
        ports.unwatch(&self.listeners[index].0);
    }

    /// Watches paused listeners again.
    pub(super) fn resume(&mut self, ports: &Ports) {
        let watch = |index: &usize| {
            ports.watch(&self.listeners[*index].0, Source::TcpListener(*index), EventFlags::IN)
        };
        self.paused.retain(|index| watch(index).is_err());
    }

    /// The client's socket changed its readiness.
    pub(super) fn on_client(&mut self, id: FlowId, flags: EventFlags) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.client.note(flags);
        }
    }

    /// The upstream socket changed its readiness.
    pub(super) fn on_server(&mut self, id: FlowId, flags: EventFlags, now: Moment, ports: &mut Ports) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match &mut connection.server {
            Server::Greeting => {}
            Server::Answering(end) | Server::Open(end) => end.note(flags),
            Server::Connecting(_) => match connection.connected() {
                Ok(hello) => self.offer(id, Direction::Down, hello, now, ports),
                Err(Dead) => self.reset(id, ports),
            },
        }
    }

    /// A segment arrived at the far end of `direction`.
    pub(super) fn arrive(
        &mut self,
        id: FlowId,
        direction: Direction,
        segment: Segment,
        now: Moment,
        ports: &mut Ports,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.streams[direction.index()].arrive(now, segment);
        if connection.unpack(id, direction, ports).is_err() {
            self.reset(id, ports);
        }
    }

    /// A segment was lost on the way.
    pub(super) fn lose(
        &mut self,
        id: FlowId,
        direction: Direction,
        segment: Segment,
        now: Moment,
        ports: &mut Ports,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.streams[direction.index()].lose(now, segment).is_err() {
            self.reset(id, ports);
        }
    }

    /// Lets every connection send again what was lost, read where the link has room, and write what arrived.
    pub(super) fn pump(&mut self, now: Moment, ports: &mut Ports) {
        let mut ids: Vec<_> = self.connections.keys().copied().collect();
        let first = ids.partition_point(|id| *id < self.turn);
        ids.rotate_left(first);
        for id in &ids {
            self.resend(*id, now, ports);
        }
        // One segment each, in turns, so that connections share the queue fairly. A round adds at most one segment per connection and
        // direction to the bound.
        while self.in_flight() < MOST_IN_FLIGHT
            && ids.iter().filter(|id| self.read_on(**id, now, ports)).count() > 0
        {}
        for id in ids {
            self.write_out(id, ports);
        }
    }

    /// Bytes between the sockets of all connections.
    fn in_flight(&self) -> usize {
        self.connections.values().flat_map(|connection| &connection.streams).map(Stream::in_flight).sum()
    }

    /// When something is to be sent again.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.connections
            .values()
            .flat_map(|connection| &connection.streams)
            .filter_map(Stream::next_resend)
            .min()
    }

    /// Forgets all connections, as a NAT does that takes new ports and says nothing: what is under way is lost, and neither end is
    /// told. Of more than the most connections the oldest are closed.
    pub(super) fn forget_all(&mut self, now: Moment, ports: &mut Ports) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.remove(id, ports) else { continue };
            let sockets = connection.into_sockets();
            for socket in &sockets {
                ports.unwatch(socket);
            }
            self.forgotten.push_back((now, sockets));
        }
        let excess = self.forgotten.len().saturating_sub(self.most_flows);
        self.forgotten.drain(..excess);
    }

    /// Closes what has been silent for long enough.
    pub(super) fn expire(&mut self, now: Moment) {
        let old = self.forgotten.partition_point(|(since, _)| now.since(*since) >= SILENCE);
        self.forgotten.drain(..old);
    }

    /// Resets all connections, as a NAT does that takes new ports and answers for the old ones.
    pub(super) fn reset_all(&mut self, ports: &mut Ports) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            self.reset(id, ports);
        }
    }

    fn resend(&mut self, id: FlowId, now: Moment, ports: &mut Ports) {
        for direction in Direction::BOTH {
            while ports.links.has_room(id, direction) {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                let Some(segment) = connection.streams[direction.index()].resend(now) else { break };
                self.offer(id, direction, segment, now, ports);
            }
        }
    }

    /// Reads one segment each way. Tells whether there was one.
    fn read_on(&mut self, id: FlowId, now: Moment, ports: &mut Ports) -> bool {
        let mut any = false;
        for direction in Direction::BOTH {
            let Some(connection) = self.connections.get_mut(&id) else { return false };
            match connection.read(direction, ports.links.has_room(id, direction)) {
                Ok(Some(segment)) => {
                    self.offer(id, direction, segment, now, ports);
                    self.turn = id + 1;
                    any = true;
                }
                Ok(None) => {}
                Err(Dead) => self.reset(id, ports),
            }
        }
        any
    }

    fn write_out(&mut self, id: FlowId, ports: &mut Ports) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.write_out() {
            Err(Dead) => self.reset(id, ports),
            Ok(()) if connection.is_over() => drop(self.remove(id, ports)),
            Ok(()) => {}
        }
    }

    fn offer(&mut self, id: FlowId, direction: Direction, segment: Segment, now: Moment, ports: &mut Ports) {
        let size = (segment.body.len() + HEADERS) as u32;
        if let Err((_, Cargo::Segment(segment))) =
            ports.links.push(now, direction, size, (id, Cargo::Segment(segment)))
        {
            self.lose(id, direction, segment, now, ports);
        }
    }

    fn reset(&mut self, id: FlowId, ports: &mut Ports) {
        let Some(connection) = self.remove(id, ports) else { return };
        connection.client.reset();
        match connection.server {
            Server::Greeting => {}
            Server::Connecting(socket) => socket::reset_on_close(&socket),
            Server::Answering(end) | Server::Open(end) => end.reset(),
        }
    }

    fn remove(&mut self, id: FlowId, ports: &mut Ports) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.resent_by_closed += connection.resent();
        ports.links.remove_flow(id);
        Some(connection)
    }
}

impl Connection {
    fn into_sockets(self) -> Vec<TcpStream> {
        let server = match self.server {
            Server::Greeting => None,
            Server::Connecting(socket) => Some(socket),
            Server::Answering(end) | Server::Open(end) => Some(end.into_socket()),
        };
        [Some(self.client.into_socket()), server].into_iter().flatten().collect()
    }

    fn resent(&self) -> u64 {
        self.streams.iter().map(Stream::resent).sum()
    }

    /// The kernel has finished connecting: the answer to the hello, or failure.
    fn connected(&mut self) -> Result<Segment, Dead> {
        let Server::Connecting(socket) = std::mem::replace(&mut self.server, Server::Greeting) else {
            return Err(Dead);
        };
        if !matches!(socket.take_error(), Ok(None)) || socket.peer_addr().is_err() {
            return Err(Dead);
        }
        self.server = Server::Answering(End::new(socket));
        Ok(self.streams[Direction::Down.index()].send(Body::Hello))
    }

    /// Acts on what has arrived in order.
    fn unpack(&mut self, id: FlowId, direction: Direction, ports: &Ports) -> Result<(), Dead> {
        while let Some(body) = self.streams[direction.index()].take() {
            match (direction, body) {
                (Direction::Up, Body::Hello) => {
                    let socket = socket::tcp_to(self.upstream).map_err(|_| Dead)?;
                    ports.watch(&socket, Source::TcpServer(id), edges()).map_err(|_| Dead)?;
                    self.server = Server::Connecting(socket);
                }
                (Direction::Down, Body::Hello) => self.open()?,
                (Direction::Up, body @ (Body::Data(_) | Body::Fin)) => match &mut self.server {
                    Server::Open(end) => end.queue(body),
                    Server::Greeting | Server::Connecting(_) | Server::Answering(_) => return Err(Dead),
                },
                (Direction::Down, body @ (Body::Data(_) | Body::Fin)) => self.client.queue(body),
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Dead> {
        let Server::Answering(end) = std::mem::replace(&mut self.server, Server::Greeting) else {
            return Err(Dead);
        };
        self.server = Server::Open(end);
        Ok(())
    }

    /// Reads a segment that travels in `direction`, if the link has room and the source has something.
    fn read(&mut self, direction: Direction, has_room: bool) -> Result<Option<Segment>, Dead> {
        let stream = &mut self.streams[direction.index()];
        let source = match (direction, &mut self.server) {
            // The client may talk once its connection is answered.
            (Direction::Up, Server::Open(_)) => &mut self.client,
            (Direction::Up, Server::Greeting | Server::Connecting(_) | Server::Answering(_)) => {
                return Ok(None);
            }
            (Direction::Down, Server::Answering(end) | Server::Open(end)) => end,
            (Direction::Down, Server::Greeting | Server::Connecting(_)) => return Ok(None),
        };
        if !has_room || !stream.may_send() || !source.may_read() {
            return Ok(None);
        }
        let body = source.read(&mut [0; SEGMENT])?;
        Ok(body.map(|body| stream.send(body)))
    }

    fn write_out(&mut self) -> Result<(), Dead> {
        let [up, down] = &mut self.streams;
        down.written(self.client.write_out()?);
        match &mut self.server {
            Server::Open(end) => up.written(end.write_out()?),
            Server::Greeting | Server::Connecting(_) | Server::Answering(_) => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match &self.server {
            Server::Open(end) => end.is_over() && self.client.is_over(),
            Server::Greeting | Server::Connecting(_) | Server::Answering(_) => false,
        }
    }
}
