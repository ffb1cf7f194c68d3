//! What one run comes to: figures from its schedules and its arrivals. Pure.
//!
//! Where there are several vehicles, shares, ages and times are those of all of them put together, and volumes their sum.
//!
//! Times are in milliseconds; what never came is infinite, never left out. A figure that a run says nothing about (no map was
//! downloaded) is absent.

mod age;
mod commands;
mod metrics;
mod states;
mod volume;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub use age::{Ages, Distribution};
pub use metrics::{HEADLINES, OF_FLEETS, metrics};

use super::cell::Outcome;
use super::workload::{Heard, Kind, Schedule, Workload, seed_of};
use commands::Commands;
use states::States;

/// A state is on time if it, or a newer one, has arrived so many milliseconds after it was due.
const ON_TIME: [u64; 4] = [50, 100, 150, 200];

/// A state is stale that is older than so many milliseconds: where remote driving is refused, and where the vehicle stops.
const STALE: [u64; 2] = [200, 500];

/// A command is complete if its answer is back so many milliseconds after it was due.
const COMPLETE: [u64; 3] = [200, 500, 1_000];

/// A command that the vehicle hears later than this after it was due is stale: it must not execute any more.
const COMMAND_STALE: Duration = Duration::from_secs(5);

/// What ends the name of a figure of the time in which files are transferred.
const UNDER_LOAD: &str = "-under-load";

/// Figures by the names of [`metrics`].
pub type Figures = BTreeMap<String, f64>;

/// What was due and what came of it.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    workload: &'a Workload,
    vehicles: Vec<Vehicle<'a>>,
    /// Arrivals of vehicles that there are not.
    strays: usize,
    window: Option<Range<Duration>>,
}

/// The same of one vehicle.
#[derive(Clone, Debug)]
struct Vehicle<'a> {
    schedule: Schedule,
    heard: Vec<&'a Heard>,
}

impl<'a> Run<'a> {
    /// Of this load under this seed. Where `is_loaded`, the plan transfers files in the middle, whether or not this run did.
    pub fn new(workload: &'a Workload, seed: u64, is_loaded: bool, heard: &'a [Heard]) -> Self {
        let window = is_loaded.then(|| workload.transfers());
        let mut by_vehicle = BTreeMap::<_, Vec<_>>::new();
        for one in heard {
            by_vehicle.entry(one.vehicle).or_default().push(one);
        }
        let vehicle = |number| Vehicle {
            schedule: Schedule::new(workload, seed_of(seed, number)),
            heard: by_vehicle.remove(&number).unwrap_or_default(),
        };
        let vehicles = workload.numbers().map(vehicle).collect();
        let strays = by_vehicle.values().map(Vec::len).sum();
        Self { workload, vehicles, strays, window }
    }

    /// All figures that hang on arrivals alone.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new();
        for kind in [Kind::Control, Kind::Telemetry] {
            if let Some(states) = States::of(self, kind) {
                states.figures(kind, self.window.as_ref(), &mut figures);
            }
        }
        if let Some(commands) = Commands::of(self) {
            commands.figures(self.window.as_ref(), &mut figures);
        }
        volume::goodput(self, &mut figures);
        volume::camera(self, &mut figures);
        figures
    }

    /// The same and what it cost.
    pub fn figures_with_cost(&self, outcome: &Outcome) -> Figures {
        let mut figures = self.figures();
        volume::cost(self, outcome, &mut figures);
        figures
    }

    /// How old control was at the vehicle, or telemetry at the gateway, over the workload's time. Empty where none was due.
    pub fn ages(&self, kind: Kind) -> Ages {
        States::of(self, kind).map(|states| states.ages()).unwrap_or_default()
    }

    /// From due to answered, of each command; infinite where no answer came.
    pub fn command_times(&self) -> Vec<f64> {
        Commands::of(self).map(|commands| commands.times()).unwrap_or_default()
    }

    /// Arrivals of what was never due: the subject, or the record, is broken. They count in no figure of states and commands.
    pub fn never_due(&self) -> usize {
        self.strays + self.vehicles.iter().map(Vehicle::never_due).sum::<usize>()
    }
}

impl Vehicle<'_> {
    fn never_due(&self) -> usize {
        // An answer has the number of its command.
        let known = |kind| self.schedule.of(if kind == Kind::Ack { Kind::Command } else { kind });
        let due: BTreeMap<_, _> = Kind::ALL.map(|kind| (kind, known(kind))).into_iter().collect();
        let is_unknown =
            |heard: &&&Heard| !heard.kind.is_file() && !due[&heard.kind].contains_key(&heard.number);
        self.heard.iter().filter(is_unknown).count()
    }

    fn heard(&self, kind: Kind) -> impl Iterator<Item = &Heard> {
        self.heard.iter().copied().filter(move |heard| heard.kind == kind)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The share of these that are so; `None` of none.
fn share(all: impl IntoIterator<Item = bool>) -> Option<f64> {
    let (mut count, mut so) = (0_u64, 0_u64);
    for is_so in all {
        count += 1;
        so += u64::from(is_so);
    }
    (count > 0).then(|| so as f64 / count as f64)
}

#[cfg(test)]
mod tests;
