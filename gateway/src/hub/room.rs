//! What the shell keeps of one vehicle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use carriageway_proto::{Class, ClassMap, Epoch, Moment, SessionId};
use carriageway_transport::core::connection::{ConnectionId, Transport};
use carriageway_transport::core::pulse::Health;
use carriageway_transport::link::{ConnectionStatus, Drop, Link, Network, Status};

use super::{Event, Glance, SIGNAL_PATHS};
use crate::api::types::{ConnectionView, DropView, LaneView, age_ms, fine_millis, millis};
use crate::api::wall::Wall;
use crate::core::board::Board;
use crate::metrics::Metrics;

/// A vehicle's place at the hub. Its signals stay when its session goes.
pub(super) struct Room {
    pub(super) board: Arc<Mutex<Board>>,
    /// When its last message of each class came.
    pub(super) heard: ClassMap<Option<Moment>>,
    /// When control was last passed on to it.
    pub(super) steered: Option<Moment>,
    /// Its session's events, its links', what it says of its driving, and its state's.
    pub(super) pacers: [Pacer; 4],
    live: Option<Live>,
}

/// Lets one event through per [`Pacer::PACE`] and keeps the newest of the others for later: one
/// vehicle that comes and goes must not push everybody's events out of the backlog.
#[derive(Default)]
pub(super) struct Pacer {
    told: Option<Moment>,
    held: Option<Event>,
}

impl Pacer {
    const PACE: Duration = Duration::from_secs(1);

    /// The event, if it may go now. True with it where an older one was given up for it.
    pub(super) fn offer(&mut self, now: Moment, event: Event) -> (Option<Event>, bool) {
        let gave_up = self.held.replace(event).is_some();
        (self.due(now), gave_up)
    }

    /// The event that was kept, once it may go.
    pub(super) fn due(&mut self, now: Moment) -> Option<Event> {
        let may_go = self.told.is_none_or(|told| now.since(told) >= Self::PACE);
        let event = self.held.take_if(|_| may_go)?;
        self.told = Some(now);
        Some(event)
    }
}

/// A session and its handle.
pub(super) struct Live {
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
    pub(super) link: Link,
    pub(super) transport: Option<Transport>,
    pub(super) meter: Arc<Meter>,
    /// Commands handed to it, by class.
    pub(super) handed: ClassMap<u32>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            board: Arc::new(Mutex::new(Board::new(SIGNAL_PATHS))),
            heard: ClassMap::default(),
            steered: None,
            pacers: Default::default(),
            live: None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// The session of this id, if it is the current one.
    pub(super) fn live_mut(&mut self, session: SessionId) -> Option<&mut Live> {
        self.live.as_mut().filter(|live| live.session == session)
    }

    /// Puts a session in the place of the one before.
    pub(super) fn move_in(&mut self, live: Live) -> Option<Live> {
        self.live.replace(live)
    }

    /// ORDER: rises with every command of a class that is handed to the vehicle, in every session. 0 where
    /// there is no session to hand one to.
    pub(super) fn next_order(&mut self, class: Class) -> u64 {
        let Some(live) = &mut self.live else { return 0 };
        live.handed[class] = live.handed[class].saturating_add(1);
        // An epoch beyond 32 bits is one that a vehicle made up; its commands are refused as older ones.
        let epoch = live.epoch.number().min(u64::from(u32::MAX));
        epoch << 32 | u64::from(live.handed[class])
    }

    /// Clears the place of `session`; a newer one stays.
    pub(super) fn move_out(&mut self, session: SessionId) -> Option<Live> {
        self.live.take_if(|live| live.session == session)
    }
}

/// Turns a session's own counters into the gateway's: each count is added once.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Meter {
    pub(super) fn count(&self, drops: &[Drop], metrics: &Metrics) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for drop in drops {
            let before = seen.insert((drop.stage, drop.reason), drop.count).unwrap_or(0);
            metrics.dropped(drop.stage, drop.reason, drop.count.saturating_sub(before));
        }
    }
}

/// How a vehicle is connected.
pub struct LinkView {
    /// The vehicle itself.
    pub glance: Glance,
    /// Its session, while there is one.
    pub status: Option<Status>,
    /// When each of its signals' values was taken.
    pub sampled: Vec<Moment>,
    /// When its last message of each class came.
    pub heard: ClassMap<Option<Moment>>,
}

impl LinkView {
    /// Its connections, oldest first.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionView> {
        let status = self.status.iter();
        status.flat_map(|status| {
            status.session.connections.iter().map(|connection| {
                connection_view(connection, status.network.get(&connection.id).copied().unwrap_or_default())
            })
        })
    }

    /// Each command class's lane and bulk, most urgent first.
    pub fn lanes(&self, wall: &Wall) -> Vec<LaneView> {
        let queued = |pick: fn(&Status, Class) -> usize, class| {
            self.status.as_ref().map_or(0, |status| pick(status, class) as u64)
        };
        Class::ALL
            .into_iter()
            .map(|class| LaneView {
                class: class.name(),
                queued_frames: queued(|status, class| status.session.queued_frames[class], class),
                queued_bytes: queued(|status, class| status.session.queued_bytes[class], class),
                heard_age_ms: age_ms(self.heard[class], wall),
            })
            .collect()
    }

    /// What was dropped.
    pub fn drops(&self) -> impl Iterator<Item = DropView> {
        let drops = self.status.iter().flat_map(|status| &status.session.drops);
        drops.map(|drop| DropView { stage: drop.stage, reason: drop.reason, count: drop.count })
    }
}

fn connection_view(connection: &ConnectionStatus, network: Network) -> ConnectionView {
    let ConnectionId(id) = connection.id;
    ConnectionView {
        id,
        transport: connection.transport.name(),
        why: connection.why.clone(),
        carries_lanes: connection.is_carrier,
        health: match connection.health {
            Health::Good => "good",
            Health::Suspect => "suspect",
            Health::Dead => "dead",
        },
        remote: network.remote.map(|remote| remote.to_string()),
        rtt_ms: connection.rtt.or(network.measured.rtt).map(fine_millis),
        jitter_ms: connection.jitter.map(fine_millis),
        sent_packets: network.measured.sent_packets,
        lost_packets: network.measured.lost_packets,
        window_bytes: network.measured.window,
        migrations: network.measured.migrations,
        age_ms: millis(connection.lived),
        silent_ms: millis(connection.silent_for),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_events_in_a_second_the_first_and_the_newest_are_told() {
        let event = |why: &str| {
            let (vehicle, transport) = ("truck".parse().unwrap(), Transport::Quic);
            Event::Link { vehicle, transport, why: why.into() }
        };
        let at = |ms: u64| Moment::ZERO + Duration::from_millis(ms);
        let mut pacer = Pacer::default();
        assert_eq!(pacer.offer(at(0), event("first")), (Some(event("first")), false));
        assert_eq!(pacer.offer(at(1), event("second")), (None, false));
        assert_eq!(pacer.offer(at(2), event("newest")), (None, true));
        assert_eq!(pacer.due(at(999)), None);
        assert_eq!(pacer.due(at(1_000)), Some(event("newest")));
        assert_eq!(pacer.due(at(5_000)), None);
    }
}
