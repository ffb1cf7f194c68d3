//! What makes a law unusable: checked where it is written down, so that nobody wonders why nothing arrives.

use std::time::Duration;

use super::law::{Law, Limit, Loss, OutageMode};
use super::moment::Moment;
use super::outage::Outages;

/// Smallest MTU of IPv4 (RFC 791).
const SMALLEST_MTU: u32 = 68;
/// Largest IP packet.
const LARGEST_MTU: u32 = 65_535;
/// Shortest mean period of a burst: the grain at which the air decides.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
/// Largest jitter: a minute, longer than anything that is still called jitter.
const LARGEST_SPREAD: Duration = Duration::from_mins(1);

/// Why a law is unusable, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// No IP packet, or no interface, has such a size.
    #[error("an MTU of {0} does not exist; write one from {SMALLEST_MTU} to {LARGEST_MTU}")]
    Mtu(u32),
    /// A full packet never fits.
    #[error("a queue of {bytes} bytes has no room for a packet of {mtu}; make it at least that large")]
    Queue {
        /// What the queue takes.
        bytes: u64,
        /// What a packet may have.
        mtu: u32,
    },
    /// No packet ever fits.
    #[error("a queue for no packet lets nothing pass; give it room for at least one")]
    NoQueue,
    /// Periods shorter than the model's grain.
    #[error("a burst's mean `length` and `gap` are at least 1 ms each")]
    Burst,
    /// A jitter beyond reason.
    #[error("a jitter of more than a minute is none; make the `spread` smaller")]
    Spread,
    /// Outages that hold leave no gap.
    #[error(
        "the outages that hold leave no gap, so that nothing ever passes; shorten one, or use mode `drop`"
    )]
    HeldForEver,
}

impl Law {
    /// Fails if something about this law can only be a mistake.
    pub fn check(&self) -> Result<(), Unsound> {
        if !(SMALLEST_MTU..=LARGEST_MTU).contains(&self.mtu) {
            return Err(Unsound::Mtu(self.mtu));
        }
        match self.queue.limit {
            Limit::Bytes(bytes) if bytes < u64::from(self.mtu) => {
                return Err(Unsound::Queue { bytes, mtu: self.mtu });
            }
            Limit::Packets(0) => return Err(Unsound::NoQueue),
            Limit::Bytes(_) | Limit::Packets(_) => {}
        }
        if let Loss::GilbertElliott { mean_good, mean_bad, .. } = self.loss
            && mean_good.min(mean_bad) < SHORTEST_PERIOD
        {
            return Err(Unsound::Burst);
        }
        if self.jitter.spread > LARGEST_SPREAD {
            return Err(Unsound::Spread);
        }
        if self.is_held_for_ever() { Err(Unsound::HeldForEver) } else { Ok(()) }
    }

    /// Whether, once all holds have begun, no gap is left between them.
    fn is_held_for_ever(&self) -> bool {
        let holds = self.outages.iter().filter(|outage| outage.mode == OutageMode::Hold);
        let latest = holds.map(|outage| outage.from).max();
        let outages = Outages::new(Moment::ZERO, self.outages.clone());
        latest.is_some_and(|latest| outages.released_at(Moment::ZERO + latest) == Moment::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Jitter, Outage, Probability, Queue};

    const fn hold(from: u64, length: u64, every: Option<Duration>) -> Outage {
        let (from, length) = (Duration::from_millis(from), Duration::from_millis(length));
        Outage { from, length, every, mode: OutageMode::Hold }
    }

    #[test]
    fn mistakes_are_named() {
        let every = Some(Duration::from_millis(10));
        let queue = |limit| Queue { limit, ..Queue::default() };
        let burst = Loss::GilbertElliott {
            mean_good: Duration::from_secs(1),
            mean_bad: Duration::ZERO,
            loss_good: Probability::ZERO,
            loss_bad: Probability::ONE,
        };
        let jitter = Jitter { spread: Duration::MAX, ..Jitter::default() };
        let cases = [
            (Law { mtu: 100_000, ..Law::default() }, Unsound::Mtu(100_000)),
            (
                Law { queue: queue(Limit::Bytes(1_000)), ..Law::default() },
                Unsound::Queue { bytes: 1_000, mtu: 1_500 },
            ),
            (Law { queue: queue(Limit::Packets(0)), ..Law::default() }, Unsound::NoQueue),
            (Law { loss: burst, ..Law::default() }, Unsound::Burst),
            (Law { jitter, ..Law::default() }, Unsound::Spread),
            (
                Law { outages: vec![hold(0, 6, every), hold(5, 6, every)], ..Law::default() },
                Unsound::HeldForEver,
            ),
        ];
        for (law, unsound) in cases {
            assert_eq!(law.check(), Err(unsound));
        }
        assert_eq!(Law::default().check(), Ok(()));
        assert_eq!(
            Law { outages: vec![hold(0, 4, every), hold(5, 4, every)], ..Law::default() }.check(),
            Ok(())
        );
    }
}
