//! What makes a plan fit to be run, beyond being well-formed.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use carriageway_netem::profile::{ProfileError, Scenario, read_trace};

use super::{Claim, Plan, PlannedLink, file_name};
use crate::compare::figures::{OF_FLEETS, metrics};
use crate::compare::subjects;
use crate::compare::workload::Workload;

/// Blocks of a plan: intervals over a hundred are narrower than the method is exact.
const MOST_BLOCKS: u32 = 1_000;

/// Links and subjects of a plan: its tables stay readable, and every link of a block has its own seed.
const MOST: usize = 64;

/// The first seed: with all blocks and links it stays far within 64 bits, and within TOML's integers.
const MOST_SEED: u64 = 1_000_000_000_000;

/// How late the emulator may be once: from what a calm machine keeps to the shortest limit of being on time.
const LATE_ONCE_MS: RangeInclusive<u16> = 1..=50;

/// Vehicles of a cell: of more it is the machine that is measured.
const VEHICLES: RangeInclusive<u16> = 1..=50;

/// A name in tables and files.
const LONGEST_NAME: usize = 64;

/// What a plan may name.
#[derive(Clone, Debug)]
pub struct Known {
    /// Why there is no subject of this name in this build; `None` where there is one.
    pub why_not: fn(&str) -> Option<String>,
    /// Why a subject carries no more than one vehicle; `None` where it does.
    pub no_fleet: fn(&str) -> Option<&'static str>,
    /// The metrics that can be claimed.
    pub metrics: Vec<String>,
}

/// Where in a plan something stands, as in `link.profile`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

/// One step into a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To a key of a table.
    Key(&'static str),
    /// To an element of a list, counted from zero.
    Nth(usize),
}

impl Known {
    /// What this build knows.
    pub fn here() -> Self {
        let metrics = metrics().into_iter().map(|metric| metric.name).collect();
        let why_not = |name: &str| subjects::named(name).err().map(|why| format!("{why:#}"));
        Self { why_not, no_fleet: subjects::no_fleet, metrics }
    }
}

impl Place {
    /// At a key of the whole.
    pub fn of(key: &'static str) -> Self {
        Self(vec![Step::Key(key)])
    }

    /// Further in.
    #[must_use]
    pub fn key(mut self, key: &'static str) -> Self {
        self.0.push(Step::Key(key));
        self
    }

    /// At an element.
    #[must_use]
    pub fn nth(mut self, index: usize) -> Self {
        self.0.push(Step::Nth(index));
        self
    }

    /// From the whole to it.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(*key),
            Step::Nth(_) => None,
        });
        f.write_str(&keys.collect::<Vec<_>>().join("."))
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where.
    pub place: Place,
    /// What, and what to write instead.
    pub message: String,
}

impl Complaint {
    fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

impl Plan {
    /// Everything that keeps it from being run; nothing where it can be. Reads the files of links.
    pub fn check(&self, known: &Known) -> Vec<Complaint> {
        let mut all = self.check_numbers();
        all.extend(self.check_subjects(known.why_not));
        all.extend(self.check_links());
        all.extend(check_workload(&self.workload));
        all.extend(self.check_rival());
        all.extend(self.check_fleet(known.no_fleet));
        all.extend(self.check_claims());
        all.extend(self.check_metrics(&known.metrics));
        all
    }

    /// Claims of what no report has.
    pub fn check_metrics(&self, known: &[String]) -> Vec<Complaint> {
        let mut all = Vec::new();
        for (index, Claim { metric, .. }) in self.claim.iter().enumerate() {
            let message = if !known.contains(metric) {
                format!("no metric is named {metric:?}; there are {}", known.join(", "))
            } else if self.workload.vehicles == 1 && OF_FLEETS.contains(&metric.as_str()) {
                format!("{metric:?} is of several vehicles; claim another, or write `vehicles = 2` or more")
            } else {
                continue;
            };
            all.push(Complaint::new(Place::of("claim").nth(index).key("metric"), message));
        }
        all
    }

    fn check_numbers(&self) -> Vec<Complaint> {
        let mut all = Vec::new();
        if self.title.trim().is_empty() {
            all.push(Complaint::new(Place::of("title"), "a report needs a title; write one"));
        }
        if !(1..=MOST_BLOCKS).contains(&self.blocks) {
            let message = format!(
                "{} blocks cannot be run; write 1 to {MOST_BLOCKS}, 10 or more for intervals that say something",
                self.blocks
            );
            all.push(Complaint::new(Place::of("blocks"), message));
        }
        if !LATE_ONCE_MS.contains(&self.late_once_ms) {
            let message = format!(
                "is no limit that means anything; write {} to {}",
                LATE_ONCE_MS.start(),
                LATE_ONCE_MS.end()
            );
            all.push(Complaint::new(Place::of("late-once-ms"), message));
        }
        if self.first_seed > MOST_SEED {
            let message = format!("is too large; write one up to {MOST_SEED}");
            all.push(Complaint::new(Place::of("first-seed"), message));
        }
        all
    }

    fn check_subjects(&self, why_not: fn(&str) -> Option<String>) -> Vec<Complaint> {
        let mut all = Vec::new();
        let place = || Place::of("subjects");
        if self.subjects.is_empty() || self.subjects.len() > MOST {
            all.push(Complaint::new(
                place(),
                format!("name 1 to {MOST} subjects; `carriageway-bench list` shows them"),
            ));
        }
        let mut seen = BTreeSet::new();
        for (index, subject) in self.subjects.iter().enumerate() {
            let here = place().nth(index);
            if let Some(message) = why_not(subject) {
                all.push(Complaint::new(here, message));
            } else if !seen.insert(subject) {
                all.push(Complaint::new(
                    here,
                    format!("{subject:?} is there twice; every subject runs once in a block"),
                ));
            }
        }
        if !self.subjects.contains(&self.reference) {
            let message = format!(
                "{:?} is not among the subjects, and differences are taken to it; add it to `subjects` or name one of {}",
                self.reference,
                self.subjects.join(", ")
            );
            all.push(Complaint::new(Place::of("reference"), message));
        }
        all.extend(why_not(&self.floor).map(|message| Complaint::new(Place::of("floor"), message)));
        all
    }

    fn check_links(&self) -> Vec<Complaint> {
        let mut all = Vec::new();
        if self.link.is_empty() || self.link.len() > MOST {
            let message = format!(
                "1 to {MOST} [[link]] tables make a plan; write `[[link]]` and `profile = \"lte-edge\"`"
            );
            all.push(Complaint::new(Place::of("link"), message));
        }
        let mut seen = BTreeSet::new();
        for (index, link) in self.link.iter().enumerate() {
            let place = Place::of("link").nth(index);
            if let Some(message) = bad_name(link.name()) {
                all.push(Complaint::new(place.clone().key("name"), message));
            } else if !seen.insert(file_name(link.name())) {
                let message = format!("a second link is called {:?}; give it another `name`", link.name());
                all.push(Complaint::new(place.clone(), message));
            }
            all.extend(check_link(link, &place));
        }
        all
    }

    fn check_fleet(&self, no_fleet: fn(&str) -> Option<&'static str>) -> Vec<Complaint> {
        let vehicles = self.workload.vehicles;
        let place = || Place::of("workload").key("vehicles");
        if !VEHICLES.contains(&vehicles) {
            let message =
                format!("{vehicles} is not possible; write {} to {}", VEHICLES.start(), VEHICLES.end());
            return vec![Complaint::new(place(), message)];
        }
        if vehicles == 1 {
            return Vec::new();
        }
        let mut all = Vec::new();
        if self.is_virtual {
            let message = "virtual time has one vehicle; leave it out, or write `virtual = false`";
            all.push(Complaint::new(place(), message));
        }
        if self.workload.rival {
            let message = "a rival has one vehicle beside it; leave one of the two out";
            all.push(Complaint::new(place(), message));
        }
        let subjects = (0..).map(|index| Place::of("subjects").nth(index)).zip(&self.subjects);
        for (place, subject) in subjects.chain([(Place::of("floor"), &self.floor)]) {
            all.extend(no_fleet(subject).map(|why| {
                let message =
                    format!("{subject:?} carries one vehicle: {why}; leave it out, or write `vehicles = 1`");
                Complaint::new(place, message)
            }));
        }
        all
    }

    fn check_rival(&self) -> Option<Complaint> {
        let Workload { rival, log, map, .. } = self.workload;
        let message = match (rival, log || map, self.is_virtual) {
            (false, _, _) | (true, true, false) => return None,
            (true, false, _) => {
                "it sends while files are transferred; write `log = true` or `map = true`, or leave it out"
            }
            (true, true, true) => "there is no TCP in virtual time; leave it out, or write `virtual = false`",
        };
        Some(Complaint::new(Place::of("workload").key("rival"), message))
    }

    fn check_claims(&self) -> Vec<Complaint> {
        let mut all = Vec::new();
        for (index, claim) in self.claim.iter().enumerate() {
            all.extend(self.check_claim(claim, &Place::of("claim").nth(index)));
        }
        all
    }

    fn check_claim(&self, claim: &Claim, place: &Place) -> Vec<Complaint> {
        let mut all = Vec::new();
        for (key, subject) in [("better", &claim.better), ("than", &claim.than)] {
            if !self.subjects.contains(subject) {
                let there = self.subjects.join(", ");
                let message = format!("{subject:?} is none of this plan's subjects, which are {there}");
                all.push(Complaint::new(place.clone().key(key), message));
            }
        }
        if claim.better == claim.than {
            all.push(Complaint::new(
                place.clone().key("than"),
                "a subject is not better than itself; name another",
            ));
        }
        for (index, name) in claim.links.iter().enumerate() {
            if !self.link.iter().any(|link| link.name() == name) {
                let there: Vec<_> = self.link.iter().map(PlannedLink::name).collect();
                let message =
                    format!("{name:?} is none of this plan's links, which are {}", there.join(", "));
                all.push(Complaint::new(place.clone().key("links").nth(index), message));
            }
        }
        all
    }
}

/// Names stand in the names of files.
fn bad_name(name: &str) -> Option<String> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_./ ".contains(c);
    let is_good = name.len() <= LONGEST_NAME
        && name.chars().all(is_fit)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!is_good).then(|| {
        format!("{name:?} is no name for a link; write 1 to {LONGEST_NAME} letters, digits, spaces and -_./, a letter or digit first")
    })
}

fn check_link(link: &PlannedLink, place: &Place) -> Vec<Complaint> {
    let mut all = Vec::new();
    if let Err(error) = Scenario::find(&link.profile) {
        all.push(Complaint::new(place.clone().key("profile"), error.to_string()));
    }
    for (index, file) in link.trace.iter().flatten().enumerate() {
        if let Err(error) = read_trace(file) {
            let packed = file.extension().is_some_and(|extension| extension == "gz");
            let hint = if packed { "; unpack it with gunzip first" } else { "" };
            all.push(Complaint::new(
                place.clone().key("trace").nth(index),
                format!("{}{hint}", in_one_line(&error)),
            ));
        }
    }
    all
}

fn in_one_line(error: &ProfileError) -> String {
    error.to_string().replace('\n', "; ")
}

/// So that a typing error costs a line on the terminal and not a night.
fn check_workload(workload: &Workload) -> Vec<Complaint> {
    let mut all = Vec::new();
    let mut within = |key, value: f64, least: f64, most: f64, unit: &str| {
        if !(least..=most).contains(&value) {
            let message = format!("{value} is not possible; write {least} to {most} {unit}");
            all.push(Complaint::new(Place::of("workload").key(key), message));
        }
    };
    within("seconds", workload.seconds, 1.0, 600.0, "seconds");
    within("control_hz", workload.control_hz, 0.0, 1_000.0, "per second");
    within("telemetry_hz", workload.telemetry_hz, 0.0, 1_000.0, "per second");
    within("snapshot_hz", workload.snapshot_hz, 0.0, 100.0, "per second");
    within("commands_hz", workload.commands_hz, 0.0, 1_000.0, "per second");
    within("camera_mbits", workload.camera_mbits, 0.0, 100.0, "Mbit/s");
    all
}

#[cfg(test)]
mod tests;
