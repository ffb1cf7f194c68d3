//! Who moves the car: its own script, an operator from afar, or nobody.
//!
//! It begins under its script, a drive around the Tiergarten. The first re-arming ends that for good: from
//! then on it stands in its safe state or follows control, until its agent starts anew.

use carriageway_proto::{Controls, Moment, SafeCause};

use super::Simulated;
use super::motion::{Drive, EMERGENCY_BRAKING, STEP_SECONDS, STRONGEST_ACCELERATION, Steering};
use crate::core::vehicle::Drivable;

/// How fast pedals follow what is asked, in shares of their way per second: a foot takes half a second to push
/// the throttle down, a fifth to let it go or to stamp on the brake.
const THROTTLE_DOWN: f64 = 2.0;
const PEDAL_FAST: f64 = 5.0;

/// The fastest that it drives from afar, in m/s: the script's fastest road, 50 km/h.
const TOP_SPEED: f64 = 50.0 / 3.6;

/// What slows a car with no foot on a pedal, in m/s2: rolling, and the motor as a generator.
const COASTING: f64 = 0.4;

/// Who moves the car.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pilot {
    Script,
    /// Nobody: the safe state. It keeps its lane while it brakes where its script had it, and its wheels as
    /// they are where an operator had them.
    Nobody {
        keeps_lane: bool,
    },
    Operator(Hands),
}

/// Hands and feet from afar: what is asked, and where the pedals are on the way there, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hands {
    asked: Controls,
    pub(super) throttle: f64,
    pub(super) brake: f64,
}

impl Hands {
    const OFF: Self = Self { asked: Controls::NEUTRAL, throttle: 0.0, brake: 0.0 };

    fn step(&mut self) {
        let throttle = f64::from(self.asked.throttle());
        let rate = if throttle > self.throttle { THROTTLE_DOWN } else { PEDAL_FAST };
        self.throttle = towards(self.throttle, throttle, rate);
        self.brake = towards(self.brake, f64::from(self.asked.brake()), PEDAL_FAST);
    }

    /// m/s2 at `speed`; without power, such as in neutral, the throttle does nothing.
    fn acceleration(&self, speed: f64, has_power: bool) -> f64 {
        let throttle = if has_power { self.throttle } else { 0.0 };
        let left = (1.0 - speed / TOP_SPEED).max(0.0);
        let coasting = COASTING * (1.0 - throttle);
        throttle * STRONGEST_ACCELERATION * left - self.brake * EMERGENCY_BRAKING - coasting
    }
}

fn towards(from: f64, to: f64, per_second: f64) -> f64 {
    let most = per_second * STEP_SECONDS;
    from + (to - from).clamp(-most, most)
}

impl Simulated {
    /// One step of whoever moves the car: what is asked of its pedals and its wheels.
    pub(super) fn pilot(&mut self, has_power: bool) -> (Drive, Steering) {
        let (by_hand, steering) = match &mut self.pilot {
            Pilot::Script => (if has_power { Drive::Follow } else { Drive::Hold }, Steering::Road),
            Pilot::Nobody { keeps_lane: true } => (Drive::Halt, Steering::Road),
            Pilot::Nobody { keeps_lane: false } => (Drive::Halt, Steering::Kept),
            Pilot::Operator(hands) => {
                hands.step();
                let asked = hands.acceleration(self.motion.speed, has_power);
                (Drive::Pedals(asked), Steering::Wheel(f64::from(hands.asked.steering())))
            }
        };
        (if self.latched { Drive::Emergency } else { by_hand }, steering)
    }

    /// The pedals, throttle and brake, in percent of their way.
    pub(super) fn pedals(&self) -> (f64, f64) {
        match self.pilot {
            Pilot::Operator(hands) if !self.latched => (100.0 * hands.throttle, 100.0 * hands.brake),
            Pilot::Script | Pilot::Nobody { .. } | Pilot::Operator(_) => {
                let acceleration = self.motion.acceleration;
                let throttle = 100.0 * acceleration / STRONGEST_ACCELERATION;
                (throttle.clamp(0.0, 100.0), (-100.0 * acceleration / EMERGENCY_BRAKING).clamp(0.0, 100.0))
            }
        }
    }
}

impl Drivable for Simulated {
    fn halt(&mut self, now: Moment, cause: SafeCause) {
        self.advance(now);
        let keeps_lane = match self.pilot {
            Pilot::Script => true,
            Pilot::Nobody { keeps_lane } => keeps_lane,
            Pilot::Operator(_) => false,
        };
        self.pilot = Pilot::Nobody { keeps_lane };
        self.latched |= cause == SafeCause::EmergencyStop;
        self.body.lights.hazard = true;
    }

    fn arm(&mut self, now: Moment) {
        self.advance(now);
        self.latched = false;
        self.pilot = Pilot::Operator(Hands::OFF);
        self.body.lights.hazard = false;
    }

    fn control(&mut self, now: Moment, controls: Controls) {
        self.advance(now);
        // Its own check of the contract: what stands in its safe state follows nobody.
        if let Pilot::Operator(hands) = &mut self.pilot {
            hands.asked = controls;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "what stands still is exactly zero")]

    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::motion::SAFE_BRAKING;
    use super::super::road::Road;
    use super::*;
    use crate::core::vehicle::{Actuation, Vehicle};

    /// A car that an operator has taken over at a stand, and its clock.
    fn armed() -> (Simulated, Moment) {
        let now = Moment::from_micros(5_000_000);
        let mut car = Simulated::new(Arc::new(Road::tiergarten()), 1, now);
        car.halt(now, SafeCause::Start);
        car.arm(now);
        (car, now)
    }

    fn controls(steering: f32, throttle: f32, brake: f32) -> Controls {
        Controls::new(steering, throttle, brake).unwrap()
    }

    fn run(car: &mut Simulated, now: &mut Moment, millis: u64, mut look: impl FnMut(&Simulated)) {
        for _ in 0..millis / 20 {
            *now = *now + Duration::from_millis(20);
            car.advance(*now);
            look(car);
        }
    }

    #[test]
    fn it_drives_where_the_operator_steers() {
        let (mut car, mut now) = armed();
        car.control(now, controls(0.0, 1.0, 0.0));
        let (start, heading) = (car.motion.driven, car.motion.heading);
        run(&mut car, &mut now, 8_000, |_| ());
        assert!(car.motion.speed > 7.0 && car.motion.driven - start > 20.0, "{} m/s", car.motion.speed);
        assert!((car.motion.heading - heading).abs() < 0.01, "straight ahead");
        car.control(now, controls(0.3, 0.2, 0.0));
        run(&mut car, &mut now, 1_000, |_| ());
        assert!(car.motion.yaw_rate < -0.05, "to the right is clockwise");
        car.control(now, controls(0.0, 0.0, 0.5));
        run(&mut car, &mut now, 4_000, |_| ());
        assert_eq!(car.motion.speed, 0.0);
    }

    #[test]
    fn a_halt_stops_it_within_its_documented_way_and_holds() {
        let (mut car, mut now) = armed();
        car.control(now, controls(0.0, 1.0, 0.0));
        run(&mut car, &mut now, 10_000, |_| ());
        let (speed, driven) = (car.motion.speed, car.motion.driven);
        car.halt(now, SafeCause::ControlLost);
        car.control(now, controls(0.0, 1.0, 0.0));
        run(&mut car, &mut now, 6_000, |car| assert!(car.motion.acceleration >= -SAFE_BRAKING - 1e-9));
        assert_eq!(car.motion.speed, 0.0);
        assert!(car.motion.driven - driven <= speed * speed / (2.0 * SAFE_BRAKING) + 0.3);
        assert!(car.body.lights.hazard, "it warns");
        run(&mut car, &mut now, 60_000, |car| {
            assert_eq!(car.motion.speed, 0.0, "it never goes on by itself");
        });
        car.arm(now);
        car.control(now, controls(0.0, 0.5, 0.0));
        run(&mut car, &mut now, 2_000, |_| ());
        assert!(car.motion.speed > 0.5, "armed again it follows");
    }

    #[test]
    fn its_own_drive_goes_on_until_somebody_re_arms_it() {
        let now = Moment::from_micros(5_000_000);
        let mut car = Simulated::new(Arc::new(Road::tiergarten()), 1, now);
        let mut later = now;
        car.control(now, controls(0.0, 0.0, 1.0));
        run(&mut car, &mut later, 10_000, |_| ());
        assert!(car.motion.speed > 5.0, "control without arming is ignored");
        car.halt(later, SafeCause::Start);
        let road = Road::tiergarten();
        run(&mut car, &mut later, 10_000, |car| {
            assert!(car.motion.off_road(&road) < 1.0, "it keeps its lane");
        });
        assert_eq!(car.motion.speed, 0.0);
    }

    #[test]
    fn an_emergency_stop_is_only_left_by_arming() {
        let (mut car, mut now) = armed();
        car.control(now, controls(0.0, 1.0, 0.0));
        run(&mut car, &mut now, 5_000, |_| ());
        car.stop(now, Actuation(1));
        car.control(now, controls(0.0, 1.0, 0.0));
        run(&mut car, &mut now, 4_000, |_| ());
        assert_eq!(car.motion.speed, 0.0);
        car.arm(now);
        car.control(now, controls(0.0, 1.0, 0.0));
        run(&mut car, &mut now, 2_000, |_| ());
        assert!(car.motion.speed > 0.5 && !car.latched);
    }

    proptest! {
        /// Whatever is asked and however often: pedals and wheels keep their rates, and so does the car.
        #[test]
        fn nothing_jumps(asked in prop::collection::vec((-1.0..=1.0_f32, 0.0..=1.0_f32, 0.0..=1.0_f32), 1..200)) {
            let (mut car, mut now) = armed();
            let mut last = car.actuators();
            for (steering, throttle, brake) in asked {
                car.control(now, controls(steering, throttle, brake));
                run(&mut car, &mut now, 60, |car| {
                    let next = car.actuators();
                    assert!((next.0 - last.0).abs() <= THROTTLE_DOWN.max(PEDAL_FAST) * STEP_SECONDS + 1e-9);
                    assert!((next.1 - last.1).abs() <= PEDAL_FAST * STEP_SECONDS + 1e-9);
                    assert!((next.2 - last.2).abs() <= 0.7 * STEP_SECONDS + 1e-9, "wheels");
                    assert!(car.motion.speed <= TOP_SPEED + 1e-9 && car.motion.speed >= 0.0);
                    assert!(car.motion.acceleration.abs() <= EMERGENCY_BRAKING + COASTING + 1e-9);
                    assert!((car.motion.speed * car.motion.yaw_rate).abs() <= 4.5, "it does not roll over");
                    last = next;
                });
            }
        }
    }

    impl Simulated {
        /// Throttle, brake and the wheels' angle.
        fn actuators(&self) -> (f64, f64, f64) {
            let Pilot::Operator(hands) = self.pilot else { panic!("an operator has it") };
            (hands.throttle, hands.brake, self.motion.wheels)
        }
    }
}
