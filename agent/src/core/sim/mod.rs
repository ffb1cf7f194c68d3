//! A simulated vehicle that is worth looking at: it drives around the Tiergarten in Berlin, stops at red
//! lights, spends and regains energy, and has windows that take their time.
//!
//! It speaks COVESA VSS 5, instances by row and side. All of it follows from the seed, the moments it is
//! asked at, the targets and the control it is given: the same of these give the same drive, in fixed steps of
//! 20 ms.

mod body;
mod energy;
mod motion;
mod remote;
pub mod road;
mod signals;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::{Class, Moment, SignalPath, Value, time::micros};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use self::body::Body;
use self::energy::Battery;
use self::motion::Motion;
use self::remote::Pilot;
use self::road::Road;
use self::signals::Signals;
use self::targets::Target as Thing;
use crate::core::vehicle::{Actuation, Applied, Drivable, Progress, Refusal, Target, Vehicle};

/// One step of the simulation.
const STEP: Duration = Duration::from_millis(20);

/// Most time simulated in one call; a longer gap (the computer slept) is skipped.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Gears by VSS: neutral and the two selector positions that this car has besides.
const NEUTRAL: i64 = 0;
const PARK: i64 = 126;
const DRIVE: i64 = 127;

/// A simulated vehicle.
#[derive(Debug)]
pub struct Simulated {
    road: Arc<Road>,
    clock: Moment,
    motion: Motion,
    body: Body,
    battery: Battery,
    gear: i64,
    /// Once stopped in an emergency it stays so until it is armed; the agent's journal holds that across
    /// restarts.
    latched: bool,
    pilot: Pilot,
    /// What moves, at most one actuation for each thing but the emergency stop.
    moving: Vec<(Thing, Actuation)>,
    signals: Signals,
}

impl Simulated {
    /// A vehicle on `road` whose place, mood, charge and weather follow from `seed`.
    pub fn new(road: Arc<Road>, seed: u64, now: Moment) -> Self {
        let mut chance = Pcg32::seed_from_u64(seed);
        let mut between =
            |low: f64, high: f64| low + (high - low) * f64::from(chance.next_u32()) / f64::from(u32::MAX);
        let start = between(0.0, road.length());
        let motion = Motion::start(&road, start, between(0.85, 1.0));
        Self {
            motion,
            battery: Battery::charged(between(45.0, 95.0)),
            body: Body::parked(between(4.0, 24.0)),
            clock: now,
            gear: DRIVE,
            latched: false,
            pilot: Pilot::Script,
            moving: Vec::new(),
            signals: Signals::default(),
            road,
        }
    }

    /// Lives on until `now`.
    fn advance(&mut self, now: Moment) {
        if now.since(self.clock) > LONGEST_GAP {
            self.clock = now - LONGEST_GAP;
        }
        let steps = micros(now.since(self.clock)) / micros(STEP);
        for _ in 0..steps {
            self.clock = self.clock + STEP;
            self.step();
        }
    }

    fn step(&mut self) {
        let has_power = self.gear == DRIVE && self.body.all_doors_closed() && !self.battery.is_empty();
        let (drive, steering) = self.pilot(has_power);
        self.motion.step(self.clock, &self.road, drive, steering);
        self.body.step();
        let Motion { speed, acceleration, .. } = self.motion;
        self.battery.step(speed, acceleration, self.body.climate_power());
    }
}

impl Vehicle for Simulated {
    fn observe(&mut self, now: Moment, changed: &mut Vec<(SignalPath, Value)>) {
        self.advance(now);
        let values = signals::values(self);
        self.signals.changed(now, values, changed);
    }

    fn apply(&mut self, now: Moment, actuation: Actuation, target: &Target) -> Applied {
        self.advance(now);
        match self.begin(target) {
            Ok(thing) if self.is_reached(thing) => {
                self.moving.retain(|(other, _)| *other != thing);
                Applied::Done
            }
            Ok(thing) => {
                self.moving.retain(|(other, _)| *other != thing);
                self.moving.push((thing, actuation));
                Applied::Moving
            }
            Err(refusal) => Applied::Refused(refusal),
        }
    }

    fn class_of(&self, path: &SignalPath) -> Option<Class> {
        Thing::lasting(path.as_str())
    }

    fn stop(&mut self, now: Moment, actuation: Actuation) {
        self.advance(now);
        self.latched = true;
        self.body.lights.hazard = true;
        self.moving.push((Thing::EmergencyStop, actuation));
    }

    fn progress(&mut self, now: Moment) -> Option<Progress> {
        self.advance(now);
        let index = self.moving.iter().position(|(thing, _)| self.is_reached(*thing))?;
        let (_, actuation) = self.moving.swap_remove(index);
        Some(Progress { actuation, result: Ok(()) })
    }

    fn drivable(&mut self) -> Option<&mut dyn Drivable> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
