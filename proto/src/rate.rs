//! A token bucket over the boot clock: at most `burst + rate x d` executions in any window `d` (RATE).

use std::time::Duration;

use crate::class::Policy;
use crate::sabotage::{self, Sabotage};
use crate::time::{Moment, micros};

/// What one execution costs, in millionths: a rate of `n` per second earns `n` of them per microsecond, so
/// that refilling loses nothing to rounding.
const EXECUTION: u64 = 1_000_000;

/// What a bucket that never refills tells those who wait: ask again, the policy may have changed.
const NEVER: Duration = Duration::from_mins(1);

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Executions per second over time; `None`: as fast as they come.
    pub per_second: Option<u32>,
    /// Executions at once after a pause.
    pub burst: u32,
}

impl From<&Policy> for Rate {
    fn from(policy: &Policy) -> Self {
        Self { per_second: policy.rate_per_second, burst: policy.burst }
    }
}

/// Executions in hand. Every call takes the rate that holds now, the same for one bucket unless
/// configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    millionths: u64,
    filled: Moment,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: impl Into<Rate>, now: Moment) -> Self {
        Self { millionths: brim(rate.into()), filled: now }
    }

    /// An empty bucket: after a restart that follows executions whose number is not known any more.
    pub fn empty(now: Moment) -> Self {
        Self { millionths: 0, filled: now }
    }

    /// True if an execution is allowed at `now`.
    pub fn allows(&mut self, rate: impl Into<Rate>, now: Moment) -> bool {
        self.check(rate, now).is_ok()
    }

    /// Counts one execution, if it is allowed at `now`; or says how long until one is.
    pub fn take(&mut self, rate: impl Into<Rate>, now: Moment) -> Result<(), Duration> {
        let rate = rate.into();
        self.check(rate, now)?;
        if rate.per_second.is_some() {
            self.millionths -= EXECUTION;
        }
        Ok(())
    }

    /// How long until an execution is allowed, where it is not at `now`.
    pub fn check(&mut self, rate: impl Into<Rate>, now: Moment) -> Result<(), Duration> {
        let rate = rate.into();
        let Some(per_second) = rate.per_second.map(u64::from) else { return Ok(()) };
        self.refill(rate, per_second, now);
        match EXECUTION.saturating_sub(self.millionths) {
            0 => Ok(()),
            _ if per_second == 0 => Err(NEVER),
            missing => Err(Duration::from_micros(missing.div_ceil(per_second))),
        }
    }

    /// Whether nothing was taken that has not come back since: as good as a new one.
    pub fn is_full(&mut self, rate: impl Into<Rate>, now: Moment) -> bool {
        let rate = rate.into();
        self.check(rate, now).is_ok() && self.millionths == brim(rate)
    }

    fn refill(&mut self, rate: Rate, per_second: u64, now: Moment) {
        let earned = micros(now.since(self.filled)).saturating_mul(per_second);
        let earned = if sabotage::on(Sabotage::RateRefilledTwice) { earned * 2 } else { earned };
        self.millionths = self.millionths.saturating_add(earned).min(brim(rate));
        // A clock that went backwards gives nothing twice.
        self.filled = self.filled.max(now);
    }
}

/// How long an empty bucket under `policy` takes to fill.
pub fn refill_time(policy: &Policy) -> Duration {
    match policy.rate_per_second {
        Some(rate) if rate > 0 => Duration::from_micros(brim(policy.into()).div_ceil(u64::from(rate))),
        Some(_) | None => Duration::ZERO,
    }
}

fn brim(rate: Rate) -> u64 {
    u64::from(rate.burst) * EXECUTION
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::class::{Class, PolicyTable};

    fn policy(rate: Option<u32>, burst: u32) -> Policy {
        Policy { rate_per_second: rate, burst, ..PolicyTable::defaults()[Class::Body] }
    }

    #[test]
    fn no_rate_never_refuses() {
        let policy = policy(None, 0);
        let mut bucket = Bucket::empty(Moment::ZERO);
        assert!((0..1_000).all(|_| bucket.take(&policy, Moment::ZERO).is_ok()));
    }

    #[test]
    fn a_zero_rate_allows_its_burst_and_then_nothing() {
        let policy = policy(Some(0), 2);
        let mut bucket = Bucket::full(&policy, Moment::ZERO);
        let later = Moment::ZERO + Duration::from_hours(1);
        assert_eq!(bucket.take(&policy, Moment::ZERO), Ok(()));
        assert_eq!(bucket.take(&policy, later), Ok(()));
        assert_eq!(bucket.take(&policy, later), Err(NEVER));
    }

    #[test]
    fn the_wait_it_names_is_enough_and_no_more_than_needed() {
        let policy = policy(Some(10), 1);
        let now = Moment::from_micros(77);
        let mut bucket = Bucket::full(&policy, now);
        assert_eq!(bucket.take(&policy, now), Ok(()));
        let wait = bucket.take(&policy, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(!bucket.allows(&policy, now + wait - Duration::from_micros(1)));
        assert_eq!(bucket.take(&policy, now + wait), Ok(()));
    }

    #[test]
    fn an_empty_bucket_is_full_after_its_refill_time_and_a_clock_that_goes_back_gives_nothing() {
        let policy = policy(Some(3), 7);
        let mut bucket = Bucket::empty(Moment::ZERO);
        let full_at = Moment::ZERO + refill_time(&policy);
        assert!(!bucket.allows(&policy, Moment::ZERO));
        assert!((0..7).all(|_| bucket.take(&policy, full_at).is_ok()));
        assert!(bucket.take(&policy, Moment::ZERO).is_err());
        assert!(bucket.take(&policy, full_at).is_err(), "no time was gained");
    }

    proptest! {
        /// RATE, over every window that begins and ends with an execution.
        #[test]
        fn no_window_holds_more_than_burst_plus_rate(
            gaps in prop::collection::vec(0_u64..400_000, 1..200), rate in 1_u32..20, burst in 1_u32..10,
        ) {
            let policy = policy(Some(rate), burst);
            let mut bucket = Bucket::full(&policy, Moment::ZERO);
            let mut now = Moment::ZERO;
            let mut taken = Vec::new();
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                if bucket.take(&policy, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) * EXECUTION + micros(to.since(*from)) * u64::from(rate);
                    prop_assert!(((last - first + 1) as u64) * EXECUTION <= allowed);
                }
            }
        }
    }
}
