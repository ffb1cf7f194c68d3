//! One figure on one link: a row for each subject, its blocks, its median with the interval, and the bounds as lines.

use super::look::Shape;
use super::scale::Scale;
use super::{CHARACTER, Drawing, WIDTH, fitted, frame, line, px, words};
use crate::compare::analysis::{Better, Metric, Row};
use crate::compare::bounds::ORACLE;
use crate::compare::plan::FLOOR;
use crate::compare::report::markup::Markup;
use crate::compare::report::numbers::{NEVER, NONE, Unit, tick};
use crate::compare::report::view::{Standing, View, median};
use crate::compare::report::words::capital;

/// Where the names of the bounds are, and where rows begin below them.
const NAMES: f64 = 54.0;
const TOP: f64 = 64.0;
/// Of a row.
const HEIGHT: f64 = 21.0;
/// Room for a figure at the right.
const FIGURE: f64 = 98.0;
/// Characters of a label, at most.
const LABEL: usize = 24;
/// What is drawn of one label.
struct Entry<'a> {
    label: &'a str,
    row: Option<&'a Row>,
    standing: Standing,
}

/// `None` where nothing has that figure on that link.
pub(super) fn draw(view: &View<'_>, link: &str, metric: &Metric, name: String) -> Option<Drawing> {
    let entries: Vec<_> = view
        .contestants()
        .map(|label| {
            let row = view.row(link, label, &metric.name);
            let standing = row.map_or(Standing::Unknown, |row| view.standing(row, metric));
            Entry { label, row, standing }
        })
        .collect();
    entries.iter().find(|entry| entry.row.is_some())?;
    let unit = Unit::of(metric);
    let longest = entries.iter().map(|entry| entry.label.chars().count().min(LABEL)).max().unwrap_or(0);
    let left = longest as f64 * CHARACTER + 20.0;
    let bounds = bounds(view, link, metric);
    let scale = scale(&entries, &bounds, metric, [left, WIDTH - FIGURE]);
    let bottom = TOP + entries.len() as f64 * HEIGHT + 4.0;
    let mut body = Markup::default();
    frame::along(&mut body, &scale, [TOP - 4.0, bottom], tick);
    bounds_over(&mut body, &scale, &bounds, unit, bottom);
    for (index, entry) in entries.iter().enumerate() {
        entry.draw(&mut body, &scale, unit, TOP + (index as f64 + 0.5) * HEIGHT);
    }
    let is_never = entries.iter().any(|entry| entry.standing == Standing::Never);
    key(&mut body, &view.analysis.reference, is_never, bottom + 38.0);
    Some(Drawing {
        name,
        title: titled(&capital(&metric.title), unit.name()),
        under: format!("{link}; {}; median of blocks, 95 % interval", direction(metric.better)),
        description: spoken(&entries, &bounds, unit),
        is_main: view.headlines().iter().any(|headline| headline.name == metric.name),
        height: bottom + 48.0,
        body,
    })
}

/// What it is, and in what.
pub(super) fn titled(title: &str, unit: &str) -> String {
    if unit.is_empty() { title.to_owned() } else { format!("{title}, {unit}") }
}

const fn direction(better: Better) -> &'static str {
    match better {
        Better::Higher => "higher is better →",
        Better::Lower => "← lower is better",
    }
}

/// The best possible and the floor, where they are known.
fn bounds<'a>(view: &View<'_>, link: &str, metric: &Metric) -> Vec<(&'a str, f64)> {
    let of = |label| Some((label, view.estimate(link, label, &metric.name)?.value));
    [ORACLE, FLOOR].into_iter().filter_map(of).filter(|(_, value)| value.is_finite()).collect()
}

fn scale(entries: &[Entry<'_>], bounds: &[(&str, f64)], metric: &Metric, range: [f64; 2]) -> Scale {
    let unit = Unit::of(metric);
    let rows = entries.iter().filter_map(|entry| entry.row);
    let values = rows.flat_map(|row| {
        let ends = row.estimate.iter().flat_map(|estimate| [estimate.low, estimate.value, estimate.high]);
        ends.chain(row.blocks.iter().filter_map(|(_, value)| *value)).collect::<Vec<_>>()
    });
    let all: Vec<_> = values.chain(bounds.iter().map(|(_, value)| *value)).map(|v| unit.scaled(v)).collect();
    let most = if metric.unit == "share" { 100.0 } else { f64::INFINITY };
    let least = if all.iter().any(|value| *value < 0.0) { f64::NEG_INFINITY } else { 0.0 };
    Scale::fitting(&all, [least, most], range)
}

/// A line down, and its name above it: of the left one to its left, of the right one to its right, so they do not touch.
fn bounds_over(svg: &mut Markup, scale: &Scale, bounds: &[(&str, f64)], unit: Unit<'_>, bottom: f64) {
    let least = bounds.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let mut is_left_taken = bounds.len() < 2;
    for (label, value) in bounds {
        let at = scale.place(unit.scaled(*value));
        let class = if *label == ORACLE { "curve c6 d2" } else { "curve c6 d1" };
        line(svg, class, [at, NAMES - 9.0], [at, bottom]);
        let text = format!("{label} {}", unit.plain(*value));
        if *value <= least && !is_left_taken {
            is_left_taken = true;
            words(svg, "bound end", [at - 4.0, NAMES], text);
        } else {
            words(svg, "bound", [at + 4.0, NAMES], text);
        }
    }
}

/// What the shapes mean.
fn key(svg: &mut Markup, reference: &str, is_never: bool, y: f64) {
    let reference = fitted(reference, 24);
    let entries = [
        (Standing::Reference, format!("{reference}, the reference")),
        (Standing::Better, "better".to_owned()),
        (Standing::Worse, "worse".to_owned()),
        (Standing::Open, "not told apart".to_owned()),
    ];
    let never = is_never.then(|| (Standing::Never, "never came".to_owned()));
    let mut x = 14.0;
    for (standing, text) in entries.into_iter().chain(never) {
        standing.shape().draw(svg, standing.class(), [x, y - 3.0], "");
        words(svg, "under", [x + 9.0, y], &text);
        x += text.chars().count() as f64 * CHARACTER * 0.9 + 30.0;
    }
}

impl Entry<'_> {
    fn draw(&self, svg: &mut Markup, scale: &Scale, unit: Unit<'_>, y: f64) {
        let class = if self.standing == Standing::Reference { "name strong" } else { "name" };
        words(svg, class, [8.0, y + 4.0], fitted(self.label, LABEL));
        let figure = self.figure(unit);
        words(svg, "figure end", [WIDTH - 8.0, y + 4.0], &figure);
        let Some(row) = self.row else { return };
        self.blocks(svg, scale, unit, y);
        let title = format!("{}: {figure} ({})", self.label, unit.surety(row));
        let Some(estimate) = &row.estimate else {
            // Its interval has no end.
            let shape = if figure == NEVER { Shape::Cross } else { Shape::Circle };
            let at = median(row).map_or(f64::INFINITY, |median| unit.scaled(median));
            shape.draw(svg, self.standing.class(), [scale.place(at), y], &title);
            return;
        };
        let [low, at, high] =
            [estimate.low, estimate.value, estimate.high].map(|v| scale.place(unit.scaled(v)));
        line(svg, &format!("interval {}", self.standing.class()), [low, y], [high, y]);
        self.standing.shape().draw(svg, self.standing.class(), [at, y], &title);
    }

    /// Each block's figure, so that an outlier is seen; those that never came are in the figure.
    fn blocks(&self, svg: &mut Markup, scale: &Scale, unit: Unit<'_>, y: f64) {
        let values = self.row.iter().flat_map(|row| row.blocks.iter().filter_map(|(_, value)| *value));
        let finite = values.filter(|value| value.is_finite());
        let places: Vec<_> = finite.map(|value| px(scale.place(unit.scaled(value)))).collect();
        let dots = places.iter().fold(String::new(), |dots, x| dots + "M" + x + " " + &px(y) + "h0");
        if !dots.is_empty() {
            svg.empty("path", &[("class", &"blocks"), ("d", &dots)]);
        }
    }

    fn figure(&self, unit: Unit<'_>) -> String {
        self.row.map_or_else(|| NONE.to_owned(), |row| unit.figure(row))
    }
}

impl Standing {
    /// The class of its points in the style.
    const fn class(self) -> &'static str {
        match self {
            Self::Better => "point good",
            Self::Worse | Self::Never => "point bad",
            Self::Open | Self::Unknown => "point open",
            Self::Reference => "point own",
        }
    }
}

/// The whole drawing in words, for those who do not see it.
fn spoken(entries: &[Entry<'_>], bounds: &[(&str, f64)], unit: Unit<'_>) -> String {
    let bounds = bounds.iter().map(|(label, value)| format!("{label} {}", unit.plain(*value)));
    let figures = entries.iter().map(|entry| {
        let surety = entry.row.map(|row| format!(" ({})", unit.surety(row))).unwrap_or_default();
        format!("{} {}{surety}", entry.label, entry.figure(unit))
    });
    bounds.chain(figures).collect::<Vec<_>>().join("; ")
}
