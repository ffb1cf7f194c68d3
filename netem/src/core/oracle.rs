//! What a link allows at best. Two answers: a bound that no sender beats, and what a sender that knows all losses, outages and
//! delays in advance achieves. What a real transport is slower than the second is its own doing.

mod greedy;

use super::air::{Air, Fate};
use super::chance::{Direction, Seed};
use super::fluid::{Bed, Fluid};
use super::law::{Capacity, Law, Order};
use super::moment::Moment;
use super::outage::Outages;
use std::time::Duration;

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

/// A link whose future is known. What it does to UDP and how long its queue is do not count: the best sender avoids both.
#[derive(Clone, Debug)]
pub struct Oracle {
    law: Law,
    bed: Bed,
    air: Air,
}

impl Oracle {
    /// For the pipe that the same arguments make. Fates must hang on slots, not on packet numbers.
    pub fn new(law: Law, seed: Seed, direction: Direction, start: Moment) -> Self {
        let bed = Bed {
            start,
            mtu: law.mtu,
            outages: Outages::new(start, law.outages.clone()),
            capacities: vec![(start, law.capacity.clone())],
        };
        let air = Air::new(&law, seed, direction, start);
        Self { law, bed, air }
    }

    /// The same link, whose capacity changes at these moments.
    #[must_use]
    pub fn with_changes(mut self, changes: impl IntoIterator<Item = (Moment, Capacity)>) -> Self {
        self.bed.capacities.extend(changes);
        self.bed.capacities.sort_by_key(|(from, _)| *from);
        self
    }

    /// No sender completes a message of `bytes` that is offered at `offered` sooner, in whatever packets and even on an otherwise idle
    /// link; `None` if that takes more than two minutes. Where one packet carries it, a sender exists that is as fast, holds aside.
    pub fn best(&self, offered: Moment, bytes: u32) -> Option<Moment> {
        let from = offered.max(self.bed.start);
        let latest = from + HORIZON;
        let left = self.leaves(from, bytes, latest, None)?;
        match self.law.jitter.order {
            Order::Kept => self.arrival(left),
            Order::Free => Some(self.best_of_free(from, left, bytes)),
        }
        .filter(|arrival| *arrival <= latest)
    }

    /// The same for a message of each workload when all of it is to be delivered and no packet of a message is sent while one of
    /// higher priority waits. Within a priority any order is allowed, and messages of lower priority may be held back, so for the highest
    /// this is [`Self::best`].
    pub fn jointly(&self, messages: &[Message]) -> Vec<Option<Moment>> {
        let mut order: Vec<_> = (0..messages.len()).collect();
        order.sort_by_key(|index| messages[*index].offered);
        let mut bounds = vec![None; messages.len()];
        let mut priorities: Vec<_> = messages.iter().map(|message| message.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        for priority in priorities {
            let above: Vec<_> =
                order.iter().copied().filter(|index| messages[*index].priority > priority).collect();
            let free = self.drained(messages, &above);
            for index in order.iter().copied().filter(|index| messages[*index].priority == priority) {
                let Message { offered, bytes, .. } = messages[index];
                let ahead = above.partition_point(|other| messages[*other].offered <= offered);
                let from = match ahead.checked_sub(1).map(|last| free[last]) {
                    None => Some(offered),
                    Some(free) => free.map(|free| free.max(offered)),
                };
                bounds[index] = from.and_then(|from| self.best(from, bytes));
            }
        }
        bounds
    }

    /// What a sender achieves that knows the future, sends packet by packet the highest priority first and within a priority the
    /// message offered first, never in vain, and never idles while something waits and a way through is open. `None` for messages that
    /// find no way within two minutes of waiting.
    pub fn achievable(&self, messages: &[Message]) -> Vec<Option<Moment>> {
        greedy::schedule(&self.bed, &self.air, messages, |_| {})
    }

    /// When each of the messages `chosen`, in the order of their offers, could have left with all before it.
    fn drained(&self, messages: &[Message], chosen: &[usize]) -> Vec<Option<Moment>> {
        let mut free = vec![None; chosen.len()];
        let Some(first) = chosen.first() else { return free };
        let from = messages[*first].offered.max(self.bed.start);
        let mut fluid = Fluid::new(&self.bed, self.air.clone(), from, None);
        let mut last = from;
        for (number, index) in chosen.iter().enumerate() {
            last = messages[*index].offered.max(from);
            fluid.flow(last, |number, left| free[number] = Some(left));
            fluid.pour(self.ip_bytes(messages[*index].bytes), number);
        }
        fluid.flow(last + HORIZON, |number, left| free[number] = Some(left));
        free
    }

    /// When the last of `bytes` could leave, if none is served before `from` and only what arrives by `deadline` counts.
    fn leaves(&self, from: Moment, bytes: u32, until: Moment, deadline: Option<Moment>) -> Option<Moment> {
        let mut fluid = Fluid::new(&self.bed, self.air.clone(), from, deadline);
        fluid.pour(self.ip_bytes(bytes), 0);
        let mut last = None;
        fluid.flow(until, |_, left| last = Some(left));
        last
    }

    /// Where packets may overtake, the earliest is not always the best: the first deadline by which all can have arrived is found
    /// by halving, for more time never harms.
    fn best_of_free(&self, from: Moment, left: Moment, bytes: u32) -> Moment {
        let (mut low, mut high) =
            ((left + self.air.shortest()).as_nanos(), (left + self.air.longest()).as_nanos());
        while low < high {
            let middle = low + (high - low) / 2;
            let deadline = Moment::from_nanos(middle);
            if self.leaves(from, bytes, deadline + Duration::from_nanos(1), Some(deadline)).is_some() {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Moment::from_nanos(high)
    }

    fn arrival(&self, left: Moment) -> Option<Moment> {
        match self.air.clone().fate(left, 0) {
            Fate::Arrives { after, .. } => Some(left + after),
            Fate::Lost(_) => None,
        }
    }

    /// The least IP bytes that carry `bytes`.
    fn ip_bytes(&self, bytes: u32) -> u64 {
        let most = self.law.mtu.saturating_sub(HEADERS).max(1);
        u64::from(bytes) + u64::from(bytes.div_ceil(most).max(1)) * u64::from(HEADERS)
    }
}
