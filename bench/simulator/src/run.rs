//! One seed, from its plan to its verdict.

use std::hash::Hasher as _;

use crate::checker::{Event, Violation};
use crate::plan::{Fault, Plan, REST, Size};
use crate::shrink::Kept;
use crate::world::World;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// The plan, for people.
    pub plan: String,
    /// The faults that were on.
    pub faults: Vec<Fault>,
    /// Requests that operators made.
    pub commands: u64,
    /// Targets that vehicles began to bring about.
    pub effects: u64,
    /// States of control that operators made.
    pub frames: u64,
    /// Virtual vehicle-hours.
    pub vehicle_hours: f64,
    /// Things that happened.
    pub events: u64,
    /// Of everything that happened, in order: equal for equal runs.
    pub hash: u64,
    /// The first invariant that was broken.
    pub violation: Option<Violation>,
    /// Everything that happened, where that was asked for.
    pub log: Vec<Event>,
}

/// Runs `seed`.
pub fn run(seed: u64, size: Size) -> Report {
    run_plan(Plan::draw(seed, size), false)
}

/// Runs what is left of `seed`'s plan; keeps the log.
pub fn replay(seed: u64, size: Size, kept: &Kept) -> Report {
    run_plan(kept.of(Plan::draw(seed, size)), true)
}

fn run_plan(plan: Plan, keep: bool) -> Report {
    let text = plan.to_string();
    let faults = plan.faults.clone();
    let (seed, commands, vehicles) = (plan.seed, plan.clicks.len() as u64, plan.mix.vehicles);
    let length = plan.mix.horizon + REST;
    let mut world = World::new(plan, keep);
    world.run();
    let log = world.air.log;
    Report {
        seed,
        plan: text,
        faults,
        commands,
        effects: log.effects,
        frames: log.frames,
        vehicle_hours: vehicles as f64 * (length as f64 / 3.6e9),
        events: log.events,
        hash: log.hash.finish(),
        violation: log.violation,
        log: log.kept.unwrap_or_default(),
    }
}
