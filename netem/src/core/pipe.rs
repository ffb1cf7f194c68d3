//! One direction of a link: the stages in order.

use std::collections::VecDeque;

use super::air::{Air, Fate};
use super::chance::{Direction, Seed};
use super::counts::{Cause, Counts};
use super::gate::{Gate, Kind};
use super::law::{Capacity, Law, OutageMode, UdpPolicy};
use super::line::Line;
use super::moment::Moment;
use super::outage::Outages;
use super::queue::{Fifo, Head, Waiting};
use super::server::Server;

/// Bytes that may be in flight: 64 MiB, a gigabit link with half a second of delay.
const MOST_BYTES_IN_FLIGHT: u64 = 64 << 20;

/// Drops that may wait to be told: far more than the packets of any queue. One that finds no room is counted, like every drop,
/// and forgotten.
const MOST_UNTOLD: usize = 1 << 17;

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<T> {
    /// IP bytes, headers included.
    pub size: u32,
    /// What it carries.
    pub kind: Kind,
    /// What the caller wants back.
    pub payload: T,
}

/// What comes out at the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// Number of the packet in this direction, counted from zero.
    pub index: u64,
    /// When it was pushed.
    pub pushed: Moment,
    /// When it left the queue for the air. Its slot decided its fate.
    pub left: Moment,
    /// When it arrives.
    pub due: Moment,
    /// One, or two if it was duplicated.
    pub copies: u8,
    /// If set, one bit is to be flipped: this number reduced to the packet's length says which.
    pub corrupt: Option<u64>,
    /// The packet.
    pub packet: Packet<T>,
}

/// What never comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped<T> {
    /// Number of the packet in this direction, counted from zero.
    pub index: u64,
    /// When it was pushed.
    pub pushed: Moment,
    /// When it was dropped.
    pub at: Moment,
    /// Why.
    pub cause: Cause,
    /// The packet.
    pub packet: Packet<T>,
}

/// What [`Pipe::pop`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// A packet arrives.
    Delivered(Delivery<T>),
    /// A packet that had been accepted was dropped on the way.
    Dropped(Dropped<T>),
}

/// One direction of a link. Time never falls between calls.
#[derive(Clone, Debug)]
pub struct Pipe<T> {
    seed: Seed,
    direction: Direction,
    start: Moment,
    mtu: u32,
    gate: Gate,
    queue: Fifo<Numbered<T>>,
    server: Server,
    outages: Outages,
    air: Air,
    line: Line<Flying<T>>,
    in_service: Option<InService<T>>,
    /// When the server was last done.
    free_at: Moment,
    bytes_in_flight: u64,
    drops: VecDeque<Dropped<T>>,
    untold: u64,
    counts: Counts,
}

#[derive(Clone, Debug)]
struct Numbered<T> {
    index: u64,
    packet: Packet<T>,
}

#[derive(Clone, Debug)]
struct InService<T> {
    finish: Moment,
    waiting: Waiting<Numbered<T>>,
}

#[derive(Clone, Debug)]
struct Flying<T> {
    left: Moment,
    copies: u8,
    corrupt: Option<u64>,
    waiting: Waiting<Numbered<T>>,
}

impl<T> Pipe<T> {
    /// A pipe under `law` that starts at `start`: slots, traces and outages count from there.
    pub fn new(law: Law, seed: Seed, direction: Direction, start: Moment) -> Self {
        Self {
            seed,
            direction,
            start,
            mtu: law.mtu,
            gate: Gate::new(law.mtu, law.udp, start),
            queue: Fifo::new(law.queue),
            air: Air::new(&law, seed, direction, start),
            server: Server::new(law.capacity, start),
            outages: Outages::new(start, law.outages),
            line: Line::new(law.jitter.order),
            in_service: None,
            free_at: start,
            bytes_in_flight: 0,
            drops: VecDeque::new(),
            untold: 0,
            counts: Counts::default(),
        }
    }

    /// Changes the law at `now`. What waits or flies keeps its place; the packet in service is finished under the old law.
    pub fn set_law(&mut self, now: Moment, law: Law) {
        self.advance(now);
        self.mtu = law.mtu;
        self.gate = Gate::new(law.mtu, law.udp, now);
        self.queue.reconfigure(law.queue);
        self.air = Air::new(&law, self.seed, self.direction, self.start);
        self.server = Server::from(law.capacity, self.start, now);
        self.outages.plan(law.outages);
        self.line.set_order(law.jitter.order);
        self.nothing_before(now);
        self.advance(now);
    }

    /// Changes what happens to UDP, from `now` on.
    pub fn set_udp(&mut self, now: Moment, policy: UdpPolicy) {
        self.gate.set_udp(policy, now);
    }

    /// Changes the capacity from `now` on; the packet in service is finished under the old one.
    pub fn set_capacity(&mut self, now: Moment, capacity: Capacity) {
        self.advance(now);
        self.server = Server::from(capacity, self.start, now);
        self.nothing_before(now);
    }

    /// Declares an outage from `now` until `until`, which replaces one declared before; `until = now` ends it.
    pub fn declare_outage(&mut self, now: Moment, until: Moment, mode: OutageMode) {
        self.advance(now);
        self.outages.declare(now, until, mode);
        self.nothing_before(now);
        self.advance(now);
    }

    /// Offers a packet at `now`. Gives its number, or the packet back with the cause if it is dropped at once.
    pub fn push(&mut self, now: Moment, packet: Packet<T>) -> Result<u64, Dropped<T>> {
        self.advance(now);
        let index = self.counts.offered;
        let size = packet.size;
        self.counts.offered += 1;
        self.counts.offered_bytes += u64::from(size);
        if let Err(cause) = self.gate.admit(now, size, packet.kind) {
            return Err(self.refuse(now, cause, Numbered { index, packet }));
        }
        match self.queue.push(now, size, Numbered { index, packet }) {
            Ok(()) => {
                self.advance(now);
                Ok(index)
            }
            Err(numbered) => Err(self.refuse(now, Cause::QueueFull, numbered)),
        }
    }

    /// The next thing that has happened by `now`: drops first, then deliveries by due time.
    pub fn pop(&mut self, now: Moment) -> Option<Event<T>> {
        if let Some(dropped) = self.pop_drop(now) {
            return Some(Event::Dropped(dropped));
        }
        let (due, flying) = self.line.pop(now)?;
        let Flying { left, copies, corrupt, waiting: Waiting { since: pushed, size, item } } = flying;
        self.bytes_in_flight -= u64::from(size);
        self.counts.delivered += 1;
        self.counts.delivered_bytes += u64::from(size);
        self.counts.waited += left.since(pushed);
        self.counts.duplicated += u64::from(copies > 1);
        self.counts.corrupted += u64::from(corrupt.is_some());
        let Numbered { index, packet } = item;
        Some(Event::Delivered(Delivery { index, pushed, left, due, copies, corrupt, packet }))
    }

    /// The next packet that had been accepted and was dropped by `now`. Who asks after every push and every change keeps no more
    /// of them than the queue held: on a link without a limit on the rate nothing else may ever become due.
    pub fn pop_drop(&mut self, now: Moment) -> Option<Dropped<T>> {
        self.advance(now);
        self.drops.pop_front()
    }

    /// Drops that were counted but not told, because nobody asked for far too long.
    pub const fn untold(&self) -> u64 {
        self.untold
    }

    /// When [`Self::pop`] will next have something to do; `None` if only a push can change that. Never late: it may be
    /// early, when a packet leaves the queue but has not arrived.
    pub fn next_due(&self) -> Option<Moment> {
        if !self.drops.is_empty() {
            return Some(Moment::ZERO);
        }
        let served = match &self.in_service {
            Some(service) => Some(service.finish),
            None => self.next_start().filter(|start| *start != Moment::NEVER),
        };
        [served, self.line.next_due()].into_iter().flatten().min()
    }

    /// When something can next arrive: for callers who care about nothing else and would rather wake less often. Never late.
    pub fn next_arrival(&self) -> Option<Moment> {
        let served = match &self.in_service {
            Some(service) => Some(service.finish),
            None => self.next_start().filter(|start| *start != Moment::NEVER),
        };
        let served = served.map(|left| left + self.air.shortest());
        [served, self.line.next_due()].into_iter().flatten().min()
    }

    /// Packets inside: waiting, in service, or in flight.
    pub fn held(&self) -> usize {
        self.queue.len() + usize::from(self.in_service.is_some()) + self.line.len()
    }

    /// Their IP bytes.
    pub fn held_bytes(&self) -> u64 {
        let served = self.in_service.as_ref().map_or(0, |service| u64::from(service.waiting.size));
        self.queue.bytes() + served + self.bytes_in_flight
    }

    /// Bytes that wait in the queue.
    pub const fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// How full the queue is, from zero to one.
    pub fn queue_fill(&self) -> f64 {
        self.queue.fill()
    }

    /// Counters since the start.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Lets the server work up to `now`. Departures are computed at their own moments, so that it does not matter how often
    /// this is called.
    fn advance(&mut self, now: Moment) {
        loop {
            if let Some(service) = self.in_service.take_if(|service| service.finish <= now) {
                self.free_at = service.finish;
                self.depart(service);
            }
            if self.in_service.is_some() {
                return;
            }
            match self.next_start() {
                Some(start) if start <= now => self.serve(start),
                Some(_) | None => return,
            }
        }
    }

    /// When the packet at the head can be served: it leaves the queue then and not before, so that `CoDel` and the queue's limit
    /// see its wait.
    fn next_start(&self) -> Option<Moment> {
        let since = self.queue.head_since()?;
        Some(self.outages.first_start(since.max(self.free_at), |at| self.server.ready_at(at)))
    }

    /// What changes at `now` serves nobody before.
    fn nothing_before(&mut self, now: Moment) {
        self.free_at = self.free_at.max(now);
    }

    fn serve(&mut self, start: Moment) {
        match self.queue.take(start, self.mtu) {
            Some(Head::Serve(waiting)) => {
                let finish = self.server.finish(start, waiting.size);
                self.in_service = Some(InService { finish, waiting });
            }
            Some(Head::Drop(waiting)) => self.lose(start, Cause::CoDel, waiting),
            None => {}
        }
    }

    fn depart(&mut self, InService { finish: left, waiting }: InService<T>) {
        if self.outages.drops_at(left) {
            return self.lose(left, Cause::Outage, waiting);
        }
        match self.air.fate(left, waiting.item.index) {
            Fate::Lost(cause) => self.lose(left, cause, waiting),
            Fate::Arrives { .. } if self.bytes_in_flight + u64::from(waiting.size) > MOST_BYTES_IN_FLIGHT => {
                self.lose(left, Cause::Overflow, waiting);
            }
            Fate::Arrives { after, copies, corrupt } => {
                self.bytes_in_flight += u64::from(waiting.size);
                self.line.push(left + after, Flying { left, copies, corrupt, waiting });
            }
        }
    }

    fn lose(&mut self, at: Moment, cause: Cause, waiting: Waiting<Numbered<T>>) {
        self.counts.drop(cause);
        if self.drops.len() == MOST_UNTOLD {
            self.untold += 1;
            return;
        }
        let Waiting { since: pushed, item: Numbered { index, packet }, .. } = waiting;
        self.drops.push_back(Dropped { index, pushed, at, cause, packet });
    }

    fn refuse(&mut self, at: Moment, cause: Cause, numbered: Numbered<T>) -> Dropped<T> {
        self.counts.drop(cause);
        Dropped { index: numbered.index, pushed: at, at, cause, packet: numbered.packet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Loss, Probability};

    fn flood(pipe: &mut Pipe<u64>, count: u64, mut after: impl FnMut(&mut Pipe<u64>, Moment)) {
        for number in 0..count {
            let now = Moment::from_nanos(number * 1_000);
            let packet = Packet { size: 1_400, kind: Kind::Udp, payload: number };
            assert!(pipe.push(now, packet).is_ok(), "nothing fills the queue");
            after(pipe, now);
        }
    }

    fn void() -> Pipe<u64> {
        let law = Law { loss: Loss::Bernoulli(Probability::ONE), ..Law::default() };
        Pipe::new(law, Seed(1), Direction::Up, Moment::ZERO)
    }

    #[test]
    fn a_link_that_loses_everything_holds_nothing_for_who_asks() {
        let mut pipe = void();
        assert_eq!(pipe.next_arrival(), None);
        flood(&mut pipe, 1_000, |pipe, now| {
            assert!(pipe.pop_drop(now).is_some());
            assert!(pipe.drops.is_empty());
        });
        assert_eq!(pipe.counts().dropped_by(Cause::Loss), 1_000);
    }

    #[test]
    fn who_never_asks_is_told_so_much_and_no_more() {
        let mut pipe = void();
        flood(&mut pipe, MOST_UNTOLD as u64 + 5, |_, _| {});
        assert_eq!((pipe.drops.len(), pipe.untold()), (MOST_UNTOLD, 5));
        assert_eq!(pipe.counts().dropped(), MOST_UNTOLD as u64 + 5);
    }
}
