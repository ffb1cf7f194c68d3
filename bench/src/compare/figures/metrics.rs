//! The one table of all figures.

use super::{COMPLETE, ON_TIME, STALE, UNDER_LOAD};
use crate::compare::analysis::{Better, Metric};
use crate::compare::workload::Kind;

/// What there is of several vehicles alone.
pub const OF_FLEETS: [&str; 3] =
    ["control-on-time-100-worst-vehicle", "cpu-rate-per-vehicle", "memory-per-vehicle"];

/// What a short table shows.
pub const HEADLINES: [&str; 12] = [
    "control-on-time-100",
    "control-on-time-100-worst-vehicle",
    "control-on-time-100-under-load",
    "control-age-p99",
    "telemetry-on-time-100-under-load",
    "telemetry-age-p99",
    "command-time-p50",
    "command-time-p99",
    "log-goodput",
    "map-goodput",
    "rival-goodput",
    "fairness",
];

/// All metrics, in the order of tables.
pub fn metrics() -> Vec<Metric> {
    let mut all = Vec::new();
    for (kind, title) in
        [(Kind::Control, "control at the vehicle"), (Kind::Telemetry, "telemetry at the gateway")]
    {
        of_states(kind.name(), title, &mut all);
    }
    of_commands(&mut all);
    of_volume(&mut all);
    all
}

fn metric(name: impl Into<String>, title: impl Into<String>, unit: &str, better: Better) -> Metric {
    Metric { name: name.into(), title: title.into(), unit: unit.into(), better }
}

fn of_states(name: &str, title: &str, all: &mut Vec<Metric>) {
    for (suffix, when) in [("", ""), (UNDER_LOAD, ", while files are transferred")] {
        for limit in ON_TIME {
            let says = format!("{title}: states that, or newer ones, are there within {limit} ms{when}");
            all.push(metric(format!("{name}-on-time-{limit}{suffix}"), says, "share", Better::Higher));
        }
        for (part, what) in [("mean", "mean"), ("p99", "99 % of the time"), ("p999", "99.9 % of the time")] {
            let says = format!("{title}: age of information, {what}{when}");
            all.push(metric(format!("{name}-age-{part}{suffix}"), says, "ms", Better::Lower));
        }
    }
    if name == Kind::Control.name() {
        let says = format!(
            "{title}: states that, or newer ones, are there within 100 ms, of the vehicle with the fewest"
        );
        all.push(metric("control-on-time-100-worst-vehicle", says, "share", Better::Higher));
    }
    for limit in STALE {
        let says = format!("{title}: share of time in which it is older than {limit} ms");
        all.push(metric(format!("{name}-stale-{limit}"), says, "share", Better::Lower));
    }
    let says = format!("{title}: longest time without anything newer");
    all.push(metric(format!("{name}-gap"), says, "ms", Better::Lower));
}

fn of_commands(all: &mut Vec<Metric>) {
    for (part, what) in [("p50", "median"), ("p99", "99 of 100")] {
        let says = format!("command: from due to answered, {what}");
        all.push(metric(format!("command-time-{part}"), says, "ms", Better::Lower));
    }
    for limit in COMPLETE {
        let says = format!("command: answered within {limit} ms");
        all.push(metric(format!("command-within-{limit}"), says, "share", Better::Higher));
    }
    for (part, what) in [
        ("never", "never answered"),
        ("doubled", "copies that the vehicle's software got besides the first"),
        ("late", "copies that the vehicle's software got more than 5 s after they were due"),
    ] {
        all.push(metric(format!("commands-{part}"), format!("commands: {what}"), "count", Better::Lower));
    }
    for (part, what) in [("p50", "median"), ("p99", "99 of 100")] {
        let says = format!("command: how much longer to the vehicle while files are transferred, {what}");
        all.push(metric(format!("command-stall-{part}"), says, "ms", Better::Lower));
    }
}

fn of_volume(all: &mut Vec<Metric>) {
    for (kind, what) in [(Kind::Log, "log, upwards"), (Kind::Map, "map, downwards")] {
        let says = format!("{what}: what arrived while it was transferred");
        all.push(metric(format!("{}-goodput", kind.name()), says, "Mbit/s", Better::Higher));
    }
    let says = "one TCP connection with CUBIC beside the subject: what arrived while files were transferred";
    all.push(metric("rival-goodput", says, "Mbit/s", Better::Higher));
    let says = "how evenly the subject's files and that connection shared the link: Jain's index, 1 for halves, 0.5 where one took all";
    all.push(metric("fairness", says, "share", Better::Higher));
    for (part, what) in [("up", "upwards"), ("down", "downwards"), ("both", "both ways")] {
        let says = format!("bytes sent, IP headers included, per byte that arrived, {what}");
        all.push(metric(format!("wire-{part}"), says, "bytes/byte", Better::Lower));
    }
    for (part, what) in [("up", "upwards"), ("down", "downwards")] {
        let says = format!("bytes sent, IP headers included, per second of the whole run, {what}");
        all.push(metric(format!("wire-rate-{part}"), says, "bytes/s", Better::Lower));
    }
    all.push(metric("camera-within-500", "pictures that arrived within 500 ms", "share", Better::Higher));
    let says = "processor time per second of the whole run, both ends, what the benchmark itself encodes and notes included";
    all.push(metric("cpu-rate", says, "ms/s", Better::Lower));
    let says = "processor time per thousand states on time within 100 ms, both ends, files and what the benchmark notes included";
    all.push(metric("cpu", says, "ms", Better::Lower));
    all.push(metric(
        "memory",
        "most memory, both ends and the emulator's queue; without that of child processes",
        "KiB",
        Better::Lower,
    ));
    let says = "processor time per second of the whole run, both ends, divided by the number of vehicles";
    all.push(metric("cpu-rate-per-vehicle", says, "ms/s", Better::Lower));
    let says = "most memory, both ends, divided by the number of vehicles";
    all.push(metric("memory-per-vehicle", says, "KiB", Better::Lower));
    all.push(metric("connected", "from the first packet to connected", "ms", Better::Lower));
}
