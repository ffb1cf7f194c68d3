//! What has arrived, in order and behind holes, and what is to be said of it. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use carriageway_netem::core::Moment;

use super::segment::{MOST_BLOCKS, MSS, Segment};

/// How long an acknowledgement may wait for something that takes it along; Linux' least.
const DELAY: Duration = Duration::from_millis(40);

/// One direction, where it arrives.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiver {
    /// All before it has arrived.
    next: u64,
    ready: VecDeque<Bytes>,
    /// Behind holes, by where it begins.
    apart: BTreeMap<u64, Bytes>,
    /// Where the newest behind a hole begins.
    newest: u64,
    /// Bytes that no acknowledgement has told of.
    untold: usize,
    due: Option<Moment>,
}

impl Receiver {
    /// Something arrives.
    pub(super) fn take(&mut self, now: Moment, segment: &Segment) {
        let Segment { seq, data, .. } = segment;
        if data.is_empty() {
            return;
        }
        let end = seq + data.len() as u64;
        let has_holes = !self.apart.is_empty();
        if end > self.next {
            self.newest = *seq;
            // A segment that is sent again has the bounds that it had.
            self.apart.entry(*seq).or_insert_with(|| data.clone());
        }
        let before = self.next;
        self.advance();
        self.untold += usize::try_from(self.next - before).unwrap_or(usize::MAX);
        // What is out of order, comes again or fills a hole is told of at once, and so is every second full segment.
        let at_once = self.next == before || has_holes || self.untold >= 2 * MSS;
        let due = if at_once { now } else { now + DELAY };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    fn advance(&mut self) {
        while let Some(first) = self.apart.first_entry().filter(|first| *first.key() <= self.next) {
            let (seq, mut data) = first.remove_entry();
            let known = usize::try_from(self.next - seq).unwrap_or(usize::MAX).min(data.len());
            data.advance(known);
            self.next += data.len() as u64;
            if !data.is_empty() {
                self.ready.push_back(data);
            }
        }
    }

    /// When an acknowledgement is to go, if nothing takes it along before.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Puts what is to be said into a segment that goes now.
    pub(super) fn tell(&mut self, segment: &mut Segment) {
        segment.ack = self.next;
        segment.blocks = self.blocks();
        self.untold = 0;
        self.due = None;
    }

    /// What has arrived behind holes: the newest first, then from the end.
    fn blocks(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = Vec::new();
        for (seq, data) in &self.apart {
            let end = seq + data.len() as u64;
            match all.last_mut().filter(|last| last.end >= *seq) {
                Some(last) => last.end = last.end.max(end),
                None => all.push(*seq..end),
            }
        }
        all.reverse();
        if let Some(place) = all.iter().position(|block| block.contains(&self.newest)) {
            all[..=place].rotate_right(1);
        }
        all.truncate(MOST_BLOCKS);
        all
    }

    /// The next bytes in order, at most so many.
    pub(super) fn read(&mut self, most: usize) -> Option<Bytes> {
        let front = self.ready.front_mut()?;
        let taken = front.split_to(most.min(front.len()));
        if front.is_empty() {
            self.ready.pop_front();
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::Phase;
    use super::*;

    const NOW: Moment = Moment::ZERO;

    static FULL: [u8; 2 * MSS] = [0; 2 * MSS];

    fn segment(seq: u64, data: &'static [u8]) -> Segment {
        Segment { seq, data: Bytes::from_static(data), ..Segment::empty(Phase::Open, NOW) }
    }

    fn told(receiver: &mut Receiver) -> (u64, Vec<Range<u64>>) {
        let mut segment = Segment::empty(Phase::Open, NOW);
        receiver.tell(&mut segment);
        (segment.ack, segment.blocks)
    }

    fn read(receiver: &mut Receiver) -> Vec<u8> {
        std::iter::from_fn(|| receiver.read(2)).flatten().collect()
    }

    #[test]
    fn bytes_come_once_and_in_order_whatever_arrives() {
        let mut receiver = Receiver::default();
        for (seq, data) in [(3, &b"def"[..]), (0, b"abc"), (0, b"abc"), (9, b"j"), (6, b"ghi"), (3, b"def")] {
            receiver.take(NOW, &segment(seq, data));
        }
        assert_eq!(read(&mut receiver), b"abcdefghij");
        assert_eq!(told(&mut receiver), (10, vec![]));
    }

    #[test]
    fn holes_are_told_at_once_the_newest_first() {
        let mut receiver = Receiver::default();
        for seq in [2, 6, 10, 14] {
            receiver.take(NOW, &segment(seq, b"xx"));
        }
        assert_eq!(receiver.due(), Some(NOW));
        receiver.take(NOW, &segment(6, b"xx"));
        assert_eq!(told(&mut receiver), (0, vec![6..8, 14..16, 10..12]));
        assert_eq!(receiver.due(), None);
        receiver.take(NOW, &segment(0, b"x"));
        assert_eq!(receiver.due(), Some(NOW), "it fills a part of a hole");
    }

    #[test]
    fn little_in_order_is_told_after_a_while_and_much_at_once() {
        let mut receiver = Receiver::default();
        receiver.take(NOW, &segment(0, b"a"));
        assert_eq!(receiver.due(), Some(NOW + DELAY));
        receiver.take(NOW, &segment(1, &FULL));
        assert_eq!(receiver.due(), Some(NOW));
        // What only tells is not told of.
        let _told = told(&mut receiver);
        receiver.take(NOW, &segment(7, b""));
        assert_eq!(receiver.due(), None);
    }
}
