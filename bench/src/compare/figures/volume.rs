//! What was carried, and what it cost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use carriageway_netem::core::Direction;

use super::states::States;
use super::{Figures, Run, Vehicle};
use crate::compare::cell::{AFTER, Outcome, SETTLE};
use crate::compare::workload::Kind;

/// A picture as old as this is of no use.
const PICTURE: Duration = Duration::from_millis(500);

/// A message whose cost counts was on time by this.
const ON_TIME: Duration = Duration::from_millis(100);

/// Files: what of them arrived while they were transferred, for all vehicles. A piece that comes again or afterwards does not count.
pub(super) fn goodput(run: &Run<'_>, figures: &mut Figures) {
    let window = run.workload.transfers();
    let seconds = window.end.saturating_sub(window.start).as_secs_f64();
    for (kind, was_sent) in [(Kind::Log, run.workload.log), (Kind::Map, run.workload.map)] {
        if was_sent && seconds > 0.0 {
            let bytes: u64 = run.vehicles.iter().map(|vehicle| pieces(vehicle, kind, &window)).sum();
            let bits = bytes as f64 * 8.0;
            figures.insert(format!("{}-goodput", kind.name()), bits / seconds / 1e6);
        }
    }
}

/// Bytes of a file that arrived within `window`.
fn pieces(vehicle: &Vehicle<'_>, kind: Kind, window: &Range<Duration>) -> u64 {
    let heard = vehicle.heard(kind).filter(|heard| window.contains(&heard.at));
    let pieces: BTreeMap<_, _> = heard.map(|heard| (heard.number, u64::from(heard.bytes))).collect();
    pieces.values().sum()
}

/// Pictures that arrived while they were of use.
pub(super) fn camera(run: &Run<'_>, figures: &mut Figures) {
    let pictures = run.vehicles.iter().map(pictures);
    let (of_use, due) = pictures.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if due > 0 {
        figures.insert("camera-within-500".into(), of_use as f64 / due as f64);
    }
}

/// How many of them, and how many were due.
fn pictures(vehicle: &Vehicle<'_>) -> (usize, usize) {
    let due = vehicle.schedule.of(Kind::Camera);
    let in_time = |number: &u32, at: &Duration| due.get(number).is_some_and(|due| *at <= *due + PICTURE);
    let heard = vehicle.heard(Kind::Camera).filter(|heard| in_time(&heard.number, &heard.at));
    let heard: BTreeSet<_> = heard.map(|heard| heard.number).collect();
    (heard.len(), due.len())
}

/// How the subject's files and a rival's shared the link.
fn fairness(run: &Run<'_>, rival: &[u64], figures: &mut Figures) {
    let window = run.workload.transfers();
    let seconds = window.end.saturating_sub(window.start).as_secs_f64();
    let theirs = rival.iter().sum::<u64>() as f64 * 8.0 / seconds / 1e6;
    figures.insert("rival-goodput".into(), theirs);
    // It sends in the direction of these.
    let kind = if run.workload.log { Kind::Log } else { Kind::Map };
    if let Some(ours) = figures.get(&format!("{}-goodput", kind.name())).copied()
        && ours + theirs > 0.0
    {
        // Jain's index of two.
        figures.insert("fairness".into(), (ours + theirs).powi(2) / (2.0 * (ours.powi(2) + theirs.powi(2))));
    }
}

/// Bytes, processor, memory and time to connect. Virtual time has no processor's time. Where a rival shares link and process, neither
/// can be told apart, and only how they shared is said.
pub(super) fn cost(run: &Run<'_>, outcome: &Outcome, figures: &mut Figures) {
    figures.insert("connected".into(), outcome.connected_ms.unwrap_or(f64::INFINITY));
    if !outcome.rival.is_empty() {
        return fairness(run, &outcome.rival, figures);
    }
    let is_scheduled = run.vehicles.iter().any(|vehicle| !vehicle.schedule.all().is_empty());
    let is_due = is_scheduled || run.workload.log || run.workload.map;
    let delivered = Direction::BOTH.map(|direction| delivered(run, direction));
    let offered = outcome.traffic.map(|traffic| traffic.offered_bytes);
    for direction in Direction::BOTH {
        let (wire, bytes) = (offered[direction.index()], delivered[direction.index()]);
        figures.extend(per(wire, bytes, is_due).map(|ratio| (format!("wire-{}", direction.name()), ratio)));
    }
    let seconds = (SETTLE + run.workload.length() + AFTER).as_secs_f64();
    for direction in Direction::BOTH {
        figures
            .insert(format!("wire-rate-{}", direction.name()), offered[direction.index()] as f64 / seconds);
    }
    let both = per(offered.iter().sum(), delivered.iter().sum(), is_due);
    figures.extend(both.map(|ratio| ("wire-both".to_owned(), ratio)));
    if outcome.spec.is_virtual {
        return;
    }
    let (memory, cpu_rate) = (outcome.cost.memory_kib as f64, outcome.cost.cpu_ms / seconds);
    figures.insert("memory".into(), memory);
    figures.insert("cpu-rate".into(), cpu_rate);
    if run.workload.vehicles > 1 {
        let vehicles = f64::from(run.workload.vehicles);
        figures.insert("memory-per-vehicle".into(), memory / vehicles);
        figures.insert("cpu-rate-per-vehicle".into(), cpu_rate / vehicles);
    }
    let states = [Kind::Control, Kind::Telemetry].map(|kind| States::of(run, kind));
    if states.iter().any(Option::is_some) {
        let on_time: usize = states.iter().flatten().map(|states| states.count_on_time(ON_TIME)).sum();
        let each = if on_time == 0 { f64::INFINITY } else { outcome.cost.cpu_ms / on_time as f64 * 1e3 };
        figures.insert("cpu".into(), each);
    }
}

/// The application's bytes that arrived in this direction, each message once.
fn delivered(run: &Run<'_>, direction: Direction) -> u64 {
    let heard = run.vehicles.iter().enumerate().flat_map(|(place, vehicle)| {
        let heard = vehicle.heard.iter().filter(|heard| heard.kind.direction() == direction);
        heard.map(move |heard| ((place, heard.kind, heard.number), u64::from(heard.bytes)))
    });
    heard.collect::<BTreeMap<_, _>>().values().sum()
}

/// `None` where nothing was to arrive: a vehicle that is parked sends what keeps its connection, per nothing.
fn per(wire: u64, bytes: u64, is_due: bool) -> Option<f64> {
    match (wire, bytes) {
        (_, 0) if !is_due => None,
        (_, 0) => Some(f64::INFINITY),
        (wire, bytes) => Some(wire as f64 / bytes as f64),
    }
}
