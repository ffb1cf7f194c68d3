//! What became of the gateway's records: gone, stuck, or otherwise than was shown.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

use super::operators::Asked;

/// Records that are not in the end as they have to be, each in words.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Answered with, and not known in the end.
    pub(super) lost: Vec<String>,
    /// Known, and not at an end long after each should be.
    pub(super) stuck: Vec<String>,
    /// Shown with a step that is on the disk, and without that step in the end.
    pub(super) contradicted: Vec<String>,
}

impl Records {
    /// Holds the records in the end against every answer.
    pub(super) fn of(asked: &[Asked]) -> Result<Self> {
        let mut records = Self::default();
        for one in asked {
            let name = |id: &str| format!("{} of {}, record {id}", one.key, one.vehicle);
            for id in one.ids() {
                match one.records.get(id) {
                    None => records.lost.push(name(id)),
                    Some(record) if record["terminal"] != true => {
                        records.stuck.push(format!("{} is {}", name(id), phase(record)));
                    }
                    Some(_) => {}
                }
            }
            let mut contradicted = BTreeSet::new();
            for (id, shown) in one.shown() {
                let Some(record) = one.records.get(id) else { continue };
                contradicted.extend(missing(shown, record)?.into_iter().map(|shown| {
                    format!("{} was shown {shown} on disk and is {} without that", name(id), phase(record))
                }));
            }
            records.contradicted.extend(contradicted);
        }
        Ok(records)
    }
}

fn phase(record: &Json) -> &str {
    record["phase"].as_str().unwrap_or("nowhere")
}

/// Phases that were `shown` as being on the disk and are not in `record`, by name.
fn missing<'a>(shown: &'a Json, record: &Json) -> Result<Vec<&'a str>> {
    let steps = |of: &'a Json| of["timeline"].as_array().context("a record without a timeline");
    let kept = record["timeline"].as_array().context("a record without a timeline")?;
    let is_missing =
        |step: &&Json| step["durable"] == true && !kept.iter().any(|kept| kept["phase"] == step["phase"]);
    let missing = steps(shown)?.iter().filter(is_missing);
    Ok(missing.filter_map(|step| step["phase"].as_str()).collect())
}
