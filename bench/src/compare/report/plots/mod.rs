//! The drawings: each stands in the page and in a file of its own.

mod distribution;
mod frame;
mod intervals;
mod look;
mod scale;
mod trade;

use super::markup::Markup;
use super::view::View;

/// Follows the reader's light or dark theme.
pub(super) const STYLE: &str = include_str!("plot.css");

/// All drawings have this width: two fit beside each other on a wide screen.
const WIDTH: f64 = 560.0;

/// Width of a character at 12 pixels, a little more than on average.
const CHARACTER: f64 = 6.5;

/// A drawing.
pub(super) struct Drawing {
    /// Fit for a file and an anchor; of its own on the page.
    pub(super) name: String,
    /// Said to those who do not see it, and drawn above it.
    title: String,
    /// What it shows, in words; the first part of it is drawn below the title.
    under: String,
    /// What is in it, in words.
    description: String,
    height: f64,
    body: Markup,
}

/// Of one link: figure by figure, then distributions, then what is traded for what.
pub(super) fn of_link(view: &View<'_>, link: &str, slug: &str) -> Vec<Drawing> {
    let metrics = view.analysis.metrics.iter().zip(view.metric_slugs());
    let figures =
        metrics.filter_map(|(metric, name)| intervals::draw(view, link, metric, format!("{slug}-{name}")));
    let distributions = view.distributions();
    let curves = distributions.into_iter().filter_map(|of| distribution::draw(view, link, of, slug));
    figures.chain(curves).chain(trade::draw(view, link, slug)).collect()
}

impl Drawing {
    /// As a part of the page, which has the style.
    pub(super) fn within(&self, page: &mut Markup) {
        self.svg(page, &[], None);
    }

    /// As a file.
    pub(super) fn file(&self) -> String {
        let mut svg = Markup::default();
        self.svg(&mut svg, &[("xmlns", &"http://www.w3.org/2000/svg")], Some(STYLE));
        svg.into_text() + "\n"
    }

    fn svg(&self, out: &mut Markup, more: super::markup::Attributes<'_>, style: Option<&str>) {
        let (title, description) = (format!("t-{}", self.name), format!("d-{}", self.name));
        let size = format!("0 0 {WIDTH} {}", px(self.height));
        let named = format!("{title} {description}");
        let mut attributes: Vec<(&str, &dyn std::fmt::Display)> = vec![
            ("class", &"plot"),
            ("role", &"img"),
            ("viewBox", &size),
            ("width", &WIDTH),
            ("height", &self.height),
            ("aria-labelledby", &named),
        ];
        attributes.extend_from_slice(more);
        out.element("svg", &attributes, |svg| {
            svg.leaf("title", &[("id", &title)], &self.title);
            svg.leaf("desc", &[("id", &description)], format!("{}. {}", self.under, self.description));
            if let Some(style) = style {
                svg.element("style", &[], |inside| inside.verbatim(style));
                svg.empty("rect", &[("class", &"paper"), ("width", &"100%"), ("height", &"100%")]);
            }
            svg.leaf("text", &[("class", &"title"), ("x", &"8"), ("y", &"18")], fitted(&self.title, 82));
            svg.leaf("text", &[("class", &"under"), ("x", &"8"), ("y", &"34")], fitted(&self.under, 100));
            svg.append(&self.body);
        });
    }
}

/// A length in a drawing.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// At most so many characters.
fn fitted(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A text at a place.
fn words(svg: &mut Markup, class: &str, [x, y]: [f64; 2], text: impl std::fmt::Display) {
    svg.leaf("text", &[("class", &class), ("x", &px(x)), ("y", &px(y))], text);
}

/// A line from place to place.
fn line(svg: &mut Markup, class: &str, [x, y]: [f64; 2], [to_x, to_y]: [f64; 2]) {
    let path = format!("M{} {}L{} {}", px(x), px(y), px(to_x), px(to_y));
    svg.empty("path", &[("class", &class), ("d", &path)]);
}
