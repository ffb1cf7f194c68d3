//! The laws of one direction of a link, as plain data. [`Law::default`] is a perfect link.

use std::sync::Arc;
use std::time::Duration;

use super::Trace;

/// Everything that holds for one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    /// Propagation delay: no packet arrives sooner.
    pub delay: Duration,
    /// What is added to the delay.
    pub jitter: Jitter,
    /// Loss on the air, after the queue.
    pub loss: Loss,
    /// Share of packets that arrive twice.
    pub duplicate: Probability,
    /// Share of packets in which one bit is flipped.
    pub corrupt: Probability,
    /// How fast the link takes packets.
    pub capacity: Capacity,
    /// Where they wait for it.
    pub queue: Queue,
    /// Times at which nothing passes.
    pub outages: Vec<Outage>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// What the network does with UDP.
    pub udp: UdpPolicy,
    /// What a decision of chance hangs on.
    pub draws: Draws,
}

impl Default for Law {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Jitter::default(),
            loss: Loss::None,
            duplicate: Probability::ZERO,
            corrupt: Probability::ZERO,
            capacity: Capacity::Unlimited,
            queue: Queue::default(),
            outages: Vec::new(),
            mtu: 1500,
            udp: UdpPolicy::Pass,
            draws: Draws::BySlot,
        }
    }
}

/// A share between zero and one.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const ZERO: Self = Self(0.0);
    /// Always.
    pub const ONE: Self = Self(1.0);

    /// `None` unless `0 <= share <= 1`.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// The share.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Whether a uniform draw from `[0, 1)` falls into this share.
    pub fn holds(self, unit: f64) -> bool {
        unit < self.0
    }
}

/// Bits per second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// `None` for zero: a link without capacity is an [`Outage`].
    pub const fn from_bits_per_second(bits: u64) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// How long `bytes` take, rounded up to a nanosecond: the rate is never exceeded.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 8_000_000_000).div_ceil(u128::from(self.0));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many whole bytes fit into `span`.
    pub fn bytes_in(self, span: Duration) -> u64 {
        let bytes = span.as_nanos() * u128::from(self.0) / 8_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// What is added to the propagation delay.
///
/// Where order is kept, a packet waits for every slot before its own that could have held one back, used or not: the delay hangs
/// on the moment at which it leaves and on nothing that anybody sends. Such additions are not independent, and uniform ones are
/// longer on average: about `spread - sqrt(1.6 ms * spread)` for spreads well above a millisecond, 6.8 ms of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// Uniform: the largest addition. Exponential: the mean, in order as well as out of it (but for [`Draws::ByIndex`] in order,
    /// where it is the mean before a packet waits for those ahead). At most 1,000 s.
    pub spread: Duration,
    /// How additions are distributed.
    pub shape: Shape,
    /// Whether a packet may overtake another.
    pub order: Order,
}

/// Distribution of jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Every draw from zero to the spread is equally likely.
    #[default]
    Uniform,
    /// Mostly short, sometimes long (retransmissions below IP); cut off at eight times the mean.
    Exponential,
}

/// Whether jitter may reorder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In order, as on a radio link that reorders before delivery (LTE RLC).
    #[default]
    Kept,
    /// A packet with less jitter overtakes one with more.
    Free,
}

/// Loss on the air.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// Nothing is lost.
    #[default]
    None,
    /// Each draw is lost with the same probability, independent of the others.
    Bernoulli(Probability),
    /// Good and bad periods take turns, exponentially long in wall time (Gilbert 1960, Elliott 1963; here in continuous
    /// time, so that a transport cannot shorten a burst by sending more).
    GilbertElliott {
        /// Mean length of a good period; below 1 ms counts as 1 ms, as does the other.
        mean_good: Duration,
        /// Mean length of a bad period.
        mean_bad: Duration,
        /// Loss within a good period.
        loss_good: Probability,
        /// Loss within a bad period.
        loss_bad: Probability,
    },
}

/// How fast the link takes packets.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Capacity {
    /// At once.
    #[default]
    Unlimited,
    /// At a fixed rate.
    Rate(Rate),
    /// At the delivery opportunities of a recorded trace, repeated for ever.
    Trace(Arc<Trace>),
}

/// Where packets wait for the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// When it is full.
    pub limit: Limit,
    /// Who is dropped.
    pub discipline: Discipline,
}

impl Default for Queue {
    /// One megabyte, drop-tail: more than a perfect link ever holds, and a bound during an outage that holds.
    fn default() -> Self {
        Self { limit: Limit::Bytes(1_000_000), discipline: Discipline::DropTail }
    }
}

/// When a queue is full. The packet in service no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// IP bytes.
    Bytes(u64),
    /// Packets of any size.
    Packets(u64),
}

/// Who is dropped when the link is too slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// The newcomer, when the queue is full.
    #[default]
    DropTail,
    /// Controlled delay (RFC 8289), besides the limit.
    CoDel {
        /// Standing delay that is tolerated.
        target: Duration,
        /// How long it is tolerated.
        interval: Duration,
    },
}

/// A time at which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins, after the start of the link.
    pub from: Duration,
    /// How long it lasts.
    pub length: Duration,
    /// If set, it comes again this long after each beginning. Longer than `length`.
    pub every: Option<Duration>,
    /// What becomes of packets.
    pub mode: OutageMode,
}

/// What an outage does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageMode {
    /// The link goes on sending into the void: what leaves during the outage is lost.
    Drop,
    /// The link stops: packets wait in the queue, the limit holds, and at the end they leave at the link's capacity.
    Hold,
}

/// What the network does with UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpPolicy {
    /// Nothing special.
    #[default]
    Pass,
    /// A firewall drops it silently.
    Block,
    /// A policer drops what exceeds the rate, with a tolerance of `burst` bytes.
    Throttle {
        /// Long-run rate.
        rate: Rate,
        /// Bytes that may pass at once.
        burst: u64,
    },
}

/// What a decision of chance hangs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draws {
    /// The 1 ms slot in which the packet leaves: every transport meets the same channel.
    #[default]
    BySlot,
    /// The packet's number: the same packets meet the same fate at any speed, for regression tests.
    ByIndex,
}
