//! A lane's two halves: what goes out is numbered, kept until acknowledged and sent again on another
//! connection; what comes in is delivered in order and exactly once.

use std::collections::VecDeque;

use bytes::Bytes;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Frame, Moment};

/// Names a message that was taken in for sending. Counts up within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a message that was taken in for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The peer has it.
    Acknowledged,
    /// It outlived its ttl here.
    Expired {
        /// False: it certainly never left.
        sent: bool,
    },
    /// The session ended or was replaced before the peer acknowledged it.
    Lost {
        /// False: it certainly never left.
        sent: bool,
    },
}

/// The sending half of a lane.
#[derive(Debug)]
pub struct Outbox {
    class: Class,
    max_frames: usize,
    max_bytes: usize,
    /// Not yet numbered.
    waiting: VecDeque<Waiting>,
    /// Numbered `acked + 1` and on, without holes.
    sent: VecDeque<Sent>,
    acked: u64,
    bytes: usize,
    /// Sent frames that have expired: they keep their number and nothing else.
    spent: usize,
    /// Nothing expires before then; `None`: nothing does.
    next_expiry: Option<Moment>,
    /// Payload bytes ever numbered, for in-flight sums.
    numbered_bytes: u64,
    acked_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    payload: Bytes,
    expires: Option<Moment>,
}

#[derive(Debug)]
struct Sent {
    content: Content,
    expires: Option<Moment>,
    /// When it was last handed to a connection.
    handed_at: Moment,
    /// `numbered_bytes` after this frame.
    end: u64,
}

#[derive(Debug)]
enum Content {
    Frame(Ticket, Bytes),
    Expired,
}

impl Sent {
    /// Lets the frame go if its time has come; its number stays, for the gap.
    fn expire(
        &mut self,
        now: Moment,
        bytes: &mut usize,
        spent: &mut usize,
        settled: &mut impl FnMut(Ticket, Fate),
    ) {
        let is_due =
            self.expires.is_some_and(|expires| expires <= now) && !sabotage::on(Sabotage::ResendAfterTtl);
        if let (true, Content::Frame(ticket, payload)) = (is_due, &self.content) {
            *bytes -= payload.len();
            *spent += 1;
            settled(*ticket, Fate::Expired { sent: !sabotage::on(Sabotage::ExpiredCalledUnsent) });
            self.content = Content::Expired;
        }
    }
}

/// Most expired frames that wait for their acknowledgement: a peer that has not answered for so many
/// is as good as gone.
const MAX_SPENT: usize = 4_096;

/// An acknowledgement of frames that were never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckedTooMuch;

/// What an acknowledgement told about the newest frame it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Payload bytes newly acknowledged.
    pub bytes: u64,
    /// When the newest of them was last handed to a connection.
    pub handed_at: Moment,
}

impl Outbox {
    /// An empty outbox that holds at most `max_frames` and `max_bytes` of payload.
    pub fn new(class: Class, max_frames: u32, max_bytes: u32) -> Self {
        Self {
            class,
            max_frames: max_frames as usize,
            max_bytes: max_bytes as usize,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            acked: 0,
            bytes: 0,
            spent: 0,
            next_expiry: None,
            numbered_bytes: 0,
            acked_bytes: 0,
        }
    }

    /// Takes a message in, or gives it back where the lane is full.
    pub fn push(&mut self, ticket: Ticket, payload: Bytes, expires: Option<Moment>) -> Result<(), Bytes> {
        let is_full = self.frames() >= self.max_frames || self.bytes + payload.len() > self.max_bytes;
        if is_full || self.spent >= MAX_SPENT {
            return Err(payload);
        }
        self.bytes += payload.len();
        self.next_expiry = self.next_expiry.into_iter().chain(expires).min();
        self.waiting.push_back(Waiting { ticket, payload, expires });
        Ok(())
    }

    /// The next frame for a connection that has been given everything below `cursor`, or `None`.
    /// Settles what expired on the way.
    pub fn next(
        &mut self,
        cursor: &mut u64,
        now: Moment,
        settled: &mut impl FnMut(Ticket, Fate),
    ) -> Option<Frame> {
        if *cursor <= self.acked {
            *cursor = self.acked + 1;
        }
        if *cursor == self.next_sequence() {
            self.number_next(now, settled)?;
        }
        Some(self.frame_at(cursor, now, settled))
    }

    /// Takes in that the peer has everything up to `received`.
    pub fn acknowledge(
        &mut self,
        received: u64,
        settled: &mut impl FnMut(Ticket, Fate),
    ) -> Result<Option<Progress>, AckedTooMuch> {
        if received >= self.next_sequence() {
            return Err(AckedTooMuch);
        }
        let before = self.acked_bytes;
        let mut handed_at = None;
        while self.acked < received {
            let sent = self.sent.pop_front().expect("everything after `acked` is kept");
            self.acked += 1;
            self.acked_bytes = sent.end;
            handed_at = Some(sent.handed_at);
            match sent.content {
                Content::Frame(ticket, payload) => {
                    self.bytes -= payload.len();
                    settled(ticket, Fate::Acknowledged);
                }
                Content::Expired => self.spent -= 1,
            }
        }
        Ok(handed_at.map(|handed_at| Progress { bytes: self.acked_bytes - before, handed_at }))
    }

    /// Drops what has expired, sent or not; what was sent may have arrived all the same.
    pub fn expire(&mut self, now: Moment, settled: &mut impl FnMut(Ticket, Fate)) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        for sent in &mut self.sent {
            sent.expire(now, &mut self.bytes, &mut self.spent, settled);
        }
        let expired = |waiting: &Waiting| waiting.expires.is_some_and(|expires| expires <= now);
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let keep = !expired(waiting);
            if !keep {
                *bytes -= waiting.payload.len();
                settled(waiting.ticket, Fate::Expired { sent: false });
            }
            keep
        });
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.expires);
        let sent = self.sent.iter().filter(|sent| matches!(sent.content, Content::Frame(..)));
        self.next_expiry = sent.filter_map(|sent| sent.expires).chain(waiting).min();
    }

    /// Nothing expires before then.
    pub fn next_expiry(&self) -> Option<Moment> {
        self.next_expiry
    }

    /// Starts over for a new session: what was sent is lost, what never left stays and is numbered
    /// anew.
    pub fn restart(&mut self, settled: &mut impl FnMut(Ticket, Fate)) {
        for sent in self.sent.drain(..) {
            if let Content::Frame(ticket, payload) = sent.content {
                self.bytes -= payload.len();
                settled(ticket, Fate::Lost { sent: !sabotage::on(Sabotage::LostCalledUnsent) });
            }
        }
        self.acked = 0;
        self.spent = 0;
        self.numbered_bytes = 0;
        self.acked_bytes = 0;
    }

    /// Ends for good: everything kept is lost.
    pub fn end(&mut self, settled: &mut impl FnMut(Ticket, Fate)) {
        self.restart(settled);
        for waiting in self.waiting.drain(..) {
            settled(waiting.ticket, Fate::Lost { sent: false });
        }
        self.bytes = 0;
    }

    /// Payload bytes that a connection with this `cursor` was given and that are not acknowledged.
    pub fn in_flight(&self, cursor: u64) -> u64 {
        let given = cursor.saturating_sub(self.acked + 1) as usize;
        match given.checked_sub(1).and_then(|last| self.sent.get(last)) {
            Some(last) => last.end - self.acked_bytes,
            None => 0,
        }
    }

    /// Frames kept: waiting and unacknowledged, those apart that have expired.
    pub fn frames(&self) -> usize {
        self.waiting.len() + self.sent.len() - self.spent
    }

    /// Payload bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames not yet sent on any connection.
    pub fn unsent(&self) -> usize {
        self.waiting.len()
    }

    fn next_sequence(&self) -> u64 {
        self.acked + self.sent.len() as u64 + 1
    }

    /// Numbers the first waiting message that has not expired.
    fn number_next(&mut self, now: Moment, settled: &mut impl FnMut(Ticket, Fate)) -> Option<()> {
        while let Some(Waiting { ticket, payload, expires }) = self.waiting.pop_front() {
            if expires.is_some_and(|expires| expires <= now) {
                self.bytes -= payload.len();
                settled(ticket, Fate::Expired { sent: false });
                continue;
            }
            self.numbered_bytes += payload.len() as u64;
            let content = Content::Frame(ticket, payload);
            self.sent.push_back(Sent { content, expires, handed_at: now, end: self.numbered_bytes });
            return Some(());
        }
        None
    }

    /// The frame at `cursor`, or one gap for the run of expired ones there; moves the cursor past it.
    fn frame_at(&mut self, cursor: &mut u64, now: Moment, settled: &mut impl FnMut(Ticket, Fate)) -> Frame {
        let first = (*cursor - self.acked - 1) as usize;
        let mut through = None;
        for (index, sent) in self.sent.iter_mut().enumerate().skip(first) {
            sent.handed_at = now;
            sent.expire(now, &mut self.bytes, &mut self.spent, settled);
            let sequence = self.acked + 1 + index as u64;
            match &sent.content {
                Content::Expired => through = Some(sequence),
                Content::Frame(_, payload) if through.is_none() => {
                    *cursor = sequence + 1;
                    return Frame::Lane { class: self.class, sequence, payload: payload.clone() };
                }
                Content::Frame(..) => break,
            }
        }
        let through = through.expect("a cursor below the next sequence points at a kept frame");
        *cursor = through + 1;
        Frame::Gap { class: self.class, through }
    }
}

/// Most frames that one gap may name: what a lane can hold is far less.
pub const MAX_GAP: u64 = 1 << 20;

/// A gap that no honest sender could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapTooWide;

/// The receiving half of a lane.
#[derive(Debug, Default)]
pub struct Inbox {
    received: u64,
}

/// What to do with a frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the next one.
    Deliver,
    /// It was here before.
    Duplicate,
    /// One before it is missing, which no honest peer causes: every connection carries a run
    /// without holes that starts at or below the first unacknowledged frame.
    Hole,
}

impl Inbox {
    /// Judges a frame by its sequence and takes note of it.
    pub fn admit(&mut self, sequence: u64) -> Admission {
        if sequence == self.received && sequence > 0 && sabotage::on(Sabotage::SequenceNotStrict) {
            Admission::Deliver
        } else if sequence <= self.received {
            Admission::Duplicate
        } else if sequence == self.received + 1 {
            self.received = sequence;
            Admission::Deliver
        } else {
            Admission::Hole
        }
    }

    /// Takes in a gap; how many frames will never come. Refuses one of more than [`MAX_GAP`].
    pub fn skip(&mut self, through: u64) -> Result<u64, GapTooWide> {
        let missing = through.saturating_sub(self.received);
        if missing > MAX_GAP {
            return Err(GapTooWide);
        }
        self.received += missing;
        Ok(missing)
    }

    /// Everything up to here has arrived or is known never to.
    pub fn received(&self) -> u64 {
        self.received
    }
}
