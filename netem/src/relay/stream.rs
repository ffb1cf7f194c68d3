//! One direction of a TCP connection through a link that loses: pure, in segments.
//!
//! A lost segment is sent again, as TCP would: after one base round trip once three later segments have arrived (fast
//! retransmit, RFC 5681), else after a retransmission timeout that doubles (RFC 6298). What arrives early waits for its turn.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::Moment;

/// Bytes that may be between the two sockets in one direction: enough for 300 Mbit/s at 100 ms.
pub(super) const MOST_IN_FLIGHT: usize = 4 << 20;
/// Shortest retransmission timeout, as in Linux (RFC 6298 asks for 1 s).
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);
/// First timeout of a handshake (RFC 6298, section 2.1).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest timeout.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Attempts before the connection is given up; with doubling timeouts that takes several minutes.
const MOST_TRIES: u32 = 12;
/// Later arrivals that prove a loss.
const DUPLICATE_ACKS: u32 = 3;

/// What a segment carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The connection's first segment in either direction.
    Hello,
    Data(Box<[u8]>),
    /// Nothing follows.
    Fin,
}

/// A segment on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) tries: u32,
    pub(super) body: Body,
}

impl Body {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Hello | Self::Fin => 0,
        }
    }
}

/// The connection gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GaveUp;

/// One direction.
#[derive(Debug)]
pub(super) struct Stream {
    base_rtt: Duration,
    next: u64,
    in_flight: usize,
    lost: BTreeMap<u64, Lost>,
    expected: u64,
    early: BTreeMap<u64, Body>,
    ready: VecDeque<Body>,
    resent: u64,
}

#[derive(Debug)]
struct Lost {
    resend_at: Moment,
    later_arrivals: u32,
    segment: Segment,
}

impl Stream {
    pub(super) const fn new(base_rtt: Duration) -> Self {
        Self {
            base_rtt,
            next: 0,
            in_flight: 0,
            lost: BTreeMap::new(),
            expected: 0,
            early: BTreeMap::new(),
            ready: VecDeque::new(),
            resent: 0,
        }
    }

    /// Whether another segment may be made: the window has room, and no timeout is being sat out.
    pub(super) fn may_send(&self) -> bool {
        self.in_flight < MOST_IN_FLIGHT && !self.is_stalled()
    }

    /// Numbers the next segment.
    pub(super) fn send(&mut self, body: Body) -> Segment {
        self.in_flight += body.len();
        let number = self.next;
        self.next += 1;
        Segment { number, tries: 1, body }
    }

    /// A segment was lost at `now`.
    pub(super) fn lose(&mut self, now: Moment, segment: Segment) -> Result<(), GaveUp> {
        if segment.tries > MOST_TRIES {
            return Err(GaveUp);
        }
        let first = match segment.body {
            Body::Hello => HANDSHAKE_TIMEOUT,
            Body::Data(_) | Body::Fin => SHORTEST_TIMEOUT + self.base_rtt,
        };
        let timeout = (first * (1 << (segment.tries - 1))).min(LONGEST_TIMEOUT);
        let lost = Lost { resend_at: now + timeout, later_arrivals: 0, segment };
        self.lost.insert(lost.segment.number, lost);
        Ok(())
    }

    /// A segment arrived at `now`.
    pub(super) fn arrive(&mut self, now: Moment, segment: Segment) {
        for lost in self.lost.range_mut(..segment.number).map(|(_, lost)| lost) {
            lost.later_arrivals += 1;
            if lost.later_arrivals == DUPLICATE_ACKS {
                lost.resend_at = lost.resend_at.min(now + self.base_rtt / 2);
            }
        }
        if segment.tries > 1 {
            // The link works again: what else was lost need not wait for its own timeout.
            self.lost
                .values_mut()
                .for_each(|lost| lost.resend_at = lost.resend_at.min(now + self.base_rtt / 2));
        }
        self.early.insert(segment.number, segment.body);
        while let Some(body) = self.early.remove(&self.expected) {
            self.expected += 1;
            self.ready.push_back(body);
        }
    }

    /// A lost segment whose time has come.
    pub(super) fn resend(&mut self, now: Moment) -> Option<Segment> {
        if self.next_resend()? > now {
            return None;
        }
        let number = match self.lost.first_key_value() {
            Some((number, _)) if self.is_stalled() => *number,
            _ => self.lost.iter().find(|(_, lost)| lost.resend_at <= now).map(|(number, _)| *number)?,
        };
        let mut segment = self.lost.remove(&number)?.segment;
        segment.tries += 1;
        self.resent += 1;
        Some(segment)
    }

    /// When [`Self::resend`] will have something.
    pub(super) fn next_resend(&self) -> Option<Moment> {
        if self.is_stalled() {
            return self.lost.first_key_value().map(|(_, lost)| lost.resend_at);
        }
        self.lost.values().map(|lost| lost.resend_at).min()
    }

    /// The next body in order.
    pub(super) fn take(&mut self) -> Option<Body> {
        self.ready.pop_front()
    }

    /// `count` bytes have been written to the destination: the window opens.
    pub(super) const fn written(&mut self, count: usize) {
        self.in_flight -= count;
    }

    /// Bytes that were sent and not written to the destination yet.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Segments sent again.
    pub(super) const fn resent(&self) -> u64 {
        self.resent
    }

    /// The oldest loss was lost again: TCP would have fallen back to one segment per timeout.
    fn is_stalled(&self) -> bool {
        self.lost.first_key_value().is_some_and(|(_, lost)| lost.segment.tries > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);

    const fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn data(byte: u8) -> Body {
        Body::Data(Box::new([byte]))
    }

    #[test]
    fn a_lone_loss_costs_a_timeout_that_doubles() {
        let mut stream = Stream::new(RTT);
        let segment = stream.send(data(1));
        stream.lose(at(0), segment).unwrap();
        assert_eq!(stream.next_resend(), Some(at(260)));
        assert_eq!(stream.resend(at(259)), None);
        let segment = stream.resend(at(260)).unwrap();
        stream.lose(at(260), segment).unwrap();
        assert!(!stream.may_send());
        assert_eq!(stream.next_resend(), Some(at(780)));
        let segment = stream.resend(at(780)).unwrap();
        stream.arrive(at(810), segment);
        assert_eq!(stream.take(), Some(data(1)));
        assert!(stream.may_send());
    }

    #[test]
    fn three_later_arrivals_prove_a_loss() {
        let mut stream = Stream::new(RTT);
        let lost = stream.send(data(0));
        stream.lose(at(0), lost).unwrap();
        for byte in 1..=3 {
            let segment = stream.send(data(byte));
            stream.arrive(at(30 + u64::from(byte)), segment);
        }
        assert_eq!(stream.take(), None);
        assert_eq!(stream.next_resend(), Some(at(63)));
        let segment = stream.resend(at(63)).unwrap();
        stream.arrive(at(93), segment);
        let bytes: Vec<_> = std::iter::from_fn(|| stream.take()).collect();
        assert_eq!(bytes, (0..=3).map(data).collect::<Vec<_>>());
    }

    #[test]
    fn it_gives_up_some_day() {
        let mut stream = Stream::new(RTT);
        let mut segment = stream.send(Body::Hello);
        let mut now = at(0);
        let gave_up_at = loop {
            if stream.lose(now, segment).is_err() {
                break now;
            }
            now = stream.next_resend().unwrap();
            segment = stream.resend(now).unwrap();
        };
        assert!(gave_up_at.since(at(0)) > Duration::from_mins(5));
    }
}
