//! Every state visible: what a session tells an operator at three in the morning.

use std::time::Duration;

use carriageway_proto::{ClassMap, Epoch, Moment, SessionId};

use super::{Life, Session};
use crate::core::connection::{ConnectionId, Transport};
use crate::core::pulse::Health;

/// What a session looks like now.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its id; `None` before the first welcome and after the end.
    pub session: Option<SessionId>,
    /// Its epoch.
    pub epoch: Epoch,
    /// How often it moved to another connection or came back.
    pub resumes: u64,
    /// Its connections, oldest first.
    pub connections: Vec<ConnectionStatus>,
    /// Frames that wait or are unacknowledged, per lane.
    pub queued_frames: ClassMap<usize>,
    /// Frames that no connection has been given yet, per lane.
    pub unsent_frames: ClassMap<usize>,
    /// Payload bytes that wait or are unacknowledged, per lane.
    pub queued_bytes: ClassMap<usize>,
    /// Signals that wait.
    pub queued_signals: usize,
    /// The bulk lane's window, in bytes.
    pub bulk_window: u64,
    /// Delay that the link's queue adds now, as bulk sees it.
    pub bulk_queueing: Duration,
    /// What was dropped, by stage and reason; counters since the session began.
    pub drops: Vec<Drop>,
}

/// One counter of things dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Where: `send`, `receive`.
    pub stage: &'static str,
    /// What and why.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// What one connection looks like now.
#[derive(Clone, Debug)]
pub struct ConnectionStatus {
    /// Its id within the session.
    pub id: ConnectionId,
    /// Its protocol.
    pub transport: Transport,
    /// Why this transport, in the connecting side's words.
    pub why: String,
    /// True of the one that carries the lanes.
    pub is_carrier: bool,
    /// How it fares.
    pub health: Health,
    /// Smoothed round trip of heartbeats.
    pub rtt: Option<Duration>,
    /// Variation of the round trip.
    pub jitter: Option<Duration>,
    /// How long it has been part of the session.
    pub lived: Duration,
    /// How long since anything came in on it.
    pub silent_for: Duration,
}

impl Session {
    /// What the session looks like at `now`.
    pub fn status(&self, now: Moment) -> Status {
        Status {
            session: self.id(),
            epoch: self.epoch,
            resumes: self.counters.resumes,
            connections: self.connection_statuses(now),
            queued_frames: ClassMap::from_fn(|class| self.outboxes[class].frames()),
            unsent_frames: ClassMap::from_fn(|class| self.outboxes[class].unsent()),
            queued_bytes: ClassMap::from_fn(|class| self.outboxes[class].bytes()),
            queued_signals: self.conflator.waiting(),
            bulk_window: self.bulk_window.bytes(),
            bulk_queueing: self.bulk_window.queueing(),
            drops: self.drops(),
        }
    }

    /// The session's id, while it has one.
    pub fn id(&self) -> Option<SessionId> {
        match self.life {
            Life::Alive(id) => Some(id),
            Life::New | Life::Over(_) => None,
        }
    }

    /// How long since anything came in on any connection; `None` without one.
    pub fn silent_for(&self, now: Moment) -> Option<Duration> {
        let alive = self.peers.iter().filter(|peer| !peer.is_closed());
        alive.map(|peer| now.since(peer.pulse.last_heard())).min()
    }

    fn connection_statuses(&self, now: Moment) -> Vec<ConnectionStatus> {
        let alive = self.peers.iter().filter(|peer| !peer.is_closed());
        let status = |peer: &crate::core::peer::Peer| ConnectionStatus {
            id: peer.id,
            transport: peer.capabilities.transport,
            why: peer.why.clone(),
            is_carrier: Some(peer.id) == self.carrier,
            health: peer.pulse.health(now),
            rtt: peer.pulse.rtt(),
            jitter: peer.pulse.jitter(),
            lived: now.since(peer.since),
            silent_for: now.since(peer.pulse.last_heard()),
        };
        alive.map(status).collect()
    }

    fn drops(&self) -> Vec<Drop> {
        let (sent, received, counters) = (self.conflator.drops(), self.latest.drops(), self.counters);
        let control = self.control.drops();
        let drop = |stage, reason, count| Drop { stage, reason, count };
        vec![
            drop("send", "signal_replaced", sent.replaced),
            drop("send", "signal_too_many_paths", sent.too_many_paths),
            drop("send", "control_replaced", control.replaced),
            drop("send", "control_stale", control.stale),
            drop("send", "lane_full", counters.refused_full),
            drop("send", "expired_unsent", counters.expired_unsent),
            drop("send", "expired_unacknowledged", counters.expired_sent),
            drop("receive", "signal_stale", received.stale),
            drop("receive", "signal_too_many_paths", received.too_many_paths),
            drop("receive", "signal_before_welcome", counters.early_datagrams),
            drop("receive", "control_before_welcome", counters.early_control),
            drop("receive", "duplicate", counters.duplicates),
            drop("receive", "gap", counters.gaps),
            drop("receive", "undecodable", counters.undecodable),
        ]
    }
}
