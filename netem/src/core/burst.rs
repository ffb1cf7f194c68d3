//! Good and bad periods in wall time.

use std::time::Duration;

use super::chance::{Chance, Draw};
use super::moment::Moment;

/// Means below this count as this: the slot, at which the air decides.
const SHORTEST_MEAN: Duration = Duration::from_millis(1);

/// An alternating renewal process: the state at a moment depends on the seed and that moment only.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    chance: Chance,
    start: Moment,
    mean_good: Duration,
    mean_bad: Duration,
    period: Period,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    number: u64,
    bad: bool,
    from: Moment,
    until: Moment,
}

impl Burst {
    pub(super) fn new(chance: Chance, start: Moment, mean_good: Duration, mean_bad: Duration) -> Self {
        // Shorter than the grain is never seen, and walking through such periods would take for ever.
        let (mean_good, mean_bad) = (mean_good.max(SHORTEST_MEAN), mean_bad.max(SHORTEST_MEAN));
        let period = Period { number: 0, bad: false, from: start, until: start };
        let mut burst = Self { chance, start, mean_good, mean_bad, period };
        burst.rewind();
        burst
    }

    /// Whether `at` falls into a bad period. Cheap while `at` rises; an earlier moment starts over.
    pub(super) fn is_bad(&mut self, at: Moment) -> bool {
        if at < self.period.from {
            self.rewind();
        }
        while self.period.until <= at && self.period.until != Moment::NEVER {
            let Period { number, bad, until, .. } = self.period;
            self.period = self.begin(number + 1, !bad, until);
        }
        self.period.bad
    }

    /// The first period is bad as often as any other moment is, so that the process has no beginning to speak of.
    fn rewind(&mut self) {
        let (good, bad) = (self.mean_good.as_secs_f64(), self.mean_bad.as_secs_f64());
        let starts_bad = self.chance.unit(Draw::Burst, 0) * (good + bad) < bad;
        self.period = self.begin(1, starts_bad, self.start);
    }

    fn begin(&self, number: u64, bad: bool, from: Moment) -> Period {
        let mean = if bad { self.mean_bad } else { self.mean_good };
        let seconds = mean.as_secs_f64() * self.chance.exponential(Draw::Burst, number);
        let length = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        // At least a nanosecond: a period of no length would never let time pass.
        Period { number, bad, from, until: from + length.max(Duration::from_nanos(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chance::{Direction, Seed};

    fn burst() -> Burst {
        let chance = Chance::new(Seed(3), Direction::Up);
        Burst::new(chance, Moment::ZERO, Duration::from_millis(760), Duration::from_millis(40))
    }

    #[test]
    fn bad_periods_take_their_share_of_time() {
        let mut burst = burst();
        let bad = (0..2_000_000).filter(|ms| burst.is_bad(Moment::from_millis(*ms))).count();
        let share = bad as f64 / 2_000_000.0;
        assert!((share - 0.05).abs() < 0.005, "share {share}");
    }

    #[test]
    fn the_state_depends_on_the_moment_only() {
        let (mut forth, mut back) = (burst(), burst());
        let up: Vec<_> = (0..5_000).map(|ms| forth.is_bad(Moment::from_millis(ms))).collect();
        let mut down: Vec<_> =
            (0..5_000).rev().step_by(7).map(|ms| back.is_bad(Moment::from_millis(ms))).collect();
        down.reverse();
        let sparse: Vec<_> = (0..5_000).rev().step_by(7).map(|ms| up[ms]).rev().collect();
        assert_eq!(down, sparse);
    }
}
