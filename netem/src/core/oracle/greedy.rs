//! A sender that knows the future and never waits in vain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{HEADERS, HORIZON, Message};
use crate::core::air::{Air, Fate};
use crate::core::fluid::Bed;
use crate::core::law::Capacity;
use crate::core::moment::{Moment, Slot};
use crate::core::server::Server;

/// A packet on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// When its service begins: who offers it to an idle pipe at this moment sees it leave and arrive as said.
    pub(super) at: Moment,
    /// IP bytes.
    pub(super) size: u32,
    pub(super) left: Moment,
    pub(super) arrives: Moment,
}

/// What waits of a message. Of two the one of higher priority is larger, then the one offered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: u8,
    offered: Reverse<Moment>,
    number: Reverse<usize>,
    bytes: u32,
}

/// When each message is complete; `sent` learns every packet.
pub(super) fn schedule(
    bed: &Bed,
    air: &Air,
    messages: &[Message],
    mut sent: impl FnMut(Sent),
) -> Vec<Option<Moment>> {
    let mut order: Vec<_> = (0..messages.len()).collect();
    order.sort_by_key(|index| Reverse(messages[*index].offered));
    let mut done: Vec<_> = messages.iter().map(|message| Some(message.offered)).collect();
    let mut road = Road::new(bed, air.clone());
    let mut waiting = BinaryHeap::new();
    let mut now = bed.start;
    loop {
        let next = order.last().map(|index| messages[*index].offered);
        if waiting.is_empty() {
            let Some(next) = next else { return done };
            now = now.max(next);
        }
        while let Some(index) = order.pop_if(|index| messages[*index].offered <= now) {
            let Message { offered, bytes, priority } = messages[index];
            waiting.push(Waiting { priority, offered: Reverse(offered), number: Reverse(index), bytes });
        }
        let Some(mut first) = waiting.pop() else { continue };
        let payload = first.bytes.min(bed.mtu.saturating_sub(HEADERS).max(1));
        let number = first.number.0;
        let Some(plan) = road.plan(now, payload + HEADERS) else {
            done[number] = None;
            continue;
        };
        // Somebody of higher priority comes before this one's turn.
        let rival = order
            .iter()
            .rev()
            .map(|index| &messages[*index])
            .take_while(|rival| rival.offered <= plan.sent.at);
        if let Some(rival) = rival.into_iter().find(|rival| rival.priority > first.priority) {
            now = rival.offered;
            waiting.push(first);
            continue;
        }
        sent(plan.sent);
        now = plan.sent.left;
        done[number] = done[number].map(|done| done.max(plan.sent.arrives));
        road.take(plan);
        first.bytes -= payload;
        if first.bytes > 0 {
            waiting.push(first);
        }
    }
}

/// The link's future, walked through once.
struct Road<'a> {
    bed: &'a Bed,
    air: Air,
    server: Server,
    /// Capacities that have been in force.
    changed: usize,
}

/// A packet that could be sent, and the link as it would be afterwards.
struct Plan {
    sent: Sent,
    server: Server,
    changed: usize,
}

impl<'a> Road<'a> {
    fn new(bed: &'a Bed, air: Air) -> Self {
        let server = Server::new(bed.capacities[0].1.clone(), bed.start);
        Self { bed, air, server, changed: 1 }
    }

    /// The first packet of `size` that is not served before `from` and arrives.
    fn plan(&mut self, from: Moment, size: u32) -> Option<Plan> {
        let latest = from + HORIZON;
        let mut at = from;
        loop {
            let (begin, mut server, changed) = self.begin(at);
            at = begin;
            let left = server.finish(at, size);
            if left > latest {
                return None;
            }
            if let Some(arrives) = self.arrival(left) {
                return Some(Plan { sent: Sent { at, size, left, arrives }, server, changed });
            }
            let next = Slot(Slot::of(left, self.bed.start).0 + 1).begins(self.bed.start);
            at = at.max(latest_start(&self.bed.capacities[changed - 1].1, next, size));
        }
    }

    fn take(&mut self, plan: Plan) {
        self.server = plan.server;
        self.changed = plan.changed;
    }

    /// The first moment not before `from` at which a service begins, with the server as it is then and the number of capacities
    /// that have been in force.
    fn begin(&self, from: Moment) -> (Moment, Server, usize) {
        let mut at = from;
        loop {
            let (server, changed) = self.server_at(at);
            let change = self.bed.capacities.get(changed).map_or(Moment::NEVER, |(from, _)| *from);
            let start = self.bed.outages.first_start(at, |at| server.ready_at(at));
            if start < change || start == Moment::NEVER {
                return (start, server, changed);
            }
            at = change;
        }
    }

    /// A server as it is at `at`, with the number of capacities that have been in force.
    fn server_at(&self, at: Moment) -> (Server, usize) {
        let changed = self.bed.capacities.partition_point(|(from, _)| *from <= at);
        match changed.checked_sub(1).map(|last| &self.bed.capacities[last]) {
            Some((from, capacity)) if changed > self.changed => {
                (Server::from(capacity.clone(), self.bed.start, *from), changed)
            }
            Some(_) | None => (self.server.clone(), self.changed),
        }
    }

    /// When a packet that leaves at `left` arrives, if it does.
    fn arrival(&mut self, left: Moment) -> Option<Moment> {
        if self.bed.outages.drops_at(left) {
            return None;
        }
        match self.air.fate(left, 0) {
            Fate::Lost(_) => None,
            Fate::Arrives { after, .. } => Some(left + after),
        }
    }
}

/// When the service of a packet must begin to end no sooner than `left`.
fn latest_start(capacity: &Capacity, left: Moment, size: u32) -> Moment {
    match capacity {
        Capacity::Rate(rate) => {
            let service = rate.time_for(u64::from(size));
            Moment::from_nanos(left.as_nanos().saturating_sub(service.as_nanos() as u64))
        }
        Capacity::Unlimited | Capacity::Trace(_) => left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        Direction, Event, Kind, Law, Loss, Oracle, Packet, Pipe, Probability, Rate, Seed, Trace,
    };
    use std::sync::Arc;
    use std::time::Duration;

    /// What the plan says happens when its packets are offered to a pipe.
    fn check(law: &Law) {
        let oracle = Oracle::new(law.clone(), Seed(3), Direction::Up, Moment::ZERO);
        let message = |at: u64| Message {
            offered: Moment::from_millis(at),
            bytes: if at.is_multiple_of(3) { 5_000 } else { 100 },
            priority: u8::from(!at.is_multiple_of(3)),
        };
        let messages: Vec<_> = (0..100).map(|turn| message(turn * 20)).collect();
        let mut plan = Vec::new();
        schedule(&oracle.bed, &oracle.air, &messages, |sent| plan.push(sent));
        let mut pipe = Pipe::new(law.clone(), Seed(3), Direction::Up, Moment::ZERO);
        for sent in &plan {
            pipe.push(sent.at, Packet { size: sent.size, kind: Kind::Udp, payload: *sent }).unwrap();
        }
        let mut count = 0;
        while let Some(event) = pipe.pop(Moment::NEVER) {
            let Event::Delivered(delivery) = event else { panic!("sent in vain: {event:?}") };
            assert_eq!(
                (delivery.left, delivery.due),
                (delivery.packet.payload.left, delivery.packet.payload.arrives)
            );
            count += 1;
        }
        assert_eq!(count, plan.len());
    }

    #[test]
    fn what_is_planned_can_be_done() {
        let loss = Loss::Bernoulli(Probability::new(0.2).unwrap());
        let delay = Duration::from_millis(20);
        let rate = Capacity::Rate(Rate::from_bits_per_second(3_000_000).unwrap());
        check(&Law { delay, loss, capacity: rate, ..Law::default() });
        let trace = Capacity::Trace(Arc::new(Trace::parse("2\n3\n3\n9\n").unwrap()));
        check(&Law { delay, loss, capacity: trace, mtu: 4_000, ..Law::default() });
        check(&Law { delay, loss, ..Law::default() });
    }
}
