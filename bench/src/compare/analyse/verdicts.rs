//! What becomes of the plan's claims. Pure.

use super::table::Table;
use crate::compare::analysis::{Better, Row, Verdict};
use crate::compare::figures::metrics;
use crate::compare::plan::{Claim, Plan};
use crate::compare::statistics::{direction, estimate, holm, sign_flip};

/// A claim holds if chance would bring the like in at most so many cases, over all claims of the plan.
const LEVEL: f64 = 0.05;

/// Judges every claim on each of its links, and marks the rows that are headlines by it.
pub(super) fn of(plan: &Plan, links: &[String], table: &Table, rows: &mut [Row]) -> Vec<Verdict> {
    let mut cases = Vec::new();
    for claim in &plan.claim {
        let wanted = links.iter().filter(|link| claim.links.is_empty() || claim.links.contains(link));
        cases.extend(wanted.map(|link| (claim, link, gains(claim, link, table))));
    }
    // Claims without a figure count, too: what is claimed in vain makes the others no surer.
    let corrected = holm(&cases.iter().map(|(.., gains)| sign_flip(gains)).collect::<Vec<_>>());
    let mut verdicts = Vec::new();
    for ((claim, link, gains), holm_p) in cases.into_iter().zip(corrected) {
        let holm_p = (!gains.is_empty()).then_some(holm_p);
        let difference = estimate(&gains);
        let points_there = direction(&gains) > 0.0 && difference.is_none_or(|gain| gain.value > 0.0);
        for row in rows.iter_mut().filter(|row| is_headline(row, claim, link, plan)) {
            row.holm_p = holm_p;
        }
        verdicts.push(Verdict {
            claim: words(claim),
            link: link.clone(),
            difference,
            holm_p,
            holds: points_there && holm_p.is_some_and(|p| p <= LEVEL),
        });
    }
    verdicts
}

/// Block by block, by how much the better is better.
fn gains(claim: &Claim, link: &str, table: &Table) -> Vec<f64> {
    let metric = metrics().into_iter().find(|metric| metric.name == claim.metric);
    match metric.map(|metric| metric.better) {
        Some(Better::Higher) => table.differences(link, &claim.metric, &claim.better, &claim.than),
        Some(Better::Lower) => table.differences(link, &claim.metric, &claim.than, &claim.better),
        None => Vec::new(),
    }
}

/// A row shows a difference to the reference: it is a headline where the claim is about that difference.
fn is_headline(row: &Row, claim: &Claim, link: &str, plan: &Plan) -> bool {
    let pair = [&claim.better, &claim.than];
    row.link == link
        && row.metric == claim.metric
        && row.label != plan.reference
        && pair.contains(&&row.label)
        && pair.contains(&&plan.reference)
}

fn words(claim: &Claim) -> String {
    let title = metrics().into_iter().find(|metric| metric.name == claim.metric).map(|metric| metric.title);
    let title = title.unwrap_or_else(|| claim.metric.clone());
    format!("{} is better than {} by: {title}", claim.better, claim.than)
}
