//! What was carried, and what it cost.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_netem::core::Direction;

use super::states::States;
use super::{Figures, Run};
use crate::compare::cell::Outcome;
use crate::compare::workload::Kind;

/// A message whose cost counts was on time by this.
const ON_TIME: Duration = Duration::from_millis(100);

/// Files: what of them arrived while they were transferred. A piece that comes again or afterwards does not count.
pub(super) fn goodput(run: &Run<'_>, figures: &mut Figures) {
    let window = run.workload.transfers();
    let seconds = window.end.saturating_sub(window.start).as_secs_f64();
    for (kind, was_sent) in [(Kind::Log, run.workload.log), (Kind::Map, run.workload.map)] {
        if was_sent && seconds > 0.0 {
            let heard = run.heard(kind).filter(|heard| window.contains(&heard.at));
            let pieces: BTreeMap<_, _> = heard.map(|heard| (heard.number, u64::from(heard.bytes))).collect();
            let bits = pieces.values().sum::<u64>() as f64 * 8.0;
            figures.insert(format!("{}-goodput", kind.name()), bits / seconds / 1e6);
        }
    }
}

/// Bytes, processor, memory and time to connect. Virtual time has no processor's time.
pub(super) fn cost(run: &Run<'_>, outcome: &Outcome, figures: &mut Figures) {
    let delivered = Direction::BOTH.map(|direction| delivered(run, direction));
    let offered = outcome.traffic.map(|traffic| traffic.offered_bytes);
    for direction in Direction::BOTH {
        let (wire, bytes) = (offered[direction.index()], delivered[direction.index()]);
        figures.extend(per(wire, bytes).map(|ratio| (format!("wire-{}", direction.name()), ratio)));
    }
    let both = per(offered.iter().sum(), delivered.iter().sum());
    figures.extend(both.map(|ratio| ("wire-both".to_owned(), ratio)));
    figures.insert("connected".into(), outcome.connected_ms.unwrap_or(f64::INFINITY));
    if outcome.spec.is_virtual {
        return;
    }
    figures.insert("memory".into(), outcome.cost.memory_kib as f64);
    let states = [Kind::Control, Kind::Telemetry].map(|kind| States::of(run, kind));
    if states.iter().any(Option::is_some) {
        let on_time: usize = states.iter().flatten().map(|states| states.count_on_time(ON_TIME)).sum();
        let each = if on_time == 0 { f64::INFINITY } else { outcome.cost.cpu_ms / on_time as f64 * 1e3 };
        figures.insert("cpu".into(), each);
    }
}

/// The application's bytes that arrived in this direction, each message once.
fn delivered(run: &Run<'_>, direction: Direction) -> u64 {
    let heard = run.heard.iter().filter(|heard| heard.kind.direction() == direction);
    let once: BTreeMap<_, _> =
        heard.map(|heard| ((heard.kind, heard.number), u64::from(heard.bytes))).collect();
    once.values().sum()
}

/// `None` where nothing was sent and nothing arrived.
fn per(wire: u64, bytes: u64) -> Option<f64> {
    match (wire, bytes) {
        (0, 0) => None,
        (_, 0) => Some(f64::INFINITY),
        (wire, bytes) => Some(wire as f64 / bytes as f64),
    }
}
