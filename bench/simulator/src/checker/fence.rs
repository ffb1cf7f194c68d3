//! FENCE: only the newest lease acts, on the vehicle's disk by then, and only while it lives; and no gateway
//! grants one token twice.
//!
//! What a log does not say is not judged: without the vehicle's word of its disk nothing is asked of that.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::event::{Event, Name, What};

/// A lease of two seconds, measured by two clocks that are off by a per mille each: 4 ms, and microseconds that
/// are whole.
const DRIFT: u64 = 5_000;

/// What a vehicle knows of leases.
#[derive(Debug, Default)]
struct Vehicle {
    newest: u64,
    /// The newest has ended, and the vehicle has heard so.
    ended: bool,
    /// What its disk holds; `None`: the log does not say.
    durable: Option<u64>,
    /// It has just begun and not said yet what it remembers.
    is_new: bool,
    /// Who steers, since it was armed.
    driver: Option<Name>,
}

/// What a gateway has granted to one vehicle.
#[derive(Debug)]
struct Granted {
    token: u64,
    operator: Name,
    /// The gateway's process has ended since.
    is_old: bool,
}

/// A lease, whichever gateway granted it.
#[derive(Debug, Default)]
struct Life {
    holders: BTreeSet<Name>,
    /// `None`: nobody knows when it ends.
    until: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Fence {
    vehicles: BTreeMap<Name, Vehicle>,
    /// By vehicle and token.
    lives: BTreeMap<(Name, u64), Life>,
    /// By gateway and vehicle.
    granted: BTreeMap<(Name, Name), Granted>,
    /// The highest token on a gateway's disk, by gateway and vehicle.
    kept: BTreeMap<(Name, Name), u64>,
}

impl super::Rule for Fence {
    fn invariant(&self) -> &'static str {
        "FENCE"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let node = &event.node;
        match &event.what {
            What::Lease { vehicle, token, operator, until } => {
                self.lives(vehicle, *token, operator, *until);
                self.grants(node, vehicle, *token, operator)
            }
            What::TokenDurable { vehicle, token } if vehicle == node => {
                let durable = &mut self.vehicle(node).durable;
                *durable = (*durable).max(Some(*token));
                None
            }
            What::TokenDurable { vehicle, token } => {
                let kept = self.kept.entry((node.clone(), vehicle.clone())).or_default();
                *kept = (*kept).max(*token);
                None
            }
            What::LeaseHeard { token, ended } => {
                let vehicle = self.vehicle(node);
                if *token > vehicle.newest {
                    (vehicle.newest, vehicle.ended) = (*token, *ended);
                } else if *token == vehicle.newest {
                    vehicle.ended |= ended;
                }
                None
            }
            What::Began | What::Died => {
                self.restarted(node);
                None
            }
            What::Driving { armed, token, .. } => self.says(node, *armed, *token),
            What::Rearmed { token, .. } => self.acts(event.at, node, *token),
            What::Effect { class, token: 0, key, .. } if &**class == "drive" => {
                Some(format!("the drive command {key} acted without a lease"))
            }
            What::Effect { token, .. } if *token > 0 => self.acts(event.at, node, *token),
            What::Controlled { token, print } if *token > 0 => {
                self.acts(event.at, node, *token).or_else(|| self.steers(book, node, *token, *print))
            }
            _ => None,
        }
    }
}

impl Fence {
    fn vehicle(&mut self, node: &Name) -> &mut Vehicle {
        self.vehicles.entry(node.clone()).or_default()
    }

    fn lives(&mut self, vehicle: &Name, token: u64, operator: &Name, until: Option<u64>) {
        let is_known = self.lives.contains_key(&(vehicle.clone(), token));
        let life = self.lives.entry((vehicle.clone(), token)).or_default();
        life.holders.insert(operator.clone());
        // Once nobody knows, nobody knows any more.
        life.until = if is_known { life.until.and_then(|old| until.map(|new| old.max(new))) } else { until };
    }

    fn grants(&mut self, gateway: &Name, vehicle: &Name, token: u64, operator: &Name) -> Option<String> {
        let place = (gateway.clone(), vehicle.clone());
        let tells_of_its_disk = self.kept.keys().any(|(other, _)| other == gateway);
        let kept = self.kept.get(&place).copied().unwrap_or_default();
        if tells_of_its_disk && kept < token {
            return Some(format!("token {token} was granted before it was on the disk"));
        }
        let new = Granted { token, operator: operator.clone(), is_old: false };
        let before = self.granted.insert(place, new)?;
        let is_same = before.token == token && before.operator == *operator && !before.is_old;
        (token <= before.token && !is_same)
            .then(|| format!("token {token} was granted after token {}, to another", before.token))
    }

    fn restarted(&mut self, node: &Name) {
        if let Some(vehicle) = self.vehicles.get_mut(node) {
            // Without a word of its disk it is held to what it has seen.
            vehicle.newest = vehicle.durable.unwrap_or(vehicle.newest);
            (vehicle.ended, vehicle.is_new, vehicle.driver) = (false, true, None);
        }
        let of_node = self.granted.iter_mut().filter(|((gateway, _), _)| gateway == node);
        of_node.for_each(|(_, granted)| granted.is_old = true);
    }

    /// The vehicle's word of itself.
    fn says(&mut self, node: &Name, armed: bool, token: u64) -> Option<String> {
        let vehicle = self.vehicle(node);
        if !armed {
            vehicle.driver = None;
        }
        let is_first = std::mem::take(&mut vehicle.is_new);
        if is_first && vehicle.durable.is_none() {
            // Its disk has never held any: what it had seen is gone, and was never obeyed.
            vehicle.newest = token;
        }
        let durable = vehicle.durable.unwrap_or_default();
        (is_first && token < durable)
            .then(|| format!("the vehicle restarted with token {token}, its disk holds {durable}"))
    }

    /// Something acts under `token` at `at`.
    fn acts(&mut self, at: u64, node: &Name, token: u64) -> Option<String> {
        let vehicle = self.vehicles.entry(node.clone()).or_default();
        if token < vehicle.newest {
            return Some(format!("acted under token {token} after token {}", vehicle.newest));
        }
        if token > vehicle.newest {
            (vehicle.newest, vehicle.ended) = (token, false);
        }
        let Some(life) = self.lives.get(&(node.clone(), token)) else {
            return Some(format!("acted under token {token}, which nobody was granted"));
        };
        if vehicle.durable.is_some_and(|durable| durable < token) {
            return Some(format!("acted under token {token}, which was not on the disk yet"));
        }
        if vehicle.ended {
            return Some(format!("acted under token {token}, which the vehicle knew to have ended"));
        }
        let late = life.until.filter(|until| at > until + DRIFT).map(|until| at - until);
        late.map(|late| format!("acted under token {token}, {} ms after its end", late / 1_000))
    }

    /// At any instant at most one operator steers, and one who was granted the lease.
    fn steers(&mut self, book: &Book, node: &Name, token: u64, print: u64) -> Option<String> {
        let operator = book.steered(node, print)?.operator.as_ref()?;
        let life = self.lives.get(&(node.clone(), token))?;
        if !life.holders.contains(operator) {
            return Some(format!("{operator} steered under token {token}, which is not theirs"));
        }
        let driver = self.vehicle(node).driver.get_or_insert_with(|| operator.clone());
        (driver != operator).then(|| format!("{operator} and {driver} steered at once"))
    }
}
