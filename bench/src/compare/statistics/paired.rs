//! Whether differences within blocks can be chance, and what remains of that when several claims are made at once.

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;

/// Differences up to which all signs are tried: 65,536 ways.
const MOST_EXACT: usize = 16;
/// Ways that are tried of more.
const DRAWS: u32 = 1 << 16;
/// Any number: the same differences give the same answer.
const SEED: u64 = 0x5167_0f11;
/// What equal sums may differ by, relative to the sum of all.
const ROUNDING: f64 = 1e-9;

/// The two-sided sign-flip permutation test of paired differences (Fisher, 1935): were there no difference, each could as well have
/// the other sign; gives how often the sum would be as far from zero as it is. Exact up to sixteen differences.
///
/// Where one is infinite (one of the two never came), ranks by size take the place of all, the infinite ones first (Wilcoxon's signed
/// ranks, 1945). Pairs that are alike count as no difference. One without differences is 1.
pub fn sign_flip(differences: &[f64]) -> f64 {
    let scores = scores(differences);
    let sum: f64 = scores.iter().sum();
    let tolerance = ROUNDING * scores.iter().map(|score| score.abs()).sum::<f64>();
    let is_as_far = |flipped: f64| flipped.abs() >= sum.abs() - tolerance;
    let flipped = |signs: &mut dyn FnMut(usize) -> bool| -> f64 {
        scores.iter().enumerate().map(|(place, score)| if signs(place) { -score } else { *score }).sum()
    };
    if scores.len() <= MOST_EXACT {
        let ways = 1_u32 << scores.len();
        let far = (0..ways).filter(|way| is_as_far(flipped(&mut |place| way >> place & 1 == 1))).count();
        return far as f64 / f64::from(ways);
    }
    let mut chance = Pcg32::seed_from_u64(SEED);
    let far = (0..DRAWS).filter(|_| is_as_far(flipped(&mut |_| chance.next_u32() >> 31 == 1))).count();
    // What was measured is one of the ways itself.
    (far as f64 + 1.0) / (f64::from(DRAWS) + 1.0)
}

/// Which way the differences point, as the test weighs them.
pub fn direction(differences: &[f64]) -> f64 {
    let scores = scores(differences);
    let sum: f64 = scores.iter().sum();
    if sum.abs() <= ROUNDING * scores.iter().map(|score| score.abs()).sum::<f64>() {
        0.0
    } else {
        sum.signum()
    }
}

/// The differences without those that are none, or, where one is infinite, their signed ranks.
fn scores(differences: &[f64]) -> Vec<f64> {
    // Infinite minus infinite: both never came, and neither is better.
    let some: Vec<_> = differences.iter().copied().filter(|one| *one != 0.0 && !one.is_nan()).collect();
    if some.iter().all(|one| one.is_finite()) {
        return some;
    }
    let rank = |one: &f64| {
        let smaller = some.iter().filter(|other| other.abs() < one.abs()).count() as f64;
        let alike = some.iter().filter(|other| other.abs().total_cmp(&one.abs()).is_eq()).count() as f64;
        (smaller + f64::midpoint(1.0, alike)) * one.signum()
    };
    some.iter().map(rank).collect()
}

/// Holm's correction (1979): p values that hold for all claims at once, in the order given.
pub fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<_> = (0..values.len()).collect();
    order.sort_by(|left, right| values[*left].total_cmp(&values[*right]));
    let mut corrected = vec![1.0; values.len()];
    let mut least = 0.0_f64;
    for (rank, place) in order.into_iter().enumerate() {
        least = least.max((values.len() - rank) as f64 * values[place]).min(1.0);
        corrected[place] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn five_differences_are_counted_out() {
        // All one way: only that and its mirror image are as far.
        assert!(close(sign_flip(&[1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 32.0));
        // The sum is 13; as far are all, without 1 (13), each with its mirror image.
        assert!(close(sign_flip(&[-1.0, 2.0, 3.0, 4.0, 5.0]), 4.0 / 32.0));
        // The sum is 11; as far are 15, 13 (without 1) and 11 (without 2).
        assert!(close(sign_flip(&[1.0, -2.0, 3.0, 4.0, 5.0]), 6.0 / 32.0));
        // The sum is 9; also without 3, or without 1 and 2: 15, 13, 11, 9, 9.
        assert!(close(sign_flip(&[1.0, 2.0, -3.0, 4.0, 5.0]), 10.0 / 32.0));
    }

    #[test]
    fn no_difference_is_no_news() {
        assert!(close(sign_flip(&[]), 1.0) && close(sign_flip(&[0.0; 8]), 1.0));
        assert!(close(sign_flip(&[3.0]), 1.0), "one can as well have the other sign");
        assert!(close(sign_flip(&[0.1, -0.1, 0.1, -0.1]), 1.0), "rounding makes no difference");
        assert!(close(direction(&[0.1, -0.1]), 0.0) && close(direction(&[0.3, -0.1]), 1.0));
    }

    #[test]
    fn never_is_worst_whatever_the_others_are() {
        let infinite = f64::INFINITY;
        // Ranks 1, 2, 4.5, 4.5 and 3 against: the sum is 9 of 15.
        let differences = [1.0, 2.0, infinite, infinite, -1e9];
        let ranks = [1.0, 2.0, 4.5, 4.5, -3.0];
        assert!(close(sign_flip(&differences), sign_flip(&ranks)));
        assert!(close(direction(&differences), 1.0));
        assert!(close(sign_flip(&[infinite; 6]), 2.0 / 64.0));
        assert!(close(sign_flip(&[-infinite; 6]), 2.0 / 64.0) && close(direction(&[-infinite; 6]), -1.0));
        assert!(close(sign_flip(&[f64::NAN; 6]), 1.0), "both never came");
    }

    #[test]
    fn many_differences_are_sampled_and_say_the_same() {
        // Twenty of one size, fifteen up: P(at least 15 of 20 or at most 5) = 2 * 21,700 / 2^20.
        let differences: Vec<_> = (0..20).map(|place| if place < 15 { 1.0 } else { -1.0 }).collect();
        let p = sign_flip(&differences);
        assert!((p - 0.041_39).abs() < 0.003, "{p}");
        assert!(close(p, sign_flip(&differences)));
        assert!(sign_flip(&[1.0; 40]) > 0.0, "never impossible");
    }

    #[test]
    fn holm_by_the_textbook() {
        // Four hypotheses at 0.01, 0.04, 0.03, 0.005: times 3, 1, 2, 4, and never less than the one before.
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (value, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!(close(*value, expected), "{corrected:?}");
        }
        assert_eq!(holm(&[]), [0.0; 0]);
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
    }

    #[test]
    fn chance_alone_is_called_significant_in_five_of_a_hundred_cases_at_most() {
        let mut chance = Pcg32::seed_from_u64(3);
        let mut unit = || f64::from(chance.next_u32()) / f64::from(u32::MAX) - 0.5;
        let found =
            (0..1_000).filter(|_| sign_flip(&(0..8).map(|_| unit()).collect::<Vec<_>>()) <= 0.05).count();
        assert!((25..=70).contains(&found), "{found} of 1,000");
    }

    proptest! {
        #[test]
        fn the_test_knows_no_side_no_order_and_no_unit(
            mut differences in proptest::collection::vec(-1e3..1e3_f64, 1..10),
            factor in 0.1..50.0_f64,
        ) {
            let p = sign_flip(&differences);
            prop_assert!(p > 0.0 && p <= 1.0);
            prop_assert!(close(p, sign_flip(&differences.iter().map(|d| -d * factor).collect::<Vec<_>>())));
            differences.reverse();
            prop_assert!(close(p, sign_flip(&differences)));
        }

        #[test]
        fn a_correction_keeps_the_order_and_never_helps(values in proptest::collection::vec(0.0..=1.0, 1..20)) {
            let corrected = holm(&values);
            for (before, after) in values.iter().zip(&corrected) {
                prop_assert!(after >= before && *after <= 1.0);
            }
            for (place, value) in values.iter().enumerate() {
                for (other, than) in values.iter().enumerate() {
                    prop_assert!(value > than || corrected[place] <= corrected[other]);
                }
            }
        }
    }
}
