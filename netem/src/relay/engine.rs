//! The relay's one thread: waits, reads, lets the links work, writes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use super::link::{Cargo, FlowId, Links, Outcome};
use super::tcp::Tcp;
use super::udp::Udp;
use super::{Config, Rebinding, Stats};
use crate::clock;
use crate::core::{Direction, Moment, OutageMode, UdpPolicy};
use crate::orders::Inbox;
use crate::poller::{EventFlags, Poller, Waker};
use crate::profile::{Agenda, Happening, Profile};

/// How often idle UDP flows are looked for and paused listeners tried again.
const EXPIRY_EVERY: Duration = Duration::from_secs(5);

/// What the handle asks of the thread.
pub(super) enum Command {
    BlockUdp(bool),
    Outage { length: Duration, mode: OutageMode },
    Rebind(Rebinding),
    SetProfile(Box<Profile>),
    Stats,
}

/// What the thread answers once it has obeyed.
pub(super) enum Answer {
    Done,
    Stats(Box<Stats>),
}

/// Who has news. Packed into the 64 bits that epoll hands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    UdpListener(usize),
    UdpFlow(FlowId),
    TcpListener(usize),
    TcpClient(FlowId),
    TcpServer(FlowId),
}

impl Source {
    const KIND_SHIFT: u32 = 56;

    const fn pack(self) -> u64 {
        let (kind, id) = match self {
            Self::UdpListener(index) => (0, index as u64),
            Self::UdpFlow(id) => (1, id),
            Self::TcpListener(index) => (2, index as u64),
            Self::TcpClient(id) => (3, id),
            Self::TcpServer(id) => (4, id),
        };
        kind << Self::KIND_SHIFT | id
    }

    const fn unpack(data: u64) -> Option<Self> {
        let id = data & ((1 << Self::KIND_SHIFT) - 1);
        match data >> Self::KIND_SHIFT {
            0 => Some(Self::UdpListener(id as usize)),
            1 => Some(Self::UdpFlow(id)),
            2 => Some(Self::TcpListener(id as usize)),
            3 => Some(Self::TcpClient(id)),
            4 => Some(Self::TcpServer(id)),
            _ => None,
        }
    }
}

/// What both protocols share: the links, the poller and the numbering of flows.
pub(super) struct Ports {
    pub(super) links: Links,
    poller: Poller,
    last_flow: FlowId,
}

impl Ports {
    pub(super) fn watch(&self, socket: impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        self.poller.watch(socket, source.pack(), flags)
    }

    pub(super) fn unwatch(&self, socket: impl AsFd) {
        self.poller.unwatch(socket);
    }

    /// Numbers a flow and gives it a link.
    pub(super) fn new_flow(&mut self, now: Moment) -> FlowId {
        self.last_flow += 1;
        self.links.add_flow(self.last_flow, now);
        self.last_flow
    }
}

/// Everything that the thread owns.
pub(super) struct Engine {
    ports: Ports,
    udp: Udp,
    tcp: Tcp,
    start: Moment,
    expire_at: Moment,
    outage_until: Moment,
    agenda: Agenda,
}

impl Engine {
    /// Binds all sockets.
    pub(super) fn new(config: Config) -> io::Result<Self> {
        let start = clock::now();
        let links = Links::new(config.profile, config.seed, config.sharing, start);
        let ports = Ports { links, poller: Poller::new()?, last_flow: 0 };
        let udp = Udp::listen(&config.udp, config.most_flows)?;
        let tcp = Tcp::listen(&config.tcp, config.most_flows)?;
        udp.watch(&ports)?;
        tcp.watch(&ports)?;
        let agenda = Agenda::new(config.events);
        Ok(Self { ports, udp, tcp, start, expire_at: start + EXPIRY_EVERY, outage_until: start, agenda })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        self.ports.poller.waker()
    }

    pub(super) fn addresses(&self) -> io::Result<(Vec<SocketAddr>, Vec<SocketAddr>)> {
        Ok((self.udp.addresses()?, self.tcp.addresses()?))
    }

    /// Works until the handle is gone.
    pub(super) fn run(mut self, inbox: &Inbox<Command, Answer>) -> io::Result<()> {
        let (mut now, mut events) = (self.start, Vec::new());
        loop {
            let due = self.next_due(now);
            self.ports.poller.wait(Some(due), &mut events)?;
            // Before what came in: an event holds from its moment on.
            self.let_happen(clock::now());
            for (data, flags) in events.drain(..) {
                if let Some(source) = Source::unpack(data) {
                    self.on_event(source, flags, clock::now());
                }
            }
            if inbox.obey(|command| self.on_command(command, clock::now())).is_err() {
                return Ok(());
            }
            now = clock::now();
            self.turn(now);
        }
    }

    /// Delivers what is due and lets TCP go on.
    fn turn(&mut self, now: Moment) {
        for outcome in self.ports.links.drain(now) {
            self.settle(outcome, now);
        }
        self.tcp.pump(now, &mut self.ports);
        if now >= self.expire_at {
            self.expire_at = now + EXPIRY_EVERY;
            self.udp.expire(now, &mut self.ports);
            self.tcp.expire(now);
            self.tcp.resume(&self.ports);
        }
    }

    fn let_happen(&mut self, now: Moment) {
        while let Some(event) = self.agenda.pop(now.since(self.start)) {
            self.happen(event.what, now);
        }
    }

    fn happen(&mut self, what: Happening, now: Moment) {
        match what {
            Happening::Rebind(how) => self.rebind(how, now),
            Happening::Udp(policy) => self.ports.links.set_udp(now, policy),
            Happening::Capacity { up, down } => self.ports.links.set_capacity(now, [up, down]),
            // Refused at the start.
            Happening::Link { .. }
            | Happening::Carrier { .. }
            | Happening::Address { .. }
            | Happening::Prefer => {}
        }
    }

    fn rebind(&mut self, how: Rebinding, now: Moment) {
        self.udp.rebind(how, &self.ports);
        match how {
            Rebinding::Silent => self.tcp.forget_all(now, &mut self.ports),
            Rebinding::Reset => self.tcp.reset_all(&mut self.ports),
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Moment) {
        let ports = &mut self.ports;
        match outcome {
            Outcome::Arrived { direction, copies, parcel: (id, Cargo::Datagram(bytes)) } => {
                self.udp.deliver(id, direction, copies, &bytes);
            }
            Outcome::Arrived { direction, parcel: (id, Cargo::Segment(segment)), .. } => {
                self.tcp.arrive(id, direction, segment, now, ports);
            }
            Outcome::Lost { direction, parcel: (id, Cargo::Segment(segment)) } => {
                self.tcp.lose(id, direction, segment, now, ports);
            }
            Outcome::Lost { parcel: (_, Cargo::Datagram(_)), .. } => {}
        }
    }

    /// When there is something to do. A segment that could not be sent again because the queue is full waits for the queue,
    /// whose own due time is among these.
    fn next_due(&self, now: Moment) -> Moment {
        let resend = self.tcp.next_due().filter(|due| *due > now);
        let event = self.agenda.next_due().map(|due| self.start + due);
        [self.ports.links.next_due(), resend, event].into_iter().flatten().fold(self.expire_at, Moment::min)
    }

    fn on_event(&mut self, source: Source, flags: EventFlags, now: Moment) {
        let ports = &mut self.ports;
        match source {
            Source::UdpListener(index) => self.udp.on_listener(index, now, ports),
            Source::UdpFlow(id) => self.udp.on_flow(id, now, ports),
            Source::TcpListener(index) => self.tcp.on_listener(index, now, ports),
            Source::TcpClient(id) => self.tcp.on_client(id, flags),
            Source::TcpServer(id) => self.tcp.on_server(id, flags, now, ports),
        }
    }

    fn on_command(&mut self, command: Command, now: Moment) -> Answer {
        match command {
            Command::BlockUdp(true) => self.ports.links.set_udp(now, UdpPolicy::Block),
            Command::BlockUdp(false) => self.ports.links.set_udp(now, UdpPolicy::Pass),
            Command::Outage { length, mode } => {
                self.outage_until = now + length;
                self.ports.links.declare_outage(now, self.outage_until, mode);
            }
            Command::Rebind(how) => self.rebind(how, now),
            Command::SetProfile(profile) => self.ports.links.set_profile(now, *profile),
            Command::Stats => return Answer::Stats(Box::new(self.stats(now))),
        }
        Answer::Done
    }

    fn stats(&self, now: Moment) -> Stats {
        let links = &self.ports.links;
        Stats {
            uptime: now.since(self.start),
            up: links.counts(Direction::Up),
            down: links.counts(Direction::Down),
            queued_up: links.queued_bytes(Direction::Up),
            queued_down: links.queued_bytes(Direction::Down),
            udp_flows: self.udp.flow_count(),
            tcp_flows: self.tcp.flow_count(),
            refused_flows: self.udp.refused_flows + self.tcp.refused_flows,
            unsent_datagrams: self.udp.unsent,
            resent_segments: self.tcp.resent(),
            over_memory: links.over_memory(),
            untold_drops: links.untold(),
            udp_blocked: links.udp_blocked(),
            outage_left: self.outage_until.since(now),
            lateness: links.lateness().clone(),
        }
    }
}
