//! Time as the core sees it: readings of a boot clock, passed in as arguments.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::id::BootId;

/// A reading of a host's boot clock (CLOCK_BOOTTIME: monotonic, runs on during suspend), in
/// microseconds since that host booted. Readings of different hosts or boots cannot be compared;
/// [`Stamp`] says which boot a reading belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The boot itself.
    pub const ZERO: Self = Self(0);

    /// The reading of `micros` microseconds since boot.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since boot.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A duration in whole microseconds, saturating at the largest that fits.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A boot-clock reading together with the boot it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The boot of the host whose clock was read.
    pub boot: BootId,
    /// The reading.
    pub clock: Moment,
}

impl Stamp {
    /// How old this stamp is on a host of boot `boot` whose clock reads `now`. `None` where that
    /// cannot be known: another boot, or a clock that stands before the stamp.
    pub fn age(self, boot: BootId, now: Moment) -> Option<Duration> {
        (self.boot == boot && now >= self.clock).then(|| now.since(self.clock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_across_boots_is_unknowable() {
        let stamp = Stamp { boot: BootId::from_bytes([1; 16]), clock: Moment::from_micros(5_000) };
        let later = Moment::from_micros(7_000);
        assert_eq!(stamp.age(stamp.boot, later), Some(Duration::from_millis(2)));
        assert_eq!(stamp.age(BootId::from_bytes([2; 16]), later), None);
        assert_eq!(stamp.age(stamp.boot, Moment::from_micros(4_999)), None, "a clock that went backwards");
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Moment::ZERO - Duration::from_secs(1), Moment::ZERO);
        let end = Moment::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Moment::ZERO.since(end), Duration::ZERO);
    }
}
