//! A car in the plane: a kinematic bicycle (Rajamani, Vehicle Dynamics and Control, 2.2, with the reference
//! point at the rear axle) that pure pursuit (Coulter, CMU-RI-TR-92-01) keeps on its road.

use carriageway_proto::Moment;

use super::road::{CALM_BRAKING, Point, Road, wrapped};

/// One step of the simulation, in seconds: short against everything the car does.
pub(super) const STEP_SECONDS: f64 = 0.02;

/// Distance between the axles, in metres: a middle-class car.
const WHEELBASE: f64 = 2.8;

/// Front wheels' largest angle, in radians, and how fast they turn, in rad/s.
const LARGEST_ANGLE: f64 = 0.55;
const STEERING_RATE: f64 = 0.7;

/// Turns of the steering wheel per turn of the front wheels.
const STEERING_RATIO: f64 = 15.0;

/// Strongest acceleration and service braking, in m/s2: brisk, not sporting.
pub(super) const STRONGEST_ACCELERATION: f64 = 1.8;
pub(super) const STRONGEST_BRAKING: f64 = 3.0;

/// Emergency braking on a dry road, in m/s2.
pub(super) const EMERGENCY_BRAKING: f64 = 7.5;

/// Braking into the safe state, in m/s2: firm service braking, which whoever drives behind can follow. From
/// 50 km/h it takes 4.7 s and 32 m.
pub(super) const SAFE_BRAKING: f64 = STRONGEST_BRAKING;

/// Lateral acceleration that an operator's steering is held to, in m/s2: well within what tyres carry.
const STRONGEST_LATERAL: f64 = 4.0;

/// A traffic light's cycle and its red part, in seconds; lights start one after another.
const LIGHT_CYCLE: f64 = 60.0;
const LIGHT_RED: f64 = 25.0;

/// What the car is asked to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Drive {
    /// Follow the road.
    Follow,
    /// Roll out gently and stand: out of energy, doors open, or in park.
    Hold,
    /// Stand, with [`SAFE_BRAKING`]: the safe state.
    Halt,
    /// Stand as soon as the tyres allow.
    Emergency,
    /// What an operator's feet ask for, in m/s2.
    Pedals(f64),
}

/// Where the wheels are to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Steering {
    /// Where the road goes.
    Road,
    /// Nowhere: they stay as they are.
    Kept,
    /// Where an operator's wheel is: from -1, full left, to 1, full right.
    Wheel(f64),
}

/// The car's motion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    /// Rear axle.
    pub(super) at: Point,
    /// Where the car points, in radians, anticlockwise from east.
    pub(super) heading: f64,
    /// m/s, never negative.
    pub(super) speed: f64,
    /// m/s2 of the last step.
    pub(super) acceleration: f64,
    /// Front wheels' angle, in radians, positive to the left.
    pub(super) wheels: f64,
    /// rad/s.
    pub(super) yaw_rate: f64,
    /// Where on the road, in metres along the lap.
    pub(super) along: f64,
    /// Metres driven since the start.
    pub(super) driven: f64,
    /// Share of the road's speed that this driver takes.
    pub(super) temper: f64,
}

impl Motion {
    /// Stands on the road, `along` metres into the lap.
    pub(super) fn start(road: &Road, along: f64, temper: f64) -> Self {
        let heading = road.sample(along).direction;
        Self {
            at: road.point(along),
            heading,
            speed: 0.0,
            acceleration: 0.0,
            wheels: 0.0,
            yaw_rate: 0.0,
            along: along.rem_euclid(road.length()),
            driven: 0.0,
            temper,
        }
    }

    /// Moves on by [`STEP_SECONDS`].
    pub(super) fn step(&mut self, now: Moment, road: &Road, drive: Drive, steering: Steering) {
        let before = self.speed;
        let asked = self.wanted_acceleration(now, road, drive);
        self.speed = (before + asked * STEP_SECONDS).max(0.0);
        self.acceleration = (self.speed - before) / STEP_SECONDS;
        self.steer(road, steering);
        self.roll(f64::midpoint(before, self.speed));
        self.along = road.nearest(self.at, self.along);
    }

    /// True when nothing moves.
    pub(super) fn stands(&self) -> bool {
        self.speed == 0.0
    }

    /// Steering wheel, in degrees, positive to the left.
    pub(super) fn steering_wheel(&self) -> f64 {
        self.wheels.to_degrees() * STEERING_RATIO
    }

    /// Compass course, in degrees, clockwise from north.
    pub(super) fn course(&self) -> f64 {
        (90.0 - self.heading.to_degrees()).rem_euclid(360.0)
    }

    /// Distance from the middle of the lane, in metres.
    #[cfg(test)]
    pub(super) fn off_road(&self, road: &Road) -> f64 {
        road.point(self.along).minus(self.at).length()
    }

    fn wanted_acceleration(&self, now: Moment, road: &Road, drive: Drive) -> f64 {
        match drive {
            Drive::Emergency => -EMERGENCY_BRAKING,
            Drive::Hold => -CALM_BRAKING,
            Drive::Halt => -SAFE_BRAKING,
            Drive::Pedals(asked) => asked,
            Drive::Follow => {
                // Half a second ahead: what the driver sees rather than what is under the wheels.
                let profile = road.sample(self.along + self.speed * 0.5).speed * self.temper;
                let target = profile.min(self.speed_for_light(now, road));
                (1.2 * (target - self.speed)).clamp(-STRONGEST_BRAKING, STRONGEST_ACCELERATION)
            }
        }
    }

    /// The fastest that still stops calmly at the next light, if it is red; a light too close to stop at
    /// is passed.
    fn speed_for_light(&self, now: Moment, road: &Road) -> f64 {
        let (light, distance) = road.next_light(self.along);
        let seconds = now.as_micros() as f64 / 1e6 + light as f64 * LIGHT_CYCLE / 4.0;
        let red = seconds.rem_euclid(LIGHT_CYCLE) < LIGHT_RED;
        let room = distance - 3.0;
        let cannot_stop = self.speed * self.speed / (2.0 * STRONGEST_BRAKING) > distance;
        match (red, cannot_stop) {
            (false, _) | (true, true) => f64::INFINITY,
            // Below walking pace it stands: the square root alone would creep for ever.
            (true, false) => {
                let speed = (2.0 * 0.8 * CALM_BRAKING * room.max(0.0)).sqrt();
                if speed < 0.8 { -1.0 } else { speed }
            }
        }
    }

    fn steer(&mut self, road: &Road, steering: Steering) {
        match steering {
            Steering::Road => self.steer_along(road),
            Steering::Kept => {}
            Steering::Wheel(share) => {
                let grip = (STRONGEST_LATERAL * WHEELBASE / self.speed.powi(2).max(1.0)).atan();
                let most = LARGEST_ANGLE.min(grip);
                self.turn_wheels((-share * LARGEST_ANGLE).clamp(-most, most), STEERING_RATE * STEP_SECONDS);
            }
        }
    }

    fn turn_wheels(&mut self, wanted: f64, most: f64) {
        self.wheels += (wanted - self.wheels).clamp(-most, most);
    }

    fn steer_along(&mut self, road: &Road) {
        let ahead = (0.55 * self.speed + 4.0).clamp(4.5, 14.0);
        let goal = road.point(self.along + ahead).minus(self.at);
        let off = wrapped(goal.direction() - self.heading);
        let wanted = (2.0 * WHEELBASE * off.sin() / goal.length().max(1.0)).atan();
        let wanted = wanted.clamp(-LARGEST_ANGLE, LARGEST_ANGLE);
        // A driver does not turn the wheels of a standing car.
        let most = STEERING_RATE * STEP_SECONDS * self.speed.min(1.0);
        self.turn_wheels(wanted, most);
    }

    fn roll(&mut self, speed: f64) {
        let metres = speed * STEP_SECONDS;
        let turn = metres * self.wheels.tan() / WHEELBASE;
        self.at = self.at.along(self.heading + turn / 2.0, metres);
        self.heading = wrapped(self.heading + turn);
        self.yaw_rate = turn / STEP_SECONDS;
        self.driven += metres;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn drive(
        road: &Road,
        motion: &mut Motion,
        from: Moment,
        seconds: f64,
        drive: Drive,
        mut look: impl FnMut(&Motion),
    ) {
        let steps = (seconds / STEP_SECONDS) as u32;
        for step in 0..steps {
            motion.step(from + Duration::from_millis(20) * step, road, drive, Steering::Road);
            look(motion);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn it_stays_on_the_road_within_its_accelerations(
            start in 0.0..9_000.0_f64, temper in 0.8..1.0_f64, clock in 0..1_000_000_000_u64,
        ) {
            let road = Road::tiergarten();
            let mut motion = Motion::start(&road, start, temper);
            let mut last = motion.at;
            drive(&road, &mut motion, Moment::from_micros(clock), 900.0, Drive::Follow, |motion| {
                let off = motion.off_road(&road);
                assert!(off < 1.0, "{off} m off the lane at {} m", motion.along);
                assert!(motion.acceleration <= STRONGEST_ACCELERATION + 1e-9);
                assert!(motion.acceleration >= -STRONGEST_BRAKING - 1e-9);
                assert!(motion.speed <= 50.0 / 3.6 + 0.1, "{} m/s", motion.speed);
                assert!((motion.speed * motion.yaw_rate).abs() < 3.0, "lateral at {}", motion.along);
                assert!(motion.at.minus(last).length() <= 50.0 / 3.6 * STEP_SECONDS + 0.01);
                last = motion.at;
            });
            prop_assert!(motion.driven > 4_000.0, "only {} m in a quarter of an hour", motion.driven);
        }

        #[test]
        fn an_emergency_stop_stands_in_the_shortest_way(start in 0.0..9_000.0_f64, before in 5.0..60.0_f64) {
            let road = Road::tiergarten();
            let mut motion = Motion::start(&road, start, 1.0);
            drive(&road, &mut motion, Moment::ZERO, before, Drive::Follow, |_| ());
            let (speed, driven) = (motion.speed, motion.driven);
            drive(&road, &mut motion, Moment::ZERO, 3.0, Drive::Emergency, |motion| {
                assert!(motion.acceleration >= -EMERGENCY_BRAKING - 1e-9);
            });
            prop_assert!(motion.stands());
            prop_assert!(motion.driven - driven <= speed * speed / (2.0 * EMERGENCY_BRAKING) + 0.3);
        }
    }

    #[test]
    fn red_lights_are_obeyed() {
        let road = Road::tiergarten();
        let mut motion = Motion::start(&road, 0.0, 1.0);
        let mut stood = 0;
        drive(&road, &mut motion, Moment::ZERO, 1_800.0, Drive::Follow, |motion| {
            stood += usize::from(motion.stands());
        });
        let share = stood as f64 * STEP_SECONDS / 1_800.0;
        assert!((0.005..0.3).contains(&share), "stood {share} of the time");
    }
}
