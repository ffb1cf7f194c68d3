//! What is said about samples: quantiles by nearest rank, spread over seeds, ratios.

use serde::Serialize;

/// What is said about one set of samples. Milliseconds, or whatever the samples were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of these samples; `None` of none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last()?;
        let at = |share| quantile(&sorted, share).unwrap_or(max);
        Some(Self { count: sorted.len(), p50: at(0.5), p99: at(0.99), max })
    }
}

/// The smallest sample that at least `share` (0 to 1) of all samples do not exceed (nearest rank);
/// `sorted` must rise. `None` of none.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// One figure over several seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle; the lower of two.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self { least: *sorted.first()?, median: quantile(&sorted, 0.5)?, most: *sorted.last()? })
    }
}

/// `loaded` in multiples of `idle`; `None` where that says nothing.
pub fn ratio(loaded: f64, idle: f64) -> Option<f64> {
    let ratio = loaded / idle;
    (idle > 0.0 && ratio.is_finite()).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.5), Some(50.0));
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
        assert_eq!(quantile(&hundred, 1.0), Some(100.0));
        assert_eq!(quantile(&hundred, 0.0), Some(1.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_summary_needs_no_order_but_a_sample() {
        let summary = Summary::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { count: 3, p50: 2.0, p99: 3.0, max: 3.0 });
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn one_slow_sample_in_a_hundred_and_one_is_no_p99_but_the_maximum() {
        let summary = Summary::of((0..200).map(|n| if n < 2 { 900.0 } else { 60.0 })).unwrap();
        assert_eq!((summary.p99, summary.max), (60.0, 900.0));
        let summary = Summary::of((0..200).map(|n| if n < 3 { 900.0 } else { 60.0 })).unwrap();
        assert!(summary.p99 > 899.0, "{}", summary.p99);
    }

    #[test]
    fn a_spread_names_both_ends() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0]), Some(Spread { least: 1.0, median: 3.0, most: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(ratio(90.0, 60.0), Some(1.5));
        assert_eq!(ratio(90.0, 0.0), None);
        assert_eq!(ratio(f64::INFINITY, 60.0), None);
    }
}
