//! What a run was, in a report: enough to repeat it, and to tell two runs apart that differ.

use std::fs;

use serde_json::{Value, json};

use super::{Config, setup};
use crate::core::{
    Capacity, Discipline, Draws, Law, Limit, Loss, Order, OutageMode, Shape, Trace, UdpPolicy,
};
use crate::digest;
use crate::json::micros;
use crate::profile::{Event, Happening, Rebinding};

/// The laws in effect, the machine, and its settings.
pub(super) fn describe(config: &Config, unset: &[String]) -> Value {
    let path = |path: &crate::profile::Path| {
        json!({
            "name": path.name,
            "profile": path.profile.name,
            "up": law_json(&path.profile.up),
            "down": law_json(&path.profile.down),
        })
    };
    let settings: Vec<_> = setup::settings().map(|(name, value)| format!("net/{name}={value}")).collect();
    json!({
        "paths": config.scenario.paths.iter().map(path).collect::<Vec<_>>(),
        "events": config.scenario.events.iter().map(|event| event_json(config, event)).collect::<Vec<_>>(),
        "machine": machine(),
        "settings": settings,
        "settings_refused": unset,
    })
}

/// What `uname` says, without the name of the host.
fn machine() -> Value {
    let kernel = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        text.map(|text| text.trim().to_owned())
    };
    json!({
        "system": kernel("ostype"),
        "release": kernel("osrelease"),
        "version": kernel("version"),
        "architecture": std::env::consts::ARCH,
        "cpus": std::thread::available_parallelism().ok(),
    })
}

fn event_json(config: &Config, event: &Event) -> Value {
    let capacity = |capacity: &Option<Capacity>| capacity.as_ref().map(capacity_json);
    let details = match &event.what {
        Happening::Udp(policy) => udp_json(*policy),
        Happening::Capacity { up, down } => json!({ "up": capacity(up), "down": capacity(down) }),
        Happening::Rebind(Rebinding::Silent) => json!("silent"),
        Happening::Rebind(Rebinding::Reset) => json!("reset"),
        Happening::Link { .. }
        | Happening::Carrier { .. }
        | Happening::Address { .. }
        | Happening::Prefer => Value::Null,
    };
    json!({
        "what": event.what.name(),
        "details": details,
        "path": event.path.map(|path| config.scenario.paths[path].name.as_str()),
        "at_us": micros(event.at),
        "every_us": event.every.map(micros),
    })
}

fn law_json(law: &Law) -> Value {
    let shape = match law.jitter.shape {
        Shape::Uniform => "uniform",
        Shape::Exponential => "exponential",
    };
    let outage = |outage: &crate::core::Outage| {
        json!({
            "from_us": micros(outage.from),
            "length_us": micros(outage.length),
            "every_us": outage.every.map(micros),
            "hold": outage.mode == OutageMode::Hold,
        })
    };
    json!({
        "delay_us": micros(law.delay),
        "jitter": {
            "spread_us": micros(law.jitter.spread),
            "shape": shape,
            "reorder": law.jitter.order == Order::Free,
        },
        "loss": loss_json(&law.loss),
        "duplicate": law.duplicate.get(),
        "corrupt": law.corrupt.get(),
        "capacity": capacity_json(&law.capacity),
        "queue": queue_json(law),
        "outages": law.outages.iter().map(outage).collect::<Vec<_>>(),
        "mtu": law.mtu,
        "udp": udp_json(law.udp),
        "draws": match law.draws {
            Draws::BySlot => "slot",
            Draws::ByIndex => "index",
        },
    })
}

fn loss_json(loss: &Loss) -> Value {
    match loss {
        Loss::None => json!("none"),
        Loss::Bernoulli(share) => json!({ "bernoulli": share.get() }),
        Loss::GilbertElliott { mean_good, mean_bad, loss_good, loss_bad } => json!({ "gilbert_elliott": {
            "mean_good_us": micros(*mean_good),
            "mean_bad_us": micros(*mean_bad),
            "loss_good": loss_good.get(),
            "loss_bad": loss_bad.get(),
        }}),
    }
}

fn capacity_json(capacity: &Capacity) -> Value {
    match capacity {
        Capacity::Unlimited => json!("unlimited"),
        Capacity::Rate(rate) => json!({ "bits_per_second": rate.bits_per_second() }),
        Capacity::Trace(trace) => json!({ "trace": {
            "opportunities": trace.len(),
            "period_us": micros(trace.period()),
            "sha256": trace_digest(trace),
        }}),
    }
}

/// Of the trace's text with one number per line and nothing else, which is what recorders write.
fn trace_digest(trace: &Trace) -> String {
    digest::sha256((0..trace.len()).map(|number| format!("{}\n", trace.time(number as u64).as_millis())))
}

fn queue_json(law: &Law) -> Value {
    let limit = match law.queue.limit {
        Limit::Bytes(bytes) => json!({ "bytes": bytes }),
        Limit::Packets(packets) => json!({ "packets": packets }),
    };
    let discipline = match law.queue.discipline {
        Discipline::DropTail => json!("drop-tail"),
        Discipline::CoDel { target, interval } => {
            json!({ "codel": { "target_us": micros(target), "interval_us": micros(interval) } })
        }
    };
    json!({ "limit": limit, "discipline": discipline })
}

fn udp_json(udp: UdpPolicy) -> Value {
    match udp {
        UdpPolicy::Pass => json!("pass"),
        UdpPolicy::Block => json!("block"),
        UdpPolicy::Throttle { rate, burst } => {
            json!({ "throttle": { "bits_per_second": rate.bits_per_second(), "burst_bytes": burst } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file() {
        let trace = Trace::parse("1\n1\n20\n").unwrap();
        // printf '1\n1\n20\n' | sha256sum
        assert_eq!(trace_digest(&trace), "5dc2b90cc184fd7f077ae854b49cb5c0029562283a6cafb32da209d2eebb2371");
    }
}
