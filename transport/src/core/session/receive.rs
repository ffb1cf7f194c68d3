//! What comes in: frames, judged and taken apart.

use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::frame::{Ack, Goodbye, Received, Signal, Welcome};
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, CloseCode, Frame, Moment, VERSION};

use super::{BAD_ACK, Happening, Life, Session, SignalUpdate, note_fate, version_mismatch};
use crate::core::connection::{Channel, ConnectionId, Ended};
use crate::core::floor::Floor;
use crate::core::lane::{Admission, Inbox};
use crate::core::peer::Stage;
use crate::core::pulse::Role;

/// Why a frame costs its connection.
type Violation = (CloseCode, String);

fn violation(what: &str) -> Violation {
    (CloseCode::ProtocolViolation, what.into())
}

impl Session {
    /// Takes in one frame; a violation closes its connection and nothing else.
    pub(super) fn frame(&mut self, connection: ConnectionId, channel: Channel, bytes: Bytes, now: Moment) {
        let Some(peer) = self.peer(connection) else { return };
        if matches!(peer.stage, Stage::Closed | Stage::Leaving(_)) {
            return;
        }
        peer.pulse.heard(now);
        let verdict = match Frame::decode(bytes) {
            Ok((clock, frame)) => {
                if let Some(floor) = &mut self.floor {
                    floor.observe(clock, now);
                }
                self.take(connection, channel, (clock, frame), now)
            }
            // A datagram is a loss at worst; what came in order and reliably is a broken peer.
            Err(_) if channel == Channel::Datagram => {
                self.counters.undecodable += 1;
                Ok(())
            }
            Err(error) => {
                self.counters.undecodable += 1;
                Err(violation(&error.to_string()))
            }
        };
        if let Err((code, reason)) = verdict {
            self.shut(connection, code, reason);
        }
    }

    fn take(
        &mut self,
        connection: ConnectionId,
        channel: Channel,
        (clock, frame): (Moment, Frame),
        now: Moment,
    ) -> Result<(), Violation> {
        self.confirm(connection);
        let on_session_lane = matches!(channel, Channel::Shared | Channel::Lane(Class::Session));
        match frame {
            Frame::Welcome(welcome) if on_session_lane => self.welcome(connection, &welcome, now),
            Frame::Heartbeat(heartbeat) if on_session_lane => {
                if let Some(peer) = self.peer(connection) {
                    peer.pulse.received(heartbeat, now);
                }
                Ok(())
            }
            Frame::Ack(Ack { received, bulk_arrival }) if on_session_lane => {
                if self.acknowledged(&received, bulk_arrival, now) { Ok(()) } else { Err(violation(BAD_ACK)) }
            }
            Frame::Goodbye(goodbye) if on_session_lane => {
                self.goodbye(connection, goodbye, now);
                Ok(())
            }
            Frame::Lane { class, sequence, payload } if carries(channel, class) => {
                self.lane(connection, class, sequence, payload, now)
            }
            Frame::Gap { class, through } if carries(channel, class) => {
                self.gap(connection, class, through, now)
            }
            Frame::Signals(signals) if matches!(channel, Channel::Shared | Channel::Datagram) => {
                self.signals(connection, signals, clock, now);
                Ok(())
            }
            Frame::Control(control) if matches!(channel, Channel::Shared | Channel::Datagram) => {
                // Datagrams overtake the welcome; only control of this very session counts.
                if self.peer(connection).is_some_and(|peer| peer.is_ready()) {
                    self.happened.push_back(Happening::Control(control));
                } else {
                    self.counters.early_control += 1;
                }
                Ok(())
            }
            Frame::Hello(_) => Err(violation("a second hello")),
            Frame::Open(_) => Err(violation("a lane opened twice")),
            Frame::Welcome(_)
            | Frame::Heartbeat(_)
            | Frame::Ack(_)
            | Frame::Goodbye(_)
            | Frame::Lane { .. }
            | Frame::Gap { .. }
            | Frame::Signals(_)
            | Frame::Control(_) => Err(violation("a frame on a channel that does not carry its kind")),
        }
    }

    /// Accepting side: the peer's first frame after hello says that the welcome arrived. Only now
    /// may lanes be used, for the peer has started them over if it had to.
    fn confirm(&mut self, connection: ConnectionId) {
        let (id, epoch) = match self.life {
            Life::Alive(id) => (id, self.epoch),
            Life::New | Life::Over(_) => return,
        };
        let Some(peer) = self.peer(connection) else { return };
        if let Stage::Welcomed { resumed } = peer.stage {
            peer.make_ready();
            self.happened.push_back(Happening::Established { session: id, epoch, resumed });
        }
    }

    fn welcome(&mut self, connection: ConnectionId, welcome: &Welcome, now: Moment) -> Result<(), Violation> {
        let is_expected =
            self.peer(connection).is_some_and(|peer| matches!(peer.stage, Stage::Greeted { .. }));
        if !is_expected {
            return Err(violation("a welcome that answers no hello"));
        }
        if welcome.version != VERSION {
            return Err((CloseCode::VersionMismatch, version_mismatch(welcome.version)));
        }
        match self.life {
            Life::Alive(id) if welcome.resumed && id == welcome.session && self.epoch == welcome.epoch => {
                if !self.acknowledged(&welcome.received, None, now) {
                    return Err(violation(BAD_ACK));
                }
                self.counters.resumes += 1;
            }
            Life::New | Life::Alive(_) if !welcome.resumed && welcome.epoch > self.epoch => {
                self.start_over(connection, welcome);
            }
            Life::New | Life::Alive(_) | Life::Over(_) => {
                return Err(violation("a session of an older epoch, or one never asked for"));
            }
        }
        match &mut self.floor {
            Some(floor) if floor.at(now).boot == welcome.stamp.boot => {}
            Some(_) | None => self.floor = Some(Floor::new(welcome.stamp, now)),
        }
        self.retry_after = None;
        self.retire_all_but(connection);
        if let Some(peer) = self.peer(connection) {
            peer.make_ready();
        }
        let (session, epoch, resumed) = (welcome.session, welcome.epoch, welcome.resumed);
        self.happened.push_back(Happening::Established { session, epoch, resumed });
        Ok(())
    }

    /// A new session: what was sent in the old one is lost, what never left goes into the new one.
    fn start_over(&mut self, connection: ConnectionId, welcome: &Welcome) {
        self.life = Life::Alive(welcome.session);
        self.epoch = welcome.epoch;
        let (happened, counters) = (&mut self.happened, &mut self.counters);
        let mut settled = |ticket, fate| note_fate(happened, counters, ticket, fate);
        for (_, outbox) in self.outboxes.iter_mut() {
            outbox.restart(&mut settled);
        }
        for (_, inbox) in self.inboxes.iter_mut() {
            *inbox = Inbox::default();
        }
        for (_, due) in self.acks_due.iter_mut() {
            *due = false;
        }
        self.latest.restart();
        if let Some(peer) = self.peer(connection) {
            peer.restart_lanes();
        }
    }

    /// Make before break: the new connection is ready, the others may go.
    fn retire_all_but(&mut self, connection: ConnectionId) {
        let goodbye = Goodbye {
            code: CloseCode::Replaced,
            reason: "another connection carries the session".into(),
            retry_after_ms: 0,
        };
        for peer in &mut self.peers {
            if peer.id != connection && matches!(peer.stage, Stage::Ready) {
                peer.stage = Stage::Leaving(goodbye.clone());
            }
        }
    }

    fn goodbye(&mut self, connection: ConnectionId, goodbye: Goodbye, now: Moment) {
        let Goodbye { code, reason, retry_after_ms } = goodbye;
        let peer_is_leaving =
            matches!(code, CloseCode::Normal | CloseCode::GoingAway | CloseCode::Restarting);
        let ends_session = match self.role {
            Role::Connecting => self.is_told_to_stop(connection, code, now),
            Role::Accepting => peer_is_leaving || !code.reconnects(),
        };
        if let Some(peer) = self.peer(connection) {
            let was_ready = peer.was_ready;
            peer.stage = Stage::Closed;
            self.turned_away += u64::from(!was_ready);
            self.last_end = Some(Ended::ByPeer { code, reason: reason.clone() });
            self.closes.push_back((connection, CloseCode::Normal, String::new()));
        }
        if ends_session {
            self.over(Ended::ByPeer { code, reason });
        } else if retry_after_ms > 0 {
            self.retry_after = Some(Duration::from_millis(retry_after_ms.into()));
        }
    }

    /// Takes in acknowledgements; false where they name what was never sent.
    pub(super) fn acknowledged(&mut self, received: &Received, arrival: Option<Moment>, now: Moment) -> bool {
        for (class, received) in received {
            let was_full = *class == Class::Bulk && self.bulk_is_limited();
            let (happened, counters) = (&mut self.happened, &mut self.counters);
            let mut settled = |ticket, fate| note_fate(happened, counters, ticket, fate);
            let Ok(progress) = self.outboxes[*class].acknowledge(*received, &mut settled) else {
                return false;
            };
            if let (Class::Bulk, Some(progress), Some(arrival)) = (class, progress, arrival) {
                self.bulk_window.acknowledged(progress.bytes, progress.handed_at, arrival, now, was_full);
            }
        }
        true
    }

    fn lane(
        &mut self,
        connection: ConnectionId,
        class: Class,
        sequence: u64,
        payload: Bytes,
        now: Moment,
    ) -> Result<(), Violation> {
        self.must_be_ready(connection)?;
        match self.inboxes[class].admit(sequence) {
            Admission::Deliver => {
                if class == Class::Bulk {
                    self.bulk_arrival = Some(now);
                    self.bulk_ack.note(now);
                }
                self.acks_due[class] = true;
                self.happened.push_back(Happening::Message { class, payload });
                Ok(())
            }
            Admission::Duplicate => {
                self.counters.duplicates += 1;
                self.acks_due[class] = true;
                self.bulk_ack.hurry(class, now);
                Ok(())
            }
            Admission::Hole => Err(violation("a hole in a lane")),
        }
    }

    fn gap(
        &mut self,
        connection: ConnectionId,
        class: Class,
        through: u64,
        now: Moment,
    ) -> Result<(), Violation> {
        self.must_be_ready(connection)?;
        let Ok(frames) = self.inboxes[class].skip(through) else {
            return Err(violation("a gap wider than any lane"));
        };
        self.acks_due[class] = true;
        self.bulk_ack.hurry(class, now);
        if frames > 0 && !sabotage::on(Sabotage::GapNotTold) {
            self.counters.gaps = self.counters.gaps.saturating_add(frames);
            self.happened.push_back(Happening::Gap { class, frames });
        }
        Ok(())
    }

    fn must_be_ready(&mut self, connection: ConnectionId) -> Result<(), Violation> {
        match self.peer(connection) {
            Some(peer) if peer.is_ready() => Ok(()),
            Some(_) | None => Err(violation("a lane used before the welcome")),
        }
    }

    fn signals(&mut self, connection: ConnectionId, signals: Vec<Signal>, encoded: Moment, now: Moment) {
        let Some(peer) = self.peer(connection) else { return };
        // Datagrams overtake the welcome.
        if !peer.is_ready() {
            self.counters.early_datagrams += 1;
            return;
        }
        let quickest = peer.pulse.least_rtt().map_or(Duration::ZERO, |rtt| rtt / 2);
        let Some(floor) = self.floor else { return };
        let mut updates = Vec::with_capacity(signals.len());
        for signal in signals {
            if self.latest.admit(&signal) {
                let waited = Duration::from_micros(signal.waited_us);
                let sampled = encoded - waited;
                let age = floor.age(sampled, now) + quickest;
                updates.push(SignalUpdate { path: signal.path, value: signal.value, sampled, age });
            }
        }
        if !updates.is_empty() {
            self.happened.push_back(Happening::Signals(updates));
        }
    }

    /// Closes one connection.
    fn shut(&mut self, connection: ConnectionId, code: CloseCode, reason: String) {
        if let Some(peer) = self.peer(connection) {
            peer.stage = Stage::Closed;
            self.closes.push_back((connection, code, reason));
        }
    }
}

/// May this channel carry frames of this lane?
fn carries(channel: Channel, class: Class) -> bool {
    match channel {
        Channel::Shared => true,
        Channel::Lane(lane) => lane == class,
        Channel::Datagram => false,
    }
}
