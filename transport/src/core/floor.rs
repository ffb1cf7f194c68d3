//! A floor under the peer's clock, without synchronised clocks.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{BootId, Moment, Stamp};

/// A boot clock keeps true time within one per mille; two of them drift apart by a little over two.
const DRIFT_PER_MILLE: u32 = 3;

/// The best lower bound on what the peer's boot clock reads: its newest useful reading plus the time
/// since that arrived, less what clocks may drift. It is behind the peer's clock by the quickest
/// one-way delay seen, never ahead of it.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    boot: BootId,
    reading: Moment,
    arrived: Moment,
}

impl Floor {
    /// A floor from the first reading, which arrived at `now`.
    pub fn new(stamp: Stamp, now: Moment) -> Self {
        Self { boot: stamp.boot, reading: stamp.clock, arrived: now }
    }

    /// Takes in another reading of the same boot, which arrived at `now`; keeps the better one.
    pub fn observe(&mut self, reading: Moment, now: Moment) {
        if reading > self.clock_at(now) {
            self.reading = reading;
            self.arrived = now;
        }
    }

    /// The floor at `now`, as a stamp that the peer can compare with its own clock.
    pub fn at(&self, now: Moment) -> Stamp {
        Stamp { boot: self.boot, clock: self.clock_at(now) }
    }

    /// An estimate of how old something is that the peer dated `taken`: short by the quickest
    /// one-way delay seen.
    pub fn age(&self, taken: Moment, now: Moment) -> Duration {
        self.clock_at(now).since(taken)
    }

    fn clock_at(&self, now: Moment) -> Moment {
        let mut passed = now.since(self.arrived);
        if sabotage::on(Sabotage::FloorTooFast) {
            passed *= 2;
        }
        self.reading + passed * (1_000 - DRIFT_PER_MILLE) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: BootId = BootId::from_bytes([3; 16]);

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    #[test]
    fn the_quickest_arrival_sets_the_floor() {
        let mut floor = Floor::new(Stamp { boot: BOOT, clock: at(1_000_000) }, at(500_000));
        floor.observe(at(1_100_000), at(620_000));
        assert_eq!(
            floor.at(at(620_000)).clock,
            at(1_000_000 + 120_000 - 360),
            "20 ms slower: kept the first"
        );
        floor.observe(at(1_200_000), at(690_000));
        assert_eq!(floor.at(at(690_000)).clock, at(1_200_000), "10 ms quicker: replaced it");
    }

    proptest! {
        /// Whatever the delays and a drift within bounds: never ahead of the peer's true clock.
        #[test]
        fn the_floor_is_never_ahead(
            delays in prop::collection::vec((0u64..2_000_000, 1u64..5_000_000), 1..50),
            drift_ppm in -2_000i64..=2_002,
            later in 0u64..100_000_000,
        ) {
            let peer = |now: u64| 7_000_000 + (i128::from(now) * (1_000_000 + i128::from(drift_ppm)) / 1_000_000) as u64;
            let mut sent = 10_000_000;
            let mut floor: Option<Floor> = None;
            let mut arrivals: Vec<(u64, u64)> = Vec::new();
            for (delay, gap) in delays {
                sent += gap;
                arrivals.push((sent + delay, peer(sent)));
            }
            arrivals.sort_unstable();
            let mut newest = 0;
            for (arrived, reading) in arrivals {
                newest = arrived;
                match &mut floor {
                    None => floor = Some(Floor::new(Stamp { boot: BOOT, clock: at(reading) }, at(arrived))),
                    Some(floor) => floor.observe(at(reading), at(arrived)),
                }
            }
            let now = newest + later;
            let floor = floor.unwrap().at(at(now)).clock.as_micros();
            prop_assert!(floor <= peer(now) + 2, "floor {floor} ahead of {}", peer(now));
        }
    }
}
