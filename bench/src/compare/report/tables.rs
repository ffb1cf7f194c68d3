//! Tables: claims, the control, every figure, void runs, remarks, configuration.

use super::markup::Markup;
use super::numbers::{NONE, Unit, probability};
use super::view::{View, median};
use super::words::{self, capital, plural};
use crate::compare::analysis::{Row, Verdict};
use crate::compare::plan::CONTROL;
use crate::compare::workload::Manner;

/// A place that scrolls on its own where the screen is narrow, also by keyboard.
pub(super) fn scrolling(page: &mut Markup, name: &str, inside: impl FnOnce(&mut Markup)) {
    let attributes: super::markup::Attributes<'_> =
        &[("class", &"scroll"), ("role", &"region"), ("tabindex", &"0"), ("aria-label", &name)];
    page.element("div", attributes, inside);
}

/// A table from texts.
fn table(page: &mut Markup, name: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    scrolling(page, name, |page| {
        page.element("table", &[], |table| {
            heads(table, head);
            table.element("tbody", &[], |body| {
                for row in rows {
                    body.element("tr", &[], |line| row.iter().for_each(|text| line.leaf("td", &[], text)));
                }
            });
        });
    });
}

fn heads(table: &mut Markup, names: &[&str]) {
    table.element("thead", &[], |head| {
        head.element("tr", &[], |row| {
            for name in names {
                row.leaf("th", &[("scope", &"col")], name);
            }
        });
    });
}

/// Claims, those that do not hold first.
pub(super) fn claims(page: &mut Markup, view: &View<'_>) {
    let verdicts = &view.analysis.verdicts;
    if verdicts.is_empty() {
        page.leaf("p", &[], "The plan claims nothing.");
        return;
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    let held = verdicts.len() - failed;
    page.leaf(
        "p",
        &[("class", &"lead")],
        format!(
            "Of {} claim{}, {failed} {} not hold, {held} {}. They were written into the plan before any run; a claim holds where the differences within blocks point as claimed and chance would bring the like in at most 5 of 100 cases: p of the sign-flip test, after Holm's correction over all of them.",
            verdicts.len(),
            plural(verdicts.len()),
            if failed == 1 { "does" } else { "do" },
            if held == 1 { "does" } else { "do" },
        ),
    );
    let mut ordered: Vec<_> = verdicts.iter().collect();
    ordered.sort_by_key(|verdict| verdict.holds);
    page.element("ul", &[("class", &"claims")], |list| {
        for verdict in ordered {
            claim(list, view, verdict);
        }
    });
}

fn claim(list: &mut Markup, view: &View<'_>, verdict: &Verdict) {
    let (class, word) = if verdict.holds { ("holds", "✓ HOLDS") } else { ("fails", "✗ DOES NOT HOLD") };
    list.element("li", &[("class", &class)], |item| {
        item.leaf("strong", &[("class", &"verdict")], word);
        item.element("div", &[], |text| {
            text.leaf("span", &[("class", &"claim")], &verdict.claim);
            text.leaf("small", &[], words::verdict(view, verdict));
        });
    });
}

/// The control: a row for each figure, those that do not cover 0 named first.
pub(super) fn control(page: &mut Markup, view: &View<'_>) {
    let (count, apart) = words::control(view);
    page.leaf("p", &[("class", &"lead")], words::control_sentence(view));
    if count == 0 {
        return;
    }
    if !apart.is_empty() {
        page.leaf("p", &[], "Not covering 0:");
        page.element("ul", &[], |list| {
            for row in &apart {
                list.leaf("li", &[("class", &"bad")], apart_words(view, row));
            }
        });
    }
    scrolling(page, "A/A control by figure and link", |page| {
        page.element("table", &[("class", &"matrix")], |table| {
            let names: Vec<_> = ["figure"].into_iter().chain(view.links()).collect();
            heads(table, &names);
            table.element("tbody", &[], |body| {
                view.analysis.metrics.iter().for_each(|metric| {
                    body.element("tr", &[], |line| {
                        line.leaf("th", &[("scope", &"row")], capital(&metric.title));
                        let rows = view.links().map(|link| view.row(link, CONTROL, &metric.name));
                        rows.for_each(|row| control_cell(line, row, Unit::of(metric)));
                    });
                });
            });
        });
    });
}

fn apart_words(view: &View<'_>, row: &Row) -> String {
    let metric = view.metric(&row.metric);
    let unit = metric.map_or(Unit::unknown(), Unit::of);
    let title = metric.map_or(row.metric.as_str(), |metric| &metric.title);
    let interval = row.difference.as_ref().map(|difference| unit.difference_interval(difference));
    format!("{}, {title}: {}", row.link, interval.unwrap_or_default())
}

fn control_cell(line: &mut Markup, row: Option<&Row>, unit: Unit<'_>) {
    let Some(difference) = row.and_then(|row| row.difference.as_ref()) else {
        line.leaf("td", &[], NONE);
        return;
    };
    let covers = difference.low <= 0.0 && difference.high >= 0.0;
    let (class, word) = if covers { ("open", "✓ covers 0") } else { ("bad", "✗ does not") };
    line.element("td", &[("class", &class)], |cell| {
        cell.leaf("b", &[], word);
        cell.leaf(
            "small",
            &[],
            format!("{} {}", unit.difference_interval(difference), unit.difference_name()),
        );
    });
}

/// Every row of the analysis.
pub(super) fn everything(page: &mut Markup, view: &View<'_>) {
    const HEAD: [&str; 9] = [
        "link",
        "label",
        "figure",
        "median",
        "95 % interval",
        "minus reference",
        "95 % interval",
        "p (Holm)",
        "blocks",
    ];
    scrolling(page, "All figures", |page| {
        page.element("table", &[("id", &"all-figures"), ("class", &"all")], |table| {
            heads(table, &HEAD);
            table.element("tbody", &[], |body| {
                view.analysis.rows.iter().for_each(|row| every(body, view, row));
            });
        });
    });
}

fn every(body: &mut Markup, view: &View<'_>, row: &Row) {
    let metric = view.metric(&row.metric);
    let unit = metric.map_or(Unit::unknown(), Unit::of);
    let (class, glyph, meaning) = metric.map_or(("", "", ""), |metric| view.standing(row, metric).sign());
    body.element("tr", &[], |line| {
        line.leaf("td", &[], &row.link);
        line.leaf("td", &[], &row.label);
        line.leaf(
            "td",
            &[("title", &row.metric)],
            metric.map_or(row.metric.as_str(), |metric| &metric.title),
        );
        let value = median(row).unwrap_or(f64::INFINITY);
        line.leaf("td", &[("class", &"n"), ("data-value", &value)], unit.figure(row));
        line.leaf("td", &[("class", &"n")], unit.surety(row));
        let difference = row.difference.as_ref();
        let by = difference.map_or(f64::INFINITY, |difference| difference.value);
        line.element("td", &[("class", &format!("n {class}")), ("data-value", &by)], |cell| {
            cell.text(difference.map_or_else(|| NONE.to_owned(), |difference| unit.difference(difference)));
            if difference.is_some() && !glyph.is_empty() {
                cell.leaf("span", &[("class", &"sign"), ("role", &"img"), ("aria-label", &meaning)], glyph);
            }
        });
        let interval = difference.map(|difference| unit.difference_interval(difference));
        line.leaf("td", &[("class", &"n")], interval.unwrap_or_default());
        line.leaf("td", &[("class", &"n")], row.holm_p.map(probability).unwrap_or_default());
        line.leaf("td", &[("class", &"n")], blocks(row));
    });
}

/// How many, and how many of them never came.
fn blocks(row: &Row) -> String {
    let never = row.blocks.iter().filter(|(_, value)| value.is_none()).count();
    if never == 0 { row.blocks.len().to_string() } else { format!("{}, {never} never", row.blocks.len()) }
}

/// Runs that do not count, and why.
pub(super) fn void(page: &mut Markup, view: &View<'_>) {
    let void = &view.analysis.void;
    page.leaf("p", &[], format!("{} runs count, {} were void.", view.analysis.valid, void.len()));
    if void.is_empty() {
        return;
    }
    let rows = void.iter().map(|(cell, faults)| vec![cell.clone(), faults.join("; ")]);
    table(page, "Void runs", &["run", "why it does not count"], rows);
}

/// What subjects said, and what went wrong with them.
pub(super) fn remarks(page: &mut Markup, view: &View<'_>) {
    let remarks = &view.analysis.remarks;
    if remarks.is_empty() {
        page.leaf("p", &[], "No subject remarked anything, and none failed.");
        return;
    }
    let rows = remarks.iter().map(|(label, link, words)| vec![label.clone(), link.clone(), words.clone()]);
    table(page, "Remarks", &["subject", "link", "remark"], rows);
}

/// What each label is.
pub(super) fn configuration(page: &mut Markup, view: &View<'_>) {
    if view.analysis.labels.is_empty() {
        page.leaf("p", &[], "No run counted, so nothing is known of the subjects.");
        return;
    }
    let rows = view.analysis.labels.iter().map(|(label, facts)| {
        let manner = match facts.manner {
            Manner::AsTheyCome => "all in one queue, as they come",
            Manner::NewestFirst => "of a state only the newest; it goes first, then commands by class",
        };
        vec![
            label.clone(),
            facts.title.clone(),
            facts.version.clone(),
            facts.setup.clone(),
            manner.to_owned(),
        ]
    });
    let head = ["label", "what it is", "version", "setup, where not its default", "how messages wait for it"];
    table(page, "Subjects and their configuration", &head, rows);
}

/// The digest of every link in every block.
pub(super) fn digests(page: &mut Markup, view: &View<'_>) {
    let rows = view.analysis.links.iter().flat_map(|(link, digests)| {
        digests
            .iter()
            .enumerate()
            .map(move |(index, digest)| vec![link.clone(), (index + 1).to_string(), digest.clone()])
    });
    table(page, "Digests of links", &["link", "block", "SHA-256 of its laws, seed and planned events"], rows);
}
