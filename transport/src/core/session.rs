//! The session: one relation between two peers, on whatever connections it lives.
//!
//! [`Session::handle`] takes one input, [`Session::poll`] gives one output until it says
//! [`Output::Wait`]. The two sides differ only in who says hello, who drives the heartbeat and who
//! ends connections that are no longer needed; everything else is symmetric.

mod io;
mod life;
mod receive;
mod status;
#[cfg(test)]
mod tests;
mod transmit;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::frame::{Goodbye, Received};
use carriageway_proto::{
    BootId, Class, ClassMap, CloseCode, ControlFrame, Epoch, MAX_FRAME, Moment, SessionId, SignalPath, Stamp,
    VERSION, Value,
};

use super::bulk_window::BulkWindow;
use super::connection::{ConnectionId, Ended};
use super::control;
use super::floor::Floor;
use super::lane::{Fate, Inbox, Outbox, Ticket};
use super::peer::{Peer, Stage};
use super::pulse::{Health, Role};
use super::signals::{Conflator, Latest};
pub use io::{Carrier, Config, Connectivity, Happening, Input, Output, SendError, SignalUpdate};
pub use status::{ConnectionStatus, Drop, Status};

/// Largest payload on a lane, in bytes: what a frame leaves after its own fields.
pub const MAX_PAYLOAD: usize = MAX_FRAME - 64;

/// Largest payload on the bulk lane, in bytes: what may stand before an urgent frame on a shared
/// stream.
pub const MAX_BULK_PAYLOAD: usize = 4 * 1_024;

/// Counters of what a session did beside the ordinary.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    resumes: u64,
    duplicates: u64,
    expired_unsent: u64,
    expired_sent: u64,
    gaps: u64,
    refused_full: u64,
    undecodable: u64,
    early_datagrams: u64,
    early_control: u64,
}

#[derive(Debug)]
enum Life {
    /// Connecting side: no welcome yet.
    New,
    Alive(SessionId),
    Over(Ended),
}

/// One session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    role: Role,
    stamp_boot: BootId,
    life: Life,
    epoch: Epoch,
    peers: Vec<Peer>,
    outboxes: ClassMap<Outbox>,
    inboxes: ClassMap<Inbox>,
    acks_due: ClassMap<bool>,
    bulk_arrival: Option<Moment>,
    bulk_ack: transmit::BulkAck,
    bulk_window: BulkWindow,
    conflator: Conflator,
    control: control::Slot,
    latest: Latest,
    floor: Option<Floor>,
    carrier: Option<ConnectionId>,
    next_ticket: u64,
    retry_after: Option<Duration>,
    turned_away: u64,
    /// When a hello was last given up unanswered: the gateway may read it yet, and take us over by it.
    stray_hello: Option<Moment>,
    last_end: Option<Ended>,
    happened: VecDeque<Happening>,
    closes: VecDeque<(ConnectionId, CloseCode, String)>,
    counters: Counters,
    /// Every class, highest priority first.
    by_priority: [Class; 8],
}

impl Session {
    /// The connecting side's session, before its first hello. `highest` is the highest epoch this
    /// peer has ever held.
    pub fn connecting(config: Config, boot: BootId, highest: Epoch) -> Self {
        Self::new(config, Role::Connecting, boot, Life::New, highest)
    }

    /// The accepting side's session.
    pub fn accepting(config: Config, boot: BootId, id: SessionId, epoch: Epoch) -> Self {
        Self::new(config, Role::Accepting, boot, Life::Alive(id), epoch)
    }

    fn new(config: Config, role: Role, boot: BootId, life: Life, epoch: Epoch) -> Self {
        let outbox = |class| {
            Outbox::new(class, config.policies[class].queue_frames, config.policies[class].queue_bytes)
        };
        let mut by_priority = Class::ALL;
        by_priority.sort_by_key(|class| -config.policies[*class].priority);
        Self {
            by_priority,
            role,
            stamp_boot: boot,
            life,
            epoch,
            peers: Vec::new(),
            outboxes: ClassMap::from_fn(outbox),
            inboxes: ClassMap::default(),
            acks_due: ClassMap::default(),
            bulk_arrival: None,
            bulk_ack: transmit::BulkAck::default(),
            bulk_window: BulkWindow::new(config.bulk),
            conflator: Conflator::new(config.max_signal_paths),
            control: control::Slot::default(),
            latest: Latest::new(config.max_signal_paths),
            floor: None,
            carrier: None,
            next_ticket: 1,
            retry_after: None,
            turned_away: 0,
            stray_hello: None,
            last_end: None,
            happened: VecDeque::new(),
            closes: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// Takes in what the shell saw. Terminates on any bytes; a connection that breaks the protocol is
    /// closed, the session stays.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Opened { connection, capabilities, why } => {
                self.opened(connection, capabilities, why, now);
            }
            Input::Greeted { connection, capabilities, greeting } => {
                self.greeted(connection, capabilities, &greeting, now);
            }
            Input::Room(connection, channel) => {
                if let Some(peer) = self.peer(connection) {
                    peer.gained_room(channel);
                }
            }
            Input::Frame(connection, channel, bytes) => self.frame(connection, channel, bytes, now),
            Input::Ended(connection, ended) => self.ended(connection, ended, now),
            Input::Tick => {}
        }
        self.look_at_the_time(now);
    }

    /// The next output.
    pub fn poll(&mut self, now: Moment) -> Output {
        if let Some((connection, code, reason)) = self.closes.pop_front() {
            return Output::Close(connection, code, reason);
        }
        if let Some(output) = self.transmit(now) {
            return output;
        }
        // Leaving connections close in `transmit`.
        if let Some((connection, code, reason)) = self.closes.pop_front() {
            return Output::Close(connection, code, reason);
        }
        match self.happened.pop_front() {
            Some(happening) => Output::Happened(happening),
            None => Output::Wait(self.next_deadline(now)),
        }
    }

    /// Takes in a message for a lane; it goes when a connection has room for it, unless `expires`
    /// comes first.
    pub fn send(
        &mut self,
        class: Class,
        payload: Bytes,
        expires: Option<Moment>,
    ) -> Result<Ticket, SendError> {
        if let Life::Over(_) = self.life {
            return Err(SendError::Ended(payload));
        }
        let max = if class == Class::Bulk { MAX_BULK_PAYLOAD } else { MAX_PAYLOAD };
        if payload.len() > max {
            return Err(SendError::TooLarge(payload));
        }
        let ticket = Ticket(self.next_ticket);
        if let Err(payload) = self.outboxes[class].push(ticket, payload, expires) {
            self.counters.refused_full += 1;
            return Err(SendError::Full(payload));
        }
        self.next_ticket += 1;
        Ok(ticket)
    }

    /// Offers the newest value of a signal.
    pub fn signal(&mut self, path: SignalPath, value: Value, now: Moment) {
        self.conflator.offer(path, value, now);
    }

    /// Offers newer control; it goes on every connection that has room for it within its age limit, and
    /// replaces what waits.
    pub fn control(&mut self, frame: ControlFrame, now: Moment) {
        self.control.offer(now, frame);
    }

    /// Ends the session: says goodbye on every connection, then closes them.
    pub fn close(&mut self, code: CloseCode, reason: &str, retry_after: Option<Duration>) {
        if let Life::Over(_) = self.life {
            return;
        }
        let retry_after_ms =
            retry_after.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        let goodbye = Goodbye { code, reason: reason.into(), retry_after_ms };
        for peer in &mut self.peers {
            if !peer.is_closed() {
                peer.stage = Stage::Leaving(goodbye.clone());
            }
        }
        self.over(Ended::ByUs);
    }

    /// A floor under the peer's boot clock; `None` before its first frame.
    pub fn peer_clock(&self, now: Moment) -> Option<Stamp> {
        self.floor.map(|floor| floor.at(now))
    }

    /// Whether and where the session is carried.
    pub fn connectivity(&self, now: Moment) -> Connectivity {
        let carrier = self.peers.iter().find(|peer| Some(peer.id) == self.carrier).map(|peer| Carrier {
            connection: peer.id,
            transport: peer.capabilities.transport,
            is_suspect: peer.pulse.health(now) != Health::Good,
        });
        Connectivity {
            carrier,
            turned_away: self.turned_away,
            last_end: self.last_end.clone(),
            retry_after: self.retry_after,
            over: match &self.life {
                Life::Over(ended) => Some(ended.clone()),
                Life::New | Life::Alive(_) => None,
            },
        }
    }

    /// True once the session is over and the last of its connections too.
    pub fn is_finished(&self) -> bool {
        matches!(self.life, Life::Over(_))
            && self.peers.is_empty()
            && self.happened.is_empty()
            && self.closes.is_empty()
    }

    fn look_at_the_time(&mut self, now: Moment) {
        self.expire(now);
        let deadline = self.config.greeting_deadline;
        for peer in &mut self.peers {
            let verdict = match peer.stage {
                Stage::Closed => None,
                Stage::Greeted { since } if now >= since + deadline => {
                    self.stray_hello = Some(now);
                    Some((CloseCode::HandshakeTimeout, "no welcome in time"))
                }
                Stage::Hello
                | Stage::Greeted { .. }
                | Stage::Welcome { .. }
                | Stage::Welcomed { .. }
                | Stage::Ready
                | Stage::Leaving(_) => (peer.pulse.health(now) == Health::Dead)
                    .then_some((CloseCode::Dead, "silent for too long")),
            };
            if let Some((code, reason)) = verdict {
                peer.stage = Stage::Closed;
                self.closes.push_back((peer.id, code, reason.into()));
            }
        }
        self.choose_carrier(now);
    }

    fn expire(&mut self, now: Moment) {
        let (happened, counters) = (&mut self.happened, &mut self.counters);
        let mut settled = |ticket, fate| note_fate(happened, counters, ticket, fate);
        for (_, outbox) in self.outboxes.iter_mut() {
            outbox.expire(now, &mut settled);
        }
    }

    /// The newest ready connection that is heard from carries the lanes; where none is, the newest.
    fn choose_carrier(&mut self, now: Moment) {
        let newest = |wanted: fn(&Peer, Moment) -> bool| {
            self.peers.iter().rev().find(|peer| peer.is_ready() && wanted(peer, now)).map(|peer| peer.id)
        };
        let chosen =
            newest(|peer, now| peer.pulse.health(now) == Health::Good).or_else(|| newest(|_, _| true));
        if chosen != self.carrier {
            self.carrier = chosen;
            // Bulk's delays are others now.
            self.bulk_window.restart();
            self.acknowledge_anew(now);
            self.tell_of_move();
        }
    }

    /// What the carrier before was given to acknowledge may be lost with it.
    fn acknowledge_anew(&mut self, now: Moment) {
        for (class, inbox) in self.inboxes.iter() {
            self.acks_due[class] |= inbox.received() > 0;
        }
        self.bulk_ack.hurry(Class::Bulk, now);
    }

    fn tell_of_move(&mut self) {
        if let Some(peer) = self.peers.iter().find(|peer| Some(peer.id) == self.carrier) {
            let (transport, why) = (peer.capabilities.transport, peer.why.clone());
            self.happened.push_back(Happening::Moved { transport, why });
        }
    }

    /// Which connections carry a class: every live one for safety, the carrier for all else.
    fn carries(&self, peer: &Peer, class: Class) -> bool {
        peer.is_ready() && (class == Class::Safety || Some(peer.id) == self.carrier)
    }

    fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let expiry = self.outboxes.iter().filter_map(|(_, outbox)| outbox.next_expiry()).min();
        let signals = self.signals_deadline(now);
        let peers = self.peers.iter().filter_map(|peer| match peer.stage {
            Stage::Closed => None,
            Stage::Greeted { since } => {
                let deadline = since + self.config.greeting_deadline;
                peer.pulse.next_change(now).map_or(Some(deadline), |change| Some(change.min(deadline)))
            }
            Stage::Hello
            | Stage::Welcome { .. }
            | Stage::Welcomed { .. }
            | Stage::Ready
            | Stage::Leaving(_) => peer.pulse.next_change(now),
        });
        let ack = self.bulk_ack.due_at();
        // What is overdue waits for room, not for time.
        expiry.into_iter().chain(signals).chain(peers).chain(ack).filter(|at| *at > now).min()
    }

    fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == connection)
    }

    fn received(&self) -> Received {
        self.inboxes
            .iter()
            .filter(|(_, inbox)| inbox.received() > 0)
            .map(|(class, inbox)| (class, inbox.received()))
            .collect()
    }

    fn stamp(&self, now: Moment) -> Stamp {
        Stamp { boot: self.stamp_boot, clock: now }
    }
}

/// How long a hello that was given up may still reach the gateway: longer than its handshake and hello
/// deadlines together.
const STRAY_HELLO: Duration = Duration::from_secs(30);

const BAD_ACK: &str = "acknowledged what was never sent";

/// What a peer of another version is told.
pub fn version_mismatch(theirs: u32) -> String {
    format!("this side speaks version {VERSION}, the peer {theirs}")
}

fn note_fate(happened: &mut VecDeque<Happening>, counters: &mut Counters, ticket: Ticket, fate: Fate) {
    match fate {
        Fate::Expired { sent: false } => counters.expired_unsent += 1,
        Fate::Expired { sent: true } => counters.expired_sent += 1,
        Fate::Acknowledged | Fate::Lost { .. } => {}
    }
    happened.push_back(Happening::Settled { ticket, fate });
}
