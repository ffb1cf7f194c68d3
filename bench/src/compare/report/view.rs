//! An analysis as the page asks for it: by link, label and metric, with what a label is to the comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::escape::slug;
use crate::compare::analysis::{Analysis, Better, Curve, Estimate, Metric, Row};
use crate::compare::bounds::ORACLE;
use crate::compare::plan::{CONTROL, FLOOR, Plan};
use crate::compare::statistics::FEWEST_BLOCKS;

/// The figures that the answer is given in: words that the metric's name must have, and words that decide where several have them.
const HEADLINES: [(&[&str], &[&str]); 5] = [
    (&["control", "on", "time", "100"], &["load"]),
    (&["command", "p99"], &["time"]),
    (&["stale", "200"], &["control"]),
    (&["goodput"], &["log"]),
    (&["fairness"], &[]),
];

/// What a figure's difference to the reference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The interval of the difference is on the good side of zero; or it came, and the reference's never did.
    Better,
    /// On the bad side.
    Worse,
    /// It has zero in it, or comes from too few blocks to be sure: chance may be all there is.
    Open,
    /// It is the reference itself.
    Reference,
    /// It never came, and the reference's did: worse than any difference.
    Never,
    /// There is no difference to take: nothing to subtract, or both never came.
    Unknown,
}

/// An analysis with its indices.
pub(super) struct View<'a> {
    pub(super) analysis: &'a Analysis,
    /// Where its text can be read.
    pub(super) plan: Option<Plan>,
    rows: BTreeMap<(&'a str, &'a str, &'a str), &'a Row>,
}

impl<'a> View<'a> {
    pub(super) fn new(analysis: &'a Analysis) -> Self {
        let key = |row: &'a Row| (row.link.as_str(), row.label.as_str(), row.metric.as_str());
        let rows = analysis.rows.iter().map(|row| (key(row), row)).collect();
        Self { analysis, plan: toml::from_str(&analysis.plan).ok(), rows }
    }

    pub(super) fn row(&self, link: &str, label: &str, metric: &str) -> Option<&'a Row> {
        self.rows.get(&(link, label, metric)).copied()
    }

    pub(super) fn estimate(&self, link: &str, label: &str, metric: &str) -> Option<&'a Estimate> {
        self.row(link, label, metric)?.estimate.as_ref()
    }

    /// What is compared: neither bound nor control.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &'a str> {
        let labels = self.analysis.labels.iter().map(|(label, _)| label.as_str());
        labels.filter(|label| !matches!(*label, CONTROL | FLOOR | ORACLE))
    }

    /// Subjects and the reference's second run.
    pub(super) fn contestants(&self) -> impl Iterator<Item = &'a str> {
        let control = self.analysis.rows.iter().any(|row| row.label == CONTROL).then_some(CONTROL);
        self.subjects().chain(control)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &'a str> {
        self.analysis.links.iter().map(|(link, _)| link.as_str())
    }

    /// Anchors and names of files of the links, in their order; no two are alike.
    pub(super) fn slugs(&self) -> Vec<String> {
        unlike(self.links())
    }

    /// The same of metrics.
    pub(super) fn metric_slugs(&self) -> Vec<String> {
        unlike(self.analysis.metrics.iter().map(|metric| metric.name.as_str()))
    }

    pub(super) fn metric(&self, name: &str) -> Option<&'a Metric> {
        self.analysis.metrics.iter().find(|metric| metric.name == name)
    }

    /// The metric that a claim speaks of: the longest name or title in it.
    pub(super) fn metric_in(&self, claim: &str) -> Option<&'a Metric> {
        let length = |metric: &Metric| {
            let known = [&metric.name, &metric.title];
            known.into_iter().filter(|words| claim.contains(words.as_str())).map(String::len).max()
        };
        let found = self.analysis.metrics.iter().filter_map(|metric| Some((length(metric)?, metric)));
        found.max_by_key(|(length, _)| *length).map(|(_, metric)| metric)
    }

    /// What the answer is given in: what there is of the headlines; all figures where there is none of these, as of
    /// vehicles that are parked.
    pub(super) fn headlines(&self) -> Vec<&'a Metric> {
        let found: Vec<_> = HEADLINES.iter().filter_map(|(all, some)| self.headline(all, some)).collect();
        let all = || self.analysis.metrics.iter().filter(|metric| self.is_measured(metric)).collect();
        if found.is_empty() { all() } else { found }
    }

    /// A load without files has no figures under load.
    fn is_measured(&self, metric: &Metric) -> bool {
        self.analysis.rows.iter().any(|row| row.metric == metric.name)
    }

    /// What shares the way of the files on time, then their goodput: what one is traded for the other. A log goes up, as telemetry does; a
    /// map comes down, as control does.
    pub(super) fn trade(&self) -> Option<[&'a Metric; 2]> {
        let [control, _, _, goodput, _] = HEADLINES.map(|(all, some)| self.headline(all, some));
        let goodput = goodput?;
        let telemetry = self.headline(&["telemetry", "on", "time", "100"], &["load"]);
        let beside = if has(&goodput.name, "log") { telemetry.or(control) } else { control };
        Some([beside?, goodput])
    }

    fn headline(&self, all: &[&str], some: &[&str]) -> Option<&'a Metric> {
        let fits =
            |metric: &&Metric| all.iter().all(|word| has(&metric.name, word)) && self.is_measured(metric);
        let weight = |metric: &&Metric| some.iter().filter(|word| has(&metric.name, word)).count();
        let found = self.analysis.metrics.iter().filter(fits);
        // Of equals the first: it is the plainest.
        found.rev().max_by_key(weight)
    }

    pub(super) fn curves(&self, link: &str, of: &str) -> Vec<&'a Curve> {
        let here = |curve: &&Curve| curve.link == link && curve.of == of && !curve.points.is_empty();
        self.analysis.curves.iter().filter(here).collect()
    }

    /// What there are curves of.
    pub(super) fn distributions(&self) -> BTreeSet<&'a str> {
        self.analysis.curves.iter().map(|curve| curve.of.as_str()).collect()
    }

    pub(super) fn standing(&self, row: &Row, metric: &Metric) -> Standing {
        if row.label == self.analysis.reference {
            return Standing::Reference;
        }
        // Bounds are no contestants.
        if matches!(row.label.as_str(), FLOOR | ORACLE) {
            return Standing::Unknown;
        }
        let Some(reference) = self.row(&row.link, &self.analysis.reference, &row.metric) else {
            return Standing::Unknown;
        };
        if let Some(difference) = &row.difference {
            // A difference is of blocks that both have.
            let is_there = |block: u32| reference.blocks.iter().any(|(other, _)| *other == block);
            let pairs = row.blocks.iter().filter(|(block, _)| is_there(*block)).count();
            return if pairs >= FEWEST_BLOCKS { standing(difference, metric.better) } else { Standing::Open };
        }
        let (Some(own), Some(theirs)) = (median(row), median(reference)) else { return Standing::Unknown };
        match (own.is_infinite(), theirs.is_infinite()) {
            (true, false) => Standing::Never,
            (false, true) => Standing::Better,
            (true, true) => Standing::Unknown,
            // In some blocks it never came: no difference has an interval then.
            (false, false) => Standing::Open,
        }
    }

    /// Numbers of all blocks of which there is any figure.
    pub(super) fn blocks(&self) -> BTreeSet<u32> {
        self.analysis.rows.iter().flat_map(|row| row.blocks.iter().map(|(block, _)| *block)).collect()
    }

    pub(super) fn is_debug(&self) -> bool {
        self.analysis.stage.build != "release"
    }
}

/// The median of blocks, which is infinite where so many never came, and known even where its interval is not. `None` of none.
pub(super) fn median(row: &Row) -> Option<f64> {
    if let Some(estimate) = &row.estimate {
        return Some(estimate.value);
    }
    let mut values: Vec<_> = row.blocks.iter().map(|(_, value)| value.unwrap_or(f64::INFINITY)).collect();
    values.sort_by(f64::total_cmp);
    let high = *values.get(values.len() / 2)?;
    Some(f64::midpoint(values[(values.len() - 1) / 2], high))
}

/// Whether the interval excludes zero, and on which side.
fn standing(difference: &Estimate, better: Better) -> Standing {
    let is_above = difference.low > 0.0;
    let is_below = difference.high < 0.0;
    match (better, is_above, is_below) {
        (Better::Higher, true, _) | (Better::Lower, _, true) => Standing::Better,
        (Better::Higher, _, true) | (Better::Lower, true, _) => Standing::Worse,
        (Better::Higher | Better::Lower, false, false) => Standing::Open,
    }
}

/// Whether one of the words of a name begins with this one: `stale` is in `control-staler-200`.
fn has(name: &str, word: &str) -> bool {
    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
    name.split('-').any(|part| if is_number { part == word } else { part.starts_with(word) })
}

fn unlike<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut known = BTreeSet::new();
    names
        .enumerate()
        .map(|(index, name)| {
            let slug = slug(name);
            let is_fit = !slug.is_empty() && known.insert(slug.clone());
            if is_fit { slug } else { format!("{slug}-no-{}", index + 1) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interval_without_zero_says_something() {
        let of = |low, high| Estimate { value: f64::midpoint(low, high), low, high };
        assert_eq!(standing(&of(1.0, 2.0), Better::Higher), Standing::Better);
        assert_eq!(standing(&of(1.0, 2.0), Better::Lower), Standing::Worse);
        assert_eq!(standing(&of(-2.0, -1.0), Better::Lower), Standing::Better);
        assert_eq!(standing(&of(-2.0, -1.0), Better::Higher), Standing::Worse);
        assert_eq!(standing(&of(-1.0, 1.0), Better::Higher), Standing::Open);
        assert_eq!(standing(&of(0.0, 0.0), Better::Lower), Standing::Open);
    }

    #[test]
    fn a_median_is_known_where_its_interval_is_not() {
        let of = |blocks: &[Option<f64>]| Row {
            link: String::new(),
            label: String::new(),
            metric: String::new(),
            blocks: (1..).zip(blocks.iter().copied()).collect(),
            estimate: None,
            difference: None,
            holm_p: None,
        };
        assert_eq!(median(&of(&[])), None);
        assert_eq!(median(&of(&[None, Some(3.0), Some(1.0)])), Some(3.0));
        assert_eq!(median(&of(&[None, Some(1.0)])), Some(f64::INFINITY));
        assert_eq!(median(&of(&[None, None])), Some(f64::INFINITY));
    }

    #[test]
    fn names_that_look_alike_get_anchors_that_do_not() {
        assert_eq!(unlike(["A b", "a-b", "é"].into_iter()), ["a-b", "a-b-no-2", "-no-3"]);
    }

    #[test]
    fn words_of_a_name_begin_as_asked_and_numbers_are_whole() {
        assert!(has("control-staler-200", "stale") && has("x-200", "200"));
        assert!(!has("control-staler-2000", "200") && !has("unstale", "stale"));
    }
}
