//! Which share of all came within which time, by magnitude of the time and by nines of the share.

use std::fmt::Write as _;

use super::frame::{self, BOTTOM, LEFT, RIGHT, TOP};
use super::look::Look;
use super::scale::Scale;
use super::{Drawing, px};
use crate::compare::analysis::Curve;
use crate::compare::bounds::ORACLE;
use crate::compare::plan::{CONTROL, FLOOR};
use crate::compare::report::escape::slug;
use crate::compare::report::markup::Markup;
use crate::compare::report::numbers::{Unit, tick};
use crate::compare::report::view::View;
use crate::compare::report::words::capital;

/// Less than that is not seen.
const PIXEL: f64 = 0.4;

/// Places of points on a curve: these shares.
const MARKED: [f64; 4] = [0.25, 0.75, 0.96, 0.996];

/// Shares that are said in words.
const SPOKEN: [f64; 2] = [0.5, 0.99];

/// `None` where there are no curves.
pub(super) fn draw(view: &View<'_>, link: &str, of: &str, link_slug: &str) -> Option<Drawing> {
    let mut curves = view.curves(link, of);
    curves.first()?;
    let order: Vec<_> = [ORACLE, FLOOR].into_iter().chain(view.subjects()).chain([CONTROL]).collect();
    curves.sort_by_key(|curve| order.iter().position(|label| *label == curve.label));
    let times = curves.iter().flat_map(|curve| curve.points.iter().map(|(ms, _)| *ms));
    let x = Scale::log(times, [LEFT, RIGHT]);
    let y = Scale::nines([BOTTOM, TOP]);
    let mut body = Markup::default();
    let percent = |share: f64| tick(share * 100.0) + "%";
    frame::axes(&mut body, [&x, &y], ["ms", "share within that time"], [tick, percent]);
    for curve in &curves {
        one(&mut body, [&x, &y], curve, Look::of(view, &curve.label));
    }
    let entries: Vec<_> =
        curves.iter().map(|curve| (curve.label.clone(), Look::of(view, &curve.label))).collect();
    let height = frame::list(&mut body, &entries);
    Some(Drawing {
        name: format!("{link_slug}-cdf-{}", slug(of)),
        title: format!("{}: distribution", capital(&of.replace('-', " "))),
        under: format!("{link}; ← further left is better; all blocks pooled"),
        description: spoken(&curves),
        is_main: true,
        height,
        body,
    })
}

fn one(svg: &mut Markup, [x, y]: [&Scale; 2], curve: &Curve, look: Look) {
    let mut path = String::new();
    let mut last: Option<[f64; 2]> = None;
    for (ms, share) in &curve.points {
        let here = [x.place(*ms), y.place(*share)];
        let is_new = last.is_none_or(|last| (last[0] - here[0]).abs() + (last[1] - here[1]).abs() >= PIXEL);
        if is_new {
            let _ = write!(path, "{}{} {}", if last.is_none() { 'M' } else { 'L' }, px(here[0]), px(here[1]));
            last = Some(here);
        }
    }
    // What never came keeps the curve below the top for ever.
    let ends_below = curve.points.last().is_some_and(|(_, share)| y.holds(*share) && *share < 1.0);
    if ends_below {
        let _ = write!(path, "H{}", px(RIGHT));
    }
    svg.element("path", &[("class", &look.line()), ("d", &path)], |inside| {
        inside.leaf("title", &[], &curve.label);
    });
    let Some(shape) = look.shape else { return };
    for share in MARKED {
        if let Some(ms) = within(curve, share) {
            shape.draw(svg, &look.point(), [x.place(ms), y.place(share)], &curve.label);
        }
    }
}

/// The time within which this share came, between points as the line is drawn; `None` where so much never came.
fn within(curve: &Curve, share: f64) -> Option<f64> {
    let above = curve.points.iter().position(|(_, reached)| *reached >= share)?;
    let (ms, reached) = curve.points[above];
    let Some((before, from)) = above.checked_sub(1).map(|below| curve.points[below]) else { return Some(ms) };
    if before <= 0.0 || reached <= from {
        return Some(ms);
    }
    let nines = |share: f64| -(1.0 - share.min(0.999)).log10();
    let part = ((nines(share) - nines(from)) / (nines(reached) - nines(from)).max(1e-9)).clamp(0.0, 1.0);
    Some(before * (ms / before).powf(part))
}

fn spoken(curves: &[&Curve]) -> String {
    let one = |curve: &&Curve| {
        let shares = SPOKEN.map(|share| {
            let time =
                within(curve, share).map_or("never".to_owned(), |ms| Unit::unknown().plain(ms) + " ms");
            format!("{} % within {time}", share * 100.0)
        });
        format!("{}: {}", curve.label, shares.join(", "))
    };
    curves.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_within_no_time() {
        let points = vec![(10.0, 0.0), (20.0, 0.5), (40.0, 0.9)];
        let curve = Curve { link: "l".into(), label: "a".into(), of: "x".into(), points };
        assert_eq!(within(&curve, 0.99), None);
        assert!((within(&curve, 0.5).unwrap() - 20.0).abs() < 1e-9);
        assert!((within(&curve, 0.9).unwrap() - 40.0).abs() < 1e-9);
        assert!(spoken(&[&curve]).contains("99 % within never"));
    }
}
