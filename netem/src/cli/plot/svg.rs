//! The drawing: per direction rate, queue and delay over time, drops by cause, and what happened.

use std::fmt::Write;

use carriageway_netem::core::Direction;
use carriageway_netem::drawing::{ceiling, escape, number};

use super::curves::Curves;
use super::marks::Mark;

const WIDTH: f64 = 1000.0;
/// Room for the names of causes.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 110.0;
const GAP: f64 = 36.0;
/// Where labels begin, and the height of a row of them.
const LABELS: f64 = 46.0;
const LABEL_ROW: f64 = 13.0;
/// Rows of labels: what finds no room in them is counted in the title.
const MOST_LABEL_ROWS: usize = 8;
/// Width of a character of a label, on average a little less.
const CHARACTER: f64 = 5.6;
const DROP_ROW: f64 = 14.0;
/// Steps on the time axis, at most.
const MOST_TICKS: f64 = 12.0;

/// Colours that are told apart without red and green.
const OFFERED: &str = "#9aa5b1";
const DELIVERED: &str = "#0b6e99";
const DROPPED: &str = "#c2410c";
const SHADE: &str = "#f3e3c3";

/// What is drawn.
pub(super) struct Drawing {
    pub(super) title: String,
    /// Seconds.
    pub(super) span: f64,
    pub(super) curves: [(Direction, Curves); 2],
    pub(super) marks: Vec<Mark>,
}

/// A label and its place.
struct Label<'a> {
    text: &'a str,
    x: f64,
    row: usize,
}

/// The part of the drawing between two heights.
struct Panel {
    y: f64,
    height: f64,
    span: f64,
}

impl Drawing {
    /// The whole SVG.
    pub(super) fn svg(&self) -> String {
        let (labels, left_out) = self.labels();
        let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
        let top = LABELS + rows as f64 * LABEL_ROW + 22.0;
        let mut body = String::new();
        let mut y = top;
        for (direction, curves) in &self.curves {
            let from = y;
            let mut panels = String::new();
            y = self.direction(&mut panels, *direction, curves, y);
            self.shades(&mut body, *direction, from, y - GAP);
            body.push_str(&panels);
        }
        self.lines(&mut body, &labels, y - GAP);
        let more = if left_out > 0 { format!(" ({left_out} labels left out)") } else { String::new() };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" font-family=\"sans-serif\" font-size=\"12\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
             <text x=\"20\" y=\"24\" font-size=\"15\">{}{more}</text>{body}</svg>\n",
            escape(&self.title)
        )
    }

    fn panel(&self, y: f64, height: f64) -> Panel {
        Panel { y, height, span: self.span }
    }

    /// Draws one direction from `y` on; gives where the next may begin.
    fn direction(&self, svg: &mut String, direction: Direction, curves: &Curves, y: f64) -> f64 {
        let (name, highest) = (direction.name(), |values: &[f64]| values.iter().copied().fold(0.0, f64::max));
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        let step = PANEL + GAP;
        let rate = self.panel(y, PANEL);
        let top = ceiling(highest(&curves.offered).max(highest(&curves.delivered)));
        rate.frame(svg, &format!("{name}: offered (grey) and delivered, Mbit/s"), top);
        rate.curve(svg, &some(&curves.offered), top, curves.bin, OFFERED);
        rate.curve(svg, &some(&curves.delivered), top, curves.bin, DELIVERED);
        let queue = self.panel(y + step, PANEL);
        let top = ceiling(highest(&curves.queue) / 1e3);
        queue.frame(svg, &format!("{name}: queue, kB (with the packet in service)"), top);
        let kilobytes: Vec<_> = curves.queue.iter().map(|bytes| Some(bytes / 1e3)).collect();
        queue.curve(svg, &kilobytes, top, curves.bin, DELIVERED);
        let delay = self.panel(y + 2.0 * step, PANEL);
        let top = ceiling(curves.delay.iter().flatten().copied().fold(0.0, f64::max));
        delay.frame(
            svg,
            &format!("{name}: longest one-way delay of what arrived, ms, by time of offer"),
            top,
        );
        delay.curve(svg, &curves.delay, top, curves.bin, DELIVERED);
        let rows = self.panel(y + 3.0 * step, DROP_ROW * curves.drops.len() as f64);
        let count: usize = curves.drops.values().map(Vec::len).sum();
        let title = if count == 0 { format!("{name}: no drops") } else { format!("{name}: {count} drops") };
        rows.title(svg, &title);
        for (row, (cause, drops)) in curves.drops.iter().enumerate() {
            rows.drops(svg, row, cause, drops);
        }
        rows.y + rows.height + GAP
    }

    /// Behind the curves: how long something lasts.
    fn shades(&self, svg: &mut String, direction: Direction, y: f64, bottom: f64) {
        let panel = self.panel(y, bottom - y);
        let here = |mark: &&Mark| mark.direction.is_none_or(|other| other == direction);
        for mark in self.marks.iter().filter(here) {
            let Some(until) = mark.until else { continue };
            let (x, end) = (panel.x(mark.at), panel.x(until));
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{SHADE}\"/>",
                (end - x).max(1.0),
                panel.height
            );
        }
    }

    /// A line down from each label, and one for each mark without.
    fn lines(&self, svg: &mut String, labels: &[Label<'_>], bottom: f64) {
        let mut line = |x: f64, y: f64| {
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {y:.1}V{bottom:.1}\" stroke=\"#555\" stroke-width=\"0.7\" stroke-dasharray=\"3 3\"/>"
            );
        };
        let panel = self.panel(0.0, 0.0);
        self.marks.iter().filter(|mark| mark.at <= self.span).for_each(|mark| line(panel.x(mark.at), LABELS));
        for Label { text, x, row } in labels {
            let y = LABELS + (row + 1) as f64 * LABEL_ROW - 3.0;
            // On white, so that the lines of others do not cross it.
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{y:.1}\" font-size=\"10\" fill=\"#333\" stroke=\"#fff\" stroke-width=\"3\" \
                 paint-order=\"stroke\">{}</text>",
                x + 3.0,
                escape(text)
            );
        }
    }

    /// Labels in rows in which none touches another, and how many found no room.
    fn labels(&self) -> (Vec<Label<'_>>, usize) {
        let panel = self.panel(0.0, 0.0);
        let mut marks: Vec<_> = self.marks.iter().filter(|mark| mark.at <= self.span).collect();
        marks.sort_by(|one, other| one.at.total_cmp(&other.at));
        let (mut ends, mut labels, mut left_out) = ([f64::MIN; MOST_LABEL_ROWS], Vec::new(), 0);
        for mark in marks {
            let width = mark.name.chars().count() as f64 * CHARACTER + 6.0;
            let x = panel.x(mark.at).min(WIDTH - width);
            match ends.iter().position(|end| *end <= x) {
                Some(row) => {
                    ends[row] = x + width;
                    labels.push(Label { text: &mark.name, x, row });
                }
                None => left_out += 1,
            }
        }
        (labels, left_out)
    }
}

impl Panel {
    fn title(&self, svg: &mut String, title: &str) {
        let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>", self.y - 6.0, escape(title));
    }

    /// Axes, their numbers, and the title.
    fn frame(&self, svg: &mut String, title: &str, top: f64) {
        self.title(svg, title);
        let (bottom, right) = (self.y + self.height, WIDTH - RIGHT);
        for (share, value) in [(0.0, 0.0), (0.5, top / 2.0), (1.0, top)] {
            let y = bottom - share * self.height;
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(value)
            );
        }
        let step = ceiling(self.span / MOST_TICKS);
        for turn in 0..=(self.span / step + 1e-9) as usize {
            let at = turn as f64 * step;
            let unit = if turn == 0 { " s" } else { "" };
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {bottom:.1}v4\" stroke=\"#333\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10\" fill=\"#555\" text-anchor=\"middle\">{}{unit}</text>",
                bottom + 14.0,
                number(at),
                x = self.x(at)
            );
        }
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#333\"/>",
            self.y
        );
    }

    /// One point per bin; where there is none the line breaks.
    fn curve(&self, svg: &mut String, values: &[Option<f64>], top: f64, bin: f64, colour: &str) {
        let (mut points, mut pen) = (String::new(), 'M');
        for (index, value) in values.iter().enumerate() {
            let Some(value) = value else {
                pen = 'M';
                continue;
            };
            let x = self.x((index as f64 + 0.5) * bin);
            let y = self.y + self.height * (1.0 - (value / top).min(1.0));
            // A point without neighbours is a dot: a line of no length with round ends.
            let dot = if pen == 'M' { "h0" } else { "" };
            let _ = write!(points, "{pen}{x:.1} {y:.1}{dot}");
            pen = 'L';
        }
        let _ = write!(
            svg,
            "<path class=\"curve\" d=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\" \
             stroke-linecap=\"round\" stroke-linejoin=\"round\"/>"
        );
    }

    /// A row of strokes, one per drop; drops that fall onto the same pixel share one.
    fn drops(&self, svg: &mut String, row: usize, cause: &str, drops: &[f64]) {
        let y = self.y + row as f64 * DROP_ROW;
        let mut places: Vec<_> = drops.iter().map(|at| self.x(*at).round() as i64).collect();
        places.sort_unstable();
        places.dedup();
        let mut strokes = String::new();
        for x in places {
            let _ = write!(strokes, "M{x} {:.1}v9", y + 2.0);
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"end\">{} {}</text>\
             <path d=\"{strokes}\" stroke=\"{DROPPED}\"/>",
            LEFT - 6.0,
            y + 10.0,
            escape(cause),
            drops.len()
        );
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at / self.span).min(1.0) * (WIDTH - LEFT - RIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(marks: Vec<Mark>) -> Drawing {
        let curves = |delay| Curves {
            bin: 1.0,
            offered: vec![1.0; 4],
            delivered: vec![1.0; 4],
            queue: vec![0.0; 4],
            delay,
            drops: [("queue-full".into(), vec![1.0, 2.0])].into(),
        };
        let broken = curves(vec![Some(5.0), None, Some(5.0), Some(6.0)]);
        let whole = Curves { drops: std::collections::BTreeMap::new(), ..curves(vec![Some(5.0); 4]) };
        Drawing {
            title: "x & y".into(),
            span: 4.0,
            curves: [(Direction::Up, broken), (Direction::Down, whole)],
            marks,
        }
    }

    fn mark(at: f64, name: &str) -> Mark {
        Mark { at, until: None, direction: None, name: name.into() }
    }

    #[test]
    fn the_drawing_has_a_curve_per_law_and_no_loose_markup() {
        let svg = drawing(vec![mark(0.4, "a<b")]).svg();
        assert_eq!(svg.matches("class=\"curve\"").count(), 8);
        assert!(svg.contains("x &amp; y") && svg.contains("a&lt;b") && !svg.contains("NaN"));
        assert!(
            svg.contains("queue-full 2") && svg.contains("up: 2 drops") && svg.contains("down: no drops")
        );
    }

    #[test]
    fn a_curve_breaks_where_nothing_arrives() {
        let mut svg = String::new();
        let drawing = drawing(Vec::new());
        drawing.panel(0.0, 100.0).curve(&mut svg, &drawing.curves[0].1.delay, 10.0, 1.0, DELIVERED);
        assert_eq!((svg.matches('M').count(), svg.matches('L').count()), (2, 1), "{svg}");
    }

    #[test]
    fn labels_do_not_touch() {
        let drawing =
            drawing(vec![mark(1.0, "udp-block"), mark(1.05, "udp-pass"), mark(3.99, "capacity 1 Mbit/s")]);
        let (labels, left_out) = drawing.labels();
        let rows: Vec<_> = labels.iter().map(|label| label.row).collect();
        assert_eq!((rows, left_out), (vec![0, 1, 0], 0));
        assert!(labels[2].x < WIDTH - 90.0, "it does not run over the edge");
    }

    #[test]
    fn what_lasts_is_shaded_in_its_direction() {
        let hold = |direction| Mark { at: 1.0, until: Some(2.0), direction, name: "hold".into() };
        let shades = |direction| drawing(vec![hold(direction)]).svg().matches(SHADE).count();
        assert_eq!((shades(None), shades(Some(Direction::Down))), (2, 1));
    }
}
