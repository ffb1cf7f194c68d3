//! A token bucket: at most `burst + rate x d` in any window `d` (RATE).

use std::time::Duration;

use carriageway_proto::{Moment, Policy, time::micros};

/// What one token costs, in millionths: a rate of `n` per second earns `n` of them per microsecond.
const TOKEN: u64 = 1_000_000;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// `None`: as fast as they come.
    pub(super) per_second: Option<u32>,
    pub(super) burst: u32,
}

impl From<&Policy> for Rate {
    fn from(policy: &Policy) -> Self {
        Self { per_second: policy.rate_per_second, burst: policy.burst }
    }
}

/// The tokens of one vehicle and class, or of one operator. Full at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    millionths: u64,
    at: Moment,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Moment) -> Self {
        Self { millionths: capacity(rate), at: now }
    }

    /// Takes one token; or says how long until there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Moment) -> Result<(), Duration> {
        self.look(rate, now)?;
        if rate.per_second.is_some() {
            self.millionths -= TOKEN;
        }
        Ok(())
    }

    /// Whether there is a token to take; or how long until there is one.
    pub(super) fn look(&mut self, rate: Rate, now: Moment) -> Result<(), Duration> {
        let Some(per_second) = rate.per_second.map(u64::from) else { return Ok(()) };
        let earned = micros(now.since(self.at)).saturating_mul(per_second);
        self.millionths = self.millionths.saturating_add(earned).min(capacity(rate));
        self.at = self.at.max(now);
        if self.millionths >= TOKEN {
            return Ok(());
        }
        Err(match per_second {
            0 => Duration::from_mins(1),
            per_second => Duration::from_micros((TOKEN - self.millionths).div_ceil(per_second)),
        })
    }

    /// Whether nothing was taken that has not come back since: as good as a new one.
    pub(super) fn is_full(&mut self, rate: Rate, now: Moment) -> bool {
        self.look(rate, now).is_ok() && self.millionths == capacity(rate)
    }
}

fn capacity(rate: Rate) -> u64 {
    u64::from(rate.burst.max(1)) * TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: Some(per_second), burst }
    }

    #[test]
    fn the_wait_it_names_is_enough_and_no_more_than_needed() {
        let rate = rate(10, 1);
        let now = Moment::from_micros(77);
        let mut bucket = Bucket::full(rate, now);
        assert_eq!(bucket.take(rate, now), Ok(()));
        let wait = bucket.take(rate, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(rate, now + wait - Duration::from_micros(1)).is_err());
        assert_eq!(bucket.take(rate, now + wait), Ok(()));
    }

    proptest! {
        /// RATE, over every window between two takes.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            gaps in prop::collection::vec(0u64..400_000, 1..120), per_second in 1u32..20, burst in 1u32..8
        ) {
            let limit = rate(per_second, burst);
            let mut now = Moment::from_micros(1_000);
            let mut bucket = Bucket::full(limit, now);
            let mut taken = Vec::new();
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                if bucket.take(limit, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + f64::from(per_second) * to.since(*from).as_secs_f64();
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
