//! Figures as people read them: with their unit, no more digits than they are sure of, and never an infinity.

use carriageway_netem::drawing::number;

use super::view::median;
use crate::compare::analysis::{Estimate, Metric, Row};

/// What stands for a figure that is infinite: it never came.
pub(super) const NEVER: &str = "never";

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// Places after the point, at most.
const MOST_PLACES: usize = 4;

/// How figures of a metric are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit<'a> {
    factor: f64,
    value: &'a str,
    difference: &'a str,
}

impl<'a> Unit<'a> {
    /// Of this metric. Shares become per cent, their differences percentage points.
    pub(super) fn of(metric: &'a Metric) -> Self {
        match metric.unit.as_str() {
            "share" => Self { factor: 100.0, value: "%", difference: "pp" },
            "count" => Self { factor: 1.0, value: "", difference: "" },
            unit => Self { factor: 1.0, value: unit, difference: unit },
        }
    }

    /// Of something of which only the figure is known.
    pub(super) const fn unknown() -> Self {
        Self { factor: 1.0, value: "", difference: "" }
    }

    /// What axes are called.
    pub(super) const fn name(self) -> &'a str {
        self.value
    }

    /// What differences are in.
    pub(super) const fn difference_name(self) -> &'a str {
        self.difference
    }

    /// As it is drawn.
    pub(super) fn scaled(self, value: f64) -> f64 {
        value * self.factor
    }

    /// The figure of a row: `98.71 %`, or that it never came, or that there is none.
    pub(super) fn figure(self, row: &Row) -> String {
        let Some(estimate) = &row.estimate else {
            return median(row).map_or_else(|| NONE.to_owned(), |median| self.plain(median));
        };
        self.value(estimate)
    }

    /// How sure that is: its interval, or in how many blocks it never came.
    pub(super) fn surety(self, row: &Row) -> String {
        let Some(estimate) = &row.estimate else {
            let never = row.blocks.iter().filter(|(_, value)| value.is_none()).count();
            return if row.blocks.is_empty() {
                String::new()
            } else {
                format!("{never} of {} never", row.blocks.len())
            };
        };
        self.interval(estimate)
    }

    /// `98.71 %`.
    fn value(self, estimate: &Estimate) -> String {
        with(&digits(self.scaled(estimate.value), self.places(estimate)), self.value)
    }

    /// `98.42 to 98.90`.
    fn interval(self, estimate: &Estimate) -> String {
        let places = self.places(estimate);
        let end = |value| digits(self.scaled(value), places);
        format!("{} to {}", end(estimate.low), end(estimate.high))
    }

    /// `+1.2 pp`.
    pub(super) fn difference(self, estimate: &Estimate) -> String {
        with(&signed(self.scaled(estimate.value), self.places(estimate)), self.difference)
    }

    /// `+0.4 to +2.1`.
    pub(super) fn difference_interval(self, estimate: &Estimate) -> String {
        let is_lost =
            |places| [estimate.low, estimate.high].iter().any(|end| vanishes(self.scaled(*end), places));
        let wanted = self.places(estimate);
        // An interval that excludes zero must not look as if it did not.
        let places =
            (wanted..MOST_PLACES).find(|places| !is_lost(*places)).unwrap_or(MOST_PLACES.max(wanted));
        let end = |value| signed(self.scaled(value), places);
        format!("{} to {}", end(estimate.low), end(estimate.high))
    }

    /// One figure without an interval: three digits that say something.
    pub(super) fn plain(self, value: f64) -> String {
        let value = self.scaled(value);
        with(&digits(value, significant(value, 3)), self.value)
    }

    /// Digits after the point: two of the interval's width say something, or three of the figure where it has none.
    fn places(self, estimate: &Estimate) -> usize {
        let width = self.scaled(estimate.high - estimate.low).abs();
        if width.is_finite() && width > 1e-9 {
            significant(width, 2)
        } else {
            significant(self.scaled(estimate.value), 3)
        }
    }
}

/// Places after the point so that so many digits of `value` are seen.
fn significant(value: f64, count: i32) -> usize {
    if value.abs() < 1e-9 || !value.is_finite() {
        return 0;
    }
    let magnitude = value.abs().log10().floor() as i32;
    usize::try_from(count - 1 - magnitude).unwrap_or_default().min(MOST_PLACES)
}

/// Whether it reads as zero with so many places, and is not.
fn vanishes(value: f64, places: usize) -> bool {
    value != 0.0 && format!("{value:.places$}").chars().all(|c| matches!(c, '-' | '0' | '.'))
}

/// `12,345.6`, or that it never came.
fn digits(value: f64, places: usize) -> String {
    if value.is_infinite() {
        return NEVER.to_owned();
    }
    let text = format!("{:.places$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if value < 0.0 && !is_zero { "−" } else { "" };
    format!("{sign}{grouped}{rest}")
}

fn signed(value: f64, places: usize) -> String {
    let text = digits(value, places);
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    if value > 0.0 && value.is_finite() && !is_zero { format!("+{text}") } else { text }
}

/// With its unit, which what never came does not have.
fn with(digits: &str, unit: &str) -> String {
    if unit.is_empty() || digits == NEVER { digits.to_owned() } else { format!("{digits}\u{a0}{unit}") }
}

/// Of a tick.
pub(super) fn tick(value: f64) -> String {
    if value.abs() >= 1e3 { digits(value, 0) } else { number(value) }
}

/// A probability.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::analysis::Better;

    fn metric(unit: &str) -> Metric {
        Metric { name: "m".into(), title: "M".into(), unit: unit.into(), better: Better::Lower }
    }

    const fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low, high }
    }

    #[test]
    fn an_interval_decides_on_the_digits() {
        let (share, ms) = (metric("share"), metric("ms"));
        let sure = estimate(0.987_123, 0.984_2, 0.989);
        assert_eq!(Unit::of(&share).value(&sure), "98.71\u{a0}%");
        assert_eq!(Unit::of(&share).interval(&sure), "98.42 to 98.90");
        let unsure = estimate(12_345.6, 9_000.0, 14_000.0);
        assert_eq!(Unit::of(&ms).value(&unsure), "12,346\u{a0}ms");
        assert_eq!(Unit::of(&ms).value(&estimate(41.234, 41.234, 41.234)), "41.2\u{a0}ms");
        assert_eq!(Unit::of(&share).value(&estimate(1.0, 1.0, 1.0)), "100\u{a0}%");
        assert_eq!(Unit::of(&share).value(&estimate(0.0, 0.0, 0.0)), "0\u{a0}%");
    }

    #[test]
    fn differences_have_signs_and_shares_differ_by_points() {
        let share = metric("share");
        let difference = estimate(-0.012, -0.02, 0.004);
        assert_eq!(Unit::of(&share).difference(&difference), "−1.2\u{a0}pp");
        assert_eq!(Unit::of(&share).difference_interval(&difference), "−2.0 to +0.4");
        let ms = metric("ms");
        assert_eq!(Unit::of(&ms).difference_interval(&estimate(-6.0, -11.2, -0.03)), "−11.20 to −0.03");
        assert_eq!(Unit::of(&ms).difference_interval(&estimate(-6.0, -11.2, 0.0)), "−11 to 0");
        assert_eq!(Unit::of(&share).difference(&estimate(0.0, -0.01, 0.01)), "0.0\u{a0}pp");
    }

    #[test]
    fn what_is_infinite_never_came() {
        let ms = metric("ms");
        let late = estimate(f64::INFINITY, 900.0, f64::INFINITY);
        assert_eq!(Unit::of(&ms).value(&late), "never");
        assert_eq!(Unit::of(&ms).interval(&late), "900 to never");
    }

    #[test]
    fn numbers_on_their_own() {
        assert_eq!(Unit::of(&metric("")).plain(0.000_012_3), "0.0000");
        assert_eq!(Unit::of(&metric("bytes/byte")).plain(1.2345), "1.23\u{a0}bytes/byte");
        assert_eq!((tick(0.3), tick(2_000.0)), ("0.3".into(), "2,000".into()));
        assert_eq!((probability(0.000_2), probability(0.049)), ("< 0.001".into(), "0.049".into()));
    }
}
