//! From figures to places.

use carriageway_netem::drawing::ceiling;

/// How figures are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compare::report) enum Law {
    /// Evenly.
    Linear,
    /// By magnitude; what is not positive is at the start.
    Log,
    /// Of shares: 90 %, 99 % and 99.9 % are as far apart, so that a tail can be seen beside the middle.
    Nines,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(in crate::compare::report) struct Scale {
    law: Law,
    domain: [f64; 2],
    range: [f64; 2],
}

/// The largest share that an axis of nines shows.
const MOST_NINES: f64 = 0.999;

/// Steps of a linear axis, at most: more labels would touch.
const MOST_STEPS: f64 = 5.0;

/// Powers of ten from which on those alone are named.
const MANY_DECADES: f64 = 2.5;

/// A spread from which on magnitudes are drawn: below it a linear axis shows all of them.
const WIDE: f64 = 30.0;

impl Scale {
    /// Holds all of `values` that are finite, evenly, with round ends. `within` are ends that may not be passed.
    pub(in crate::compare::report) fn linear(
        values: impl IntoIterator<Item = f64>,
        within: [f64; 2],
        range: [f64; 2],
    ) -> Self {
        let [least, most] = ends(values).unwrap_or([0.0, 1.0]);
        // Something has to lie between the ends.
        let least_span = (most.abs() * 0.02).max(1e-6);
        let pad = ((least_span - (most - least)) / 2.0).max(0.0);
        let (least, most) = (least - pad, most + pad);
        let step = ceiling((most - least) / MOST_STEPS);
        let domain = [(least / step).floor() * step, (most / step).ceil() * step];
        Self { law: Law::Linear, domain: [domain[0].max(within[0]), domain[1].min(within[1])], range }
    }

    /// Holds all of `values` that are positive and finite, by magnitude.
    pub(in crate::compare::report) fn log(values: impl IntoIterator<Item = f64>, range: [f64; 2]) -> Self {
        let [least, most] = ends(values.into_iter().filter(|value| *value > 0.0)).unwrap_or([1.0, 10.0]);
        let most = most.max(least * 1.5);
        Self { law: Law::Log, domain: [floor_of_log(least), ceiling(most)], range }
    }

    /// Shares of a distribution.
    pub(in crate::compare::report) const fn nines(range: [f64; 2]) -> Self {
        Self { law: Law::Nines, domain: [0.0, MOST_NINES], range }
    }

    /// By magnitude where all are positive and far apart, else evenly.
    pub(in crate::compare::report) fn fitting(values: &[f64], within: [f64; 2], range: [f64; 2]) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let is_wide = ends(finite()).is_some_and(|[least, most]| least > 0.0 && most / least >= WIDE);
        // What has an upper end, such as a share, is read evenly.
        if is_wide && within[1].is_infinite() {
            Self::log(finite(), range)
        } else {
            Self::linear(finite(), within, range)
        }
    }

    /// Where a figure is; at the end that it passes.
    pub(in crate::compare::report) fn place(&self, value: f64) -> f64 {
        let [from, to] = self.domain.map(|end| self.spread(end));
        let share = ((self.spread(value) - from) / (to - from)).clamp(0.0, 1.0);
        self.range[0] + share * (self.range[1] - self.range[0])
    }

    /// Whether it is on the axis.
    pub(in crate::compare::report) fn holds(&self, value: f64) -> bool {
        let [from, to] = self.domain;
        (from..=to).contains(&value)
    }

    /// Figures that the axis names.
    pub(in crate::compare::report) fn ticks(&self) -> Vec<f64> {
        let [from, to] = self.domain;
        match self.law {
            Law::Linear => {
                let step = ceiling((to - from) / MOST_STEPS);
                let first = (from / step - 1e-9).ceil();
                let count = ((to / step + 1e-9).floor() - first) as i32;
                (0..=count).map(|turn| (first + f64::from(turn)) * step).collect()
            }
            Law::Log => {
                let few = (to / from).log10() < MANY_DECADES;
                let digits: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
                let all = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
                let is_inside = |tick: &f64| *tick >= from * (1.0 - 1e-9) && *tick <= to * (1.0 + 1e-9);
                all.filter(is_inside).collect()
            }
            Law::Nines => vec![0.0, 0.5, 0.9, 0.99, MOST_NINES],
        }
    }

    fn spread(&self, value: f64) -> f64 {
        match self.law {
            Law::Linear => value,
            Law::Log => value.max(f64::MIN_POSITIVE).log10(),
            Law::Nines => -(1.0 - value.min(MOST_NINES)).log10(),
        }
    }
}

/// The least and the most of what is finite.
fn ends(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| {
        let [least, most] = ends.unwrap_or([value, value]);
        Some([least.min(value), most.max(value)])
    })
}

/// The next of 1, 2, 5 times a power of ten that is at most this.
fn floor_of_log(value: f64) -> f64 {
    1.0 / ceiling(1.0 / value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];
    const TEN: [f64; 2] = [0.0, 10.0];

    fn near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} is not {other}");
    }

    fn all_near(ones: &[f64], others: &[f64]) {
        assert_eq!(ones.len(), others.len(), "{ones:?} {others:?}");
        ones.iter().zip(others).for_each(|(one, other)| near(*one, *other));
    }

    #[test]
    fn a_linear_axis_has_round_ends_and_steps() {
        let scale = Scale::linear([3.0, 47.0, f64::INFINITY], ANY, TEN);
        all_near(&scale.ticks(), &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        near(scale.place(25.0), 5.0);
        near(scale.place(f64::INFINITY), 10.0);
        near(scale.place(-3.0), 0.0);
        assert!(scale.holds(50.0) && !scale.holds(50.1));
    }

    #[test]
    fn shares_do_not_pass_a_hundred() {
        let scale = Scale::linear([93.0, 99.9], [0.0, 100.0], TEN);
        all_near(&scale.ticks(), &[92.0, 94.0, 96.0, 98.0, 100.0]);
        near(Scale::linear([100.0, 100.0], [0.0, 100.0], TEN).place(100.0), 10.0);
    }

    #[test]
    fn a_logarithmic_axis_names_magnitudes() {
        let scale = Scale::log([0.0, 12.0, 900.0], TEN);
        all_near(&scale.ticks(), &[10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0]);
        near(scale.place(100.0), 5.0);
        near(scale.place(0.0), 0.0);
        all_near(&Scale::log([1.0, 10_000.0], TEN).ticks(), &[1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn nines_are_as_far_apart() {
        let scale = Scale::nines([30.0, 0.0]);
        for (share, place) in [(0.0, 30.0), (0.9, 20.0), (0.99, 10.0), (0.999, 0.0), (1.0, 0.0)] {
            near(scale.place(share), place);
        }
    }

    #[test]
    fn the_law_follows_from_the_figures() {
        assert_eq!(Scale::fitting(&[10.0, 400.0], ANY, TEN).law, Law::Log);
        assert_eq!(Scale::fitting(&[10.0, 200.0], ANY, TEN).law, Law::Linear);
        assert_eq!(Scale::fitting(&[0.0, 400.0], ANY, TEN).law, Law::Linear);
        assert_eq!(Scale::fitting(&[0.01, 99.0], [0.0, 100.0], TEN).law, Law::Linear);
        assert!(!Scale::fitting(&[], ANY, TEN).ticks().is_empty());
    }
}
