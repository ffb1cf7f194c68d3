//! A link that carries work like a liquid: never slower than the real one, whoever sends what in which packets.
//!
//! What a real link does not allow is allowed here where it makes no bound: work may be cut anywhere and needs no packet to be whole.
//! What remains is what no sender can avoid:
//! - work is served at the capacity, and not before it is there;
//! - it arrives only if it leaves at a moment at which the air lets it through. Of what is served while nothing gets through, one packet
//!   at most is still in service when the way opens, so no more than an MTU of it counts;
//! - while the link is held only the packet that was in service goes on, an MTU at most;
//! - a packet that is in service when the capacity changes, an MTU at most, may be finished at the old one: it counts as done.

use std::collections::VecDeque;

use super::air::{Air, Fate};
use super::law::{Capacity, Rate};
use super::moment::{Moment, Slot};
use super::outage::Outages;
use super::trace::{OPPORTUNITY_BYTES, Trace};

/// Work: bits times nanoseconds per second, so that a rate times nanoseconds is work without rounding.
type Work = u128;

/// The work of so many IP bytes.
const fn work(bytes: u64) -> Work {
    bytes as Work * 8_000_000_000
}

/// What a link is like, for all its fluids.
#[derive(Clone, Debug)]
pub(super) struct Bed {
    pub(super) start: Moment,
    pub(super) mtu: u32,
    pub(super) outages: Outages,
    /// Capacities in force from a moment on, the first from the start, in order.
    pub(super) capacities: Vec<(Moment, Capacity)>,
}

impl Bed {
    /// The number of the capacity in force at `at`.
    fn capacity_at(&self, at: Moment) -> usize {
        self.capacities.partition_point(|(from, _)| *from <= at).saturating_sub(1)
    }
}

/// Work on its way, first in first out.
#[derive(Clone, Debug)]
pub(super) struct Fluid<'a> {
    bed: &'a Bed,
    air: Air,
    now: Moment,
    capacity: usize,
    /// All work that was poured in, and what of it has got through.
    poured: Work,
    through: Work,
    /// Served while nothing got through, and good for it once the way opens.
    ahead: Work,
    /// Whether a packet that was in service when the capacity changed may be under way: it leaves at any moment.
    crossing: bool,
    /// What may still be served while the link is held; `None`: it is not held.
    grace: Option<Work>,
    /// Ends of messages in the work, with their numbers.
    ends: VecDeque<(Work, usize)>,
    /// If set, only what arrives by then counts.
    deadline: Option<Moment>,
}

/// A stretch of time in which nothing changes.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Moment,
    until: Moment,
    open: bool,
}

impl<'a> Fluid<'a> {
    pub(super) fn new(bed: &'a Bed, air: Air, now: Moment, deadline: Option<Moment>) -> Self {
        let mut fluid = Self {
            bed,
            air,
            now,
            capacity: 0,
            poured: 0,
            through: 0,
            ahead: 0,
            crossing: false,
            grace: None,
            ends: VecDeque::new(),
            deadline,
        };
        fluid.skip(now);
        fluid
    }

    /// Adds message `number` at the present.
    pub(super) fn pour(&mut self, bytes: u64, number: usize) {
        self.poured += work(bytes);
        self.ends.push_back((self.poured, number));
    }

    /// Lets time pass until `until`, or until all work is through. `left` learns when the last of each message leaves.
    pub(super) fn flow(&mut self, until: Moment, mut left: impl FnMut(usize, Moment)) {
        while self.now < until {
            if self.ends.is_empty() {
                self.skip(until);
                return;
            }
            let stretch = self.stretch(until);
            self.serve(stretch, &mut left);
            self.now = stretch.until;
        }
    }

    /// Nothing is under way, so nothing is in service: who comes while the link is held waits.
    fn skip(&mut self, until: Moment) {
        self.now = until;
        self.capacity = self.bed.capacity_at(until);
        self.ahead = 0;
        self.crossing = false;
        self.grace = self.is_held().then_some(0);
    }

    fn is_held(&self) -> bool {
        self.bed.outages.released_at(self.now) > self.now
    }

    /// The next stretch, with the changes at its beginning made.
    fn stretch(&mut self, until: Moment) -> Stretch {
        let (bed, from) = (self.bed, self.now);
        let packet = work(bed.mtu.into());
        let capacity = bed.capacity_at(from);
        if capacity != self.capacity {
            self.capacity = capacity;
            self.crossing = true;
            self.ahead = (self.ahead + packet).min(self.poured - self.through);
        }
        self.grace = match (self.is_held(), self.grace) {
            (false, _) => None,
            // There was work when the hold began: a packet may be in service.
            (true, None) => Some(packet),
            (true, grace) => grace,
        };
        let next_slot = Slot(Slot::of(from, bed.start).0 + 1).begins(bed.start);
        let next_capacity = bed.capacities.get(capacity + 1).map_or(Moment::NEVER, |(from, _)| *from);
        let until = until.min(next_slot).min(next_capacity).min(bed.outages.next_edge(from));
        self.opened(Stretch { from, until, open: !bed.outages.drops_at(from) })
    }

    /// The stretch, shut or cut where the air or the deadline says so.
    fn opened(&mut self, stretch: Stretch) -> Stretch {
        let Fate::Arrives { after, .. } = self.air.fate(stretch.from, 0) else {
            return Stretch { open: false, ..stretch };
        };
        let Some(deadline) = self.deadline else { return stretch };
        let Some(latest) =
            u64::try_from(after.as_nanos()).ok().and_then(|after| deadline.as_nanos().checked_sub(after))
        else {
            return Stretch { open: false, ..stretch };
        };
        match Moment::from_nanos(latest) {
            latest if latest < stretch.from => Stretch { open: false, ..stretch },
            latest => {
                Stretch { until: stretch.until.min(Moment::from_nanos(latest.as_nanos() + 1)), ..stretch }
            }
        }
    }

    fn serve(&mut self, stretch: Stretch, left: &mut impl FnMut(usize, Moment)) {
        if self.crossing && stretch.open {
            self.crossing = false;
            self.release(stretch.from, 0, None, left);
        }
        let bed = self.bed;
        match &bed.capacities[self.capacity].1 {
            Capacity::Unlimited if self.grace.is_none() && stretch.open => {
                self.ahead = self.poured - self.through;
                self.release(stretch.from, 0, None, left);
            }
            Capacity::Unlimited => {}
            Capacity::Rate(rate) => self.serve_rate(*rate, stretch, left),
            Capacity::Trace(trace) => self.serve_trace(trace, stretch, left),
        }
    }

    fn serve_rate(&mut self, rate: Rate, stretch: Stretch, left: &mut impl FnMut(usize, Moment)) {
        let bits = Work::from(rate.bits_per_second());
        let served = self.allowed(bits * stretch.until.since(stretch.from).as_nanos());
        match served {
            Some(served) if stretch.open => {
                self.release(stretch.from, served, Some((bits, stretch.until)), left);
            }
            Some(served) => self.put_by(served),
            None => {}
        }
    }

    fn serve_trace(&mut self, trace: &Trace, stretch: Stretch, left: &mut impl FnMut(usize, Moment)) {
        let start = self.bed.start;
        let mut number = trace.first_from(stretch.from.since(start));
        while !self.ends.is_empty() {
            let at = start + trace.time(number);
            if at >= stretch.until {
                return;
            }
            number += 1;
            match self.allowed(work(OPPORTUNITY_BYTES.into())) {
                Some(served) if stretch.open => {
                    self.ahead = (self.ahead + served).min(self.poured - self.through);
                    self.release(at, 0, None, left);
                }
                Some(served) => self.put_by(served),
                None => {}
            }
        }
    }

    /// What of this work a held link serves; `None`: nothing can leave.
    fn allowed(&mut self, wanted: Work) -> Option<Work> {
        match &mut self.grace {
            None => Some(wanted),
            Some(0) => None,
            Some(grace) => {
                let served = wanted.min(*grace);
                *grace -= served;
                Some(served)
            }
        }
    }

    /// Serves while nothing gets through.
    fn put_by(&mut self, served: Work) {
        let most = work(self.bed.mtu.into()).min(self.poured - self.through);
        self.ahead = self.ahead.max((self.ahead + served).min(most));
    }

    /// Lets through what was served ahead at `at`, and then `served` at a pace: bits per second, until a moment.
    fn release(
        &mut self,
        at: Moment,
        served: Work,
        pace: Option<(Work, Moment)>,
        left: &mut impl FnMut(usize, Moment),
    ) {
        let base = self.through + self.ahead;
        self.ahead = 0;
        self.through = (base + served).min(self.poured);
        while let Some((end, number)) = self.ends.front().copied().filter(|(end, _)| *end <= self.through) {
            let moment = match pace {
                Some((bits, until)) if end > base => {
                    let nanos = (end - base).div_ceil(bits);
                    let moment = Moment::from_nanos(
                        at.as_nanos().saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)),
                    );
                    if moment >= until {
                        // It leaves when the next stretch has begun, if that one is open.
                        return;
                    }
                    moment
                }
                Some(_) | None => at,
            };
            left(number, moment);
            self.ends.pop_front();
        }
    }
}
