//! What a vehicle really did.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

/// How often each (path, value) was handed to the actuators, over every run of the vehicle, from the
/// line that the agent logs before it does so.
pub(crate) fn effects(log: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let applied = lines.filter(|line| line["fields"]["message"] == "applying");
    applied
        .map(|line| {
            let field = |name: &str| line["fields"][name].as_str().unwrap().to_owned();
            (field("path"), field("value").parse().unwrap_or(f64::NAN))
        })
        .collect()
}
