//! What the log says of each command so far: what most rules have to know.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, Name, Refused, What, is_end};

/// One acceptance of a key by a gateway: from here a command's life counts.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) gateway: Name,
    pub(super) id: Name,
    pub(super) class: Name,
    pub(super) print: u64,
    pub(super) born: u64,
    pub(super) ttl: u64,
    pub(super) at: u64,
    /// The last phase at the gateway, and when.
    pub(super) phase: Option<(Name, u64)>,
    /// The gateway's process has ended since, and its memory with it: what was on its disk by then it takes up again.
    pub(super) is_lost: bool,
}

/// What a vehicle's journal holds of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum OnDisk {
    #[default]
    Nothing,
    Intent,
    Ended(Name),
}

/// One command key of one vehicle.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) lives: Vec<Life>,
    /// What was asked of which gateway and may have been taken: its fingerprint, and until when it could live.
    pub(super) asked: Vec<(Name, u64, u64)>,
    /// When each effect was, with its fingerprint.
    pub(super) effects: Vec<(u64, u64)>,
    /// The fingerprint of what the vehicle's disk holds, where that is told.
    pub(super) print: Option<u64>,
    /// What the vehicle's disk holds of it now.
    pub(super) durable: OnDisk,
    /// The last end that the vehicle told, since it last forgot: when, phase, fingerprint.
    pub(super) said: Option<(u64, Name, Option<u64>)>,
    /// The first that the vehicle saw of it since it last forgot.
    pub(super) seen: Option<u64>,
    /// The fingerprints of which the journal has held a success; `None`: of whichever wish.
    pub(super) succeeded: Vec<Option<u64>>,
    /// All that was said of it.
    pub(super) events: Vec<Event>,
}

/// One state of control, as an operator's hands made it.
#[derive(Clone, Debug)]
pub(super) struct Steering {
    pub(super) at: u64,
    /// `None`: the hands of two made the same, and it is either's.
    pub(super) operator: Option<Name>,
    pub(super) token: u64,
    pub(super) counter: u64,
    pub(super) neutral: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<(Name, Name), Entry>,
    /// Control by vehicle and fingerprint.
    steered: BTreeMap<(Name, u64), Steering>,
    /// Vehicles whose disk has failed under the process that runs.
    broken: BTreeSet<Name>,
    /// By gateway, what its process took back and its disk may have all the same: vehicle, key and fingerprint.
    taken_back: BTreeMap<Name, Vec<(Name, Name, u64)>>,
    /// By gateway, the records that are on its disk.
    stored: BTreeMap<Name, BTreeSet<Name>>,
}

impl Book {
    /// Takes note of an event. Rules look at the book before that.
    pub(super) fn note(&mut self, event: &Event) {
        match &event.what {
            What::Died => self.died(&event.node),
            What::DiskFailed => self.disk_failed(&event.node),
            What::Stored { id, .. } => self.stored(&event.node, id),
            What::Refused { vehicle, key, print, why: Refused::TakenBack, .. } => {
                let place = (vehicle.clone(), key.clone(), *print);
                self.taken_back.entry(event.node.clone()).or_default().push(place);
            }
            What::Steered { vehicle, operator, token, counter, print, neutral } => {
                let place = (vehicle.clone(), *print);
                let is_same = |before: &Steering| before.operator.as_ref() == Some(operator);
                let is_theirs = self.steered.get(&place).is_none_or(is_same);
                let operator = is_theirs.then(|| operator.clone());
                let (token, counter, neutral) = (*token, *counter, *neutral);
                let steering = Steering { at: event.at, operator, token, counter, neutral };
                self.steered.insert(place, steering);
            }
            what => {
                let Some((vehicle, key)) = what.command(&event.node) else { return };
                let is_broken = self.broken.contains(vehicle);
                let entry = self.entries.entry((vehicle.clone(), key.clone())).or_default();
                entry.events.push(event.clone());
                entry.note(event, is_broken);
            }
        }
    }

    /// The disk of this gateway works: what failed on it before is gone.
    fn stored(&mut self, gateway: &Name, id: &Name) {
        self.stored.entry(gateway.clone()).or_default().insert(id.clone());
        for (vehicle, key, print) in self.taken_back.remove(gateway).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&(vehicle, key)) {
                entry.refused(gateway, print);
            }
        }
    }

    fn died(&mut self, node: &Name) {
        self.broken.remove(node);
        self.taken_back.remove(node);
        let stored = self.stored.get(node);
        let is_stored = |life: &Life| stored.is_some_and(|stored| stored.contains(&life.id));
        for life in self.entries.values_mut().flat_map(|entry| &mut entry.lives) {
            life.is_lost |= life.gateway == *node && !is_stored(life);
        }
    }

    /// What such a disk does not hold is forgotten at the next restart.
    fn disk_failed(&mut self, node: &Name) {
        self.broken.insert(node.clone());
        let of_node = self.entries.iter_mut().filter(|((vehicle, _), _)| vehicle == node);
        for (_, entry) in of_node.filter(|(_, entry)| !matches!(entry.durable, OnDisk::Ended(_))) {
            entry.said = None;
        }
    }

    /// What is known of the command that the event is about.
    pub(super) fn of(&self, event: &Event) -> Option<&Entry> {
        let (vehicle, key) = event.what.command(&event.node)?;
        self.entries.get(&(vehicle.clone(), key.clone()))
    }

    /// The state of control of this fingerprint, as it was made for `vehicle`.
    pub(super) fn steered(&self, vehicle: &Name, print: u64) -> Option<&Steering> {
        self.steered.get(&(vehicle.clone(), print))
    }

    /// Every command.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&(Name, Name), &Entry)> {
        self.entries.iter()
    }
}

impl Entry {
    fn note(&mut self, event: &Event, is_broken: bool) {
        let what = &event.what;
        if let What::Accepted { id, class, print, born, ttl, .. } = what {
            self.lives.push(Life {
                gateway: event.node.clone(),
                id: id.clone(),
                class: class.clone(),
                print: *print,
                born: *born,
                ttl: *ttl,
                at: event.at,
                phase: None,
                is_lost: false,
            });
        } else if let What::Phase { id, phase, .. } = what {
            if let Some(life) = self.lives.iter_mut().find(|life| life.id == *id) {
                life.phase = Some((phase.clone(), event.at));
            }
        } else if let What::Asked { print, until, .. } = what {
            self.asked.push((event.node.clone(), *print, *until));
        } else if let What::Refused { print, .. } = what {
            self.refused(&event.node, *print);
        } else if let What::Seen { .. } = what {
            self.seen = self.seen.or(Some(event.at));
        } else if let What::Durable { verdict, print, .. } = what {
            self.print = *print;
            self.durable = verdict.clone().map_or(OnDisk::Intent, OnDisk::Ended);
            if verdict.as_deref() == Some("SUCCEEDED") {
                self.succeeded.push(*print);
            }
        } else if let What::Forgot { .. } = what {
            (self.durable, self.said, self.seen) = (OnDisk::Nothing, None, None);
        } else if let What::Effect { print, .. } = what {
            self.effects.push((event.at, *print));
        } else if let What::Said { phase, print, .. } = what
            && is_end(phase)
            && (!is_broken || matches!(self.durable, OnDisk::Ended(_)))
        {
            self.said = Some((event.at, phase.clone(), *print));
        }
    }

    /// It was not taken there, and will not execute.
    fn refused(&mut self, gateway: &Name, print: u64) {
        self.asked.retain(|(asked_of, asked, _)| asked_of != gateway || *asked != print);
    }

    /// Whether the journal has held the success of this wish.
    pub(super) fn has_succeeded(&self, print: u64) -> bool {
        self.succeeded.iter().any(|of| of.is_none_or(|of| of == print))
    }

    /// Whether some life of this wish was going on at `at`.
    pub(super) fn lives_at(&self, at: u64, print: u64) -> bool {
        self.lives.iter().any(|life| life.print == print && life.covers(at))
    }
}

impl Life {
    /// Whether the command may take effect at `at`.
    pub(super) fn covers(&self, at: u64) -> bool {
        (self.born..=self.born + self.ttl).contains(&at)
    }
}

impl What {
    /// The command that it is about: vehicle and key. `node` is where it happened.
    fn command<'a>(&'a self, node: &'a Name) -> Option<(&'a Name, &'a Name)> {
        match self {
            Self::Accepted { vehicle, key, .. }
            | Self::Asked { vehicle, key, .. }
            | Self::Repeated { vehicle, key, .. }
            | Self::Refused { vehicle, key, .. }
            | Self::Phase { vehicle, key, .. }
            | Self::Expected { vehicle, key, .. } => Some((vehicle, key)),
            Self::Seen { key, .. }
            | Self::Durable { key, .. }
            | Self::Forgot { key }
            | Self::Effect { key, .. }
            | Self::Said { key, .. } => Some((node, key)),
            Self::Stored { .. }
            | Self::Sent { .. }
            | Self::Unsent { .. }
            | Self::Over { .. }
            | Self::Rebooted
            | Self::Wish(_)
            | Self::Stopped
            | Self::Began
            | Self::Died
            | Self::DiskFailed
            | Self::EpochDurable { .. }
            | Self::Established { .. }
            | Self::Handed { .. }
            | Self::Settled { .. }
            | Self::Delivered { .. }
            | Self::Gap { .. }
            | Self::Shown { .. }
            | Self::Lease { .. }
            | Self::TokenDurable { .. }
            | Self::LeaseHeard { .. }
            | Self::Steered { .. }
            | Self::Controlled { .. }
            | Self::Rearmed { .. }
            | Self::Driving { .. }
            | Self::ReleaseDurable { .. }
            | Self::Released
            | Self::Suspended { .. }
            | Self::Partitioned { .. }
            | Self::ExpectedDriving { .. }
            | Self::Held { .. }
            | Self::Draining { .. }
            | Self::SentAway { .. }
            | Self::Healed
            | Self::Rested { .. } => None,
        }
    }
}
