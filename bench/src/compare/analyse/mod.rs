//! From a folder of results to what a report says.

mod cells;
mod curves;
mod table;
mod verdicts;

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::analysis::{Analysis, Metric};
use super::bounds::{self, ORACLE};
use super::cell::{Outcome, Spec};
use super::figures::{self, Run};
use super::plan::{CONTROL, FLOOR, Plan};
use super::subjects::Facts;
use cells::Cells;
use curves::Pools;
use table::Table;

/// What was said: label, link, words. Of the results as a whole, label and link are empty.
type Remark = (String, String, String);

/// Reads the plan and the cells of `folder`. Cells that cannot be read are named among the remarks; fails where none can.
pub fn analyse(folder: &Path) -> Result<Analysis> {
    let path = folder.join("plan.toml");
    let text = fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}; is this a folder that a plan was run into?", path.display())
    })?;
    let plan: Plan = toml::from_str(&text).with_context(|| format!("{} is no plan", path.display()))?;
    let cells = Cells::read(&folder.join("cells"), &plan)?;
    let mut remarks = cells.remarks.clone();
    let (mut table, mut pools) = (Table::default(), Pools::default());
    let is_loaded = plan.workload.log || plan.workload.map;
    let mut valid = Vec::new();
    for outcome in &cells.valid {
        match super::cell::read_samples(&outcome.spec.samples_in(&folder.join("cells"))) {
            Ok(heard) => {
                let run = Run::new(&outcome.spec.workload, outcome.spec.seed, is_loaded, &heard);
                table.add(&outcome.spec, &outcome.spec.label, run.figures_with_cost(outcome));
                pools.add(&outcome.spec.link.name, &outcome.spec.label, &run);
                remarks.extend(said(outcome, &run));
                valid.push(outcome);
            }
            Err(error) => remarks.push((String::new(), String::new(), format!("left out: {error:#}"))),
        }
    }
    remarks.extend(oracle(&plan, &valid, is_loaded, &mut table, &mut pools));
    let labels = labels(&plan, &valid, &table);
    let links = links(&plan, &valid);
    let metrics: Vec<_> = figures::metrics().into_iter().filter(|metric| table.has(&metric.name)).collect();
    let names = |list: &[(String, _)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let link_names: Vec<_> = links.iter().map(|(name, _)| name.clone()).collect();
    let mut rows = table.rows(&link_names, &metrics, &names(&labels), &plan.reference);
    let verdicts = verdicts::of(&plan, &link_names, &table, &mut rows);
    remarks.extend(unknown_metrics(&plan));
    Ok(Analysis {
        title: plan.title.clone(),
        plan: text,
        stage: cells.stage,
        workload: plan.workload,
        reference: plan.reference,
        curves: pools.curves(&link_names, &names(&labels)),
        labels,
        links,
        metrics,
        rows,
        verdicts,
        valid: valid.len(),
        void: cells.void,
        remarks: once(remarks),
    })
}

/// What a run says of itself, and what went wrong with it.
fn said(outcome: &Outcome, run: &Run<'_>) -> Vec<Remark> {
    let mut words = outcome.notes.clone();
    words.extend(outcome.failures.clone());
    if outcome.connected_ms.is_none() {
        words.push("was not connected when the workload began".into());
    }
    for (end, shed) in ["vehicle", "gateway"].iter().zip(&outcome.shed) {
        if shed.overflowed > 0 {
            words.push(format!("{} messages found no room to wait at the {end}", shed.overflowed));
        }
    }
    let never_due = run.never_due();
    if never_due > 0 {
        words.push(format!("{never_due} messages arrived that were never due"));
    }
    let Spec { label, link, .. } = &outcome.spec;
    words.into_iter().map(|words| (label.clone(), link.name.clone(), words)).collect()
}

/// Adds what no sender beats, once per link and block.
fn oracle(
    plan: &Plan,
    valid: &[&Outcome],
    is_loaded: bool,
    table: &mut Table,
    pools: &mut Pools,
) -> Vec<Remark> {
    let cells: BTreeMap<_, _> =
        valid.iter().map(|outcome| ((&outcome.spec.link.name, outcome.spec.block), &outcome.spec)).collect();
    let mut remarks = Vec::new();
    for ((link, _), spec) in cells {
        let spec = Spec { workload: plan.workload.without_files(), ..spec.clone() };
        match bounds::soonest(&spec) {
            Ok(heard) => {
                let run = Run::new(&spec.workload, spec.seed, is_loaded, &heard);
                table.add(&spec, ORACLE, run.figures());
                pools.add(link, ORACLE, &run);
            }
            Err(error) => remarks.push((ORACLE.to_owned(), link.clone(), format!("left out: {error:#}"))),
        }
    }
    remarks
}

/// In the plan's order, the control behind its reference, bounds last.
fn labels(plan: &Plan, valid: &[&Outcome], table: &Table) -> Vec<(String, Facts)> {
    let mut order = Vec::new();
    for subject in &plan.subjects {
        order.push(subject.as_str());
        if *subject == plan.reference {
            order.push(CONTROL);
        }
    }
    order.push(FLOOR);
    let rank = |label: &str| order.iter().position(|other| *other == label).unwrap_or(order.len());
    let facts: BTreeMap<_, _> = valid.iter().map(|outcome| (&outcome.spec.label, &outcome.facts)).collect();
    let mut labels: Vec<_> =
        facts.into_iter().map(|(label, facts)| (label.clone(), named(label, facts))).collect();
    labels.sort_by_key(|(label, _)| rank(label));
    if table.has_label(ORACLE) {
        labels.push((ORACLE.to_owned(), bounds::facts()));
    }
    labels
}

fn named(label: &str, facts: &Facts) -> Facts {
    let title = match label {
        CONTROL => format!("{}, a second time", facts.title),
        FLOOR => format!("{}, without files", facts.title),
        _ => facts.title.clone(),
    };
    Facts { title, ..facts.clone() }
}

/// In the plan's order, each with its digest of every block; empty where nothing of a block counts.
fn links(plan: &Plan, valid: &[&Outcome]) -> Vec<(String, Vec<String>)> {
    let digests: BTreeMap<_, _> = valid
        .iter()
        .map(|outcome| ((outcome.spec.link.name.as_str(), outcome.spec.block), outcome.link_sha256.clone()))
        .collect();
    let mut names: Vec<_> = plan.link.iter().map(|link| link.name().to_owned()).collect();
    for (name, _) in digests.keys() {
        if !names.iter().any(|other| other == name) {
            names.push((*name).to_owned());
        }
    }
    // An outcome of another block is none of this plan's.
    let last = digests.keys().map(|(_, block)| *block).max().unwrap_or_default().min(plan.blocks);
    let of = |name: &str| {
        let digest = |block| digests.get(&(name, block)).cloned().unwrap_or_default();
        (1..=last).map(digest).collect()
    };
    names
        .into_iter()
        .map(|name| {
            let digests = of(&name);
            (name, digests)
        })
        .collect()
}

fn unknown_metrics(plan: &Plan) -> Vec<Remark> {
    let known: BTreeSet<_> = figures::metrics().into_iter().map(|Metric { name, .. }| name).collect();
    let unknown = plan.claim.iter().filter(|claim| !known.contains(&claim.metric));
    let say = |name: &str| {
        (String::new(), String::new(), format!("the plan claims by {name:?}: there is no such metric"))
    };
    unknown.map(|claim| say(&claim.metric)).collect()
}

/// Each once, in the order of their first.
fn once(remarks: Vec<Remark>) -> Vec<Remark> {
    let mut seen = BTreeSet::new();
    remarks.into_iter().filter(|remark| seen.insert(remark.clone())).collect()
}
