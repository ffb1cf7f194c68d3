//! The link of a cell.

use anyhow::{Context as _, Result};
use carriageway_netem::digest::sha256;
use carriageway_netem::profile::{Scenario, read_trace};
use carriageway_netem::testbed::Config;
use serde_json::{Value, json};

use super::spec::Link;

/// The scenario that a link names, with its traces in place.
pub(in crate::compare) fn scenario(link: &Link) -> Result<Scenario> {
    let mut scenario = Scenario::find(&link.profile)?;
    if let Some([up, down]) = &link.trace {
        let (up, down) = (read_trace(up).context("trace")?, read_trace(down).context("trace")?);
        for path in &mut scenario.paths {
            path.profile = path.profile.clone().with_traces(up.clone(), down.clone());
        }
    }
    Ok(scenario)
}

pub(super) fn config(link: &Link, seed: u64, realtime: bool) -> Result<Config> {
    let mut config = Config::scenario(scenario(link)?).seed(seed);
    config.realtime = realtime;
    Ok(config)
}

/// Of all that decides what the link does: its laws, its seed, its events. The fate of a packet follows from these and from the
/// moment at which it is sent, so two runs with the same digest had the same weather.
pub(in crate::compare) fn digest(link: &Link, seed: u64, report: &Value) -> String {
    let events = report["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let planned: Vec<_> = events.iter().map(|event| json!([event["what"], event["planned_us"]])).collect();
    let whole = json!({ "link": link.name, "seed": seed, "paths": report["paths"], "events": planned });
    sha256([whole.to_string()])
}
