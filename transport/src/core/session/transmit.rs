//! What goes out: pulled, one frame per channel that has room, most urgent first.

use std::time::Duration;

use carriageway_proto::frame::{Ack, Hello, Received, Welcome};
use carriageway_proto::{Class, Frame, MAX_DATAGRAM, Moment, VERSION};

use super::{Output, Session, note_fate};
use crate::core::connection::{Channel, Lanes};
use crate::core::peer::Stage;

/// On a shared stream signals rank between body and comfort.
const SIGNAL_PRIORITY: i32 = 35;

/// Bulk is acknowledged after so many frames, or so long after the first: often enough to steer the
/// window by, seldom enough to leave the way back free.
const BULK_ACK_FRAMES: u32 = 4;
const BULK_ACK_DELAY: Duration = Duration::from_millis(5);

/// When the bulk lane's acknowledgement is due.
#[derive(Debug, Default)]
pub(super) struct BulkAck {
    frames: u32,
    due_at: Option<Moment>,
}

impl BulkAck {
    /// A bulk frame arrived.
    pub(super) fn note(&mut self, now: Moment) {
        self.frames += 1;
        self.due_at.get_or_insert(now + BULK_ACK_DELAY);
    }

    /// A frame came twice: the peer waits for news.
    pub(super) fn hurry(&mut self, class: Class, now: Moment) {
        if class == Class::Bulk {
            self.due_at = Some(now);
        }
    }

    pub(super) fn due_at(&self) -> Option<Moment> {
        self.due_at
    }

    fn is_due(&self, now: Moment) -> bool {
        self.frames >= BULK_ACK_FRAMES || self.due_at.is_some_and(|at| now >= at)
    }
}

impl Session {
    /// The next frame for any channel that has room.
    pub(super) fn transmit(&mut self, now: Moment) -> Option<Output> {
        for index in 0..self.peers.len() {
            if let Some((channel, frame)) = self.pick(index, now) {
                let peer = &mut self.peers[index];
                peer.used_room(channel);
                return Some(Output::Transmit(peer.id, channel, frame.encode(now)));
            }
        }
        None
    }

    fn pick(&mut self, index: usize, now: Moment) -> Option<(Channel, Frame)> {
        let peer = &self.peers[index];
        if peer.is_closed() {
            return None;
        }
        let session = peer.channel_of(Class::Session);
        if peer.has_room(session)
            && let Some(frame) = self.housekeeping(index, now)
        {
            return Some((session, frame));
        }
        let peer = &self.peers[index];
        if !peer.is_ready() {
            return None;
        }
        match peer.capabilities.lanes {
            Lanes::Independent => self
                .control_frame(index, now)
                .or_else(|| self.lane_frame(index, now, |_, _| true))
                .or_else(|| self.signal_frame(index, now)),
            Lanes::Shared => self.shared_frame(index, now),
        }
    }

    /// Hello, welcome, goodbye, heartbeat, acknowledgement.
    fn housekeeping(&mut self, index: usize, now: Moment) -> Option<Frame> {
        let peer = &mut self.peers[index];
        match &peer.stage {
            Stage::Hello => {
                peer.stage = Stage::Greeted { since: now };
                Some(self.hello(index, now))
            }
            Stage::Welcome { resumed } => {
                let resumed = *resumed;
                peer.stage = Stage::Welcomed { resumed };
                self.welcome_frame(resumed, now)
            }
            Stage::Leaving(goodbye) => {
                let goodbye = goodbye.clone();
                peer.stage = Stage::Closed;
                self.closes.push_back((peer.id, goodbye.code, goodbye.reason.clone()));
                Some(Frame::Goodbye(goodbye))
            }
            Stage::Ready => {
                let beat = peer.pulse.due(now).map(Frame::Heartbeat);
                // Another connection may be dark already: what it takes with it nobody would say again.
                let carries = Some(peer.id) == self.carrier;
                beat.or_else(|| if carries { self.ack(now) } else { None })
            }
            Stage::Greeted { .. } | Stage::Welcomed { .. } | Stage::Closed => None,
        }
    }

    fn hello(&self, index: usize, now: Moment) -> Frame {
        Frame::Hello(Hello {
            version: VERSION,
            stamp: self.stamp(now),
            session: self.id(),
            epoch: self.epoch,
            received: self.received(),
            software: self.config.software.clone(),
            reason: self.peers[index].why.clone(),
        })
    }

    fn welcome_frame(&self, resumed: bool, now: Moment) -> Option<Frame> {
        let session = self.id()?;
        let received = if resumed { self.received() } else { Received::new() };
        let (epoch, stamp) = (self.epoch, self.stamp(now));
        Some(Frame::Welcome(Welcome { version: VERSION, session, epoch, resumed, received, stamp }))
    }

    fn ack(&mut self, now: Moment) -> Option<Frame> {
        let bulk_is_due = self.bulk_ack.is_due(now);
        let mut received = Received::new();
        for (class, due) in self.acks_due.iter_mut() {
            if *due && (class != Class::Bulk || bulk_is_due) {
                *due = false;
                received.push((class, self.inboxes[class].received()));
            }
        }
        if received.is_empty() {
            return None;
        }
        let names_bulk = received.iter().any(|(class, _)| *class == Class::Bulk);
        if names_bulk {
            self.bulk_ack = BulkAck::default();
        }
        let bulk_arrival = self.bulk_arrival.filter(|_| names_bulk);
        Some(Frame::Ack(Ack { received, bulk_arrival }))
    }

    /// The most urgent lane's next frame, of the lanes with room and of `wanted` priority.
    fn lane_frame(
        &mut self,
        index: usize,
        now: Moment,
        wanted: fn(Class, i32) -> bool,
    ) -> Option<(Channel, Frame)> {
        for class in self.by_priority {
            let peer = &self.peers[index];
            let channel = peer.channel_of(class);
            let may = wanted(class, self.config.policies[class].priority)
                && peer.has_room(channel)
                && self.carries(peer, class)
                && self.window_admits(index, class);
            if !may {
                continue;
            }
            let (happened, counters) = (&mut self.happened, &mut self.counters);
            let mut settled = |ticket, fate| note_fate(happened, counters, ticket, fate);
            let cursor = &mut self.peers[index].cursors[class];
            if let Some(frame) = self.outboxes[class].next(cursor, now, &mut settled) {
                return Some((channel, frame));
            }
        }
        None
    }

    fn window_admits(&self, index: usize, class: Class) -> bool {
        class != Class::Bulk || self.bulk_window.has_room(self.bulk_in_flight(index))
    }

    fn bulk_in_flight(&self, index: usize) -> u64 {
        self.outboxes[Class::Bulk].in_flight(self.peers[index].cursors[Class::Bulk])
    }

    /// True where bulk has more to send than its window admits.
    pub(super) fn bulk_is_limited(&self) -> bool {
        let carrier = self.peers.iter().position(|peer| Some(peer.id) == self.carrier);
        carrier.is_some_and(|index| {
            self.outboxes[Class::Bulk].unsent() > 0 && !self.bulk_window.has_room(self.bulk_in_flight(index))
        })
    }

    fn signal_frame(&mut self, index: usize, now: Moment) -> Option<(Channel, Frame)> {
        let peer = &self.peers[index];
        let channel = peer.signal_channel();
        let may = Some(peer.id) == self.carrier
            && peer.has_room(channel)
            && now >= peer.signals_not_before
            && self.conflator.is_waiting();
        if !may {
            return None;
        }
        let max = peer.capabilities.datagram.map_or(MAX_DATAGRAM, |most| most.min(MAX_DATAGRAM));
        self.peers[index].signals_not_before = now + self.config.signal_interval;
        Some((channel, Frame::Signals(self.conflator.take(max, now))))
    }

    /// Control rides on every connection: the receiver keeps the first copy. Where lanes share the stream
    /// only safety stands before it.
    fn control_frame(&mut self, index: usize, now: Moment) -> Option<(Channel, Frame)> {
        let peer = &mut self.peers[index];
        let channel = peer.signal_channel();
        if !peer.has_room(channel) {
            return None;
        }
        let frame = self.control.next(&mut peer.control_cursor, now)?;
        Some((channel, Frame::Control(frame)))
    }

    /// One stream for all: urgent lanes and control first, then signals and the other lanes in turn, so that
    /// neither starves; bulk when nothing else waits.
    fn shared_frame(&mut self, index: usize, now: Moment) -> Option<(Channel, Frame)> {
        let urgent = self
            .lane_frame(index, now, |class, _| class == Class::Safety)
            .or_else(|| self.control_frame(index, now))
            .or_else(|| self.lane_frame(index, now, |_, priority| priority > SIGNAL_PRIORITY));
        if urgent.is_some() {
            return urgent;
        }
        let lane_goes_next = self.peers[index].lane_goes_next;
        let ordinary = |session: &mut Self| {
            let wanted = |class, priority| class != Class::Bulk && priority <= SIGNAL_PRIORITY;
            session.lane_frame(index, now, wanted)
        };
        let chosen = if lane_goes_next {
            ordinary(self).or_else(|| self.signal_frame(index, now))
        } else {
            self.signal_frame(index, now).or_else(|| ordinary(self))
        };
        if let Some((_, frame)) = &chosen {
            self.peers[index].lane_goes_next = matches!(frame, Frame::Signals(_));
        }
        chosen.or_else(|| self.lane_frame(index, now, |class, _| class == Class::Bulk))
    }

    /// When signals that wait only for their rate cap may go.
    pub(super) fn signals_deadline(&self, now: Moment) -> Option<Moment> {
        let carrier = self.peers.iter().find(|peer| Some(peer.id) == self.carrier)?;
        let waits = self.conflator.is_waiting() && carrier.has_room(carrier.signal_channel());
        (waits && carrier.signals_not_before > now).then_some(carrier.signals_not_before)
    }
}
