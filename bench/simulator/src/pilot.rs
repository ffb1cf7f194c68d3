//! An operator at the wheel: asks for the lease, re-arms, steers, renews, and knows only what a gateway says.

use std::hash::Hasher as _;
use std::num::NonZeroU64;

use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{ControlFrame, ControlState, Controls, DrivePhase, DriveState, Stamp, Token};

use crate::air::Fnv;
use crate::chance::Chance;
use crate::plan::{Drive, Farewell, MS};

/// Between two tries to get the lease.
const AGAIN: u64 = 300 * MS;

/// Between two renewals.
const RENEWAL: u64 = 500 * MS;

/// A re-arm that has led nowhere for so long is asked for once more.
const REARM: u64 = 700 * MS;

/// What an operator asks a gateway.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Take { force: bool },
    Renew(Token),
    Release(Token),
    Rearm(Token, NonZeroU64),
    Control(ControlFrame),
}

/// What a gateway shows to an operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// The lease that the operator holds.
    pub(crate) token: Option<Token>,
    /// What the vehicle last said in its present session.
    pub(crate) state: Option<DriveState>,
}

/// A state of control that is on its way, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) token: u64,
    pub(crate) counter: u64,
    pub(crate) print: u64,
    pub(crate) neutral: bool,
}

/// One drive under way.
#[derive(Debug)]
pub(crate) struct Pilot {
    pub(crate) gateway: usize,
    token: Option<Token>,
    counter: u32,
    before: Option<ControlState>,
    state: Option<DriveState>,
    asked_at: Option<u64>,
    rearmed: Option<(NonZeroU64, u64)>,
}

/// The fingerprint of a state of control under `token`, with everything that is in it.
pub(crate) fn print(token: Token, state: &ControlState) -> u64 {
    let mut hash = Fnv::default();
    hash.write_u64(token.number());
    let ControlState { data_id, counter, steering, throttle, brake, crc } = *state;
    for part in [data_id, counter, steering.to_bits(), throttle.to_bits(), brake.to_bits(), crc] {
        hash.write_u32(part);
    }
    hash.finish()
}

impl Pilot {
    pub(crate) fn new(gateway: usize) -> Self {
        let (token, counter, before, state) = (None, 0, None, None);
        Self { gateway, token, counter, before, state, asked_at: None, rearmed: None }
    }

    /// A gateway has spoken.
    pub(crate) fn hears(&mut self, drive: &Drive, report: Report) {
        self.state = report.state;
        if report.token.is_some() && report.token != self.token {
            (self.token, self.counter, self.before) = (report.token, 0, None);
        } else if report.token.is_none() && !drive.is_stubborn {
            self.token = None;
        }
    }

    /// The next beat of the hands: what is asked, and what control was made. `stamp` is a floor under the
    /// gateway's clock.
    pub(crate) fn beat(
        &mut self,
        now: u64,
        drive: &Drive,
        stamp: Stamp,
        chance: &mut Chance,
    ) -> (Vec<Word>, Option<Made>) {
        let Some(token) = self.token else {
            let words =
                if self.is_due(now, AGAIN) { vec![Word::Take { force: drive.force }] } else { Vec::new() };
            return (words, None);
        };
        let mut words = Vec::new();
        if now < drive.forgets && self.is_due(now, RENEWAL) {
            words.push(Word::Renew(token));
        }
        if let Some(nonce) = self.wants_to_rearm(now, token) {
            self.rearmed = Some((nonce, now));
            words.push(Word::Rearm(token, nonce));
        }
        if (drive.nod.0..drive.nod.1).contains(&now) {
            return (words, None);
        }
        let (frame, made) = self.steer(token, drive, stamp, chance);
        words.push(Word::Control(frame));
        (words, made)
    }

    /// The last word of a drive.
    pub(crate) fn leave(&self, drive: &Drive) -> Option<Word> {
        self.token.filter(|_| drive.farewell == Farewell::Release).map(Word::Release)
    }

    fn is_due(&mut self, now: u64, period: u64) -> bool {
        let is_due = self.asked_at.is_none_or(|last| now >= last + period);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }

    fn wants_to_rearm(&self, now: u64, token: Token) -> Option<NonZeroU64> {
        let state = self.state.filter(|state| state.token == Some(token))?;
        let nonce = state.nonce?;
        let is_asked = self.rearmed.is_some_and(|(last, at)| last == nonce && now < at + REARM);
        (!is_asked).then_some(nonce)
    }

    fn steer(
        &mut self,
        token: Token,
        drive: &Drive,
        stamp: Stamp,
        chance: &mut Chance,
    ) -> (ControlFrame, Option<Made>) {
        self.counter += 1;
        let phase = self.state.map(|state| state.phase);
        let is_armed = matches!(phase, Some(DrivePhase::Armed | DrivePhase::Stale));
        let neutral = !is_armed && !chance.percent(drive.haste);
        let going = Controls::new(chance.below(200) as f32 / 100.0 - 1.0, 0.5, 0.0);
        let controls = if neutral { Controls::NEUTRAL } else { going.expect("within range") };
        let is_foreign = chance.percent(drive.foreign);
        let state = ControlState::seal(ROAD_VEHICLE + u32::from(is_foreign), token, self.counter, controls);
        let made = Made {
            token: token.number(),
            counter: u64::from(self.counter),
            print: print(token, &state),
            neutral: controls.is_neutral(),
        };
        let states = std::iter::once(state).chain(self.before.replace(state)).collect();
        (ControlFrame { token, stamp, states }, (!is_foreign).then_some(made))
    }
}
