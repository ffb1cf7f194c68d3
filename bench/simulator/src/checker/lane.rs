//! LANE: within a lane messages arrive once and in order for the life of the session; expired ones are told as
//! a gap and are not sent on, and what certainly never left never arrives.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::event::{Event, LaneFate, Name, What};

/// What was handed to a connection before it expired arrives before that connection is given up for dead,
/// and while the receiver's host is suspended nobody gives it up.
const ON_THE_WAY: u64 = 27_000_000;

/// A sender that is awake gives a message up so soon after it has expired: no acknowledgement comes later.
const GIVEN_UP: u64 = 1_000_000;

/// So long after the end of a partition in which it expired: lost copies, and slow ways.
const AFTER_A_PARTITION: u64 = 10_000_000;

/// One lane of one sender. Its numbers rise across sessions.
#[derive(Debug, Default)]
struct Sender {
    expires: BTreeMap<u64, u64>,
    never_left: BTreeSet<u64>,
    /// Expired after they had left: a gap must name them, in the session where that was.
    expired: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    /// The newest handed over, and the newest when its receiver last died: that one may have acknowledged what it
    /// had no time to deliver.
    handed: u64,
    forgiven: u64,
    /// The session's epoch, its newest delivery, and the gap told in it.
    newest: (u64, u64),
    gaps: u64,
    needed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    senders: BTreeMap<(Name, Name), Sender>,
    /// Of each vehicle, the partitions, from and until.
    partitions: BTreeMap<Name, Vec<(u64, u64)>>,
    /// Until when hosts sleep, or slept last.
    asleep: BTreeMap<Name, u64>,
}

impl super::Rule for Lane {
    fn invariant(&self) -> &'static str {
        "LANE"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let place = |vehicle: &Name, lane: &Name| (vehicle.clone(), lane.clone());
        if let What::Handed { vehicle, lane, number, expires } = &event.what {
            let sender = self.senders.entry(place(vehicle, lane)).or_default();
            sender.expires.extend(expires.map(|at| (*number, at)));
            sender.handed = *number;
        } else if let What::Settled { vehicle, lane, number, fate } = &event.what {
            let sender = self.senders.entry(place(vehicle, lane)).or_default();
            let awake_since = self.asleep.get(&event.node).copied().unwrap_or_default();
            return sender
                .settled(*number, *fate, (event.at, awake_since))
                .map(|why| format!("{lane} of {vehicle}: {why}"));
        } else if let What::Delivered { vehicle, epoch, lane, number } = &event.what {
            let sender = self.senders.entry(place(vehicle, lane)).or_default();
            let cut = self.partitions.get(vehicle).map_or(&[][..], Vec::as_slice);
            return sender
                .delivered((*epoch, *number), event.at, cut)
                .map(|why| format!("{lane} of {vehicle}: {why}"));
        } else if let What::Gap { vehicle, class, frames, .. } = &event.what {
            let prefix = format!("{class} {}", if *vehicle == event.node { "down" } else { "up" });
            let of_lane = self
                .senders
                .iter_mut()
                .filter(|((whose, lane), _)| whose == vehicle && lane.starts_with(&prefix));
            of_lane.for_each(|(_, sender)| sender.gaps += frames);
        } else if let What::Suspended { until } = &event.what {
            self.asleep.insert(event.node.clone(), *until);
        } else if let What::Partitioned { until } = &event.what {
            self.partitions.entry(event.node.clone()).or_default().push((event.at, *until));
        } else if event.what == What::Died {
            // Which gateway a vehicle's messages went to is not told.
            let is_vehicle = self.senders.keys().any(|(whose, _)| *whose == event.node);
            let received = |(whose, lane): &(Name, Name)| {
                let is_down = lane.contains(" down");
                if is_vehicle { is_down && *whose == event.node } else { !is_down }
            };
            let here = self.senders.iter_mut().filter(|(place, _)| received(place));
            here.for_each(|(_, sender)| sender.forgiven = sender.handed);
        } else if let What::Established { vehicle, resumed: false, .. } = &event.what {
            let of_vehicle = self.senders.iter_mut().filter(|((whose, _), _)| whose == vehicle);
            of_vehicle.for_each(|(_, sender)| sender.start_over());
        }
        None
    }
}

impl Sender {
    /// What expired in an earlier session is nobody's gap in this one.
    fn start_over(&mut self) {
        self.expired.clear();
        (self.gaps, self.needed) = (0, 0);
    }

    /// `at` in true time, by a host that has been awake since `awake_since`.
    fn settled(&mut self, number: u64, fate: LaneFate, (at, awake_since): (u64, u64)) -> Option<String> {
        let arrived = self.delivered.contains(&number);
        let given_up = |expires: &u64| at > awake_since.max(*expires) + GIVEN_UP;
        match fate {
            LaneFate::Acknowledged if self.expires.get(&number).is_some_and(given_up) => {
                Some(format!("message {number} was sent on after it had expired"))
            }
            LaneFate::Acknowledged => (!arrived && number > self.forgiven)
                .then(|| format!("message {number} was acknowledged and never delivered")),
            LaneFate::Expired { sent: false } | LaneFate::Lost { sent: false } => {
                self.never_left.insert(number);
                arrived.then(|| format!("message {number} arrived and is said never to have left"))
            }
            LaneFate::Expired { sent: true } => {
                if !arrived {
                    self.expired.insert(number);
                }
                None
            }
            LaneFate::Lost { sent: true } => None,
        }
    }

    fn delivered(&mut self, (epoch, number): (u64, u64), at: u64, cut: &[(u64, u64)]) -> Option<String> {
        let (session, newest) = self.newest;
        if session == epoch && number <= newest {
            return Some(format!("message {number} arrived after {newest}"));
        }
        self.newest = (epoch, number);
        if !self.delivered.insert(number) && session == epoch {
            return Some(format!("message {number} arrived twice"));
        }
        if self.never_left.contains(&number) {
            return Some(format!("message {number} is said never to have left and arrived"));
        }
        let dead_at = |expires: &u64| {
            let is_on = |(from, until): &&(u64, u64)| (*from..*until).contains(expires);
            let over = cut.iter().filter(is_on).map(|(_, until)| until + AFTER_A_PARTITION).max();
            over.unwrap_or(0).max(expires + ON_THE_WAY)
        };
        if self.expires.get(&number).map(dead_at).is_some_and(|dead_at| at > dead_at) {
            return Some(format!("message {number} arrived long after it had expired"));
        }
        self.expired.remove(&number);
        let later = self.expired.split_off(&number);
        self.needed += std::mem::replace(&mut self.expired, later).len() as u64;
        (self.gaps < self.needed).then(|| {
            format!("{} expired before message {number}, {} were told as a gap", self.needed, self.gaps)
        })
    }
}
