//! What keys make of the controls. Pure.
//!
//! A terminal tells of a key that is pressed and pressed again, never of one that is let go. A key
//! counts as held for as long as its repeat may take to begin, and then from one repeat to the next.

use std::time::Duration;

use carriageway_proto::{Controls, Moment};

/// A key that is held repeats within this; terminals wait a quarter to two thirds of a second.
const UNTIL_REPEAT: Duration = Duration::from_millis(600);

/// A key that repeats does so many times within this.
const WHILE_REPEATING: Duration = Duration::from_millis(200);

/// How fast each control goes to where a held key wants it, in full scale per second: a tap is a nudge.
const STEERING_OUT: f32 = 0.7;
const THROTTLE_OUT: f32 = 0.5;
const BRAKE_OUT: f32 = 2.5;

/// How fast each goes back by itself.
const BACK: f32 = 3.0;

/// What a key pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Steering.
    Left,
    /// Steering.
    Right,
    /// Throttle.
    Faster,
    /// Brake.
    Brake,
}

/// A key, as far as a terminal knows.
#[derive(Clone, Copy, Debug, Default)]
struct Key {
    held_until: Option<Moment>,
}

impl Key {
    fn press(&mut self, now: Moment) {
        let hold = if self.is_held(now) { WHILE_REPEATING } else { UNTIL_REPEAT };
        self.held_until = Some(now + hold);
    }

    fn is_held(self, now: Moment) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn want(self, now: Moment) -> f32 {
        if self.is_held(now) { 1.0 } else { 0.0 }
    }
}

/// The driver's hands and feet.
#[derive(Clone, Debug)]
pub struct Hands {
    keys: [Key; 4],
    at: Moment,
    steering: f32,
    throttle: f32,
    brake: f32,
}

impl Hands {
    /// Off.
    pub fn new(now: Moment) -> Self {
        Self { keys: [Key::default(); 4], at: now, steering: 0.0, throttle: 0.0, brake: 0.0 }
    }

    /// Takes in a key.
    pub fn push(&mut self, now: Moment, push: Push) {
        self.keys[push as usize].press(now);
    }

    /// Lets go of everything at once.
    pub fn let_go(&mut self, now: Moment) {
        *self = Self::new(now);
    }

    /// The controls at `now`.
    pub fn controls(&mut self, now: Moment) -> Controls {
        let seconds = now.since(self.at).as_secs_f32();
        self.at = now;
        let [left, right, faster, brake] = self.keys.map(|key| key.want(now));
        self.steering = approach(self.steering, right - left, STEERING_OUT * seconds, BACK * seconds);
        // Who brakes does not mean to go faster.
        let faster = if brake > 0.0 { 0.0 } else { faster };
        self.throttle = approach(self.throttle, faster, THROTTLE_OUT * seconds, BACK * seconds);
        self.brake = approach(self.brake, brake, BRAKE_OUT * seconds, BACK * seconds);
        Controls::new(self.steering, self.throttle, self.brake).unwrap_or(Controls::NEUTRAL)
    }
}

/// One step from `value` to `goal`: `out` at most away from zero, `back` at most toward it.
fn approach(value: f32, goal: f32, out: f32, back: f32) -> f32 {
    let step = if goal.abs() > value.abs() && goal * value >= 0.0 { out } else { back };
    let next = value + (goal - value).clamp(-step, step);
    // Crossing the middle takes a step of its own.
    if next * value < 0.0 { 0.0 } else { next.clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_micros(1_000_000 + ms * 1_000)
    }

    /// Controls every 20 ms up to `ms`, with a key pressed at these times.
    fn drive(hands: &mut Hands, push: Push, presses: &[u64], ms: std::ops::Range<u64>) -> Controls {
        let mut controls = Controls::NEUTRAL;
        for now in ms.step_by(20) {
            if presses.iter().any(|press| (now..now + 20).contains(press)) {
                hands.push(at(now), push);
            }
            controls = hands.controls(at(now));
        }
        controls
    }

    #[test]
    fn a_tap_is_a_nudge_and_wears_off() {
        let mut hands = Hands::new(at(0));
        let nudged = drive(&mut hands, Push::Right, &[0], 0..500);
        assert!((0.2..0.5).contains(&nudged.steering()), "{nudged:?}");
        assert!(drive(&mut hands, Push::Right, &[], 500..1_000).is_neutral());
    }

    #[test]
    fn a_held_key_goes_all_the_way_and_zero_follows_its_last_repeat() {
        let mut hands = Hands::new(at(0));
        let presses: Vec<u64> = std::iter::once(0).chain((500..4_000).step_by(40)).collect();
        assert!((drive(&mut hands, Push::Faster, &presses, 0..4_000).throttle() - 1.0).abs() < 0.001);
        let after = drive(&mut hands, Push::Faster, &[], 4_000..4_700);
        assert!(after.throttle() == 0.0, "{after:?}");
    }

    #[test]
    fn who_brakes_goes_no_faster() {
        let mut hands = Hands::new(at(0));
        drive(&mut hands, Push::Faster, &[0], 0..400);
        hands.push(at(400), Push::Faster);
        let braking = drive(&mut hands, Push::Brake, &[400], 400..700);
        assert!(braking.throttle() == 0.0 && braking.brake() > 0.5, "{braking:?}");
    }

    #[test]
    fn letting_go_is_neutral_at_once() {
        let mut hands = Hands::new(at(0));
        drive(&mut hands, Push::Left, &[0], 0..400);
        hands.let_go(at(400));
        assert_eq!(hands.controls(at(420)), Controls::NEUTRAL);
    }

    proptest! {
        /// Whatever is pressed: within range, and neutral a second after the last key.
        #[test]
        fn no_key_no_movement(presses in prop::collection::vec((0_u64..3_000, 0_usize..4), 0..60)) {
            let mut hands = Hands::new(at(0));
            let keys = [Push::Left, Push::Right, Push::Faster, Push::Brake];
            let mut last = Controls::NEUTRAL;
            for now in (0..4_400).step_by(20) {
                for (_, key) in presses.iter().filter(|(press, _)| (now..now + 20).contains(press)) {
                    hands.push(at(now), keys[*key]);
                }
                last = hands.controls(at(now));
            }
            prop_assert_eq!(last, Controls::NEUTRAL);
        }
    }
}
