//! Packets in flight, by due time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::law::Order;
use super::moment::Moment;

/// The propagation delay as a place: packets enter with their due time and leave at it.
#[derive(Clone, Debug)]
pub(super) struct Line<T> {
    order: Order,
    flights: BinaryHeap<Reverse<Flight<T>>>,
    entered: u64,
    last_due: Moment,
}

#[derive(Clone, Debug)]
struct Flight<T> {
    due: Moment,
    number: u64,
    item: T,
}

impl<T> Line<T> {
    pub(super) const fn new(order: Order) -> Self {
        Self { order, flights: BinaryHeap::new(), entered: 0, last_due: Moment::ZERO }
    }

    pub(super) const fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// Takes a packet that should arrive at `due`; where order is kept, not before the one ahead of it.
    pub(super) fn push(&mut self, due: Moment, item: T) {
        let due = match self.order {
            Order::Kept => due.max(self.last_due),
            Order::Free => due,
        };
        self.last_due = self.last_due.max(due);
        self.flights.push(Reverse(Flight { due, number: self.entered, item }));
        self.entered += 1;
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.flights.peek().map(|Reverse(flight)| flight.due)
    }

    pub(super) fn pop(&mut self, now: Moment) -> Option<(Moment, T)> {
        if self.next_due()? > now {
            return None;
        }
        self.flights.pop().map(|Reverse(flight)| (flight.due, flight.item))
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }
}

impl<T> PartialEq for Flight<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl<T> Eq for Flight<T> {}

impl<T> PartialOrd for Flight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flight<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
