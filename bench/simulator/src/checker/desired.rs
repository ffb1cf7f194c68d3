//! Desired state: ONCE per path and version, FRESH by its validity, DURABLE before its answer, truthful in its
//! status (ACK-TRUTH), and reached after the faults have stopped (LIVENESS).

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use super::book::Book;
use super::event::{Event, Name, What};
use super::wish::Wish;

/// Every rule about it.
pub(super) fn rules() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(Once::default()),
        Box::new(Fresh::default()),
        Box::new(Durable::default()),
        Box::new(Truth),
        Box::new(Liveness),
    ]
}

fn wish(event: &Event) -> Option<&Wish> {
    if let What::Wish(wish) = &event.what { Some(wish) } else { None }
}

/// At most one actuation per path and version, never for an older version, never before it is on the disk.
#[derive(Debug, Default)]
struct Once {
    /// By vehicle and path.
    decided: BTreeMap<(Name, Name), u64>,
    acted: BTreeMap<(Name, Name), u64>,
}

impl Rule for Once {
    fn invariant(&self) -> &'static str {
        "ONCE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let wish = wish(event)?;
        if let Wish::Decided { path, version } = wish {
            self.decided.insert((event.node.clone(), path.clone()), *version);
        }
        let Wish::Acted { path, version, .. } = wish else { return None };
        let place = (event.node.clone(), path.clone());
        let is_decided = self.decided.get(&place) == Some(version);
        let before = self.acted.insert(place, *version).filter(|before| before >= version);
        if let Some(before) = before {
            return Some(format!("acted for version {version} of {path} after version {before}"));
        }
        (!is_decided).then(|| format!("acted for version {version} of {path}, not decided on the disk"))
    }
}

/// What may act, and until when: by vehicle, path and version, since gateways that know nothing of each other may
/// give out the same number.
type Valid = BTreeMap<(Name, Name, u64), Vec<(i64, Option<u64>)>>;

/// Nothing acts after its validity, or that nobody desired.
#[derive(Debug, Default)]
struct Fresh {
    asked: Valid,
}

/// The gateway and the vehicle measure a validity one after the other, each by a clock off by one per mille.
fn with_drift(asked_at: u64, until: u64) -> u64 {
    until + (until - asked_at) / 500 + 1
}

impl Rule for Fresh {
    fn invariant(&self) -> &'static str {
        "FRESH"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        match wish(event)? {
            Wish::Asked { vehicle, version, edits, until, .. } => {
                let until = until.map(|until| with_drift(event.at, until));
                for (path, value) in edits {
                    let place = (vehicle.clone(), path.clone(), *version);
                    self.asked.entry(place).or_default().extend(value.map(|value| (value, until)));
                }
                None
            }
            Wish::Acted { path, version, value, .. } => {
                let place = (event.node.clone(), path.clone(), *version);
                let asked = self.asked.get(&place).map_or(&[][..], Vec::as_slice);
                let of_value = || asked.iter().filter(|(wanted, _)| wanted == value);
                if of_value().any(|(_, until)| until.is_none_or(|until| event.at <= until)) {
                    return None;
                }
                let why =
                    if of_value().next().is_some() { "after its validity" } else { "nobody desired it" };
                Some(format!("version {version} of {path} was acted upon: {why}"))
            }
            Wish::Stored { .. }
            | Wish::Answered { .. }
            | Wish::Loaded { .. }
            | Wish::Decided { .. }
            | Wish::Told { .. }
            | Wish::Rested { .. }
            | Wish::VersionsRested { .. } => None,
        }
    }
}

/// A version is on the disk before it is answered, stays there, is given out once, and follows the one that the
/// operator named.
#[derive(Debug, Default)]
struct Durable {
    stored: BTreeSet<(Name, Name, u64)>,
    /// By gateway and vehicle: answered, and present.
    answered: BTreeMap<(Name, Name), u64>,
    present: BTreeMap<(Name, Name), u64>,
}

impl Rule for Durable {
    fn invariant(&self) -> &'static str {
        "DURABLE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let place = |vehicle: &Name| (event.node.clone(), vehicle.clone());
        match wish(event)? {
            Wish::Asked { vehicle, version, base, .. } => {
                let present = self.present.get(&place(vehicle)).copied().unwrap_or(0);
                if let Some(base) = base.filter(|base| *base != present) {
                    return Some(format!("a change to version {base} was taken at version {present}"));
                }
                // What was promised and never stored may be promised again.
                let of_vehicle = (event.node.clone(), vehicle.clone(), 0)
                    ..=(event.node.clone(), vehicle.clone(), u64::MAX);
                let stored = self.stored.range(of_vehicle).next_back().map_or(0, |(_, _, version)| *version);
                let floor = present.max(stored);
                (*version <= floor).then(|| format!("version {version} was given out after {floor}"))
            }
            Wish::Stored { vehicle, version } => {
                self.stored.insert((event.node.clone(), vehicle.clone(), *version));
                None
            }
            Wish::Answered { vehicle, version } => {
                self.answered.insert(place(vehicle), *version);
                self.present.insert(place(vehicle), *version);
                let is_stored = self.stored.contains(&(event.node.clone(), vehicle.clone(), *version));
                (!is_stored).then(|| format!("version {version} was answered before it was on the disk"))
            }
            Wish::Loaded { vehicle, version } => {
                self.present.insert(place(vehicle), *version);
                let answered = self.answered.get(&place(vehicle)).copied().unwrap_or(0);
                (*version < answered)
                    .then(|| format!("version {answered} was answered, and is {version} after a restart"))
            }
            Wish::Decided { .. }
            | Wish::Acted { .. }
            | Wish::Told { .. }
            | Wish::Rested { .. }
            | Wish::VersionsRested { .. } => None,
        }
    }
}

/// What is told to be in sync holds.
#[derive(Debug)]
struct Truth;

impl Rule for Truth {
    fn invariant(&self) -> &'static str {
        "ACK-TRUTH"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let Wish::Told { path, version, status, holds } = wish(event)? else { return None };
        (&**status == "IN_SYNC" && !holds)
            .then(|| format!("version {version} of {path} is called IN_SYNC and does not hold"))
    }
}

/// Long after the faults: the vehicle has answered the newest version, each path is at rest, its status is true,
/// and what was desired since then holds.
#[derive(Debug)]
struct Liveness;

impl Rule for Liveness {
    fn invariant(&self) -> &'static str {
        "LIVENESS"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        match wish(event)? {
            Wish::VersionsRested { vehicle, version, answered } => (version != answered)
                .then(|| format!("{vehicle} has answered version {answered}, {version} is desired")),
            Wish::Rested { vehicle, path, status, desired, reported, holds, is_readable, is_expected } => {
                let is = holds == &Some(*desired);
                let wrong = match &**status {
                    "PENDING" | "APPLYING" => "does not come to rest",
                    "IN_SYNC" if !is => "is called in sync and is not",
                    "IN_SYNC" if *reported != Some(*desired) => "is in sync and reported otherwise",
                    "DIVERGED" | "GIVEN_UP" if is && *is_readable => "holds and is not called in sync",
                    status if *is_expected && status != "IN_SYNC" => "was not brought about",
                    _ => return None,
                };
                Some(format!("{path} of {vehicle} {wrong} ({status})"))
            }
            Wish::Asked { .. }
            | Wish::Stored { .. }
            | Wish::Answered { .. }
            | Wish::Loaded { .. }
            | Wish::Decided { .. }
            | Wish::Acted { .. }
            | Wish::Told { .. } => None,
        }
    }
}
