//! Control: the steering-style state that flows to a vehicle under a lease, latest wins.
//!
//! Each state carries the end-to-end protection of AUTOSAR's E2E profile 4 in its idea: a data id that
//! says what it is the control of, a counter that shows loss, repetition and delay, and a
//! CRC-32/AUTOSAR (polynomial 0xF4ACFB13) over all of it, made at the source and checked by the vehicle
//! and by nobody in between. The lease's token is part of what the CRC covers: a state of one lease can
//! not pass for a state of another.

use crc::{CRC_32_AUTOSAR, Crc, Table};

use crate::frame::{DecodeError, stamp};
use crate::id::Token;
use crate::time::Stamp;
use crate::wire;

const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_AUTOSAR);

/// States in one frame: the newest and the one before, so that a single loss costs nothing.
pub const STATES: usize = 2;

/// The data id of a road vehicle's steering, throttle and brake.
pub const ROAD_VEHICLE: u32 = 0x4357_0001;

/// What a driver's hands and feet say. Only made of numbers within their ranges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Controls {
    steering: f32,
    throttle: f32,
    brake: f32,
}

impl Controls {
    /// Hands off: straight ahead, no throttle, no brake.
    pub const NEUTRAL: Self = Self { steering: 0.0, throttle: 0.0, brake: 0.0 };

    /// Steering from -1 (full left) to 1 (full right), throttle and brake from 0 to 1; `None` where one is
    /// outside or not a number.
    pub fn new(steering: f32, throttle: f32, brake: f32) -> Option<Self> {
        let is_pedal = |share: f32| (0.0..=1.0).contains(&share);
        let fits = (-1.0..=1.0).contains(&steering) && is_pedal(throttle) && is_pedal(brake);
        fits.then_some(Self { steering, throttle, brake })
    }

    /// From -1, full left, to 1, full right.
    pub const fn steering(self) -> f32 {
        self.steering
    }

    /// From 0 to 1.
    pub const fn throttle(self) -> f32 {
        self.throttle
    }

    /// From 0 to 1.
    pub const fn brake(self) -> f32 {
        self.brake
    }

    /// Asks for no movement: what a re-arming vehicle has to see first. The brake may be on.
    pub fn is_neutral(self) -> bool {
        self.steering == 0.0 && self.throttle == 0.0
    }
}

/// One state on its way, with its protection. Nothing in it is believed before [`ControlState::open`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlState {
    /// What it claims to be the control of.
    pub data_id: u32,
    /// Rises by one with every state under one token.
    pub counter: u32,
    /// From -1 to 1, unchecked.
    pub steering: f32,
    /// From 0 to 1, unchecked.
    pub throttle: f32,
    /// From 0 to 1, unchecked.
    pub brake: f32,
    /// CRC-32/AUTOSAR over data id, token, counter, steering, throttle and brake, each little-endian.
    pub crc: u32,
}

impl ControlState {
    /// `controls` as state number `counter` under `token`.
    pub fn seal(data_id: u32, token: Token, counter: u32, controls: Controls) -> Self {
        let Controls { steering, throttle, brake } = controls;
        let unsealed = Self { data_id, counter, steering, throttle, brake, crc: 0 };
        Self { crc: unsealed.checksum(token), ..unsealed }
    }

    /// The controls, if this is a state for `data_id` under `token` that nothing on its way has changed.
    pub fn open(&self, data_id: u32, token: Token) -> Result<Controls, BadControl> {
        if self.crc != self.checksum(token) {
            return Err(BadControl::Crc);
        }
        if self.data_id != data_id {
            return Err(BadControl::DataId);
        }
        Controls::new(self.steering, self.throttle, self.brake).ok_or(BadControl::OutOfRange)
    }

    fn checksum(&self, token: Token) -> u32 {
        let mut digest = CRC.digest();
        digest.update(&self.data_id.to_le_bytes());
        digest.update(&token.number().to_le_bytes());
        digest.update(&self.counter.to_le_bytes());
        for value in [self.steering, self.throttle, self.brake] {
            digest.update(&value.to_le_bytes());
        }
        digest.finalize()
    }
}

/// Why a state is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum BadControl {
    /// Changed on its way, or made under another token.
    #[error("its CRC does not fit")]
    Crc,
    /// The control of something else.
    #[error("it is the control of something else")]
    DataId,
    /// A number outside its range, or none.
    #[error("a value is out of its range")]
    OutOfRange,
}

/// The newest states of one lease.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlFrame {
    /// The lease.
    pub token: Token,
    /// A floor under the receiver's clock when the newest state was taken.
    pub stamp: Stamp,
    /// One or two, newest first.
    pub states: Vec<ControlState>,
}

impl TryFrom<wire::ControlFrame> for ControlFrame {
    type Error = DecodeError;

    fn try_from(frame: wire::ControlFrame) -> Result<Self, DecodeError> {
        if frame.states.is_empty() || frame.states.len() > STATES {
            return Err(DecodeError::Field("control states"));
        }
        Ok(Self {
            token: Token::granted(frame.token).ok_or(DecodeError::Field("token"))?,
            stamp: stamp(frame.stamp)?,
            states: frame.states.into_iter().map(ControlState::from).collect(),
        })
    }
}

impl From<&ControlFrame> for wire::ControlFrame {
    fn from(frame: &ControlFrame) -> Self {
        Self {
            token: frame.token.number(),
            stamp: Some((&frame.stamp).into()),
            states: frame.states.iter().take(STATES).map(Into::into).collect(),
        }
    }
}

impl From<wire::ControlState> for ControlState {
    fn from(state: wire::ControlState) -> Self {
        let wire::ControlState { data_id, counter, steering, throttle, brake, crc } = state;
        Self { data_id, counter, steering, throttle, brake, crc }
    }
}

impl From<&ControlState> for wire::ControlState {
    fn from(state: &ControlState) -> Self {
        let ControlState { data_id, counter, steering, throttle, brake, crc } = *state;
        Self { data_id, counter, steering, throttle, brake, crc }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(number: u64) -> Token {
        Token::granted(number).expect("not zero")
    }

    fn sealed() -> ControlState {
        let controls = Controls::new(-0.25, 0.5, 0.0).expect("within range");
        ControlState::seal(ROAD_VEHICLE, token(7), 41, controls)
    }

    #[test]
    fn what_was_sealed_opens() {
        assert_eq!(sealed().open(ROAD_VEHICLE, token(7)), Ok(Controls::new(-0.25, 0.5, 0.0).unwrap()));
    }

    #[test]
    fn another_token_another_thing_or_another_range_does_not() {
        assert_eq!(sealed().open(ROAD_VEHICLE, token(8)), Err(BadControl::Crc));
        assert_eq!(sealed().open(ROAD_VEHICLE + 1, token(7)), Err(BadControl::DataId));
        for (steering, throttle, brake) in [(1.1, 0.0, 0.0), (0.0, -0.1, 0.0), (0.0, 0.0, f32::NAN)] {
            let wild = ControlState { steering, throttle, brake, ..sealed() };
            let wild = ControlState { crc: wild.checksum(token(7)), ..wild };
            assert_eq!(wild.open(ROAD_VEHICLE, token(7)), Err(BadControl::OutOfRange));
        }
    }

    /// The catalogue's check value, and ours over a known state: both ends compute it.
    #[test]
    fn the_crc_is_the_one_that_autosar_specifies() {
        assert_eq!(CRC.checksum(b"123456789"), 0x1697_d06a);
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_noticed(bit in 0_usize..32, field in 0_usize..5) {
            let mut state = sealed();
            let flip = 1_u32 << bit;
            match field {
                0 => state.data_id ^= flip,
                1 => state.counter ^= flip,
                2 => state.steering = f32::from_bits(state.steering.to_bits() ^ flip),
                3 => state.throttle = f32::from_bits(state.throttle.to_bits() ^ flip),
                _ => state.brake = f32::from_bits(state.brake.to_bits() ^ flip),
            }
            prop_assert_eq!(state.open(ROAD_VEHICLE, token(7)), Err(BadControl::Crc));
        }
    }
}
