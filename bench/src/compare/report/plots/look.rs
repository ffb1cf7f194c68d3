//! How lines and points are told apart: by colour, by dash and by shape, so that any one of them is enough.

use super::px;
use crate::compare::bounds::ORACLE;
use crate::compare::plan::{CONTROL, FLOOR};
use crate::compare::report::markup::Markup;
use crate::compare::report::view::{Standing, View};

/// Colours in the style; more subjects than that differ in dash and shape.
const COLOURS: usize = 6;

/// Dashes in the style.
const DASHES: usize = 3;

/// A point's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Up,
    Diamond,
    Down,
    Cross,
}

/// One label's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// A class of the style.
    colour: usize,
    dash: &'static str,
    pub(super) shape: Option<Shape>,
}

impl Look {
    /// The same in every drawing of a page.
    pub(super) fn of(view: &View<'_>, label: &str) -> Self {
        match label {
            ORACLE => Self { colour: COLOURS, dash: "d2", shape: None },
            FLOOR => Self { colour: COLOURS, dash: "d1", shape: None },
            CONTROL => Self { dash: "d2", shape: None, ..Self::subject(view, &view.analysis.reference) },
            subject => Self::subject(view, subject),
        }
    }

    fn subject(view: &View<'_>, label: &str) -> Self {
        let index = view.subjects().position(|subject| subject == label).unwrap_or_default();
        let shapes = [Shape::Circle, Shape::Square, Shape::Up, Shape::Diamond, Shape::Down, Shape::Cross];
        let turn = index / COLOURS;
        let dash = ["d0", "d1", "d2"][turn % DASHES];
        Self { colour: index % COLOURS, dash, shape: Some(shapes[(index + turn) % shapes.len()]) }
    }

    /// The classes of a line.
    pub(super) fn line(self) -> String {
        format!("curve c{} {}", self.colour, self.dash)
    }

    /// The classes of a point.
    pub(super) fn point(self) -> String {
        format!("point c{}", self.colour)
    }
}

impl Standing {
    /// How a figure's point looks.
    pub(super) const fn shape(self) -> Shape {
        match self {
            Self::Better => Shape::Up,
            Self::Worse => Shape::Down,
            Self::Never => Shape::Cross,
            Self::Open | Self::Unknown => Shape::Circle,
            Self::Reference => Shape::Diamond,
        }
    }
}

impl Shape {
    /// Around a place, with a title to point at.
    pub(super) fn draw(self, svg: &mut Markup, class: &str, [x, y]: [f64; 2], title: &str) {
        let path = self.path(x, y);
        svg.element("path", &[("class", &class), ("d", &path)], |inside| {
            if !title.is_empty() {
                inside.leaf("title", &[], title);
            }
        });
    }

    fn path(self, x: f64, y: f64) -> String {
        let at = |dx: f64, dy: f64| format!("{} {}", px(x + dx), px(y + dy));
        let closed = |corners: &[[f64; 2]]| {
            let corners: Vec<_> = corners.iter().map(|[dx, dy]| at(*dx, *dy)).collect();
            format!("M{}Z", corners.join("L"))
        };
        match self {
            Self::Circle => format!("M{}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", at(-4.0, 0.0)),
            Self::Square => closed(&[[-3.6, -3.6], [3.6, -3.6], [3.6, 3.6], [-3.6, 3.6]]),
            Self::Up => closed(&[[0.0, -5.0], [5.0, 4.0], [-5.0, 4.0]]),
            Self::Down => closed(&[[0.0, 5.0], [5.0, -4.0], [-5.0, -4.0]]),
            Self::Diamond => closed(&[[0.0, -5.4], [5.4, 0.0], [0.0, 5.4], [-5.4, 0.0]]),
            Self::Cross => format!("M{}l8 8m0 -8l-8 8", at(-4.0, -4.0)),
        }
    }
}
