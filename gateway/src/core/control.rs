//! What control passes from an operator to a vehicle.
//!
//! A frame passes while its sender holds the lease it names, its states are whole under that lease's
//! token, and it is fresh. It goes on stamped by the vehicle's clock, less the age it has by then: no
//! hop makes it younger. What it is the control of, its counter and all of this once more are the
//! vehicle's to check.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::control::BadControl;
use carriageway_proto::rate::{Bucket, Rate};
use carriageway_proto::{ControlFrame, Moment, Stamp};

use super::lease::{Lease, NotDriving};

/// Control older than this is not passed on: the vehicle would refuse it.
pub const AGE_LIMIT: Duration = Duration::from_millis(250);

/// Frames that one operator may send: per second four times the 50 Hz of a driver's hands, and at once after a pause
/// what a stalled network lets go of in one piece.
pub const RATE: Rate = Rate { per_second: Some(200), burst: 20 };

/// Why control is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Too many of them.
    RateLimited,
    /// Nobody holds the lease, or somebody else.
    NoLease,
    /// The vehicle has not said in its present session whether its newest grant is this lease.
    DriveStateUnknown,
    /// Made under another token than the lease's.
    OtherToken,
    /// Changed on its way.
    Crc,
    /// A value outside its range.
    OutOfRange,
    /// Stamped by another boot's clock, or ahead of this one.
    AgeUnknowable,
    /// Too old.
    Stale,
    /// The vehicle has no connection.
    Offline,
}

impl Dropped {
    /// The reason as one word, for metrics and operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::NoLease => "no_lease",
            Self::DriveStateUnknown => "drive_state_unknown",
            Self::OtherToken => "other_token",
            Self::Crc => "crc",
            Self::OutOfRange => "out_of_range",
            Self::AgeUnknowable => "age_unknowable",
            Self::Stale => "stale",
            Self::Offline => "vehicle_offline",
        }
    }
}

/// The frame as it goes on to the vehicle, if it may. `now` is the gateway's clock, read after
/// `vehicle`, which is a floor under the vehicle's: so the age is never understated.
pub fn relay(
    now: Stamp,
    frame: ControlFrame,
    operator: &str,
    lease: Result<&Lease, NotDriving>,
    vehicle: Stamp,
) -> Result<ControlFrame, Dropped> {
    let lease = lease.map_err(|why| match why {
        NotDriving::NoLease => Dropped::NoLease,
        NotDriving::Unheard => Dropped::DriveStateUnknown,
    })?;
    if !lease.lives(now.clock) || lease.operator != operator {
        return Err(Dropped::NoLease);
    }
    if frame.token != lease.token {
        return Err(Dropped::OtherToken);
    }
    for state in &frame.states {
        state.open(state.data_id, lease.token).map_err(broken)?;
    }
    let age = frame.stamp.age(now.boot, now.clock).ok_or(Dropped::AgeUnknowable)?;
    if age > AGE_LIMIT {
        return Err(Dropped::Stale);
    }
    let stamp = Stamp { boot: vehicle.boot, clock: vehicle.clock - age };
    Ok(ControlFrame { stamp, ..frame })
}

fn broken(why: BadControl) -> Dropped {
    match why {
        BadControl::Crc => Dropped::Crc,
        BadControl::OutOfRange => Dropped::OutOfRange,
        BadControl::DataId => unreachable!("it is asked for by its own data id"),
    }
}

/// Holds one operator's frames to [`RATE`], and counts what becomes of them.
#[derive(Clone, Debug)]
pub struct Tally {
    bucket: Bucket,
    relayed: u64,
    dropped: BTreeMap<Dropped, u64>,
}

impl Tally {
    /// Of an operator who has sent nothing yet.
    pub fn new(now: Moment) -> Self {
        Self { bucket: Bucket::full(RATE, now), relayed: 0, dropped: BTreeMap::new() }
    }

    /// Whether one more frame is within the rate.
    pub fn admit(&mut self, now: Moment) -> Result<(), Dropped> {
        self.bucket.take(RATE, now).map_err(|_| Dropped::RateLimited)
    }

    /// Counts what became of a frame.
    pub fn count(&mut self, fate: Result<(), Dropped>) {
        match fate {
            Ok(()) => self.relayed += 1,
            Err(why) => *self.dropped.entry(why).or_default() += 1,
        }
    }

    /// Frames passed on.
    pub fn relayed(&self) -> u64 {
        self.relayed
    }

    /// Frames dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> {
        self.dropped.iter().map(|(why, count)| (*why, *count))
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::control::ROAD_VEHICLE;
    use carriageway_proto::{BootId, ControlState, Controls, Token};
    use proptest::prelude::*;

    use super::*;

    const HERE: BootId = BootId::from_bytes([1; 16]);
    const THERE: BootId = BootId::from_bytes([2; 16]);

    fn stamp(boot: BootId, ms: u64) -> Stamp {
        Stamp { boot, clock: Moment::from_micros(ms * 1_000) }
    }

    fn token(number: u64) -> Token {
        Token::granted(number).unwrap()
    }

    fn lease(ends_ms: u64) -> Lease {
        let granted = Moment::ZERO;
        Lease { token: token(7), operator: "ada".into(), granted, ends: stamp(HERE, ends_ms).clock }
    }

    fn frame(taken_ms: u64) -> ControlFrame {
        let state = |counter| ControlState::seal(ROAD_VEHICLE, token(7), counter, Controls::NEUTRAL);
        ControlFrame { token: token(7), stamp: stamp(HERE, taken_ms), states: vec![state(2), state(1)] }
    }

    fn relayed(now_ms: u64, frame: ControlFrame, operator: &str) -> Result<ControlFrame, Dropped> {
        relay(stamp(HERE, now_ms), frame, operator, Ok(&lease(60_000)), stamp(THERE, 900_000))
    }

    #[test]
    fn it_goes_on_as_old_as_it_is_by_the_vehicles_clock() {
        let passed = relayed(5_030, frame(5_000), "ada").unwrap();
        assert_eq!(passed.stamp, stamp(THERE, 899_970));
        assert_eq!(passed.states, frame(5_000).states, "untouched");
    }

    #[test]
    fn at_its_age_limit_it_goes_and_beyond_it_does_not() {
        assert!(relayed(5_250, frame(5_000), "ada").is_ok());
        assert_eq!(relayed(5_251, frame(5_000), "ada"), Err(Dropped::Stale));
        assert_eq!(relayed(4_999, frame(5_000), "ada"), Err(Dropped::AgeUnknowable));
        let other_boot = ControlFrame { stamp: stamp(THERE, 5_000), ..frame(5_000) };
        assert_eq!(relayed(5_001, other_boot, "ada"), Err(Dropped::AgeUnknowable));
    }

    #[test]
    fn only_the_holder_of_a_lease_that_lives_steers() {
        assert_eq!(relayed(5_000, frame(5_000), "bob"), Err(Dropped::NoLease));
        let vehicle = stamp(THERE, 900_000);
        let with = |lease: Result<Lease, NotDriving>| {
            relay(stamp(HERE, 5_000), frame(5_000), "ada", lease.as_ref().map_err(|why| *why), vehicle)
        };
        assert_eq!(with(Err(NotDriving::NoLease)), Err(Dropped::NoLease));
        assert_eq!(with(Err(NotDriving::Unheard)), Err(Dropped::DriveStateUnknown));
        assert_eq!(with(Ok(lease(5_000))), Err(Dropped::NoLease), "it ends now");
        assert!(with(Ok(lease(5_001))).is_ok());
        let other = ControlFrame { token: token(6), ..frame(5_000) };
        assert_eq!(relayed(5_000, other, "ada"), Err(Dropped::OtherToken));
    }

    #[test]
    fn a_state_that_is_not_whole_is_not_passed_on_and_neither_is_the_one_beside_it() {
        for broken in 0..2 {
            let mut frame = frame(5_000);
            frame.states[broken].throttle = 1.0;
            assert_eq!(relayed(5_000, frame, "ada"), Err(Dropped::Crc));
        }
        // Made under another lease: its CRC shows it.
        let mut foreign = frame(5_000);
        foreign.states[1] = ControlState::seal(ROAD_VEHICLE, token(6), 1, Controls::NEUTRAL);
        assert_eq!(relayed(5_000, foreign, "ada"), Err(Dropped::Crc));
    }

    #[test]
    fn another_kind_of_vehicle_is_the_vehicles_to_check() {
        let mut crane = frame(5_000);
        crane.states = vec![ControlState::seal(99, token(7), 1, Controls::NEUTRAL)];
        assert!(relayed(5_000, crane, "ada").is_ok());
    }

    #[test]
    fn a_pause_earns_no_more_than_a_burst() {
        let mut tally = Tally::new(Moment::ZERO);
        let later = Moment::ZERO + Duration::from_mins(1);
        let passed = (0..100).filter(|_| tally.admit(later).is_ok()).count();
        assert_eq!(passed, 20);
    }

    proptest! {
        /// RATE, over every window.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(gaps in prop::collection::vec(0_u64..20_000, 1..400)) {
            let mut now = Moment::from_micros(7);
            let mut tally = Tally::new(now);
            let mut passed = Vec::new();
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                if tally.admit(now).is_ok() {
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let allowed = 20.0 + 200.0 * to.since(*from).as_secs_f64();
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
