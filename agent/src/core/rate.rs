//! A token bucket over the boot clock.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Moment, Policy, time::micros};

const MICROS_PER_SECOND: u64 = 1_000_000;

/// Allows at most `burst + rate x d` executions in any window `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Executions in hand, in millionths, so that refilling loses nothing to rounding.
    millionths: u64,
    filled: Moment,
    rate: Option<u32>,
    burst: u32,
}

impl Bucket {
    /// A full bucket under `policy`.
    pub fn full(policy: &Policy, now: Moment) -> Self {
        let millionths = u64::from(policy.burst) * MICROS_PER_SECOND;
        Self { millionths, filled: now, rate: policy.rate_per_second, burst: policy.burst }
    }

    /// An empty bucket: after a restart that follows executions whose number is not known any more.
    pub fn empty(policy: &Policy, now: Moment) -> Self {
        Self { millionths: 0, ..Self::full(policy, now) }
    }

    /// True if an execution is allowed at `now`.
    pub fn allows(&mut self, now: Moment) -> bool {
        self.refill(now);
        self.rate.is_none() || self.millionths >= MICROS_PER_SECOND
    }

    /// Counts one execution, if it is allowed at `now`.
    pub fn take(&mut self, now: Moment) -> bool {
        let allowed = self.allows(now);
        if allowed && self.rate.is_some() {
            self.millionths -= MICROS_PER_SECOND;
        }
        allowed
    }

    fn refill(&mut self, now: Moment) {
        let gained = micros(now.since(self.filled)).saturating_mul(u64::from(self.rate.unwrap_or(0)));
        let gained = if sabotage::on(Sabotage::RateRefilledTwice) { gained * 2 } else { gained };
        let brim = u64::from(self.burst) * MICROS_PER_SECOND;
        self.millionths = self.millionths.saturating_add(gained).min(brim);
        // A clock that went backwards gives nothing twice.
        self.filled = self.filled.max(now);
    }
}

/// How long an empty bucket under `policy` takes to fill.
pub fn refill_time(policy: &Policy) -> Duration {
    match policy.rate_per_second {
        Some(rate) if rate > 0 => {
            Duration::from_micros((u64::from(policy.burst) * MICROS_PER_SECOND).div_ceil(u64::from(rate)))
        }
        Some(_) | None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::{Class, PolicyTable};
    use proptest::prelude::*;

    use super::*;

    fn policy(rate: Option<u32>, burst: u32) -> Policy {
        Policy { rate_per_second: rate, burst, ..PolicyTable::defaults()[Class::Body] }
    }

    #[test]
    fn no_rate_never_refuses() {
        let mut bucket = Bucket::empty(&policy(None, 0), Moment::ZERO);
        assert!((0..1_000).all(|_| bucket.take(Moment::ZERO)));
    }

    #[test]
    fn a_zero_rate_allows_its_burst_and_then_nothing() {
        let mut bucket = Bucket::full(&policy(Some(0), 2), Moment::ZERO);
        let later = Moment::ZERO + Duration::from_hours(1);
        assert_eq!([bucket.take(Moment::ZERO), bucket.take(later), bucket.take(later)], [true, true, false]);
    }

    proptest! {
        /// RATE, over every window that begins and ends with an execution.
        #[test]
        fn no_window_holds_more_than_burst_plus_rate(
            gaps in prop::collection::vec(0_u64..400_000, 1..200), rate in 1_u32..20, burst in 1_u32..10,
        ) {
            let mut bucket = Bucket::full(&policy(Some(rate), burst), Moment::ZERO);
            let mut now = Moment::ZERO;
            let mut taken = Vec::new();
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                if bucket.take(now) {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) * 1_000_000 + micros(to.since(*from)) * u64::from(rate);
                    prop_assert!(((last - first + 1) as u64) * 1_000_000 <= allowed);
                }
            }
        }
    }
}
