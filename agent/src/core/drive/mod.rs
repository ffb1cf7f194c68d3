//! Driving from afar, on the vehicle: WATCHDOG, FENCE and the latched safe state.
//!
//! ```text
//!            re-arm: nonce, live lease, fresh         five good neutral frames in a row
//!   Safe ---------------------------------> Arming -----------------------------------> Armed
//!    ^                                        |                                         |   ^
//!    |   input not neutral, or 2 s            |                         soft limit 150 ms   | good frame
//!    +----------------------------------------+                                         v   |
//!    +-------------------------------------------- watchdog's limit W, 500 ms -------- Stale
//!
//!   From every state: an emergency stop; from all but Safe: the lease ends, a newer one is granted.
//! ```
//!
//! *Control feeds* only where it is whole (CRC), for this vehicle (data id), under the newest token that this
//! vehicle has seen, while that token's lease lives by this vehicle's clock, with a counter above the last and
//! within the window, and no older than the age limit at its upper bound. Everything else is counted by reason
//! and changes nothing, heartbeats and copies included.
//!
//! *The safe state is latched.* Each entry has a nonce that nobody could know before, and only a re-arm that
//! names it leads out: no re-arm on its way from before ends a safe state that came after it.
//!
//! *Stale*: the throttle is let go at once, steering and brake stay as they were. Silence is not yet an
//! emergency, but no reason to go on accelerating either.
//!
//! *A token* is made durable before it is obeyed, so that no restart brings an older one back. The older one
//! is out from the moment that the newer one was seen: in between nobody drives.
//!
//! *An emergency stop* stays latched in the journal. Five good frames ask to release it, and the vehicle is
//! armed when that is durable; a stop that comes meanwhile wins.
//!
//! *A restart* begins in the safe state; so does a clock that went backwards, which a boot clock never should. A
//! restart does not remember the latter.
//! Times come in as arguments, chance as the seed of the nonces.

mod guard;
mod io;
mod lease;
mod limits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{
    ControlFrame, Controls, DrivePhase, DriveState, Lease, Moment, Rearm, SafeCause, Stamp, Token,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use self::guard::Guard;
use crate::core::freshness::Judge;
pub use io::{Counts, Input, Output, Refusals, Refused};
pub use lease::{Leases, Taken};
pub use limits::{Asked, BadLimit, LONGEST_AGE, LONGEST_WATCHDOG, Limits};

/// Good neutral frames in a row that arm the vehicle (INVARIANTS).
const GOOD_FRAMES: u32 = 5;

/// A re-arm that has led nowhere in this time was a mistake: at 20 Hz five frames take a quarter of a second.
const ARMING: Duration = Duration::from_secs(2);

/// Whether the vehicle follows control.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Safe, and no re-arm leads out: it cannot be driven, or its agent ends.
    Barred(SafeCause),
    Safe {
        cause: SafeCause,
        nonce: NonZeroU64,
    },
    Arming(Row),
    Armed {
        fed: Moment,
        controls: Controls,
    },
    Stale {
        fed: Moment,
    },
}

/// Good frames on the way to armed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    until: Moment,
    good: u32,
    /// When the last of them came, and what it asked for.
    last: Option<(Moment, Controls)>,
}

/// The latch of the emergency stop, as the journal holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latch {
    Clear,
    Set,
    Releasing,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Drive {
    limits: Asked,
    judge: Judge,
    leases: Leases,
    guard: Guard,
    state: State,
    latch: Latch,
    /// A token is on its way to the disk: one at a time, however many a gateway grants.
    keeping: bool,
    chance: Pcg32,
    outputs: VecDeque<Output>,
    told: Option<DriveState>,
    counts: Counts,
}

impl Drive {
    /// In the safe state, as after every start. `token` is the highest that the journal holds; `is_stopped` is
    /// true where it holds an emergency stop; `chance` draws the nonces and differs from start to start.
    pub fn recover(here: Stamp, limits: Limits, token: Option<Token>, is_stopped: bool, chance: u64) -> Self {
        let limits = limits.values();
        let (cause, latch) = if is_stopped {
            (SafeCause::EmergencyStop, Latch::Set)
        } else {
            (SafeCause::Start, Latch::Clear)
        };
        let mut drive = Self {
            judge: Judge::new(here.boot, here.clock, here.clock),
            leases: Leases::recover(token),
            guard: Guard::new(limits.data_id, limits.age_limit),
            state: State::Barred(cause),
            latch,
            keeping: false,
            chance: Pcg32::seed_from_u64(chance),
            outputs: VecDeque::new(),
            told: None,
            counts: Counts::default(),
            limits,
        };
        if limits.enabled {
            drive.state = State::Safe { cause, nonce: drive.draw() };
        }
        drive
    }

    /// Takes in what happened. What time has done until `now` comes first: nothing that is late saves.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.on_time(now);
        match input {
            Input::Control(frame) => self.on_control(now, &frame),
            Input::Lease(lease) => self.on_lease(now, &lease),
            Input::Rearm(rearm) => self.on_rearm(now, &rearm),
            Input::Kept(token) => {
                self.leases.kept(token);
                self.keep_next();
            }
            Input::KeepFailed(token) => {
                self.leases.keep_failed(token);
                self.keep_next();
            }
            Input::EmergencyStop => {
                self.latch = Latch::Set;
                if !sabotage::on(Sabotage::StopLeavesArmed) {
                    self.enter_safe(SafeCause::EmergencyStop);
                }
            }
            Input::Released => self.on_released(now),
            Input::ReleaseFailed => self.on_release_failed(),
            Input::Stopping => self.bar(),
        }
    }

    /// What is to be done next. Call it, and do what it says, until it says [`Output::Wait`], and again at the
    /// moment that it names: the watchdog bites in this call.
    pub fn poll(&mut self, now: Moment) -> Output {
        self.on_time(now);
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let state = self.drive_state();
        if self.told != Some(state) {
            self.told = Some(state);
            return Output::Tell(state);
        }
        Output::Wait(self.due())
    }

    /// Whether the vehicle can be driven, as told to the gateway.
    pub fn drive_state(&self) -> DriveState {
        let (phase, cause, nonce) = match self.state {
            State::Barred(cause) => (DrivePhase::Safe, Some(cause), None),
            State::Safe { cause, nonce } => (DrivePhase::Safe, Some(cause), Some(nonce)),
            State::Arming(_) => (DrivePhase::Arming, None, None),
            State::Armed { .. } => (DrivePhase::Armed, None, None),
            State::Stale { .. } => (DrivePhase::Stale, None, None),
        };
        DriveState { phase, cause, nonce, token: self.leases.announced() }
    }

    /// The newest lease, for whoever else has to fence by it.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The clock went backwards: nothing can be judged by it any more, and only a new agent can drive.
    pub fn has_lost_its_clock(&self) -> bool {
        self.judge.has_lost_its_clock()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

// Time.
impl Drive {
    fn on_time(&mut self, now: Moment) {
        if !self.judge.note(now) {
            self.leases.doubt();
            if self.is_active() {
                self.enter_safe(SafeCause::ControlLost);
            }
        }
        let Asked { soft_limit, watchdog, .. } = self.limits;
        match self.state {
            State::Barred(_) | State::Safe { .. } => return,
            State::Arming(Row { until, .. }) if now >= until => self.enter_safe(SafeCause::NotArmed),
            State::Armed { fed, .. } | State::Stale { fed } if now >= fed + watchdog => {
                self.counts.control_lost += 1;
                self.enter_safe(SafeCause::ControlLost);
            }
            State::Armed { fed, controls } if now >= fed + soft_limit => self.go_stale(fed, controls),
            State::Arming(_) | State::Armed { .. } | State::Stale { .. } => {}
        }
        if self.is_active() && self.leases.live(now).is_none() {
            self.enter_safe(SafeCause::LeaseEnded);
        }
    }

    fn go_stale(&mut self, fed: Moment, controls: Controls) {
        self.counts.stale += 1;
        self.state = State::Stale { fed };
        let rolling = Controls::new(controls.steering(), 0.0, controls.brake());
        self.outputs.push_back(Output::Control(rolling.expect("each value is within its range")));
    }

    /// When time itself changes something.
    fn due(&self) -> Option<Moment> {
        let Asked { soft_limit, watchdog, .. } = self.limits;
        let own = match self.state {
            State::Barred(_) | State::Safe { .. } => return None,
            State::Arming(Row { until, .. }) => until,
            State::Armed { .. } | State::Stale { .. } if sabotage::on(Sabotage::WatchdogNotAwaited) => {
                return None;
            }
            State::Armed { fed, .. } => fed + soft_limit,
            State::Stale { fed } => fed + watchdog,
        };
        Some(self.leases.ends_at().map_or(own, |end| own.min(end)))
    }

    fn is_active(&self) -> bool {
        match self.state {
            State::Arming(_) | State::Armed { .. } | State::Stale { .. } => true,
            State::Barred(_) | State::Safe { .. } => false,
        }
    }
}

// Control.
impl Drive {
    fn on_control(&mut self, now: Moment, frame: &ControlFrame) {
        match self.judged(now, frame) {
            Ok(controls) => self.on_good(now, controls),
            Err(reason) => {
                self.counts.refused.count(reason);
                if let State::Arming(row) = &mut self.state
                    && reason.breaks_a_row()
                {
                    row.good = 0;
                }
            }
        }
    }

    fn judged(&mut self, now: Moment, frame: &ControlFrame) -> Result<Controls, Refused> {
        let is_followed = |token: &Token| *token == frame.token || sabotage::on(Sabotage::OlderTokenFollowed);
        self.leases.obeyed().filter(is_followed).ok_or(Refused::Token)?;
        let token = frame.token;
        self.leases.live(now).ok_or(Refused::Lease)?;
        self.guard.admit(now, &self.judge, token, frame, &mut self.counts)
    }

    fn on_good(&mut self, now: Moment, controls: Controls) {
        match self.state {
            State::Safe { .. } if sabotage::on(Sabotage::SafeStateNotLatched) => self.arm(now, controls),
            State::Barred(_) | State::Safe { .. } => return self.counts.refused.count(Refused::NotArmed),
            State::Arming(row) => self.on_good_while_arming(now, controls, row),
            State::Armed { .. } | State::Stale { .. } => {
                self.state = State::Armed { fed: now, controls };
                // Latest wins, here too: what was not handed over yet is worth nothing any more.
                self.outputs.retain(|output| !matches!(output, Output::Control(_)));
                self.outputs.push_back(Output::Control(controls));
            }
        }
        self.counts.accepted += 1;
    }

    fn on_good_while_arming(&mut self, now: Moment, controls: Controls, row: Row) {
        if !controls.is_neutral() && !sabotage::on(Sabotage::ArmedWithoutNeutral) {
            return self.enter_safe(SafeCause::NotArmed);
        }
        let good = if row.is_unbroken(now, self.limits.soft_limit) { row.good + 1 } else { 1 };
        let row = Row { good, last: Some((now, controls)), ..row };
        self.state = State::Arming(row);
        if good >= GOOD_FRAMES {
            match self.latch {
                Latch::Clear => self.arm(now, controls),
                Latch::Releasing => {}
                Latch::Set => {
                    self.latch = Latch::Releasing;
                    self.outputs.push_back(Output::Release);
                }
            }
        }
    }

    fn arm(&mut self, now: Moment, controls: Controls) {
        self.counts.armed += 1;
        self.state = State::Armed { fed: now, controls };
        self.outputs.push_back(Output::Arm);
        self.outputs.push_back(Output::Control(controls));
    }

    /// The latch of an emergency stop is gone for good; whether the row still stands is another question.
    fn on_released(&mut self, now: Moment) {
        if self.latch != Latch::Releasing {
            return;
        }
        self.latch = Latch::Clear;
        if let State::Arming(row @ Row { good: GOOD_FRAMES.., last: Some((fed, controls)), .. }) = self.state
            && row.is_unbroken(now, self.limits.soft_limit)
        {
            self.arm(fed, controls);
        }
    }

    fn on_release_failed(&mut self) {
        if self.latch == Latch::Releasing {
            self.latch = Latch::Set;
            if self.is_active() {
                self.enter_safe(SafeCause::EmergencyStop);
            }
        }
    }
}

impl Row {
    fn is_unbroken(&self, now: Moment, soft_limit: Duration) -> bool {
        self.last.is_some_and(|(last, _)| now.since(last) <= soft_limit)
    }
}

// Who may drive, and the ways into and out of the safe state.
impl Drive {
    fn on_lease(&mut self, now: Moment, lease: &Lease) {
        match self.leases.take(now, &self.judge, lease) {
            Taken::Newer => {
                if !self.keeping {
                    self.keep_next();
                }
                if self.latch == Latch::Set && sabotage::on(Sabotage::StopReleasedByLease) {
                    self.latch = Latch::Releasing;
                    self.outputs.push_back(Output::Release);
                }
                if self.is_active() {
                    self.enter_safe(SafeCause::TakenOver);
                }
            }
            Taken::Renewed if self.is_active() && self.leases.live(now).is_none() => {
                self.enter_safe(SafeCause::LeaseEnded);
            }
            Taken::Renewed => self.feed_by_renewal(now),
            Taken::Refused => self.counts.leases_refused += 1,
        }
    }

    /// Nothing but control feeds the watchdog.
    fn feed_by_renewal(&mut self, now: Moment) {
        if let State::Armed { fed, .. } | State::Stale { fed } = &mut self.state
            && sabotage::on(Sabotage::WatchdogFedByRenewals)
        {
            *fed = now;
        }
    }

    fn keep_next(&mut self) {
        let pending = self.leases.pending();
        self.keeping = pending.is_some();
        self.outputs.extend(pending.map(Output::Keep));
    }

    fn on_rearm(&mut self, now: Moment, rearm: &Rearm) {
        let is_fresh = self.judge.age(rearm.stamp, now).is_ok_and(|age| age <= rearm.ttl);
        let is_live = self.leases.live(now) == Some(rearm.token);
        let is_meant = |nonce| nonce == rearm.nonce || sabotage::on(Sabotage::NonceNotCompared);
        match self.state {
            State::Safe { cause, nonce } if is_meant(nonce) && is_fresh && is_live => {
                self.guard.resume();
                self.state = State::Arming(Row { until: now + ARMING, good: 0, last: None });
                // Whatever moved the vehicle until now, such as a driver of its own, lets go here.
                self.outputs.push_back(Output::Halt(cause));
            }
            State::Safe { .. }
            | State::Barred(_)
            | State::Arming(_)
            | State::Armed { .. }
            | State::Stale { .. } => self.counts.rearms_refused += 1,
        }
    }

    /// Latched, and to be done before anything else. Whatever would move the vehicle is withdrawn.
    fn enter_safe(&mut self, cause: SafeCause) {
        self.state = match self.state {
            State::Barred(_) => State::Barred(cause),
            State::Safe { .. } | State::Arming(_) | State::Armed { .. } | State::Stale { .. } => {
                State::Safe { cause, nonce: self.draw() }
            }
        };
        self.halt(cause);
    }

    fn halt(&mut self, cause: SafeCause) {
        self.counts.halted += 1;
        self.outputs.retain(|output| match output {
            Output::Arm | Output::Control(_) | Output::Halt(_) => false,
            Output::Keep(_) | Output::Release | Output::Tell(_) | Output::Wait(_) => true,
        });
        self.outputs.push_front(Output::Halt(cause));
    }

    /// For good: nobody is left who could hear of a re-arm.
    fn bar(&mut self) {
        if self.is_active() {
            self.halt(SafeCause::ControlLost);
            self.state = State::Barred(SafeCause::ControlLost);
        } else if let State::Safe { cause, .. } = self.state {
            self.state = State::Barred(cause);
        }
    }

    fn draw(&mut self) -> NonZeroU64 {
        loop {
            if let Some(nonce) = NonZeroU64::new(self.chance.next_u64()) {
                return nonce;
            }
        }
    }
}
