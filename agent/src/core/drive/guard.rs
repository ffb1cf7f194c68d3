//! Judges control frames: only what is whole, for this vehicle, of this lease, fresh and newest passes.

use std::time::Duration;

use carriageway_proto::control::BadControl;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{ControlFrame, ControlState, Controls, Moment, Token};

use super::io::{Counts, Refused};
use crate::core::freshness::Judge;

/// How far a counter may be ahead of the last one (INVARIANTS): half a second of states at 100 Hz, the whole
/// of the watchdog's limit. What is further ahead is no continuation of what was seen.
const WINDOW: u32 = 50;

/// Remembers the newest counter of the newest lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    data_id: u32,
    age_limit: Duration,
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    token: Token,
    counter: u32,
    /// The next counter may be any amount above: the vehicle was re-armed after a silence.
    any_ahead: bool,
}

impl Guard {
    pub(super) fn new(data_id: u32, age_limit: Duration) -> Self {
        Self { data_id, age_limit, seen: None }
    }

    /// After a re-arm a sender that went on counting through the silence is taken up where it is. Its
    /// counter still has to be above the last: a sender that begins anew needs a lease of its own.
    pub(super) fn resume(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.any_ahead = true;
        }
    }

    /// What `frame` asks for, if it is good control under `token` at `now`.
    pub(super) fn admit(
        &mut self,
        now: Moment,
        judge: &Judge,
        token: Token,
        frame: &ControlFrame,
        counts: &mut Counts,
    ) -> Result<Controls, Refused> {
        let newest = frame.states.first().ok_or(Refused::OutOfRange)?;
        let controls = self.open(token, newest)?;
        let steps = self.steps(token, newest)?;
        let age = judge.age(frame.stamp, now).map_err(|_| Refused::AgeUnknowable)?;
        if age > self.age_limit && !sabotage::on(Sabotage::ControlAgeIgnored) {
            return Err(Refused::TooOld);
        }
        let gap = u64::from(steps.saturating_sub(1));
        let filled = u64::from(gap > 0 && self.brings_the_one_before(token, newest, frame));
        counts.recovered += filled;
        counts.lost += gap - filled;
        self.seen = Some(Seen { token, counter: newest.counter, any_ahead: false });
        Ok(controls)
    }

    fn open(&self, token: Token, newest: &ControlState) -> Result<Controls, Refused> {
        let ControlState { steering, throttle, brake, .. } = *newest;
        match newest.open(self.data_id, token) {
            Err(BadControl::Crc) if sabotage::on(Sabotage::CrcIgnored) => {
                Controls::new(steering, throttle, brake).ok_or(Refused::OutOfRange)
            }
            Err(BadControl::DataId) if sabotage::on(Sabotage::DataIdIgnored) => {
                Controls::new(steering, throttle, brake).ok_or(Refused::OutOfRange)
            }
            Err(BadControl::Crc) => Err(Refused::Crc),
            Err(BadControl::DataId) => Err(Refused::DataId),
            Err(BadControl::OutOfRange) => Err(Refused::OutOfRange),
            Ok(controls) => Ok(controls),
        }
    }

    /// How far `newest` is ahead of the last state; 1 for the first under a token or after a re-arm.
    fn steps(&self, token: Token, newest: &ControlState) -> Result<u32, Refused> {
        let Some(seen) = self.seen.filter(|seen| seen.token == token) else { return Ok(1) };
        if newest.counter == seen.counter && sabotage::on(Sabotage::WatchdogFedByCopies) {
            return Ok(1);
        }
        let steps = newest.counter.checked_sub(seen.counter).filter(|steps| *steps > 0);
        match steps.ok_or(Refused::Repeated)? {
            _ if seen.any_ahead => Ok(1),
            steps if steps > WINDOW => Err(Refused::Window),
            steps => Ok(steps),
        }
    }

    /// The older state counts against loss and for nothing else: what it asked for is past.
    fn brings_the_one_before(&self, token: Token, newest: &ControlState, frame: &ControlFrame) -> bool {
        frame.states.get(1).is_some_and(|older| {
            older.counter.checked_add(1) == Some(newest.counter) && older.open(self.data_id, token).is_ok()
        })
    }
}
