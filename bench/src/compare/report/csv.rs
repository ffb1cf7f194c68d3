//! All figures as CSV: one line per row of the analysis, one column per block.

use std::fmt::Write as _;

use super::escape::field;
use super::view::{View, median};
use crate::compare::analysis::{Better, Estimate};

/// How an infinite figure is written: most readers of CSV know it as a number.
const INFINITE: &str = "inf";

/// The whole file, with a header.
pub(super) fn rows(view: &View<'_>) -> String {
    let blocks = view.blocks();
    let header =
        "link,label,metric,title,unit,better,value,low,high,difference,difference_low,difference_high,holm_p";
    let mut text = header.to_owned();
    for block in &blocks {
        let _ = write!(text, ",block_{block}");
    }
    text.push('\n');
    for row in &view.analysis.rows {
        let metric = view.metric(&row.metric);
        let better = metric.map_or("", |metric| match metric.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        });
        let (title, unit) = metric.map_or(("", ""), |metric| (&metric.title, &metric.unit));
        let mut fields: Vec<_> =
            [&row.link, &row.label, &row.metric, title, unit, better].into_iter().map(field).collect();
        fields.push(median(row).map_or_else(String::new, number));
        fields.extend(ends(row.estimate.as_ref()));
        let difference = row.difference.as_ref();
        fields.push(difference.map_or_else(String::new, |difference| number(difference.value)));
        fields.extend(ends(difference));
        fields.push(row.holm_p.map_or_else(String::new, number));
        for block in &blocks {
            let found = row.blocks.iter().find(|(number, _)| number == block);
            fields.push(found.map_or_else(String::new, |(_, value)| value.map_or(INFINITE.into(), number)));
        }
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}

/// Of its interval.
fn ends(estimate: Option<&Estimate>) -> [String; 2] {
    estimate.map_or_else(Default::default, |estimate| [estimate.low, estimate.high].map(number))
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { INFINITE.to_owned() } else { value.to_string() }
}
