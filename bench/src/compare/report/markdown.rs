//! The headlines as Markdown, for pages in a repository: claims, then a table per link.

use std::fmt::Write as _;

use super::numbers::{NONE, Unit};
use super::view::{Standing, View};
use super::words;
use crate::compare::analysis::Metric;
use crate::compare::figures::HEADLINES;

/// The whole file.
pub(super) fn whole(view: &View<'_>) -> String {
    let analysis = view.analysis;
    let mut text = format!("# {}\n\n", analysis.title);
    let _ = writeln!(text, "```\n{}\n```\n", analysis.stage.lines());
    let _ = writeln!(
        text,
        "{}\n\n{} runs count, {} were void. Medians of blocks with their 95 % intervals; ▲ better and ▼ worse than {}, where the interval of \
         the difference leaves out zero.\n",
        words::workload(&analysis.workload),
        analysis.valid,
        analysis.void.len(),
        analysis.reference
    );
    claims(view, &mut text);
    let _ = writeln!(text, "## A/A\n\n{}\n", words::control_sentence(view));
    for link in view.links() {
        let _ = writeln!(text, "## {}\n", field(link));
        table(view, link, &mut text);
    }
    text
}

fn claims(view: &View<'_>, text: &mut String) {
    if view.analysis.verdicts.is_empty() {
        return;
    }
    text.push_str("## Claims\n\n| claim | judged | |\n|---|---|---|\n");
    let mut ordered: Vec<_> = view.analysis.verdicts.iter().collect();
    ordered.sort_by_key(|verdict| verdict.holds);
    for verdict in ordered {
        let word = if verdict.holds { "holds" } else { "**does not hold**" };
        let _ = writeln!(
            text,
            "| {} | {} | {word} |",
            field(&verdict.claim),
            field(&words::verdict(view, verdict))
        );
    }
    text.push('\n');
}

/// Subjects and bounds down, headlines across.
fn table(view: &View<'_>, link: &str, text: &mut String) {
    let is_here = |metric: &&Metric| {
        view.analysis.labels.iter().any(|(label, _)| view.row(link, label, &metric.name).is_some())
    };
    let short: Vec<_> = HEADLINES.iter().filter_map(|name| view.metric(name)).filter(is_here).collect();
    let metrics = if short.is_empty() { view.headlines() } else { short };
    let names = metrics.iter().map(|metric| field(&metric.name)).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(text, "| | {names} |\n|---|{}", "---|".repeat(metrics.len()));
    for (label, _) in &view.analysis.labels {
        let figures =
            metrics.iter().map(|metric| figure(view, link, label, metric)).collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| {} | {figures} |", field(label));
    }
    text.push('\n');
}

fn figure(view: &View<'_>, link: &str, label: &str, metric: &Metric) -> String {
    let Some(row) = view.row(link, label, &metric.name) else { return NONE.to_owned() };
    let (unit, surety) = (Unit::of(metric), Unit::of(metric).surety(row));
    let mark = match view.standing(row, metric) {
        Standing::Better => " ▲",
        Standing::Worse | Standing::Never => " ▼",
        Standing::Open | Standing::Reference | Standing::Unknown => "",
    };
    let sure = if surety.is_empty() { surety } else { format!(" ({surety})") };
    field(&format!("{}{sure}{mark}", unit.figure(row)))
}

/// A text in a cell of a table: what Markdown would read in it is written out.
fn field(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '<' | '[' => safe.extend(['\\', c]),
            '\n' | '\r' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
