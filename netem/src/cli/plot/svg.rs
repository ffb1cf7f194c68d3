//! The drawing: per direction rate, queue and delay over time, and a mark for every drop.

use std::fmt::Write;

use carriageway_netem::core::Direction;

use super::samples::{End, Mark, Sample};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const PANEL: f64 = 120.0;
const GAP: f64 = 34.0;
const PANELS_PER_DIRECTION: usize = 3;
/// Points along the time axis.
const BINS: usize = 300;

/// Colours that are told apart without red and green.
const OFFERED: &str = "#9aa5b1";
const DELIVERED: &str = "#0b6e99";
const DROPPED: &str = "#c2410c";

/// A place in the drawing with a scale.
struct Panel {
    y: f64,
    span: f64,
    top: f64,
}

/// The whole SVG.
pub(super) fn draw(title: &str, samples: &[Sample], marks: &[Mark]) -> String {
    let span = samples.iter().map(end_of).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + (PANEL + GAP) * (2 * PANELS_PER_DIRECTION) as f64;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>",
        escape(title)
    );
    for (index, direction) in Direction::BOTH.into_iter().enumerate() {
        let chosen: Vec<_> = samples.iter().copied().filter(|sample| sample.direction == direction).collect();
        let y = TOP + (PANEL + GAP) * (index * PANELS_PER_DIRECTION) as f64;
        direction_panels(&mut svg, direction, &chosen, span, y);
    }
    for mark in marks {
        let x = LEFT + mark.at / span * (WIDTH - LEFT - RIGHT);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"#555\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{x:.1}\" y=\"48\" font-size=\"10\" fill=\"#555\">{}</text>",
            escape(&mark.name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn direction_panels(svg: &mut String, direction: Direction, samples: &[Sample], span: f64, y: f64) {
    let bin = span / BINS as f64;
    let (mut offered, mut delivered) = (vec![0.0; BINS], vec![0.0; BINS]);
    let (mut queue, mut delay) = (vec![0.0_f64; BINS], vec![0.0_f64; BINS]);
    let mut drops = Vec::new();
    let slot = |at: f64| ((at / bin) as usize).min(BINS - 1);
    for sample in samples {
        let megabits = f64::from(sample.bytes) * 8e-6 / bin;
        offered[slot(sample.offered)] += megabits;
        match sample.end {
            End::Dropped { at } => drops.push(at),
            End::Delivered { left, due } => {
                delivered[slot(due)] += megabits;
                let (waited, took) = ((left - sample.offered) * 1e3, (due - sample.offered) * 1e3);
                queue[slot(sample.offered)] = queue[slot(sample.offered)].max(waited);
                delay[slot(sample.offered)] = delay[slot(sample.offered)].max(took);
            }
        }
    }
    let name = direction.name();
    let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let rate = Panel { y, span, top: nice(highest(&offered).max(highest(&delivered))) };
    rate.frame(svg, &format!("{name}: offered (grey) and delivered, Mbit/s"));
    rate.line(svg, &offered, OFFERED);
    rate.line(svg, &delivered, DELIVERED);
    rate.ticks(svg, &drops);
    let waiting = Panel { y: y + PANEL + GAP, span, top: nice(highest(&queue)) };
    waiting.frame(svg, &format!("{name}: longest wait for the link, ms"));
    waiting.line(svg, &queue, DELIVERED);
    let taking = Panel { y: y + 2.0 * (PANEL + GAP), span, top: nice(highest(&delay)) };
    taking.frame(svg, &format!("{name}: longest one-way delay, ms; drops below the axis ({})", drops.len()));
    taking.line(svg, &delay, DELIVERED);
    taking.ticks(svg, &drops);
}

impl Panel {
    fn frame(&self, svg: &mut String, title: &str) {
        let (bottom, right) = (self.y + PANEL, WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>\
             <path d=\"M{LEFT} {:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#333\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{:.1}\" y=\"{bottom:.1}\" text-anchor=\"end\">0</text>\
             <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{:.1} s</text>",
            self.y - 6.0,
            escape(title),
            self.y,
            LEFT - 6.0,
            self.y + 10.0,
            self.top,
            LEFT - 6.0,
            bottom + 20.0,
            self.span
        );
    }

    /// One point per bin.
    fn line(&self, svg: &mut String, values: &[f64], colour: &str) {
        let mut points = String::new();
        for (index, value) in values.iter().enumerate() {
            let x = self.x((index as f64 + 0.5) / BINS as f64 * self.span);
            let y = self.y + PANEL * (1.0 - (value / self.top).min(1.0));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let _ = write!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", points.trim_end());
    }

    /// One stroke per drop, below the axis; drops that fall onto the same pixel share one.
    fn ticks(&self, svg: &mut String, drops: &[f64]) {
        let mut places: Vec<_> = drops.iter().map(|at| self.x(*at).round() as i64).collect();
        places.sort_unstable();
        places.dedup();
        let bottom = self.y + PANEL;
        let mut strokes = String::new();
        for x in places {
            let _ = write!(strokes, "M{x} {:.1}v7", bottom + 1.0);
        }
        let _ = write!(svg, "<path d=\"{strokes}\" stroke=\"{DROPPED}\"/>");
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.span * (WIDTH - LEFT - RIGHT)
    }
}

fn end_of(sample: &Sample) -> f64 {
    match sample.end {
        End::Delivered { due, .. } => due,
        End::Dropped { at } => at,
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_a_line_per_panel_and_no_loose_markup() {
        let sample = |direction, end| Sample { direction, offered: 0.5, bytes: 1500, end };
        let samples = [
            sample(Direction::Up, End::Delivered { left: 0.6, due: 0.7 }),
            sample(Direction::Down, End::Dropped { at: 0.9 }),
        ];
        let marks = [Mark { at: 0.4, name: "a<b".into() }];
        let svg = draw("x & y", &samples, &marks);
        assert_eq!(svg.matches("<polyline").count(), 8);
        assert!(svg.contains("x &amp; y") && svg.contains("a&lt;b") && !svg.contains("NaN"));
        assert!((nice(0.13) - 0.2).abs() < 1e-9);
        assert!((nice(0.0) - 1.0).abs() < 1e-9);
    }
}
