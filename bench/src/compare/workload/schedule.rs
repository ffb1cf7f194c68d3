//! What is due when. It follows from the workload and the seed alone: every subject of a block gets the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use carriageway_netem::core::Seed;
use carriageway_proto::Class;
use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};

use super::message::{Kind, Message};

/// The classes of commands.
const CLASSES: [Class; 4] = [Class::Safety, Class::Drive, Class::Body, Class::Config];

/// A load. All rates may be zero: nothing of it then. Where there are several vehicles, each has all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// How many vehicles, each on a link of its own, on one gateway.
    // Left out where there is one: results of before there were more stay as they are.
    #[serde(skip_serializing_if = "is_one")]
    pub vehicles: u16,
    /// Length, in seconds.
    pub seconds: f64,
    /// Control for the vehicle, per second.
    pub control_hz: f64,
    /// Signals from the vehicle, per second.
    pub telemetry_hz: f64,
    /// All of the vehicle's signals, per second.
    pub snapshot_hz: f64,
    /// Commands for the vehicle, per second on average, at moments of a Poisson process.
    pub commands_hz: f64,
    /// The vehicle uploads a log in the middle third.
    pub log: bool,
    /// The vehicle downloads a map in the middle third.
    pub map: bool,
    /// A camera's stream from the vehicle, in Mbit/s.
    pub camera_mbits: f64,
    /// While files are transferred, one TCP connection with CUBIC sends on the same link in their direction (up, where both are).
    pub rival: bool,
}

impl Default for Workload {
    /// `drive`, with a log.
    fn default() -> Self {
        Self {
            vehicles: 1,
            seconds: 30.0,
            control_hz: 50.0,
            telemetry_hz: 20.0,
            snapshot_hz: 1.0,
            commands_hz: 1.0,
            log: true,
            map: false,
            camera_mbits: 0.0,
            rival: false,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_one(vehicles: &u16) -> bool {
    *vehicles == 1
}

/// Of all that is drawn for one vehicle, counted from one, in a cell of this seed. The first has the cell's own, and each the same
/// whatever the subject and however many others there are.
pub const fn seed_of(cell: u64, vehicle: u16) -> u64 {
    Seed(cell).of_link((vehicle as u64).saturating_sub(1)).0
}

impl Workload {
    /// The vehicles' numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.vehicles
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// When files are transferred, from the start.
    pub fn transfers(&self) -> Range<Duration> {
        self.length() / 3..self.length() * 2 / 3
    }

    /// The same without what is sent as fast as it goes: the floor of the link.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self { log: false, map: false, rival: false, ..self.clone() }
    }

    fn hz(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Control => self.control_hz,
            Kind::Telemetry => self.telemetry_hz,
            Kind::Snapshot => self.snapshot_hz,
            Kind::Camera => self.camera_mbits * 1e6 / 8.0 / Kind::Camera.bytes() as f64,
            Kind::Command | Kind::Ack | Kind::Log | Kind::Map => 0.0,
        }
    }
}

/// A message and its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// From the start of the workload.
    pub at: Duration,
    /// What.
    pub message: Message,
}

/// Everything that is due, by time. Files and answers are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    all: Vec<Due>,
}

impl Schedule {
    /// Of one vehicle under this workload; `seed` draws the moments and classes of commands and where in their period the others begin.
    pub fn new(workload: &Workload, seed: u64) -> Self {
        let mut chance = Pcg32::seed_from_u64(seed);
        let mut all = Vec::new();
        for kind in [Kind::Control, Kind::Telemetry, Kind::Snapshot, Kind::Camera] {
            // Drawn even where there is none: the others stay as they are.
            let phase = unit(&mut chance);
            all.extend(periodic(kind, workload.hz(kind), phase, workload.seconds));
        }
        all.extend(poisson(&mut chance, workload.commands_hz, workload.seconds));
        all.sort_by_key(|due| due.at);
        Self { all }
    }

    /// By time.
    pub fn all(&self) -> &[Due] {
        &self.all
    }

    /// Of one kind, when each is due; numbers count up.
    pub fn of(&self, kind: Kind) -> BTreeMap<u32, Duration> {
        let of_kind = self.all.iter().filter(|due| due.message.kind == kind);
        of_kind.map(|due| (due.message.number, due.at)).collect()
    }
}

fn periodic(kind: Kind, hz: f64, phase: f64, seconds: f64) -> impl Iterator<Item = Due> {
    let moments = (0_u32..).map(move |number| (number, (f64::from(number) + phase) / hz));
    let within = moments.take_while(move |(_, at)| hz > 0.0 && *at < seconds);
    within
        .map(move |(number, at)| Due { at: Duration::from_secs_f64(at), message: Message::new(kind, number) })
}

fn poisson(chance: &mut Pcg32, hz: f64, seconds: f64) -> Vec<Due> {
    let mut commands = Vec::new();
    let mut at = 0.0;
    if hz <= 0.0 {
        return commands;
    }
    for number in 0.. {
        at += -(1.0 - unit(chance)).ln() / hz;
        if at >= seconds {
            break;
        }
        let class = CLASSES[chance.next_u32() as usize % CLASSES.len()];
        let message = Message { kind: Kind::Command, class, number };
        commands.push(Due { at: Duration::from_secs_f64(at), message });
    }
    commands
}

/// From zero to below one.
fn unit(chance: &mut Pcg32) -> f64 {
    f64::from(chance.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_rate_and_time_rises() {
        let workload = Workload { commands_hz: 20.0, camera_mbits: 4.0, ..Workload::default() };
        let schedule = Schedule::new(&workload, 7);
        assert!(schedule.all().is_sorted_by_key(|due| due.at));
        let counts = |kind| schedule.of(kind).len();
        assert_eq!(counts(Kind::Control), 1_500);
        assert_eq!(counts(Kind::Telemetry), 600);
        assert_eq!(counts(Kind::Snapshot), 30);
        assert_eq!(counts(Kind::Camera), 15_000);
        assert!((500..700).contains(&counts(Kind::Command)), "{}", counts(Kind::Command));
        assert!(schedule.all().last().unwrap().at < workload.length());
        assert_eq!(schedule, Schedule::new(&workload, 7));
        assert_ne!(schedule, Schedule::new(&workload, 8));
    }

    #[test]
    fn vehicles_have_phases_of_their_own_and_the_first_those_of_a_vehicle_alone() {
        let workload = Workload { vehicles: 50, ..Workload::default() };
        assert_eq!(workload.numbers().count(), 50);
        assert_eq!(seed_of(7_000, 1), 7_000);
        let firsts: BTreeMap<_, _> = workload
            .numbers()
            .map(|vehicle| (Schedule::new(&workload, seed_of(7_000, vehicle)).of(Kind::Control)[&0], vehicle))
            .collect();
        assert_eq!(firsts.len(), 50, "no two send in the same nanosecond: {firsts:?}");
    }

    #[test]
    fn a_vehicle_alone_is_not_written_and_is_read_where_nothing_stands() {
        let alone = toml::to_string(&Workload::default()).unwrap();
        assert!(!alone.contains("vehicles"), "{alone}");
        assert_eq!(toml::from_str::<Workload>(&alone).unwrap().vehicles, 1);
        let fleet = Workload { vehicles: 3, ..Workload::default() };
        assert_eq!(toml::from_str::<Workload>(&toml::to_string(&fleet).unwrap()).unwrap(), fleet);
    }

    #[test]
    fn nothing_is_due_of_what_has_no_rate() {
        let parked = Workload {
            control_hz: 0.0,
            telemetry_hz: 0.0,
            snapshot_hz: 0.0,
            commands_hz: 0.0,
            ..Workload::default()
        };
        assert!(Schedule::new(&parked, 1).all().is_empty());
    }

    #[test]
    fn the_floor_differs_in_nothing_but_the_files() {
        let workload = Workload { map: true, ..Workload::default() };
        let floor = workload.without_files();
        assert!(!floor.log && !floor.map);
        assert_eq!(Schedule::new(&workload, 3), Schedule::new(&floor, 3));
        assert_eq!(workload.transfers(), Duration::from_secs(10)..Duration::from_secs(20));
    }
}
