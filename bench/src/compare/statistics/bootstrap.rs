//! The percentile bootstrap of the median (Efron, 1979), exact: the median of a sample drawn again with replacement takes few
//! values, and their probabilities are known, so nothing needs to be drawn.

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;

use super::CONFIDENCE;
use crate::compare::analysis::Estimate;

/// Draws for the difference of two medians, which takes too many values to list.
const DRAWS: usize = 10_000;
/// Any number: the same figures give the same interval.
const SEED: u64 = 0x0b00_7512;
/// What sums of probabilities may be off by.
const ROUNDING: f64 = 1e-9;

/// What the median might as well have been. The median of an even number is the mean of the two in the middle, so that a
/// difference taken the other way round is the same with the other sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Medians {
    median: f64,
    /// Values and the probability of at most that, both rising.
    values: Vec<(f64, f64)>,
}

impl Medians {
    /// Of figures that may be infinite; `None` of none, or where a figure is no number.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() || sorted.iter().any(|figure| figure.is_nan()) {
            return None;
        }
        let count = sorted.len();
        let (low, high) = (sorted[(count - 1) / 2], sorted[count / 2]);
        let mut values: Vec<_> = if count % 2 == 1 {
            (0..count).map(|place| (sorted[place], odd(count, place))).collect()
        } else {
            let pairs = (0..count).flat_map(|low| (low..count).map(move |high| (low, high)));
            pairs.map(|(low, high)| (middle(sorted[low], sorted[high]), even(count, low, high))).collect()
        };
        values.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mut sum = 0.0;
        for (_, probability) in &mut values {
            sum += *probability;
            *probability = sum;
        }
        Some(Self { median: middle(low, high), values })
    }

    /// The median of the figures themselves.
    pub const fn median(&self) -> f64 {
        self.median
    }

    /// The least value that the median is at most with this probability.
    pub fn quantile(&self, probability: f64) -> f64 {
        let enough = self.values.partition_point(|(_, sum)| *sum < probability - ROUNDING);
        self.values[enough.min(self.values.len() - 1)].0
    }
}

/// The median of these and its interval; `None` of none, and where any of the three is infinite or nothing can be said.
pub fn estimate(figures: &[f64]) -> Option<Estimate> {
    let medians = Medians::of(figures)?;
    let ends = ends();
    finite(medians.median(), medians.quantile(ends[0]), medians.quantile(ends[1]))
}

/// The median of `these` minus the median of `others`, where the two have nothing in common block by block.
pub fn unpaired(these: &[f64], others: &[f64]) -> Option<Estimate> {
    let (these, others) = (Medians::of(these)?, Medians::of(others)?);
    let mut chance = Pcg32::seed_from_u64(SEED);
    let mut unit = || f64::from(chance.next_u32()) / (f64::from(u32::MAX) + 1.0);
    let mut drawn: Vec<_> = (0..DRAWS).map(|_| these.quantile(unit()) - others.quantile(unit())).collect();
    if drawn.iter().any(|difference| difference.is_nan()) {
        return None;
    }
    drawn.sort_by(f64::total_cmp);
    let [low, high] = ends().map(|end| crate::stats::quantile(&drawn, end));
    finite(these.median() - others.median(), low?, high?)
}

const fn ends() -> [f64; 2] {
    [(1.0 - CONFIDENCE) / 2.0, f64::midpoint(1.0, CONFIDENCE)]
}

fn finite(value: f64, low: f64, high: f64) -> Option<Estimate> {
    [value, low, high].iter().all(|figure| figure.is_finite()).then_some(Estimate { value, low, high })
}

/// Of two infinite ones the same, not their sum divided.
fn middle(low: f64, high: f64) -> f64 {
    if low.total_cmp(&high).is_eq() { low } else { f64::midpoint(low, high) }
}

/// The probability that the median of `count` (odd) draws is the one at `place` in order.
fn odd(count: usize, place: usize) -> f64 {
    at_most(count, count / 2, place)
        - place.checked_sub(1).map_or(0.0, |before| at_most(count, count / 2, before))
}

/// The probability that the two in the middle of `count` (even) draws are those at `low` and `high` in order.
fn even(count: usize, low: usize, high: usize) -> f64 {
    let half = count / 2;
    if low < high {
        // Half of the draws are at most `low`, one of them `low`; the other half at least `high`, one of them `high`.
        let share = |places: usize| places as f64 / count as f64;
        let side = |places: usize| ln_difference(share(places), share(places - 1), half);
        return (ln_choose(count, half) + side(low + 1) + side(count - high)).exp();
    }
    let is_lower = at_most(count, half - 1, low)
        - low.checked_sub(1).map_or(0.0, |before| at_most(count, half - 1, before));
    let others: f64 = (low + 1..count).map(|high| even(count, low, high)).sum();
    (is_lower - others).max(0.0)
}

/// The probability that of `count` draws in order, counted from zero, the one at `rank` is at most the one at `place`.
fn at_most(count: usize, rank: usize, place: usize) -> f64 {
    let share = (place + 1) as f64 / count as f64;
    if place + 1 == count {
        return 1.0;
    }
    let term = |hits: usize| {
        let misses = (count - hits) as f64;
        (ln_choose(count, hits) + hits as f64 * share.ln() + misses * (1.0 - share).ln()).exp()
    };
    (rank + 1..=count).map(term).sum()
}

/// The logarithm of `larger` to the power of `power` minus `smaller` to the power of it.
fn ln_difference(larger: f64, smaller: f64, power: usize) -> f64 {
    let power = power as f64;
    power * larger.ln() + (-(smaller / larger).powf(power)).ln_1p()
}

fn ln_choose(count: usize, chosen: usize) -> f64 {
    (1..=chosen).map(|step| ((count - chosen + step) as f64 / step as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    /// All samples of so many, drawn again, counted out.
    fn counted_out(figures: &[f64]) -> Vec<f64> {
        let count = figures.len();
        let ways = count.pow(count as u32);
        let median = |way: usize| {
            let drawn = (0..count).map(|draw| figures[way / count.pow(draw as u32) % count]);
            let mut drawn: Vec<_> = drawn.collect();
            drawn.sort_by(f64::total_cmp);
            f64::midpoint(drawn[(count - 1) / 2], drawn[count / 2])
        };
        let mut medians: Vec<_> = (0..ways).map(median).collect();
        medians.sort_by(f64::total_cmp);
        medians
    }

    #[test]
    fn probabilities_are_those_of_all_samples_counted_out() {
        for figures in [
            vec![3.0],
            vec![1.0, 4.0],
            vec![2.0, 9.0, 4.0],
            vec![5.0, 1.0, 2.0, 11.0],
            vec![1.0, 2.0, 4.0, 8.0, 16.0],
        ] {
            let (medians, all) = (Medians::of(&figures).unwrap(), counted_out(&figures));
            for (value, sum) in &medians.values {
                let at_most =
                    all.iter().filter(|median| **median <= *value).count() as f64 / all.len() as f64;
                let of_value = medians.values.iter().rfind(|(other, _)| close(*other, *value)).unwrap().1;
                assert!(close(of_value, at_most) && *sum <= of_value, "{figures:?} {value}: {sum} {at_most}");
            }
            for probability in [0.025, 0.3, 0.5, 0.975] {
                let rank = (probability * all.len() as f64).ceil() as usize;
                assert!(close(medians.quantile(probability), all[rank - 1]), "{figures:?} at {probability}");
            }
        }
    }

    #[test]
    fn known_answers() {
        let ten: Vec<_> = (1..=10).map(f64::from).collect();
        let of_ten = estimate(&ten).unwrap();
        assert!(close(of_ten.value, 5.5), "{of_ten:?}");
        // Drawn 400,000 times by another program: 2.0 % are at most 2.5 and 5.5 % at most 3; the same at the other end.
        assert!(close(of_ten.low, 3.0) && close(of_ten.high, 8.0), "{of_ten:?}");
        // P(at least 5 of 9 draws are among the first two) = 0.030, the first one = 0.001.
        let of_nine = estimate(&ten[..9]).unwrap();
        assert!(close(of_nine.low, 2.0) && close(of_nine.high, 8.0), "{of_nine:?}");
        let one = estimate(&[7.0]).unwrap();
        assert_eq!((one.value, one.low, one.high), (7.0, 7.0, 7.0));
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn infinite_figures_are_worst_and_say_nothing_where_they_reach_the_interval() {
        let infinite = f64::INFINITY;
        assert_eq!(estimate(&[1.0, infinite, infinite]), None);
        assert_eq!(estimate(&[1.0, infinite]), None);
        assert_eq!(estimate(&[1.0, 2.0, 3.0, 4.0, infinite]), None, "the upper end is infinite");
        let many: Vec<_> = (0..30).map(f64::from).chain([infinite]).collect();
        assert!(close(estimate(&many).unwrap().value, 15.0));
        assert_eq!(estimate(&[infinite, f64::NEG_INFINITY]), None);
        assert_eq!(estimate(&[f64::NAN, 1.0]), None);
        assert_eq!(unpaired(&[infinite], &[infinite]), None);
        assert_eq!(unpaired(&[infinite], &[1.0]), None);
    }

    /// Sum of twelve uniform ones: as good as normal here.
    fn normal(chance: &mut Pcg32) -> f64 {
        (0..12).map(|_| f64::from(chance.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0
    }

    fn coverage(trials: u32, mut is_covered: impl FnMut(&mut Pcg32) -> bool) -> f64 {
        let mut chance = Pcg32::seed_from_u64(11);
        let covered = (0..trials).filter(|_| is_covered(&mut chance)).count();
        covered as f64 / f64::from(trials)
    }

    #[test]
    fn ninety_five_of_a_hundred_intervals_hold_the_truth() {
        for blocks in [5, 10, 11, 20] {
            let share = coverage(2_000, |chance| {
                let figures: Vec<_> = (0..blocks).map(|_| 100.0 + normal(chance)).collect();
                let interval = estimate(&figures).unwrap();
                (interval.low..=interval.high).contains(&100.0)
            });
            assert!((0.92..0.985).contains(&share), "{blocks} blocks: {share}");
        }
    }

    #[test]
    fn an_unpaired_difference_is_covered_too() {
        let share = coverage(150, |chance| {
            let mut draw =
                |mean: f64, count: u32| (0..count).map(|_| mean + normal(chance)).collect::<Vec<_>>();
            let interval = unpaired(&draw(5.0, 10), &draw(3.0, 12)).unwrap();
            (interval.low..=interval.high).contains(&2.0)
        });
        assert!((0.91..=0.995).contains(&share), "{share}");
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_median_and_moves_and_turns_with_the_figures(
            figures in proptest::collection::vec(-1e3..1e3_f64, 1..40),
            shift in -1e3..1e3_f64,
        ) {
            let of = |change: &dyn Fn(f64) -> f64| estimate(&figures.iter().map(|f| change(*f)).collect::<Vec<_>>()).unwrap();
            let (plain, moved, turned) = (of(&|f| f), of(&|f| f + shift), of(&|f| -f));
            prop_assert!(plain.low <= plain.value && plain.value <= plain.high);
            prop_assert!((moved.low - plain.low - shift).abs() < 1e-6 && (moved.high - plain.high - shift).abs() < 1e-6);
            prop_assert!((turned.value + plain.value).abs() < 1e-6);
            prop_assert!((turned.low + plain.high).abs() < 1e-6 && (turned.high + plain.low).abs() < 1e-6);
            let medians = Medians::of(&figures).unwrap();
            prop_assert!((medians.values.last().unwrap().1 - 1.0).abs() < 1e-6);
        }
    }
}
