#![expect(clippy::float_cmp, reason = "what stands still or is closed is exactly zero")]

use std::collections::BTreeMap;

use carriageway_proto::{Class, Reason};
use proptest::prelude::*;

use super::*;
use crate::core::vehicle::EMERGENCY_STOP;

const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";
const GEAR: &str = "Vehicle.Powertrain.Transmission.SelectedGear";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn target(class: Class, path: &str, value: Value) -> Target {
    Target { class, path: path.parse().unwrap(), value }
}

/// A vehicle, its clock, and the newest of each of its signals.
struct Drive {
    vehicle: Simulated,
    now: Moment,
    last: BTreeMap<String, Value>,
    ended: Vec<Actuation>,
    started: u64,
}

impl Drive {
    fn new(seed: u64) -> Self {
        let now = Moment::from_micros(77_000_000);
        let vehicle = Simulated::new(Arc::new(Road::tiergarten()), seed, now);
        Self { vehicle, now, last: BTreeMap::new(), ended: Vec::new(), started: 0 }
    }

    /// Drives on, looking at 20 Hz; gives how many signals were sent.
    fn run(&mut self, millis: u64) -> usize {
        let mut sent = 0;
        for _ in 0..millis / 50 {
            self.now = self.now + ms(50);
            self.ended
                .extend(std::iter::from_fn(|| self.vehicle.progress(self.now)).map(|end| end.actuation));
            let mut changed = Vec::new();
            self.vehicle.observe(self.now, &mut changed);
            sent += changed.len();
            self.last.extend(changed.into_iter().map(|(path, value)| (path.as_str().to_owned(), value)));
        }
        sent
    }

    fn apply(&mut self, class: Class, path: &str, value: Value) -> Applied {
        self.started += 1;
        self.vehicle.apply(self.now, Actuation(self.started), &target(class, path, value))
    }

    fn refused(&mut self, class: Class, path: &str, value: Value) -> Reason {
        match self.apply(class, path, value) {
            Applied::Refused(refusal) => refusal.reason,
            other => panic!("{path} was taken: {other:?}"),
        }
    }

    fn number(&self, path: &str) -> f64 {
        self.last[path].as_f64().unwrap()
    }
}

#[test]
fn a_window_takes_four_seconds_and_says_so() {
    let mut drive = Drive::new(1);
    assert_eq!(drive.apply(Class::Body, WINDOW, Value::Int(100)), Applied::Moving);
    drive.run(2_000);
    assert!((40.0..60.0).contains(&drive.number(WINDOW)) && drive.ended.is_empty());
    drive.run(2_100);
    assert_eq!((drive.number(WINDOW), drive.ended.as_slice()), (100.0, [Actuation(1)].as_slice()));
    assert_eq!(drive.apply(Class::Body, WINDOW, Value::Int(100)), Applied::Done, "a target that holds");
}

#[test]
fn a_newer_target_takes_the_window_over() {
    let mut drive = Drive::new(1);
    drive.apply(Class::Body, WINDOW, Value::Int(100));
    drive.run(1_000);
    drive.apply(Class::Body, WINDOW, Value::Int(0));
    drive.run(4_000);
    assert_eq!((drive.number(WINDOW), drive.ended.as_slice()), (0.0, [Actuation(2)].as_slice()));
}

#[test]
fn the_emergency_stop_halts_and_latches() {
    let mut drive = Drive::new(2);
    drive.run(10_000);
    assert!(drive.number("Vehicle.Speed") > 5.0, "it drives");
    drive.vehicle.stop(drive.now, Actuation(1));
    drive.vehicle.stop(drive.now, Actuation(2));
    drive.run(4_000);
    assert_eq!(drive.number("Vehicle.Speed"), 0.0);
    assert_eq!(drive.ended.len(), 2, "each of them is answered");
    assert_eq!(drive.last[EMERGENCY_STOP], Value::Bool(true));
    assert_eq!(drive.refused(Class::Safety, EMERGENCY_STOP, Value::Bool(false)), Reason::NotPermitted);
    assert_eq!(drive.apply(Class::Drive, GEAR, Value::Int(PARK)), Applied::Done);
    assert_eq!(drive.refused(Class::Drive, GEAR, Value::Int(DRIVE)), Reason::NotPermitted);
    drive.run(60_000);
    assert_eq!(drive.number("Vehicle.Speed"), 0.0, "it stays");
}

#[test]
fn what_the_state_or_the_schema_forbids_is_refused() {
    let mut drive = Drive::new(2);
    drive.run(10_000);
    assert_eq!(drive.refused(Class::Drive, GEAR, Value::Int(PARK)), Reason::NotPermitted);
    assert_eq!(drive.refused(Class::Drive, GEAR, Value::Int(7)), Reason::OutOfRange);
    assert_eq!(drive.refused(Class::Body, WINDOW, Value::Int(101)), Reason::OutOfRange);
    assert_eq!(drive.refused(Class::Body, WINDOW, Value::Bool(true)), Reason::Unsupported);
    assert_eq!(drive.refused(Class::Safety, WINDOW, Value::Int(1)), Reason::Unsupported);
    assert_eq!(drive.refused(Class::Body, "Vehicle.Speed", Value::Int(1)), Reason::Unsupported);
    let door = "Vehicle.Cabin.Door.Row2.PassengerSide.IsOpen";
    assert_eq!(drive.refused(Class::Body, door, Value::Bool(true)), Reason::NotPermitted);
    let charge = "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit";
    assert_eq!(drive.refused(Class::Config, charge, Value::Int(10)), Reason::OutOfRange);
    assert_eq!(drive.apply(Class::Config, charge, Value::Float(90.0)), Applied::Done);
}

#[test]
fn the_horn_sounds_once_and_stops_by_itself() {
    let mut drive = Drive::new(3);
    assert_eq!(drive.apply(Class::Body, "Vehicle.Body.Horn.IsActive", Value::Bool(true)), Applied::Moving);
    drive.run(100);
    assert_eq!(drive.last["Vehicle.Body.Horn.IsActive"], Value::Bool(true));
    drive.run(1_000);
    assert_eq!(drive.last["Vehicle.Body.Horn.IsActive"], Value::Bool(false));
    assert_eq!(drive.ended, [Actuation(1)]);
}

#[test]
fn fast_signals_flow_and_slow_ones_are_repeated_once_a_second() {
    let mut drive = Drive::new(4);
    let everything = drive.run(50);
    assert_eq!(everything, drive.last.len());
    drive.run(20_000);
    let per_second = drive.run(10_000) / 10;
    assert!((100..400).contains(&per_second), "{per_second} values a second");
}

#[test]
fn vehicles_start_at_different_places() {
    let mut places: Vec<_> = (0..8).map(|seed| Drive::new(seed).vehicle.motion.along as u64).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_same_seed_drives_the_same_way(seed in any::<u64>()) {
        let (mut one, mut two) = (Drive::new(seed), Drive::new(seed));
        for drive in [&mut one, &mut two] {
            drive.run(20_000);
            drive.apply(Class::Body, WINDOW, Value::Int(40));
            drive.run(20_000);
        }
        prop_assert_eq!(&one.last, &two.last);
    }

    #[test]
    fn looking_more_often_changes_nothing(seed in any::<u64>()) {
        let (mut often, mut seldom) = (Drive::new(seed), Drive::new(seed));
        often.run(4_000);
        seldom.now = seldom.now + ms(3_950);
        seldom.run(50);
        prop_assert_eq!(&often.last, &seldom.last);
    }
}
