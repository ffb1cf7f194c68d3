//! Where packets wait: first in, first out, bounded.

use std::collections::VecDeque;

use super::codel::CoDel;
use super::law::{Discipline, Limit};
use super::moment::Moment;

/// A bounded queue. `T` knows nothing of the link; the queue keeps size and arrival beside it.
#[derive(Clone, Debug)]
pub(super) struct Fifo<T> {
    limit: Limit,
    codel: Option<CoDel>,
    bytes: u64,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting<T> {
    pub(super) since: Moment,
    pub(super) size: u32,
    pub(super) item: T,
}

/// What comes off the head.
#[derive(Debug)]
pub(super) enum Head<T> {
    Serve(Waiting<T>),
    Drop(Waiting<T>),
}

impl<T> Fifo<T> {
    pub(super) const fn new(queue: super::law::Queue) -> Self {
        Self {
            limit: queue.limit,
            codel: Self::controller(queue.discipline),
            bytes: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Changes the limit and the discipline; what waits goes on waiting.
    pub(super) fn reconfigure(&mut self, queue: super::law::Queue) {
        self.limit = queue.limit;
        self.codel = Self::controller(queue.discipline);
    }

    const fn controller(discipline: Discipline) -> Option<CoDel> {
        match discipline {
            Discipline::DropTail => None,
            Discipline::CoDel { target, interval } => Some(CoDel::new(target, interval)),
        }
    }

    /// Whether a packet of `size` fits.
    pub(super) fn has_room(&self, size: u32) -> bool {
        match self.limit {
            Limit::Bytes(most) => self.bytes + u64::from(size) <= most,
            Limit::Packets(most) => (self.waiting.len() as u64) < most,
        }
    }

    /// Takes the packet, or gives it back when full.
    pub(super) fn push(&mut self, since: Moment, size: u32, item: T) -> Result<(), T> {
        if !self.has_room(size) {
            return Err(item);
        }
        self.bytes += u64::from(size);
        self.waiting.push_back(Waiting { since, size, item });
        Ok(())
    }

    /// When the packet at the head arrived.
    pub(super) fn head_since(&self) -> Option<Moment> {
        self.waiting.front().map(|head| head.since)
    }

    /// Takes the head at `now`, to be served or, if `CoDel` says so, dropped.
    pub(super) fn take(&mut self, now: Moment, mtu: u32) -> Option<Head<T>> {
        let head = self.waiting.pop_front()?;
        self.bytes -= u64::from(head.size);
        let behind = self.bytes;
        let drops = |codel: &mut CoDel| codel.drops(now, now.since(head.since), behind, mtu);
        let dropped = self.codel.as_mut().is_some_and(drops);
        Some(if dropped { Head::Drop(head) } else { Head::Serve(head) })
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How full it is, from zero to one.
    pub(super) fn fill(&self) -> f64 {
        match self.limit {
            Limit::Bytes(most) => self.bytes as f64 / most.max(1) as f64,
            Limit::Packets(most) => self.len() as f64 / most.max(1) as f64,
        }
    }
}
