//! How late the emulator itself was: its own error, recorded so that a result can be distrusted.

use std::time::Duration;

/// Buckets per doubling: the relative width of a bucket is at most one eighth.
const PER_OCTAVE: u32 = 8;
/// Octaves above the first bucket; the last bucket takes everything from about 18 minutes up.
const OCTAVES: u32 = 30;
/// Width of the first bucket in nanoseconds: below a microsecond nobody cares.
const FIRST: u64 = 1_000;

/// A histogram of delays with logarithmic buckets.
#[derive(Clone, Debug)]
pub struct Lateness {
    buckets: Vec<u64>,
    count: u64,
    worst: Duration,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { buckets: vec![0; (PER_OCTAVE * OCTAVES) as usize + 1], count: 0, worst: Duration::ZERO }
    }
}

impl Lateness {
    /// Counts one delivery that was `late`.
    pub fn record(&mut self, late: Duration) {
        self.buckets[bucket(late)] += 1;
        self.count += 1;
        self.worst = self.worst.max(late);
    }

    /// Deliveries counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The worst of them.
    pub const fn worst(&self) -> Duration {
        self.worst
    }

    /// The lateness that a share `q` of deliveries did not exceed, rounded up to its bucket; zero if there were none.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return upper(index).min(self.worst);
            }
        }
        Duration::ZERO
    }

    /// Non-empty buckets as (upper bound, count).
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (upper(index), *count))
    }
}

fn bucket(late: Duration) -> usize {
    let nanos = late.as_nanos() as f64 / FIRST as f64;
    if nanos <= 1.0 {
        return 0;
    }
    let index = (nanos.log2() * f64::from(PER_OCTAVE)).ceil() as usize;
    index.min((PER_OCTAVE * OCTAVES) as usize)
}

fn upper(index: usize) -> Duration {
    let factor = (index as f64 / f64::from(PER_OCTAVE)).exp2();
    Duration::from_nanos((FIRST as f64 * factor).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut lateness = Lateness::default();
        (1..=1_000).for_each(|micros| lateness.record(Duration::from_micros(micros)));
        let (median, tail) = (lateness.quantile(0.5).as_micros(), lateness.quantile(0.99).as_micros());
        assert!((500..=560).contains(&median), "{median}");
        assert!((990..=1_000).contains(&tail), "{tail}");
        assert_eq!(lateness.worst(), Duration::from_millis(1));
    }
}
