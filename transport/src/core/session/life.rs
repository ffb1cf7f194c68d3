//! How connections come and go, and what of that ends the session.

use carriageway_proto::frame::Goodbye;
use carriageway_proto::{CloseCode, Moment, Stamp};

use super::{BAD_ACK, Happening, Life, STRAY_HELLO, Session};
use crate::core::connection::{Capabilities, ConnectionId, Ended};
use crate::core::floor::Floor;
use crate::core::peer::{Greeting, Peer, Stage};
use crate::core::pulse::Pulse;

impl Session {
    pub(super) fn opened(
        &mut self,
        connection: ConnectionId,
        capabilities: Capabilities,
        why: String,
        now: Moment,
    ) {
        self.give_up_greeting(now);
        let stage = if matches!(self.life, Life::Over(_)) {
            Stage::Leaving(Goodbye { code: CloseCode::Normal, reason: String::new(), retry_after_ms: 0 })
        } else {
            Stage::Hello
        };
        let pulse = Pulse::new(self.config.pulse, self.role, now);
        self.peers.push(Peer::new(connection, capabilities, stage, why, pulse, now));
    }

    /// One hello at a time: the answer to an older one would be of a session that the next replaces.
    fn give_up_greeting(&mut self, now: Moment) {
        for peer in &mut self.peers {
            if matches!(peer.stage, Stage::Hello | Stage::Greeted { .. }) {
                if matches!(peer.stage, Stage::Greeted { .. }) {
                    self.stray_hello = Some(now);
                }
                peer.stage = Stage::Closed;
                self.closes.push_back((
                    peer.id,
                    CloseCode::Replaced,
                    "another connection was quicker".into(),
                ));
            }
        }
    }

    pub(super) fn greeted(
        &mut self,
        connection: ConnectionId,
        capabilities: Capabilities,
        greeting: &Greeting,
        now: Moment,
    ) {
        let hello = &greeting.hello;
        let stamp = Stamp { boot: hello.stamp.boot, clock: greeting.clock.max(hello.stamp.clock) };
        match &mut self.floor {
            Some(floor) if floor.at(now).boot == stamp.boot => floor.observe(stamp.clock, greeting.arrived),
            Some(_) | None => self.floor = Some(Floor::new(stamp, greeting.arrived)),
        }
        let Life::Alive(id) = self.life else {
            self.closes.push_back((connection, CloseCode::GoingAway, "the session has ended".into()));
            return;
        };
        let resumed = hello.session == Some(id);
        let mut pulse = Pulse::new(self.config.pulse, self.role, now);
        pulse.heard(now);
        let why = hello.reason.clone();
        let stage = Stage::Welcome { resumed };
        let mut peer = Peer::new(connection, capabilities, stage, why, pulse, now);
        if resumed {
            self.counters.resumes += 1;
            if !self.acknowledged(&hello.received, None, now) {
                self.closes.push_back((connection, CloseCode::ProtocolViolation, BAD_ACK.into()));
                peer.stage = Stage::Closed;
            }
        }
        self.peers.push(peer);
        self.make_way();
    }

    /// Holds the number of connections below its limit: the oldest gives way.
    fn make_way(&mut self) {
        let alive = self.peers.iter().filter(|peer| !peer.is_closed()).count();
        if alive > self.config.max_connections
            && let Some(oldest) = self.peers.iter_mut().find(|peer| !peer.is_closed())
        {
            oldest.stage = Stage::Closed;
            self.closes.push_back((
                oldest.id,
                CloseCode::Replaced,
                "a newer connection took its place".into(),
            ));
        }
    }

    pub(super) fn ended(&mut self, connection: ConnectionId, ended: Ended, now: Moment) {
        let Some(index) = self.peers.iter().position(|peer| peer.id == connection) else { return };
        let must_stop = match &ended {
            Ended::ByPeer { code, .. } => self.is_told_to_stop(connection, *code, now),
            Ended::ByUs | Ended::Failed(_) => false,
        };
        let peer = self.peers.remove(index);
        if matches!(peer.stage, Stage::Greeted { .. }) {
            self.stray_hello = Some(now);
        }
        // One that was given up here before says nothing about its successor.
        if !peer.was_ready && !peer.is_closed() {
            self.turned_away += 1;
        }
        self.last_end = Some(ended.clone());
        if must_stop {
            self.over(ended);
        }
    }

    /// Whether a close code of the peer's ends the session and not just its connection. Not where we
    /// gave the connection up before, nor where another one carries the session. And a connection that
    /// was never welcomed may have been taken over by our own next one, whose welcome is on its way; as
    /// may a welcomed one by an older hello of ours that came late.
    pub(super) fn is_told_to_stop(&self, connection: ConnectionId, code: CloseCode, now: Moment) -> bool {
        let by_ourselves = self.stray_hello.is_some_and(|at| now.since(at) < STRAY_HELLO);
        let is_served = self.peers.iter().any(|peer| peer.id != connection && peer.is_ready());
        let may_speak = |peer: &Peer| {
            let taken_over_by_us = code == CloseCode::TakenOver && (by_ourselves || !peer.was_ready);
            peer.id == connection && !peer.is_closed() && !taken_over_by_us
        };
        !code.reconnects() && !is_served && self.peers.iter().any(may_speak)
    }

    /// The end of the session; its connections may still be saying goodbye.
    pub(super) fn over(&mut self, ended: Ended) {
        if matches!(self.life, Life::Over(_)) {
            return;
        }
        let happened = &mut self.happened;
        let mut settled = |ticket, fate| happened.push_back(Happening::Settled { ticket, fate });
        for (_, outbox) in self.outboxes.iter_mut() {
            outbox.end(&mut settled);
        }
        self.life = Life::Over(ended.clone());
        self.happened.push_back(Happening::Ended(ended));
        for peer in &mut self.peers {
            if !matches!(peer.stage, Stage::Leaving(_) | Stage::Closed) {
                peer.stage = Stage::Closed;
                self.closes.push_back((peer.id, CloseCode::Normal, String::new()));
            }
        }
    }
}
