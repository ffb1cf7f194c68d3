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

/// Of a title, in a line; and the height of one.
const TITLE_CHARACTERS: usize = 70;
const TITLE_LINE: f64 = 17.0;

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
    /// Shown at once; the others are a step away.
    pub(super) is_main: bool,
    height: f64,
    body: Markup,
}

/// Of one link: headlines, distributions, what is traded for what; then all other figures.
pub(super) fn of_link(view: &View<'_>, link: &str, slug: &str) -> Vec<Drawing> {
    let metrics = view.analysis.metrics.iter().zip(view.metric_slugs());
    let figures =
        metrics.filter_map(|(metric, name)| intervals::draw(view, link, metric, format!("{slug}-{name}")));
    let distributions = view.distributions();
    let curves = distributions.into_iter().filter_map(|of| distribution::draw(view, link, of, slug));
    let (headlines, others): (Vec<_>, Vec<_>) = figures.partition(|drawing| drawing.is_main);
    headlines.into_iter().chain(curves).chain(trade::draw(view, link, slug)).chain(others).collect()
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
        let titles = wrapped(&self.title, TITLE_CHARACTERS);
        let more_title = titles.len().saturating_sub(1) as f64 * TITLE_LINE;
        let height = self.height + more_title;
        let size = format!("0 0 {WIDTH} {}", px(height));
        let named = format!("{title} {description}");
        let mut attributes: Vec<(&str, &dyn std::fmt::Display)> = vec![
            ("class", &"plot"),
            ("role", &"img"),
            ("viewBox", &size),
            ("width", &WIDTH),
            ("height", &height),
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
            for (index, text) in titles.iter().enumerate() {
                words(svg, "title", [8.0, 18.0 + index as f64 * TITLE_LINE], text);
            }
            let move_by = format!("translate(0 {})", px(more_title));
            svg.element("g", &[("transform", &move_by)], |rest| {
                words(rest, "under", [8.0, 34.0], fitted(&self.under, 96));
                rest.append(&self.body);
            });
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

/// Lines of at most so many characters, but for words that are longer.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let fits = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= most;
        match lines.last_mut().filter(fits) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_titles_go_on_in_the_next_line() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""; 0]);
        assert_eq!(fitted("abcdef", 4), "abc…");
    }

    #[test]
    fn places_have_one_digit_at_most() {
        assert_eq!((px(3.0), px(2.04), px(-1.26)), ("3".into(), "2".into(), "-1.3".into()));
    }
}
