//! Two axes, their numbers, and the list of what is drawn between them.

use super::look::Look;
use super::scale::Scale;
use super::{CHARACTER, WIDTH, fitted, line, px, words};
use crate::compare::report::markup::Markup;

/// The place of a drawing with two axes.
pub(super) const LEFT: f64 = 62.0;
pub(super) const RIGHT: f64 = WIDTH - 18.0;
pub(super) const TOP: f64 = 50.0;
pub(super) const BOTTOM: f64 = 310.0;

/// Where the list begins, and the height of its rows.
const LIST: f64 = BOTTOM + 56.0;
const ROW: f64 = 19.0;

/// Entries beside each other.
const COLUMNS: usize = 3;

/// Room between two labels of an axis.
const APART: f64 = 8.0;

/// Draws both axes.
pub(super) fn axes(svg: &mut Markup, [x, y]: [&Scale; 2], names: [&str; 2], tick: [fn(f64) -> String; 2]) {
    let [tick_x, tick_y] = tick;
    for value in y.ticks() {
        let at = y.place(value);
        line(svg, "grid", [LEFT, at], [RIGHT, at]);
        words(svg, "tick end", [LEFT - 7.0, at + 4.0], tick_y(value));
    }
    along(svg, x, [TOP, BOTTOM], tick_x);
    line(svg, "axis", [LEFT, BOTTOM], [RIGHT, BOTTOM]);
    words(svg, "tick middle", [f64::midpoint(LEFT, RIGHT), BOTTOM + 34.0], names[0]);
    let turn = format!("rotate(-90 14 {})", px(f64::midpoint(TOP, BOTTOM)));
    let middle = px(f64::midpoint(TOP, BOTTOM));
    svg.leaf(
        "text",
        &[("class", &"tick middle"), ("x", &"14"), ("y", &middle), ("transform", &turn)],
        names[1],
    );
}

/// The lines and numbers of an axis from left to right; a number that would touch the one before is left out.
pub(super) fn along(svg: &mut Markup, scale: &Scale, [top, bottom]: [f64; 2], tick: fn(f64) -> String) {
    let mut free = f64::NEG_INFINITY;
    for value in scale.ticks() {
        let (at, text) = (scale.place(value), tick(value));
        line(svg, "grid", [at, top], [at, bottom]);
        let half = text.chars().count() as f64 * CHARACTER / 2.0;
        if at - half >= free {
            words(svg, "tick middle", [at, bottom + 16.0], text);
            free = at + half + APART;
        }
    }
}

/// The list of looks below the axes; gives the height of the drawing.
pub(super) fn list(svg: &mut Markup, entries: &[(String, Look)]) -> f64 {
    let width = (WIDTH - 16.0) / COLUMNS as f64;
    for (index, (name, look)) in entries.iter().enumerate() {
        let x = 12.0 + (index % COLUMNS) as f64 * width;
        let y = LIST + (index / COLUMNS) as f64 * ROW;
        line(svg, &look.line(), [x, y - 4.0], [x + 28.0, y - 4.0]);
        if let Some(shape) = look.shape {
            shape.draw(svg, &look.point(), [x + 14.0, y - 4.0], "");
        }
        let most = ((width - 40.0) / CHARACTER) as usize;
        words(svg, "name", [x + 35.0, y], fitted(name, most));
    }
    LIST + entries.len().div_ceil(COLUMNS) as f64 * ROW
}
