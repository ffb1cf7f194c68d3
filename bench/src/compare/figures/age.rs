//! Age of information: how old the newest state that has arrived is, at every moment (Kaul, Yates and Gruteser, "Real-time status: How
//! often should one update?", INFOCOM 2012). It grows with time and falls when something newer arrives; what is said about it is
//! taken over time and exact, not sampled.

use std::ops::Range;
use std::time::Duration;

/// A time in which nothing newer arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tooth {
    /// When it began.
    from: Duration,
    /// How old the newest was then.
    age: Duration,
    /// How long it lasted; the age grew by as much.
    length: Duration,
}

/// The age over time, as a sawtooth. Several runs may be put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    teeth: Vec<Tooth>,
}

/// Something newer than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// When it arrived.
    pub(super) at: Duration,
    /// When it was due.
    pub(super) due: Duration,
}

impl Ages {
    /// From the moment at which the first was due until `end`. Until the first arrival the age counts from there.
    pub(super) fn new(first_due: Duration, news: &[News], end: Duration) -> Self {
        let mut teeth = Vec::with_capacity(news.len() + 1);
        let (mut from, mut due) = (first_due, first_due);
        let mut close = |from: Duration, due: Duration, until: Duration| {
            let length = until.saturating_sub(from);
            if !length.is_zero() {
                teeth.push(Tooth { from, age: from.saturating_sub(due), length });
            }
        };
        for news in news.iter().filter(|news| news.at <= end) {
            close(from, due, news.at);
            (from, due) = (news.at.max(from), news.due);
        }
        close(from, due, end);
        Self { teeth }
    }

    /// What of it is in `window`.
    #[must_use]
    pub fn within(&self, window: &Range<Duration>) -> Self {
        let clip = |tooth: &Tooth| {
            let from = tooth.from.max(window.start);
            let length = (tooth.from + tooth.length).min(window.end).saturating_sub(from);
            let age = tooth.age + from.saturating_sub(tooth.from);
            (!length.is_zero()).then_some(Tooth { from, age, length })
        };
        Self { teeth: self.teeth.iter().filter_map(clip).collect() }
    }

    /// Puts another run's beside it.
    pub fn extend(&mut self, other: Self) {
        self.teeth.extend(other.teeth);
    }

    /// How the time is spread over ages; `None` where there was no time.
    pub fn distribution(&self) -> Option<Distribution> {
        // At each age, how many teeth begin or end there: between two such ages, time adds up at an even rate.
        let mut turns: Vec<(u64, i64)> = Vec::with_capacity(2 * self.teeth.len());
        for tooth in &self.teeth {
            turns.push((nanos(tooth.age), 1));
            turns.push((nanos(tooth.age + tooth.length), -1));
        }
        turns.sort_unstable();
        let (mut corners, mut rate, mut time) = (Vec::<(u64, u64)>::new(), 0_i64, 0_u64);
        for (age, turn) in turns {
            if let Some((before, _)) = corners.last() {
                time += rate.unsigned_abs() * (age - before);
            }
            if corners.last().is_none_or(|(before, _)| *before < age) {
                corners.push((age, time));
            }
            rate += turn;
        }
        (time > 0).then_some(Distribution { corners })
    }
}

/// How time is spread over ages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Ages and the time at which the age was at most that, in nanoseconds, both rising; straight in between.
    corners: Vec<(u64, u64)>,
}

impl Distribution {
    /// The mean age over time, in milliseconds.
    pub fn mean(&self) -> f64 {
        let weigh = |pair: &[(u64, u64)]| {
            let ((age, time), (next_age, next_time)) = (pair[0], pair[1]);
            f64::midpoint(age as f64, next_age as f64) * (next_time - time) as f64
        };
        self.corners.windows(2).map(weigh).sum::<f64>() / self.total() / 1e6
    }

    /// The least age, in milliseconds, that is not exceeded for `share` (0 to 1) of the time.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = share.clamp(0.0, 1.0) * self.total();
        let next = self.corners.partition_point(|(_, time)| (*time as f64) < wanted);
        let last = self.corners.len() - 1;
        let (age, time) = self.corners[next.min(last)];
        let Some(before) = next.min(last).checked_sub(1) else { return age as f64 / 1e6 };
        let (age_before, time_before) = self.corners[before];
        // There is time between the two, or the one before would have been enough.
        let part = (wanted - time_before as f64) / (time - time_before) as f64;
        (age_before as f64 + part * (age - age_before) as f64) / 1e6
    }

    /// The share of time in which the age is more than this.
    pub fn above(&self, limit: Duration) -> f64 {
        let limit = nanos(limit);
        let next = self.corners.partition_point(|(age, _)| *age <= limit);
        let Some(before) = next.checked_sub(1) else { return 1.0 };
        let (age_before, time_before) = self.corners[before];
        let below = match self.corners.get(next) {
            None => return 0.0,
            Some((age, time)) => {
                let part = (limit - age_before) as f64 / (age - age_before) as f64;
                time_before as f64 + part * (time - time_before) as f64
            }
        };
        1.0 - below / self.total()
    }

    fn total(&self) -> f64 {
        self.corners.last().map_or(0.0, |(_, time)| *time as f64)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn news(pairs: &[(u64, u64)]) -> Vec<News> {
        pairs.iter().map(|(arrived, due)| News { at: at(*arrived), due: at(*due) }).collect()
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    /// Due at 0 and 100, arrived at 30 and 150, until 200: ages 0 to 30, 30 to 150, 50 to 100.
    fn three_teeth() -> Ages {
        Ages::new(at(0), &news(&[(30, 0), (150, 100)]), at(200))
    }

    #[test]
    fn the_age_counts_from_the_first_due_moment_and_falls_with_each_arrival() {
        let ages = three_teeth();
        let teeth: Vec<_> = ages.teeth.iter().map(|tooth| (tooth.age, tooth.length)).collect();
        assert_eq!(teeth, [(at(0), at(30)), (at(30), at(120)), (at(50), at(50))]);
        let spread = ages.distribution().unwrap();
        // (30 * 15 + 120 * 90 + 50 * 75) / 200
        assert!(close(spread.mean(), 75.0), "{}", spread.mean());
    }

    #[test]
    fn quantiles_are_taken_over_time_and_exact() {
        let spread = three_teeth().distribution().unwrap();
        // Up to 50 ms of age: 30 + 20 ms of time. From 50 to 100 two teeth: 100 ms of time. Then one again.
        for (share, age) in
            [(0.0, 0.0), (0.25, 50.0), (0.5, 75.0), (0.75, 100.0), (0.875, 125.0), (1.0, 150.0)]
        {
            assert!(close(spread.quantile(share), age), "{share}: {}", spread.quantile(share));
        }
        assert!(close(spread.above(at(100)), 0.25), "{}", spread.above(at(100)));
        assert!(close(spread.above(at(75)), 0.5));
        assert!(close(spread.above(at(150)), 0.0) && close(spread.above(at(900)), 0.0));
        assert!(close(spread.above(Duration::ZERO), 1.0));
    }

    #[test]
    fn ages_that_never_occur_between_teeth_hold_no_time() {
        // Ages 0 to 10 for 10 ms, then 500 to 510: a run put beside another.
        let mut ages = Ages::new(at(0), &[], at(10));
        ages.extend(Ages::new(at(0), &[], at(510)).within(&(at(500)..at(510))));
        let spread = ages.distribution().unwrap();
        assert!(close(spread.quantile(0.5), 10.0), "the least age: {}", spread.quantile(0.5));
        assert!(close(spread.quantile(0.75), 505.0));
        assert!(close(spread.above(at(200)), 0.5));
        assert!(close(spread.mean(), 255.0));
    }

    #[test]
    fn a_window_has_the_age_that_it_began_with() {
        let part = three_teeth().within(&(at(100)..at(160)));
        let teeth: Vec<_> = part.teeth.iter().map(|tooth| (tooth.age, tooth.length)).collect();
        assert_eq!(teeth, [(at(100), at(50)), (at(50), at(10))]);
        assert!(three_teeth().within(&(at(300)..at(400))).distribution().is_none());
    }

    #[test]
    fn what_never_came_ages_to_the_end_and_what_came_after_it_does_not_count() {
        let never = Ages::new(at(20), &[], at(1_020)).distribution().unwrap();
        assert!(close(never.mean(), 500.0) && close(never.quantile(0.99), 990.0));
        assert_eq!(Ages::new(at(20), &news(&[(1_021, 900)]), at(1_020)).distribution(), Some(never));
        assert_eq!(Ages::new(at(20), &[], at(20)).distribution(), None);
    }
}
