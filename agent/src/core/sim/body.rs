//! What moves in and on the car besides the car: doors, windows, locks, lights, horn, climate.

use carriageway_proto::Reason;

use super::motion::STEP_SECONDS;
use crate::core::vehicle::Refusal;

/// Windows move at this many percent per second: four seconds from closed to open.
const WINDOW_SPEED: f64 = 25.0;

/// A powered door moves at this many percent per second: two seconds.
const DOOR_SPEED: f64 = 50.0;

/// How long a lock takes, and how long one wish sounds the horn, in seconds.
const LOCK_SECONDS: f64 = 0.3;
const HORN_SECONDS: f64 = 0.6;

/// The cabin comes to `1/e` of the difference to its target in this many seconds.
const CABIN_SECONDS: f64 = 90.0;

/// Temperatures that the climate control takes, in degrees Celsius.
const CLIMATE: std::ops::RangeInclusive<i64> = 16..=28;

/// The doors, in the order of every array here.
pub(super) const DOORS: [&str; 4] =
    ["Row1.DriverSide", "Row1.PassengerSide", "Row2.DriverSide", "Row2.PassengerSide"];

/// A position from 0 (closed) to 100 (open) percent and where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Travel {
    pub(super) position: f64,
    pub(super) target: f64,
}

impl Travel {
    fn step(&mut self, per_second: f64) {
        let most = per_second * STEP_SECONDS;
        let left = self.target - self.position;
        // Set, not added up: what has arrived is exactly there.
        self.position = if left.abs() <= most { self.target } else { self.position + most.copysign(left) };
    }

    pub(super) fn is_there(&self) -> bool {
        (self.position - self.target).abs() <= f64::EPSILON
    }
}

/// A lock, and how long its motor still runs, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lock {
    pub(super) locked: bool,
    pub(super) busy: f64,
}

/// What shines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lights {
    pub(super) low_beam: bool,
    pub(super) high_beam: bool,
    pub(super) hazard: bool,
}

/// Everything of one car that is not its motion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) windows: [Travel; 4],
    pub(super) doors: [Travel; 4],
    pub(super) locks: [Lock; 4],
    pub(super) lights: Lights,
    /// Seconds that the horn still sounds.
    pub(super) horn: f64,
    /// Degrees Celsius: cabin, outside, and the driver's wish.
    pub(super) cabin: f64,
    pub(super) outside: f64,
    pub(super) wish: i64,
    pub(super) climate_on: bool,
}

impl Body {
    /// Closed, locked, lights on, and as warm inside as outside.
    pub(super) fn parked(outside: f64) -> Self {
        Self {
            windows: [Travel::default(); 4],
            doors: [Travel::default(); 4],
            locks: [Lock { locked: true, busy: 0.0 }; 4],
            lights: Lights { low_beam: true, high_beam: false, hazard: false },
            horn: 0.0,
            cabin: outside,
            outside,
            wish: 21,
            climate_on: true,
        }
    }

    /// Moves on by [`STEP_SECONDS`].
    pub(super) fn step(&mut self) {
        self.windows.iter_mut().for_each(|window| window.step(WINDOW_SPEED));
        self.doors.iter_mut().for_each(|door| door.step(DOOR_SPEED));
        self.locks.iter_mut().for_each(|lock| lock.busy = (lock.busy - STEP_SECONDS).max(0.0));
        self.horn = (self.horn - STEP_SECONDS).max(0.0);
        let open: f64 = self.windows.iter().map(|window| window.position / 400.0).sum();
        let draught = (self.outside - self.cabin) * open / 20.0;
        let climate = if self.climate_on { self.wish as f64 } else { self.outside };
        self.cabin += ((climate - self.cabin) / CABIN_SECONDS + draught) * STEP_SECONDS;
    }

    /// What heating and cooling draw, in watts.
    pub(super) fn climate_power(&self) -> f64 {
        if self.climate_on {
            (150.0 * (self.wish as f64 - self.cabin).abs()).clamp(200.0, 3_000.0)
        } else {
            0.0
        }
    }

    pub(super) fn all_doors_closed(&self) -> bool {
        self.doors.iter().all(|door| door.position == 0.0 && door.target == 0.0)
    }

    /// Sends a window on its way; `percent` is 0 to 100.
    pub(super) fn move_window(&mut self, door: usize, percent: f64) -> Result<(), Refusal> {
        if !(0.0..=100.0).contains(&percent) {
            return out_of_range("a window's position is 0 (closed) to 100 (open) percent");
        }
        self.windows[door].target = percent;
        Ok(())
    }

    /// Opens or closes a door. A locked one stays shut.
    pub(super) fn move_door(&mut self, door: usize, open: bool, stands: bool) -> Result<(), Refusal> {
        if open && !stands {
            return not_permitted("doors open only while the vehicle stands");
        }
        if open && self.locks[door].locked {
            return not_permitted("the door is locked");
        }
        self.doors[door].target = if open { 100.0 } else { 0.0 };
        Ok(())
    }

    /// Locks or unlocks a door.
    pub(super) fn lock(&mut self, door: usize, locked: bool) -> Result<(), Refusal> {
        if locked && self.doors[door] != Travel::default() {
            return not_permitted("the door is open");
        }
        let lock = &mut self.locks[door];
        if lock.locked != locked {
            *lock = Lock { locked, busy: LOCK_SECONDS };
        }
        Ok(())
    }

    /// Sounds the horn once, or silences it.
    pub(super) fn sound(&mut self, on: bool) {
        self.horn = if on { HORN_SECONDS } else { 0.0 };
    }

    /// Sets the driver's temperature, in degrees Celsius.
    pub(super) fn warm(&mut self, celsius: i64) -> Result<(), Refusal> {
        if !CLIMATE.contains(&celsius) {
            return out_of_range("the climate control takes 16 to 28 degrees Celsius");
        }
        self.wish = celsius;
        Ok(())
    }
}

pub(super) fn out_of_range<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::OutOfRange, why))
}

pub(super) fn not_permitted<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::NotPermitted, why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_moves_monotonically_to_its_target(start in 0.0..100.0_f64, target in 0.0..100.0_f64) {
            let mut body = Body::parked(10.0);
            body.windows[2] = Travel { position: start, target: start };
            body.move_window(2, target).unwrap();
            let mut last = start;
            for _ in 0..210 {
                body.step();
                let position = body.windows[2].position;
                prop_assert!((position - last) * (target - start) >= 0.0, "it turned around");
                prop_assert!((position - last).abs() <= WINDOW_SPEED * STEP_SECONDS + 1e-9);
                prop_assert!((0.0..=100.0).contains(&position));
                last = position;
            }
            prop_assert!(body.windows[2].is_there());
        }

        #[test]
        fn the_cabin_stays_between_wish_and_weather(outside in -20.0..40.0_f64, wish in 16..=28_i64) {
            let mut body = Body::parked(outside);
            body.warm(wish).unwrap();
            let (low, high) = (outside.min(wish as f64), outside.max(wish as f64));
            for _ in 0..20_000 {
                body.step();
                prop_assert!((low - 1e-6..=high + 1e-6).contains(&body.cabin));
            }
            prop_assert!((body.cabin - wish as f64).abs() < 1.0);
        }
    }

    #[test]
    fn targets_out_of_range_change_nothing() {
        let mut body = Body::parked(10.0);
        assert_eq!(body.move_window(0, 100.1).unwrap_err().reason, Reason::OutOfRange);
        assert_eq!(body.move_window(0, -1.0).unwrap_err().reason, Reason::OutOfRange);
        assert_eq!(body.warm(29).unwrap_err().reason, Reason::OutOfRange);
        assert!(body.windows[0].is_there() && body.wish == 21);
    }

    #[test]
    fn doors_keep_to_standstill_and_locks() {
        let mut body = Body::parked(10.0);
        assert_eq!(body.move_door(0, true, true).unwrap_err().reason, Reason::NotPermitted);
        body.lock(0, false).unwrap();
        assert_eq!(body.move_door(0, true, false).unwrap_err().reason, Reason::NotPermitted);
        body.move_door(0, true, true).unwrap();
        assert!(!body.all_doors_closed());
        assert_eq!(body.lock(0, true).unwrap_err().reason, Reason::NotPermitted);
    }
}
