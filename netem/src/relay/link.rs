//! The emulated links of a relay: one for all flows, or one each.

use std::collections::BTreeMap;

use super::Sharing;
use super::stream::Segment;
use crate::core::{
    Capacity, Counts, Direction, Dropped, Event, Kind, Moment, OutageMode, Packet, Pipe, Seed, UdpPolicy,
};
use crate::lateness::Lateness;
use crate::profile::Profile;

/// Names a UDP flow or a TCP connection; never used twice.
pub(super) type FlowId = u64;

/// What travels through a link.
#[derive(Debug)]
pub(super) enum Cargo {
    Datagram(Box<[u8]>),
    Segment(Segment),
}

/// A packet with its owner.
pub(super) type Parcel = (FlowId, Cargo);

/// What comes out of a link.
pub(super) enum Outcome {
    /// `copies` arrive at the far end of `direction`.
    Arrived { direction: Direction, copies: u8, parcel: Parcel },
    /// It is lost.
    Lost { direction: Direction, parcel: Parcel },
}

/// All links of a relay.
pub(super) struct Links {
    profile: Profile,
    seed: Seed,
    sharing: Sharing,
    start: Moment,
    /// What somebody said about UDP since the start.
    udp: Option<UdpPolicy>,
    /// An outage that somebody declared: for links that open while it lasts.
    outage: Option<(Moment, OutageMode)>,
    links: BTreeMap<FlowId, [Pipe<Parcel>; 2]>,
    /// Counters of links that are gone.
    retired: [Counts; 2],
    /// Bytes inside all links.
    held: u64,
    over_memory: u64,
    lateness: Lateness,
}

/// Bytes inside all links together: half of what the relay may hold. TCP stops at five sixths, as it does for a queue.
const MOST_HELD: u64 = super::MOST_BYTES as u64 / 2;

/// The key of the only link where all flows share one.
const SHARED: FlowId = 0;

impl Links {
    pub(super) fn new(profile: Profile, seed: Seed, sharing: Sharing, start: Moment) -> Self {
        let mut links = Self {
            profile,
            seed,
            sharing,
            start,
            udp: None,
            outage: None,
            links: BTreeMap::new(),
            retired: [Counts::default(); 2],
            held: 0,
            over_memory: 0,
            lateness: Lateness::default(),
        };
        if sharing == Sharing::Shared {
            links.open(SHARED, start);
        }
        links
    }

    /// Makes a flow's own link, if flows have their own.
    pub(super) fn add_flow(&mut self, flow: FlowId, now: Moment) {
        match self.sharing {
            Sharing::Shared => {}
            Sharing::PerFlow => self.open(flow, now),
        }
    }

    /// Forgets a flow's own link and keeps its counters.
    pub(super) fn remove_flow(&mut self, flow: FlowId) {
        match self.sharing {
            Sharing::Shared => {}
            Sharing::PerFlow => {
                let pipes = self.links.remove(&flow);
                for (retired, pipe) in self.retired.iter_mut().zip(pipes.iter().flatten()) {
                    *retired = retired.plus(pipe.counts());
                }
            }
        }
    }

    fn open(&mut self, key: FlowId, now: Moment) {
        let seed = self.seed.of_link(key);
        let pipe = |direction| Pipe::new(self.profile.law(direction).clone(), seed, direction, self.start);
        let mut pipes = Direction::BOTH.map(pipe);
        for pipe in &mut pipes {
            if let Some(policy) = self.udp {
                pipe.set_udp(now, policy);
            }
            if let Some((until, mode)) = self.outage {
                pipe.declare_outage(now, until.max(now), mode);
            }
        }
        self.links.insert(key, pipes);
    }

    const fn key(&self, flow: FlowId) -> FlowId {
        match self.sharing {
            Sharing::Shared => SHARED,
            Sharing::PerFlow => flow,
        }
    }

    /// Whether a flow may add to the queue without overflowing it. TCP asks before it reads, so that the sender feels
    /// back-pressure; the last sixth of the queue is left to UDP, as a sawtooth would on average.
    pub(super) fn has_room(&self, flow: FlowId, direction: Direction) -> bool {
        const FULL: f64 = 5.0 / 6.0;
        let pipes = self.links.get(&self.key(flow)).filter(|_| (self.held as f64) < MOST_HELD as f64 * FULL);
        pipes.is_some_and(|pipes| pipes[direction.index()].queue_fill() < FULL)
    }

    /// Offers a packet of `size` IP bytes. Gives it back if it is dropped at once.
    pub(super) fn push(
        &mut self,
        now: Moment,
        direction: Direction,
        size: u32,
        parcel: Parcel,
    ) -> Result<(), Parcel> {
        let kind = match parcel.1 {
            Cargo::Datagram(_) => Kind::Udp,
            Cargo::Segment(_) => Kind::Tcp,
        };
        if self.held + u64::from(size) > MOST_HELD {
            self.over_memory += 1;
            return Err(parcel);
        }
        let Some(pipes) = self.links.get_mut(&self.key(parcel.0)) else { return Err(parcel) };
        let pushed = pipes[direction.index()].push(now, Packet { size, kind, payload: parcel });
        self.held += if pushed.is_ok() { u64::from(size) } else { 0 };
        pushed.map(|_| ()).map_err(|Dropped { packet, .. }| packet.payload)
    }

    /// Everything that has happened by `now`.
    pub(super) fn drain(&mut self, now: Moment) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for pipes in self.links.values_mut() {
            for (direction, pipe) in Direction::BOTH.into_iter().zip(pipes) {
                while let Some(event) = pipe.pop(now) {
                    outcomes.push(outcome(direction, event, now, &mut self.lateness));
                }
            }
        }
        self.held = self.links.values().flatten().map(Pipe::held_bytes).sum();
        outcomes
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.links.values().flatten().filter_map(Pipe::next_due).min()
    }

    /// Changes the law of every link. What was said about UDP before no longer holds.
    pub(super) fn set_profile(&mut self, now: Moment, profile: Profile) {
        self.profile = profile;
        self.udp = None;
        for pipes in self.links.values_mut() {
            for (direction, pipe) in Direction::BOTH.into_iter().zip(pipes) {
                pipe.set_law(now, self.profile.law(direction).clone());
            }
        }
    }

    /// Sets what happens to UDP, whatever the profile says.
    pub(super) fn set_udp(&mut self, now: Moment, policy: UdpPolicy) {
        self.udp = Some(policy);
        self.links.values_mut().flatten().for_each(|pipe| pipe.set_udp(now, policy));
    }

    /// Changes the capacity (up, down) of every link, and of those to come.
    pub(super) fn set_capacity(&mut self, now: Moment, capacities: [Option<Capacity>; 2]) {
        for (direction, capacity) in Direction::BOTH.into_iter().zip(capacities) {
            let Some(capacity) = capacity else { continue };
            self.profile.law_mut(direction).capacity = capacity.clone();
            for pipes in self.links.values_mut() {
                pipes[direction.index()].set_capacity(now, capacity.clone());
            }
        }
    }

    pub(super) fn declare_outage(&mut self, now: Moment, until: Moment, mode: OutageMode) {
        self.outage = Some((until, mode));
        self.links.values_mut().flatten().for_each(|pipe| pipe.declare_outage(now, until, mode));
    }

    /// Counters of one direction over all links that ever were.
    pub(super) fn counts(&self, direction: Direction) -> Counts {
        let retired = self.retired[direction.index()];
        self.links.values().fold(retired, |sum, pipes| sum.plus(pipes[direction.index()].counts()))
    }

    /// Bytes that wait in the queues of one direction.
    pub(super) fn queued_bytes(&self, direction: Direction) -> u64 {
        self.links.values().map(|pipes| pipes[direction.index()].queued_bytes()).sum()
    }

    /// Packets refused because the relay held as many bytes as it may.
    pub(super) const fn over_memory(&self) -> u64 {
        self.over_memory
    }

    /// Drops that nobody was told of.
    pub(super) fn untold(&self) -> u64 {
        self.links.values().flatten().map(Pipe::untold).sum()
    }

    pub(super) const fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// Whether UDP was blocked after the start.
    pub(super) fn udp_blocked(&self) -> bool {
        self.udp == Some(UdpPolicy::Block)
    }

    /// Round trip of a small packet on an idle link without jitter.
    pub(super) fn base_rtt(&self) -> std::time::Duration {
        self.profile.up.delay.saturating_add(self.profile.down.delay)
    }
}

fn outcome(direction: Direction, event: Event<Parcel>, now: Moment, lateness: &mut Lateness) -> Outcome {
    match event {
        Event::Delivered(delivery) => {
            lateness.record(now.since(delivery.due));
            let parcel = delivery.packet.payload;
            match delivery.corrupt {
                // The receiver's checksum would discard it.
                Some(_) => Outcome::Lost { direction, parcel },
                None => Outcome::Arrived { direction, copies: delivery.copies, parcel },
            }
        }
        Event::Dropped(dropped) => Outcome::Lost { direction, parcel: dropped.packet.payload },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Law;

    #[test]
    fn all_links_together_hold_so_much_and_no_more() {
        let mut profile = Profile::perfect("far");
        profile.up = Law { delay: Duration::from_secs(100), mtu: 1_000_000, ..Law::default() };
        let mut links = Links::new(profile, Seed(1), Sharing::PerFlow, Moment::ZERO);
        let (size, flows) = (1_000_000, MOST_HELD / 60_000_000 + 2);
        let mut taken = 0;
        for flow in 1..=flows {
            links.add_flow(flow, Moment::ZERO);
            for _ in 0..60 {
                // Large in the books only, to spare the test the memory.
                taken += u64::from(
                    links
                        .push(Moment::ZERO, Direction::Up, size, (flow, Cargo::Datagram(Box::new([]))))
                        .is_ok(),
                );
            }
            links.drain(Moment::ZERO);
        }
        assert_eq!(taken, MOST_HELD / u64::from(size));
        assert_eq!(links.over_memory(), flows * 60 - taken);
        assert!(!links.has_room(1, Direction::Down), "TCP waits");
        links.drain(Moment::from_millis(200_000));
        assert!(links.has_room(1, Direction::Down));
    }
}
