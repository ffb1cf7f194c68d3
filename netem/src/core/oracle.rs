//! The best that any transport could have done on a link: it knows all losses, outages and delays in advance and never sends in
//! vain. What a real transport is slower than this is its own doing.

use std::collections::VecDeque;
use std::time::Duration;

use super::air::{Air, Fate};
use super::chance::{Direction, Seed};
use super::law::{Capacity, Law};
use super::moment::{Moment, Slot};
use super::outage::Outages;
use super::server::Server;

/// How far ahead a way through is looked for.
const HORIZON: Duration = Duration::from_mins(2);
/// UDP and IPv4 headers: what every packet costs besides its payload.
const HEADERS: u32 = 28;

/// Something to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// When the application has it.
    pub offered: Moment,
    /// Payload; at least one packet is sent.
    pub bytes: u32,
    /// Larger goes first.
    pub priority: u8,
}

/// A link whose future is known.
#[derive(Clone, Debug)]
pub struct Oracle {
    law: Law,
    seed: Seed,
    direction: Direction,
    start: Moment,
}

impl Oracle {
    /// For the pipe that the same arguments make. Fates must hang on slots, not on packet numbers.
    pub const fn new(law: Law, seed: Seed, direction: Direction, start: Moment) -> Self {
        Self { law, seed, direction, start }
    }

    /// When a message of `bytes` that is offered at `offered` could be complete on an otherwise idle link; `None` if not within two
    /// minutes.
    pub fn best(&self, offered: Moment, bytes: u32) -> Option<Moment> {
        let latest = offered + HORIZON;
        let fits = |by: Moment| self.road().completes(offered, &self.packets(bytes), by);
        if !fits(latest) {
            return None;
        }
        // More time never harms, so the first moment by which it fits can be found by halving.
        let (mut low, mut high) = (offered.as_nanos(), latest.as_nanos());
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(Moment::from_nanos(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(Moment::from_nanos(high))
    }

    /// When each message of a workload could be complete if they share the link, packet by packet the highest priority first and
    /// within a priority the one offered first. `None` for those that find no way through.
    pub fn jointly(&self, messages: &[Message]) -> Vec<Option<Moment>> {
        let mut waiting: Vec<_> = messages
            .iter()
            .map(|message| (*message, VecDeque::from(self.packets(message.bytes)), Some(message.offered)))
            .collect();
        let mut order: Vec<_> = (0..messages.len()).collect();
        order.sort_by_key(|index| messages[*index].offered);
        let (mut road, mut free, mut last_due) = (self.road(), self.start, Moment::ZERO);
        loop {
            let open = order.iter().copied().filter(|index| !waiting[*index].1.is_empty());
            let Some(first) = open.clone().map(|index| waiting[index].0.offered).min() else { break };
            let now = free.max(first);
            let ready = open.filter(|index| waiting[*index].0.offered <= now);
            // Of equals the first in the order of offers: `max_by_key` would take the last.
            let Some(next) = ready.rev().max_by_key(|index| waiting[*index].0.priority) else { break };
            let (_, packets, complete) = &mut waiting[next];
            let Some(size) = packets.pop_front() else { break };
            let Some((left, due)) = road.depart(now, size, now + HORIZON) else {
                packets.clear();
                *complete = None;
                continue;
            };
            free = left;
            last_due = last_due.max(due);
            *complete = complete.map(|complete| complete.max(last_due));
        }
        waiting.into_iter().map(|(_, _, complete)| complete).collect()
    }

    fn road(&self) -> Road {
        Road {
            air: Air::new(&self.law, self.seed, self.direction, self.start),
            server: Server::new(self.law.capacity.clone(), self.start),
            outages: Outages::new(self.start, self.law.outages.clone()),
            capacity: self.law.capacity.clone(),
            start: self.start,
        }
    }

    /// IP sizes of the packets that carry `bytes`: full ones, then the rest.
    fn packets(&self, bytes: u32) -> Vec<u32> {
        let most = self.law.mtu.saturating_sub(HEADERS).max(1);
        let (full, rest) = (bytes / most, bytes % most);
        let mut packets = vec![most + HEADERS; full as usize];
        if rest > 0 || full == 0 {
            packets.push(rest + HEADERS);
        }
        packets
    }
}

/// The link's future, walked through once.
struct Road {
    air: Air,
    server: Server,
    outages: Outages,
    capacity: Capacity,
    start: Moment,
}

impl Road {
    /// Whether all packets can have arrived by `by` if none is served before `from`.
    fn completes(mut self, from: Moment, sizes: &[u32], by: Moment) -> bool {
        let mut free = from;
        for size in sizes {
            match self.depart(free, *size, by) {
                Some((left, _)) => free = left,
                None => return false,
            }
        }
        true
    }

    /// The earliest departure of a packet that is not served before `from` and arrives by `by`, and its arrival.
    fn depart(&mut self, from: Moment, size: u32, by: Moment) -> Option<(Moment, Moment)> {
        let mut from = from;
        loop {
            from = self.outages.released_at(from);
            // Trying must not use up opportunities.
            let mut server = self.server.clone();
            let left = server.finish(from, size);
            if left > by {
                return None;
            }
            if let Some(due) = self.arrival(left).filter(|due| *due <= by) {
                self.server = server;
                return Some((left, due));
            }
            let next = Slot(Slot::of(left, self.start).0 + 1).begins(self.start);
            from = from.max(self.latest_start(next, size));
        }
    }

    /// When a packet that leaves at `left` arrives, if it does.
    fn arrival(&mut self, left: Moment) -> Option<Moment> {
        if self.outages.drops_at(left) {
            return None;
        }
        match self.air.fate(left, 0) {
            Fate::Lost(_) => None,
            Fate::Arrives { after, .. } => Some(left + after),
        }
    }

    /// When the service of a packet must begin to end no sooner than `left`.
    fn latest_start(&self, left: Moment, size: u32) -> Moment {
        match &self.capacity {
            Capacity::Rate(rate) => {
                let service = rate.time_for(u64::from(size));
                Moment::from_nanos(left.as_nanos().saturating_sub(service.as_nanos() as u64))
            }
            Capacity::Unlimited | Capacity::Trace(_) => left,
        }
    }
}
