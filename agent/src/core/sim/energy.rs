//! The traction battery: what driving takes out of it and what braking gives back.

use super::motion::STEP_SECONDS;

/// A middle-class electric car: mass in kg, air drag (half density times area times coefficient) in kg/m,
/// rolling resistance as a share of weight, and what the computers and pumps always draw, in W.
const MASS: f64 = 1_900.0;
const DRAG: f64 = 0.37;
const ROLLING: f64 = 0.01;
const GRAVITY: f64 = 9.81;
const ALWAYS: f64 = 350.0;

/// Shares that arrive at the wheels, and back in the battery.
const DRIVING: f64 = 0.88;
const BRAKING: f64 = 0.65;

/// Usable energy when full, in joules: 58 kWh.
const FULL: f64 = 58.0 * 3.6e6;

/// Consumption that the remaining range assumes, in joules per metre: 160 Wh/km.
const TYPICAL: f64 = 160.0 * 3.6;

/// The battery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Battery {
    /// Joules left.
    energy: f64,
    /// Watts drawn in the last step; negative while it regenerates.
    pub(super) power: f64,
    /// Percent to charge up to.
    pub(super) charge_limit: i64,
}

impl Battery {
    pub(super) fn charged(percent: f64) -> Self {
        Self { energy: FULL * percent.clamp(0.0, 100.0) / 100.0, power: 0.0, charge_limit: 80 }
    }

    /// Takes what one step of driving at `speed` and `acceleration` and `auxiliary` watts cost.
    pub(super) fn step(&mut self, speed: f64, acceleration: f64, auxiliary: f64) {
        let force = MASS * acceleration + if speed > 0.0 { ROLLING * MASS * GRAVITY } else { 0.0 };
        let wheels = force * speed + DRAG * speed.powi(3);
        let motor = if wheels > 0.0 { wheels / DRIVING } else { wheels * BRAKING };
        self.power = motor + ALWAYS + auxiliary;
        self.energy = (self.energy - self.power * STEP_SECONDS).clamp(0.0, FULL);
    }

    /// Percent left.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.energy / FULL
    }

    /// Metres left at a typical consumption.
    pub(super) fn range(&self) -> f64 {
        self.energy / TYPICAL
    }

    pub(super) fn is_empty(&self) -> bool {
        self.energy <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_stays_between_empty_and_full(
            start in 0.0..100.0_f64,
            steps in prop::collection::vec((0.0..60.0_f64, -9.0..9.0_f64, 0.0..1e7_f64), 1..500),
        ) {
            let mut battery = Battery::charged(start);
            for (speed, acceleration, auxiliary) in steps {
                battery.step(speed, acceleration, auxiliary);
                prop_assert!((0.0..=100.0).contains(&battery.percent()));
            }
        }
    }

    #[test]
    fn cruising_takes_what_such_a_car_takes() {
        let mut battery = Battery::charged(80.0);
        let before = battery.energy;
        (0..50 * 3_600).for_each(|_| battery.step(13.9, 0.0, 0.0));
        let per_km = (before - battery.energy) / 3.6e6 / 50.0 * 1_000.0;
        assert!((70.0..140.0).contains(&per_km), "{per_km} Wh/km at 50 km/h");
    }

    #[test]
    fn braking_gives_energy_back() {
        let mut battery = Battery::charged(50.0);
        let before = battery.energy;
        battery.step(13.0, -2.0, 0.0);
        assert!(battery.energy > before && battery.power < 0.0);
    }
}
