//! What happened to packets, by cause.

use std::time::Duration;

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Lost at random.
    Loss,
    /// Lost in a bad period.
    Burst,
    /// It left during an outage that drops.
    Outage,
    /// The queue was full.
    QueueFull,
    /// `CoDel` dropped it to shorten the queue.
    CoDel,
    /// UDP is blocked.
    Blocked,
    /// UDP above its rate.
    Throttled,
    /// Larger than the MTU.
    TooBig,
    /// The emulator's own bound on bytes in flight, which no real link has: a run that hits it is invalid.
    Overflow,
}

impl Cause {
    /// All causes, in the order in which counters are kept.
    pub const ALL: [Self; 9] = [
        Self::Loss,
        Self::Burst,
        Self::Outage,
        Self::QueueFull,
        Self::CoDel,
        Self::Blocked,
        Self::Throttled,
        Self::TooBig,
        Self::Overflow,
    ];

    /// As logs and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Burst => "burst",
            Self::Outage => "outage",
            Self::QueueFull => "queue-full",
            Self::CoDel => "codel",
            Self::Blocked => "udp-blocked",
            Self::Throttled => "udp-throttled",
            Self::TooBig => "too-big",
            Self::Overflow => "overflow",
        }
    }
}

/// Counters of one direction. Always: `offered = delivered + dropped() + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets pushed.
    pub offered: u64,
    /// Bytes pushed.
    pub offered_bytes: u64,
    /// Packets popped; a duplicated packet counts once.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Packets that arrived twice.
    pub duplicated: u64,
    /// Packets that arrived with a flipped bit.
    pub corrupted: u64,
    /// Time that delivered packets spent between push and leaving, together: queue and service.
    pub waited: Duration,
    dropped: [u64; Cause::ALL.len()],
}

impl Counts {
    /// Packets dropped for `cause`.
    pub const fn dropped_by(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize]
    }

    /// Packets dropped for any cause.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(super) const fn drop(&mut self, cause: Cause) {
        self.dropped[cause as usize] += 1;
    }

    /// The sum of two directions or links.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.offered += other.offered;
        self.offered_bytes += other.offered_bytes;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.waited += other.waited;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
        self
    }
}
