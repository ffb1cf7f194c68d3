//! Emulated time.

use std::ops::Add;
use std::time::Duration;

/// Length of a slot: the grain at which the air decides. One LTE subframe; short enough that a transport rarely has two
/// packets in one slot below 10 Mbit/s.
const SLOT_NANOS: u64 = 1_000_000;

/// A point in time: nanoseconds since an origin that the caller chose, the same for all pipes of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than everything; stands for "until told otherwise".
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A millisecond of a link's life, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot that contains `at` on a link that started at `start`.
    pub const fn of(at: Moment, start: Moment) -> Self {
        Self(at.0.saturating_sub(start.0) / SLOT_NANOS)
    }

    /// When this slot begins on a link that started at `start`.
    pub const fn begins(self, start: Moment) -> Moment {
        Moment(start.0.saturating_add(self.0.saturating_mul(SLOT_NANOS)))
    }
}
