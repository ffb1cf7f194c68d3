//! Commands: each must arrive once, soon or not at all, and be answered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::{COMMAND_STALE, COMPLETE, Figures, Run, Vehicle, ms, share};
use crate::compare::workload::Kind;
use crate::stats::quantile;

/// One run's commands, of all vehicles.
#[derive(Default)]
pub(super) struct Commands {
    all: Vec<Command>,
    /// Copies that a vehicle heard besides the first of each.
    doubled: usize,
    /// Copies that a vehicle heard when they were stale.
    late: usize,
}

struct Command {
    due: Duration,
    /// When the vehicle heard it first.
    heard: Option<Duration>,
    /// When the gateway heard the first answer.
    answered: Option<Duration>,
}

impl Commands {
    /// `None` where none was due.
    pub(super) fn of(run: &Run<'_>) -> Option<Self> {
        let mut all = Self::default();
        for vehicle in &run.vehicles {
            all.add(vehicle);
        }
        (!all.all.is_empty()).then_some(all)
    }

    fn add(&mut self, vehicle: &Vehicle<'_>) {
        let due = vehicle.schedule.of(Kind::Command);
        let (heard, answered) = (first(vehicle, Kind::Command), first(vehicle, Kind::Ack));
        let copies =
            vehicle.heard(Kind::Command).filter_map(|heard| Some((heard.at, *due.get(&heard.number)?)));
        let (mut count, mut late) = (0, 0);
        for (at, due) in copies {
            count += 1;
            late += usize::from(at > due + COMMAND_STALE);
        }
        let of = |times: &BTreeMap<u32, Duration>, number: &u32| times.get(number).copied();
        let command = |(number, due): (&u32, &Duration)| Command {
            due: *due,
            heard: of(&heard, number),
            answered: of(&answered, number),
        };
        let all: Vec<_> = due.iter().map(command).collect();
        self.doubled += count - all.iter().filter(|command| command.heard.is_some()).count();
        self.late += late;
        self.all.extend(all);
    }

    /// From due to answered.
    pub(super) fn times(&self) -> Vec<f64> {
        self.all.iter().map(|command| took(command.due, command.answered)).collect()
    }

    pub(super) fn figures(&self, window: Option<&Range<Duration>>, figures: &mut Figures) {
        let times = sorted(self.times());
        for (name, at) in [("p50", 0.5), ("p99", 0.99)] {
            figures.extend(quantile(&times, at).map(|time| (format!("command-time-{name}"), time)));
        }
        for limit in COMPLETE {
            let within = share(times.iter().map(|time| *time <= limit as f64));
            figures.extend(within.map(|share| (format!("command-within-{limit}"), share)));
        }
        let never = times.iter().filter(|time| time.is_infinite()).count();
        figures.insert("commands-never".into(), never as f64);
        figures.insert("commands-doubled".into(), self.doubled as f64);
        figures.insert("commands-late".into(), self.late as f64);
        let Some(window) = window else { return };
        for (name, at) in [("p50", 0.5), ("p99", 0.99)] {
            figures.extend(self.stall(window, at).map(|stall| (format!("command-stall-{name}"), stall)));
        }
    }

    /// How much longer commands that were due within `window` took to the vehicle than the others. `None` where there are none
    /// to compare, or where the others never came.
    fn stall(&self, window: &Range<Duration>, at: f64) -> Option<f64> {
        let way = |is_inside: bool| {
            let chosen = self.all.iter().filter(|command| window.contains(&command.due) == is_inside);
            quantile(&sorted(chosen.map(|command| took(command.due, command.heard)).collect()), at)
        };
        let (inside, outside) = (way(true)?, way(false)?);
        outside.is_finite().then_some(inside - outside)
    }
}

fn first(vehicle: &Vehicle<'_>, kind: Kind) -> BTreeMap<u32, Duration> {
    let mut first = BTreeMap::new();
    for heard in vehicle.heard(kind) {
        let at = first.entry(heard.number).or_insert(heard.at);
        *at = heard.at.min(*at);
    }
    first
}

fn took(due: Duration, at: Option<Duration>) -> f64 {
    at.map_or(f64::INFINITY, |at| ms(at.saturating_sub(due)))
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}
