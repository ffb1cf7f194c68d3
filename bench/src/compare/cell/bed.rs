//! The link of a cell.

use anyhow::{Context as _, Result};
use carriageway_netem::digest::sha256;
use carriageway_netem::profile::{Scenario, read_trace};
use carriageway_netem::testbed::Config;
use serde_json::{Value, json};

use super::spec::{Link, Spec};

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

pub(super) fn config(spec: &Spec) -> Result<Config> {
    // Each vehicle's wires are seeded by their number: weather of its own, the same for all subjects of a block.
    let vehicles = spec.workload.vehicles.into();
    let mut config = Config::scenario(scenario(&spec.link)?).seed(spec.seed).vehicles(vehicles);
    config.realtime = spec.realtime;
    config.late_once = spec.late_once();
    Ok(config)
}

/// Of all that decides what the link does: its laws, its seed, its events. The fate of a packet follows from these and from the
/// moment at which it is sent, so two runs with the same digest had the same weather.
pub(in crate::compare) fn digest(link: &Link, seed: u64, report: &Value) -> String {
    // As planned: what the director has come to by now is no matter of the link.
    let [paths, events] = ["paths", "events"].map(|what| &report["experiment"][what]);
    let whole = json!({ "link": link.name, "seed": seed, "paths": paths, "events": events });
    sha256([whole.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_law_or_another_event_is_another_link() {
        let link = Link { name: "l".into(), profile: "clean".into(), trace: None };
        let report = |delay: u32, at: u32| {
            let paths = json!([{ "up": { "delay_us": delay } }]);
            json!({ "experiment": { "paths": paths, "events": [{ "at_us": at }] }, "took_us": delay + at })
        };
        let of = |seed, delay, at| digest(&link, seed, &report(delay, at));
        let changed = [of(1, 5, 5), of(2, 5, 5), of(1, 6, 5), of(1, 5, 6)];
        assert!((1..4).all(|other| changed[0] != changed[other]), "{changed:?}");
        let mut later = report(5, 5);
        later["took_us"] = json!(99);
        assert_eq!(changed[0], digest(&link, 1, &later));
    }
}
