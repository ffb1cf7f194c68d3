//! Distributions, pooled over blocks. Pure.

use std::collections::BTreeMap;

use crate::compare::analysis::Curve;
use crate::compare::figures::{Ages, Run};
use crate::compare::workload::Kind;

/// Most points of a curve: as many as a screen shows.
const MOST_POINTS: usize = 400;

/// What distributions are taken of, by link and label.
#[derive(Default)]
pub(super) struct Pools(BTreeMap<(String, String), Pool>);

#[derive(Default)]
struct Pool {
    ages: Ages,
    times: Vec<f64>,
}

impl Pools {
    /// Adds a run.
    pub(super) fn add(&mut self, link: &str, label: &str, run: &Run<'_>) {
        let pool = self.0.entry((link.to_owned(), label.to_owned())).or_default();
        pool.ages.extend(run.ages(Kind::Control));
        pool.times.extend(run.command_times());
    }

    /// In this order.
    pub(super) fn curves(mut self, links: &[String], labels: &[String]) -> Vec<Curve> {
        let mut curves = Vec::new();
        for link in links {
            for label in labels {
                let Some(pool) = self.0.remove(&(link.clone(), label.clone())) else { continue };
                for (of, points) in [("control-age", ages(&pool.ages)), ("command-time", times(pool.times))] {
                    if !points.is_empty() {
                        curves.push(Curve {
                            link: link.clone(),
                            label: label.clone(),
                            of: of.into(),
                            points,
                        });
                    }
                }
            }
        }
        curves
    }
}

/// Evenly up to 99 % of the time, then closer and closer: tails are what is looked for.
fn shares() -> impl Iterator<Item = f64> {
    let body = (0..=198).map(|step| f64::from(step) / 200.0);
    let tail = (0..=150).map(|step| 1.0 - 0.01 * 10_f64.powf(-f64::from(step) / 50.0));
    body.chain(tail).chain([1.0])
}

fn ages(ages: &Ages) -> Vec<(f64, f64)> {
    let Some(spread) = ages.distribution() else { return Vec::new() };
    rising(shares().map(|share| (spread.quantile(share), share)))
}

fn times(mut times: Vec<f64>) -> Vec<(f64, f64)> {
    times.sort_by(f64::total_cmp);
    let arrived = times.iter().take_while(|time| time.is_finite()).count();
    // The last is always among them.
    let every = arrived.div_ceil(MOST_POINTS).max(1);
    let chosen = (0..arrived).rev().step_by(every);
    let mut points: Vec<_> =
        chosen.map(|place| (times[place], (place + 1) as f64 / times.len() as f64)).collect();
    points.reverse();
    rising(points)
}

/// Of points at the same place the highest.
fn rising(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in points {
        match kept.last_mut() {
            Some(last) if last.0 >= point.0 => *last = (last.0, point.1.max(last.1)),
            Some(_) | None => kept.push(point),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_keeps_the_curve_below_one() {
        let points = times(vec![f64::INFINITY, 30.0, 10.0, 10.0]);
        assert_eq!(points, [(10.0, 0.5), (30.0, 0.75)]);
        assert!(times(vec![f64::INFINITY]).is_empty());
    }

    #[test]
    fn curves_are_short_and_rise_and_have_their_end() {
        let points = times((0..5_001).map(f64::from).collect());
        assert!(points.len() <= MOST_POINTS, "{}", points.len());
        assert_eq!(points.last(), Some(&(5_000.0, 1.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        assert!(shares().count() <= MOST_POINTS && shares().is_sorted());
    }
}
