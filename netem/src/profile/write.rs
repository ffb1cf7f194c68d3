//! A scenario as TOML again, with everything that is in effect and nothing that is not.

use std::fmt::Write;
use std::time::Duration;

use super::{Event, Happening, Rebinding, Scenario};
use crate::core::{
    Capacity, Discipline, Draws, Law, Limit, Loss, Order, Outage, OutageMode, Probability, Shape, UdpPolicy,
};

/// The whole file. A trace, whose file is not known any more, and `CoDel` with its numbers come as comments.
pub(super) fn scenario(scenario: &Scenario) -> String {
    let mut text = format!("summary = {:?}\n", scenario.summary);
    let one = scenario.paths.len() == 1;
    for path in &scenario.paths {
        let prefix = if one { "" } else { "path." };
        if !one {
            let _ = write!(text, "\n[[path]]\nname = {:?}\n", path.name);
        }
        for (name, law) in [("up", &path.profile.up), ("down", &path.profile.down)] {
            let _ = write!(text, "\n[{prefix}{name}]\n{}", side(law));
        }
    }
    for event in &scenario.events {
        let path = event.path.filter(|_| !one).map(|path| scenario.paths[path].name.as_str());
        text.push_str(&happening(event, path));
    }
    text
}

fn side(law: &Law) -> String {
    let Law { delay, jitter, loss, duplicate, corrupt, capacity, queue, outages, mtu, udp, draws } = law;
    let mut text = format!("delay = \"{}\"\n", time(*delay));
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    let shape = match jitter.shape {
        Shape::Uniform => "uniform",
        Shape::Exponential => "exponential",
    };
    let (spread, reorder) = (time(jitter.spread), jitter.order == Order::Free);
    line("jitter", format!("{{ spread = \"{spread}\", shape = \"{shape}\", reorder = {reorder} }}"));
    match loss {
        Loss::None => line("loss", share(Probability::ZERO)),
        Loss::Bernoulli(lost) => line("loss", share(*lost)),
        Loss::GilbertElliott { mean_good, mean_bad, loss_good, loss_bad } => {
            line("loss", share(*loss_good));
            let (gap, length, loss) = (time(*mean_good), time(*mean_bad), share(*loss_bad));
            line("burst", format!("{{ length = \"{length}\", gap = \"{gap}\", loss = {loss} }}"));
        }
    }
    line("duplicate", share(*duplicate));
    line("corrupt", share(*corrupt));
    line_of_capacity(capacity, &mut line);
    match queue.limit {
        Limit::Bytes(bytes) => line("queue", format!("\"{bytes} B\"")),
        Limit::Packets(packets) => line("queue", format!("\"{packets} packets\"")),
    }
    match queue.discipline {
        Discipline::DropTail => line("aqm", "\"none\"".into()),
        Discipline::CoDel { .. } => line("aqm", "\"codel\"".into()),
    }
    line("outage", format!("[{}]", outages.iter().map(outage).collect::<Vec<_>>().join(", ")));
    line("mtu", mtu.to_string());
    match udp {
        UdpPolicy::Pass => line("udp", "\"pass\"".into()),
        UdpPolicy::Block => line("udp", "\"block\"".into()),
        UdpPolicy::Throttle { rate, .. } => {
            line("udp", format!("{{ throttle = \"{} bit/s\" }}", rate.bits_per_second()));
        }
    }
    match draws {
        Draws::BySlot => line("draws", "\"slot\"".into()),
        Draws::ByIndex => line("draws", "\"index\"".into()),
    }
    text
}

fn line_of_capacity(capacity: &Capacity, line: &mut impl FnMut(&str, String)) {
    match capacity {
        Capacity::Unlimited => {}
        Capacity::Rate(rate) => line("rate", format!("\"{} bit/s\"", rate.bits_per_second())),
        Capacity::Trace(trace) => {
            let (mean, count) = (trace.mean_rate() / 1e6, trace.len());
            line(
                "# trace",
                format!("a file with {count} opportunities in {:?}, {mean:.3} Mbit/s", trace.period()),
            );
        }
    }
}

fn outage(outage: &Outage) -> String {
    let mode = match outage.mode {
        OutageMode::Drop => "drop",
        OutageMode::Hold => "hold",
    };
    let every = outage.every.map_or_else(String::new, |every| format!(", every = \"{}\"", time(every)));
    let (from, length) = (time(outage.from), time(outage.length));
    format!("{{ from = \"{from}\", length = \"{length}\"{every}, mode = \"{mode}\" }}")
}

fn happening(event: &Event, path: Option<&str>) -> String {
    let mut head = format!("\n[[event]]\nat = \"{}\"\n", time(event.at));
    if let Some(every) = event.every {
        let _ = writeln!(head, "every = \"{}\"", time(every));
    }
    if let Some(path) = path {
        let _ = writeln!(head, "path = {path:?}");
    }
    let name = event.what.name();
    match &event.what {
        Happening::Udp(UdpPolicy::Throttle { rate, .. }) => {
            format!("{head}do = \"{name}\"\nrate = \"{} bit/s\"\n", rate.bits_per_second())
        }
        Happening::Capacity { up, down } => {
            let one = |way: &str, capacity: &Option<Capacity>| {
                capacity.as_ref().map(|capacity| {
                    let mut text = format!("{head}do = \"{name}\"\ndirection = \"{way}\"\n");
                    line_of_capacity(capacity, &mut |key, value| {
                        let _ = writeln!(text, "{key} = {value}");
                    });
                    text
                })
            };
            [one("up", up), one("down", down)].into_iter().flatten().collect()
        }
        Happening::Udp(UdpPolicy::Pass | UdpPolicy::Block)
        | Happening::Rebind(Rebinding::Silent | Rebinding::Reset)
        | Happening::Link { .. }
        | Happening::Carrier { .. }
        | Happening::Address { .. }
        | Happening::Prefer => format!("{head}do = \"{name}\"\n"),
    }
}

/// In milliseconds where that is exact enough to read, which it is to the nanosecond.
fn time(span: Duration) -> String {
    format!("{}ms", span.as_nanos() as f64 / 1e6)
}

fn share(share: Probability) -> String {
    format!("\"{}\"", share.get())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::BUILT_IN;
    use super::*;

    #[test]
    fn what_is_written_means_the_same() {
        for built_in in BUILT_IN {
            let known = Scenario::find(built_in.name).unwrap();
            let text = scenario(&known);
            let again = Scenario::parse(built_in.name, &text, Path::new("")).unwrap();
            assert_eq!(again.events, known.events, "{text}");
            for (one, other) in again.paths.iter().zip(&known.paths) {
                assert_eq!(
                    (&one.name, &one.profile.up, &one.profile.down),
                    (&other.name, &other.profile.up, &other.profile.down)
                );
            }
        }
    }
}
