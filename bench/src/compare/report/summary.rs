//! The answer: for each headline one table, a row for each subject, a column for each link.

use super::markup::Markup;
use super::numbers::{NONE, Unit};
use super::tables::scrolling;
use super::view::{Standing, View};
use super::words::capital;
use crate::compare::analysis::{Better, Metric, Row};
use crate::compare::bounds::ORACLE;
use crate::compare::plan::FLOOR;

/// All headline tables.
pub(super) fn matrices(page: &mut Markup, view: &View<'_>) {
    let headlines = view.headlines();
    if headlines.is_empty() {
        page.leaf("p", &[], "There is no figure in these results.");
    }
    for metric in headlines {
        matrix(page, view, metric);
    }
}

fn matrix(page: &mut Markup, view: &View<'_>, metric: &Metric) {
    let name = format!("{} on every link", metric.title);
    scrolling(page, &name, |page| {
        page.element("table", &[("class", &"matrix")], |table| {
            // The inner element stays in sight where the table is wider than the screen.
            table.element("caption", &[], |caption| caption.element("span", &[], |text| named(text, metric)));
            table.element("thead", &[], |head| {
                head.element("tr", &[], |row| {
                    row.leaf("th", &[("scope", &"col")], "subject");
                    for link in view.links() {
                        row.leaf("th", &[("scope", &"col")], link);
                    }
                });
            });
            table.element("tbody", &[("class", &"bounds")], |body| {
                for (label, meaning) in [(ORACLE, "best possible"), (FLOOR, "link without files")] {
                    line(body, view, metric, (label, Some(meaning)));
                }
            });
            table.element("tbody", &[], |body| {
                for label in view.contestants() {
                    line(body, view, metric, (label, None));
                }
            });
        });
    });
}

fn named(text: &mut Markup, metric: &Metric) {
    text.leaf("strong", &[], capital(&metric.title));
    text.text(match metric.better {
        Better::Higher => " (higher is better)",
        Better::Lower => " (lower is better)",
    });
}

fn line(body: &mut Markup, view: &View<'_>, metric: &Metric, (label, meaning): (&str, Option<&str>)) {
    body.element("tr", &[], |row| {
        row.element("th", &[("scope", &"row")], |head| {
            head.text(label);
            let is_reference = label == view.analysis.reference;
            if let Some(meaning) = meaning.or(is_reference.then_some("the reference")) {
                head.leaf("small", &[], meaning);
            }
        });
        for link in view.links() {
            cell(row, view, metric, view.row(link, label, &metric.name));
        }
    });
}

fn cell(out: &mut Markup, view: &View<'_>, metric: &Metric, row: Option<&Row>) {
    let Some(row) = row else {
        out.leaf("td", &[], NONE);
        return;
    };
    let standing = view.standing(row, metric);
    let unit = Unit::of(metric);
    let (class, glyph, meaning) = standing.sign();
    out.element("td", &[("class", &class)], |cell| {
        cell.leaf("b", &[], unit.figure(row));
        if !glyph.is_empty() {
            cell.leaf("span", &[("class", &"sign"), ("role", &"img"), ("aria-label", &meaning)], glyph);
        }
        cell.leaf("small", &[], unit.surety(row));
    });
}

impl Standing {
    /// Class, sign and words.
    pub(super) const fn sign(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Better => ("good", "▲", "better than the reference"),
            Self::Worse => ("bad", "▼", "worse than the reference"),
            Self::Open => ("open", "○", "not told apart from the reference"),
            Self::Reference => ("own", "◆", "the reference"),
            Self::Never => ("bad", "✗", "worse than the reference: it never came"),
            Self::Unknown => ("", "", ""),
        }
    }
}
