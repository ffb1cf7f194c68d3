//! All figures as CSV: one line per row of the analysis, one column per block.

use super::escape::field;
use super::view::View;
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
        text.push_str(&format!(",block_{block}"));
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
        let never = row.estimate.is_none() && !row.blocks.is_empty();
        fields.extend(three(row.estimate.as_ref(), if never { INFINITE } else { "" }));
        fields.extend(three(row.difference.as_ref(), ""));
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

/// Value and ends.
fn three(estimate: Option<&Estimate>, without: &str) -> [String; 3] {
    estimate.map_or_else(
        || [without.to_owned(), String::new(), String::new()],
        |estimate| [estimate.value, estimate.low, estimate.high].map(number),
    )
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { INFINITE.to_owned() } else { value.to_string() }
}
