//! A token bucket: at most `burst + rate x d` in any window `d` (RATE).

use std::time::Duration;

use carriageway_proto::{Moment, Policy, time::micros};

/// What one token costs, in millionths: a rate of `n` per second earns `n` of them per microsecond.
const TOKEN: u64 = 1_000_000;

/// The tokens of one vehicle and class. Full at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    millionths: u64,
    at: Moment,
}

impl Bucket {
    pub(super) fn full(policy: &Policy, now: Moment) -> Self {
        Self { millionths: capacity(policy), at: now }
    }

    /// Takes one token; or says how long until there is one.
    pub(super) fn take(&mut self, policy: &Policy, now: Moment) -> Result<(), Duration> {
        let Some(rate) = policy.rate_per_second.map(u64::from) else { return Ok(()) };
        let earned = micros(now.since(self.at)).saturating_mul(rate);
        self.millionths = self.millionths.saturating_add(earned).min(capacity(policy));
        self.at = self.at.max(now);
        if self.millionths >= TOKEN {
            self.millionths -= TOKEN;
            return Ok(());
        }
        Err(match rate {
            0 => Duration::from_mins(1),
            rate => Duration::from_micros((TOKEN - self.millionths).div_ceil(rate)),
        })
    }
}

fn capacity(policy: &Policy) -> u64 {
    u64::from(policy.burst.max(1)) * TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use carriageway_proto::{Class, PolicyTable};
    use proptest::prelude::*;

    fn policy(rate: u32, burst: u32) -> Policy {
        Policy { rate_per_second: Some(rate), burst, ..PolicyTable::defaults()[Class::Body] }
    }

    #[test]
    fn the_wait_it_names_is_enough_and_no_more_than_needed() {
        let policy = policy(10, 1);
        let now = Moment::from_micros(77);
        let mut bucket = Bucket::full(&policy, now);
        assert_eq!(bucket.take(&policy, now), Ok(()));
        let wait = bucket.take(&policy, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(&policy, now + wait - Duration::from_micros(1)).is_err());
        assert_eq!(bucket.take(&policy, now + wait), Ok(()));
    }

    proptest! {
        /// RATE, over every window between two takes.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            gaps in prop::collection::vec(0u64..400_000, 1..120), rate in 1u32..20, burst in 1u32..8
        ) {
            let policy = policy(rate, burst);
            let mut now = Moment::from_micros(1_000);
            let mut bucket = Bucket::full(&policy, now);
            let mut taken = Vec::new();
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                if bucket.take(&policy, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + f64::from(rate) * to.since(*from).as_secs_f64();
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
