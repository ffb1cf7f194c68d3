//! The newest events, so that a watcher who comes back can go on where it left.
//!
//! Every watcher reads from the one ring at its own pace and holds nothing but its place: a slow one
//! costs no memory and falls out of the ring at last, which it is told.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use carriageway_proto::Moment;

/// The place of an event: which run of the gateway, and which event of it. A place of another run
/// is no place of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Drawn at the start of the run.
    pub run: u32,
    /// From 1; 0 is before the first.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

/// A text that is no event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of this gateway")]
pub struct BadEventId;

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (run, number) = text.split_once('-').ok_or(BadEventId)?;
        Ok(Self {
            run: u32::from_str_radix(run, 16).map_err(|_| BadEventId)?,
            number: number.parse().map_err(|_| BadEventId)?,
        })
    }
}

/// One event and when it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<E> {
    /// Its place.
    pub id: EventId,
    /// By the gateway's clock.
    pub at: Moment,
    /// What happened.
    pub event: E,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Read<E> {
    /// What came after its place, oldest first, and its new place.
    Events(Vec<Entry<E>>, EventId),
    /// Its place is no longer (or never was) in the ring: it missed some. Go on from here.
    Reset(EventId),
}

/// The newest `capacity` events.
#[derive(Debug)]
pub struct Ring<E> {
    run: u32,
    capacity: usize,
    newest: u64,
    entries: VecDeque<Entry<E>>,
}

impl<E: Clone> Ring<E> {
    /// An empty ring of the run `run`, a number from chance.
    pub fn new(run: u32, capacity: usize) -> Self {
        Self { run, capacity: capacity.max(1), newest: 0, entries: VecDeque::new() }
    }

    /// Adds an event; the oldest makes room.
    pub fn push(&mut self, now: Moment, event: E) -> EventId {
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
        }
        self.newest += 1;
        let id = self.newest();
        self.entries.push_back(Entry { id, at: now, event });
        id
    }

    /// The place of the newest event.
    pub fn newest(&self) -> EventId {
        EventId { run: self.run, number: self.newest }
    }

    /// Up to `limit` events after `place` that `wanted` wants. The new place is past those passed over.
    pub fn read(&self, place: EventId, limit: usize, wanted: impl Fn(&E) -> bool) -> Read<E> {
        let oldest = self.newest - self.entries.len() as u64;
        if place.run != self.run || place.number < oldest || place.number > self.newest {
            return Read::Reset(self.newest());
        }
        let skip = usize::try_from(place.number - oldest).expect("less than the length of the ring");
        let mut reached = place;
        let mut events = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            if events.len() == limit {
                break;
            }
            reached = entry.id;
            if wanted(&entry.event) {
                events.push(entry.clone());
            }
        }
        Read::Events(events, reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(5);

    fn ring_of(count: u64) -> Ring<u64> {
        let mut ring = Ring::new(7, 4);
        (1..=count).for_each(|n| {
            ring.push(NOW, n);
        });
        ring
    }

    fn place(number: u64) -> EventId {
        EventId { run: 7, number }
    }

    fn numbers(read: Read<u64>) -> Option<(Vec<u64>, u64)> {
        match read {
            Read::Events(events, place) => {
                Some((events.into_iter().map(|entry| entry.event).collect(), place.number))
            }
            Read::Reset(_) => None,
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_left() {
        let ring = ring_of(4);
        assert_eq!(numbers(ring.read(place(0), 99, |_| true)), Some((vec![1, 2, 3, 4], 4)));
        assert_eq!(numbers(ring.read(place(2), 99, |_| true)), Some((vec![3, 4], 4)));
        assert_eq!(numbers(ring.read(place(4), 99, |_| true)), Some((vec![], 4)));
        assert_eq!(numbers(ring.read(place(0), 2, |_| true)), Some((vec![1, 2], 2)));
    }

    #[test]
    fn what_is_not_wanted_is_passed_over_but_not_read_twice() {
        assert_eq!(numbers(ring_of(4).read(place(0), 99, |n| n % 2 == 1)), Some((vec![1, 3], 4)));
    }

    #[test]
    fn who_is_too_late_or_from_another_run_starts_over() {
        let ring = ring_of(6);
        assert_eq!(ring.read(place(1), 99, |_| true), Read::Reset(place(6)));
        assert!(numbers(ring.read(place(2), 99, |_| true)).is_some());
        assert_eq!(ring.read(EventId { run: 8, number: 5 }, 99, |_| true), Read::Reset(place(6)));
        assert_eq!(ring.read(place(7), 99, |_| true), Read::Reset(place(6)), "a place not reached yet");
    }

    #[test]
    fn ids_round_trip_and_garbage_is_none() {
        assert_eq!(place(12).to_string().parse(), Ok(place(12)));
        for bad in ["", "12", "x-1", "00000007-", "00000007--1"] {
            assert_eq!(bad.parse::<EventId>(), Err(BadEventId), "{bad:?}");
        }
    }
}
