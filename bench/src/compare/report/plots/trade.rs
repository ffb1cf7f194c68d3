//! What is traded for what: how much of a file goes through, against how much of what shares its way is on time.

use super::frame::{self, BOTTOM, LEFT, RIGHT, TOP};
use super::intervals::titled;
use super::look::Look;
use super::scale::Scale;
use super::{Drawing, line, words};
use crate::compare::analysis::{Better, Estimate};
use crate::compare::bounds::ORACLE;
use crate::compare::plan::FLOOR;
use crate::compare::report::markup::Markup;
use crate::compare::report::numbers::{Unit, tick};
use crate::compare::report::view::View;

/// `None` where one of the two figures is missing, or nobody has both.
pub(super) fn draw(view: &View<'_>, link: &str, slug: &str) -> Option<Drawing> {
    let [on_time, goodput] = view.trade()?;
    let both = |label| {
        Some((label, view.estimate(link, label, &goodput.name)?, view.estimate(link, label, &on_time.name)?))
    };
    let points: Vec<(&str, &Estimate, &Estimate)> = view.contestants().filter_map(both).collect();
    points.first()?;
    let units = [Unit::of(goodput), Unit::of(on_time)];
    let bound = |label| view.estimate(link, label, &on_time.name).map(|estimate| (label, estimate.value));
    let bounds: Vec<_> = [ORACLE, FLOOR].into_iter().filter_map(bound).collect();
    let ends = |estimate: &Estimate| [estimate.low, estimate.value, estimate.high];
    let most = [goodput, on_time].map(|metric| if metric.unit == "share" { 100.0 } else { f64::INFINITY });
    let across = points.iter().flat_map(|(_, x, _)| ends(x)).map(|value| units[0].scaled(value));
    let x = Scale::linear(across, [0.0, most[0]], [LEFT, RIGHT]);
    let up = points.iter().flat_map(|(_, _, y)| ends(y)).chain(bounds.iter().map(|(_, value)| *value));
    let y = Scale::linear(up.map(|value| units[1].scaled(value)), [0.0, most[1]], [BOTTOM, TOP]);
    let mut body = Markup::default();
    let names =
        [(goodput, units[0]), (on_time, units[1])].map(|(metric, unit)| titled(&metric.name, unit.name()));
    frame::axes(&mut body, [&x, &y], [&names[0], &names[1]], [tick, tick]);
    for (label, value) in &bounds {
        horizontal(&mut body, label, y.place(units[1].scaled(*value)));
    }
    for (label, across, up) in &points {
        one(&mut body, [&x, &y], units, (label, across, up), Look::of(view, label));
    }
    let entries: Vec<_> =
        points.iter().map(|(label, ..)| ((*label).to_owned(), Look::of(view, label))).collect();
    let height = frame::list(&mut body, &entries);
    Some(Drawing {
        name: format!("{slug}-trade"),
        title: "What is traded for what: on time against goodput".to_owned(),
        under: format!(
            "{link}; {} is better; medians of blocks, 95 % intervals",
            corner(on_time.better, goodput.better)
        ),
        description: spoken(&points, units),
        is_main: true,
        height,
        body,
    })
}

const fn corner(up: Better, across: Better) -> &'static str {
    match (up, across) {
        (Better::Higher, Better::Higher) => "↗ up and right",
        (Better::Higher, Better::Lower) => "↖ up and left",
        (Better::Lower, Better::Higher) => "↘ down and right",
        (Better::Lower, Better::Lower) => "↙ down and left",
    }
}

/// A bound: its name is at the left for one, at the right for the other, as they are often at one height.
fn horizontal(svg: &mut Markup, label: &str, y: f64) {
    let (class, dash, x) =
        if label == ORACLE { ("bound", "d2", LEFT + 4.0) } else { ("bound end", "d1", RIGHT - 4.0) };
    line(svg, &format!("curve c6 {dash}"), [LEFT, y], [RIGHT, y]);
    words(svg, class, [x, y - 4.0], label);
}

/// A cross of intervals with a point.
fn one(
    svg: &mut Markup,
    [x, y]: [&Scale; 2],
    units: [Unit<'_>; 2],
    (label, across, up): (&str, &Estimate, &Estimate),
    look: Look,
) {
    let place_x = |value| x.place(units[0].scaled(value));
    let place_y = |value| y.place(units[1].scaled(value));
    let (here_x, here_y) = (place_x(across.value), place_y(up.value));
    let class = look.line();
    line(svg, &class, [place_x(across.low), here_y], [place_x(across.high), here_y]);
    line(svg, &class, [here_x, place_y(up.low)], [here_x, place_y(up.high)]);
    let title = format!("{label}: {}, {}", units[0].plain(across.value), units[1].plain(up.value));
    if let Some(shape) = look.shape {
        shape.draw(svg, &look.point(), [here_x, here_y], &title);
    }
}

fn spoken(points: &[(&str, &Estimate, &Estimate)], units: [Unit<'_>; 2]) -> String {
    let one = |(label, x, y): &(&str, &Estimate, &Estimate)| {
        format!("{label}: {} and {}", units[0].plain(x.value), units[1].plain(y.value))
    };
    points.iter().map(one).collect::<Vec<_>>().join("; ")
}
