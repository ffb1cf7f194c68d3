//! How long the link takes to put a packet on the air.

use std::sync::Arc;
use std::time::Duration;

use super::law::{Capacity, Rate};
use super::moment::Moment;
use super::trace::{OPPORTUNITY_BYTES, Trace};

/// One law of capacity, with what it has to remember.
#[derive(Clone, Debug)]
pub(super) enum Server {
    Unlimited,
    Rate(Rate),
    Trace(Opportunities),
}

impl Server {
    pub(super) fn new(capacity: Capacity, start: Moment) -> Self {
        match capacity {
            Capacity::Unlimited => Self::Unlimited,
            Capacity::Rate(rate) => Self::Rate(rate),
            Capacity::Trace(trace) => {
                Self::Trace(Opportunities { trace, start, at: start, next: 0, left: 0 })
            }
        }
    }

    /// The server of a capacity that holds from `from` on: opportunities up to then are not its own, for the one before may have
    /// used them.
    pub(super) fn from(capacity: Capacity, start: Moment, from: Moment) -> Self {
        let mut server = Self::new(capacity, start);
        if let Self::Trace(opportunities) = &mut server {
            opportunities.next = opportunities.trace.first_from(from.since(start) + Duration::from_nanos(1));
        }
        server
    }

    /// The first moment not before `from` at which a service can begin: until then a packet waits in the queue. `from` never falls.
    pub(super) fn ready_at(&self, from: Moment) -> Moment {
        match self {
            Self::Unlimited | Self::Rate(_) => from,
            Self::Trace(opportunities) => opportunities.ready_at(from),
        }
    }

    /// When a packet of `size` bytes whose service begins at `from` is out. `from` never falls.
    pub(super) fn finish(&mut self, from: Moment, size: u32) -> Moment {
        match self {
            Self::Unlimited => from,
            Self::Rate(rate) => from + rate.time_for(u64::from(size)),
            Self::Trace(opportunities) => opportunities.finish(from, size),
        }
    }
}

/// Progress through a trace. An opportunity that nobody waits for is gone.
#[derive(Clone, Debug)]
pub(super) struct Opportunities {
    trace: Arc<Trace>,
    start: Moment,
    /// Time of the opportunity in use.
    at: Moment,
    /// The one after it.
    next: u64,
    /// Bytes left in the one in use.
    left: u32,
}

impl Opportunities {
    fn ready_at(&self, from: Moment) -> Moment {
        if self.at >= from && self.left > 0 {
            return self.at;
        }
        let next = self.next.max(self.trace.first_from(from.since(self.start)));
        self.start + self.trace.time(next)
    }

    fn finish(&mut self, from: Moment, size: u32) -> Moment {
        if self.at < from {
            self.left = 0;
            self.next = self.next.max(self.trace.first_from(from.since(self.start)));
        }
        let mut need = size;
        // Nothing takes no room, but goes with an opportunity like everything else.
        while need > self.left || self.at < from {
            need -= self.left;
            self.at = self.start + self.trace.time(self.next);
            self.next += 1;
            self.left = OPPORTUNITY_BYTES;
        }
        self.left -= need;
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finishes(lines: &str, packets: &[(u64, u32)]) -> Vec<u64> {
        let trace = Arc::new(Trace::parse(lines).unwrap());
        let mut server = Server::new(Capacity::Trace(trace), Moment::ZERO);
        let mut free = Moment::ZERO;
        let finish = |&(at, size): &(u64, u32)| {
            let from = server.ready_at(free.max(Moment::from_millis(at)));
            free = server.finish(from, size);
            free.as_nanos() / 1_000_000
        };
        packets.iter().map(finish).collect()
    }

    #[test]
    fn small_packets_share_an_opportunity_and_large_ones_span_several() {
        assert_eq!(finishes("10\n20\n30\n", &[(0, 700), (0, 700), (0, 200)]), [10, 10, 20]);
        assert_eq!(finishes("10\n20\n30\n", &[(0, 1504), (0, 3008)]), [10, 30]);
    }

    #[test]
    fn a_packet_without_bytes_goes_with_an_opportunity() {
        assert_eq!(finishes("10\n20\n30\n", &[(0, 0), (10, 0), (15, 0), (15, 1504)]), [10, 10, 20, 20]);
    }

    #[test]
    fn service_begins_with_an_opportunity_or_in_what_is_left_of_one() {
        let trace = Arc::new(Trace::parse("10\n20\n").unwrap());
        let mut server = Server::new(Capacity::Trace(trace), Moment::ZERO);
        let at = Moment::from_millis;
        assert_eq!(server.ready_at(at(3)), at(10));
        server.finish(at(10), 1_000);
        assert_eq!(server.ready_at(at(10)), at(10));
        server.finish(at(10), 504);
        assert_eq!(server.ready_at(at(10)), at(20));
    }

    #[test]
    fn an_unused_opportunity_is_gone() {
        assert_eq!(finishes("10\n20\n30\n", &[(0, 100), (15, 100), (41, 100)]), [10, 20, 50]);
    }
}
