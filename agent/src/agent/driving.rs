//! The shell around [`Drive`]: its deadlines, its vehicle, its journal and the word to the gateway.
//!
//! The watchdog lives in the agent's one task. It is asked before everything else in each turn, and its moment is
//! the first thing that the task waits for: neither the journal, which has a thread of its own, nor a flood of
//! messages stands before it, only the vehicle's own calls, which have to return at once.

use std::hash::{BuildHasher as _, RandomState};

use carriageway_proto::{Class, DriveState, Message, Moment, Token};
use carriageway_transport::clock::BootClock;
use carriageway_transport::link::{SendError, Ticket};
use tracing::{error, info, warn};

use super::Agent;
use crate::core::drive::{Asked, Counts, Drive, Input, Limits, Output};
use crate::core::executor;
use crate::core::reconciler;
use crate::core::vehicle::Vehicle;

/// Driving, with what its shell has to remember.
pub(super) struct Driving {
    drive: Drive,
    /// When it has to be asked again.
    due: Option<Moment>,
    /// The token that is being made durable.
    keeping: Option<Token>,
    /// What the gateway has not been told yet: the newest only, an older one would mislead.
    untold: Option<DriveState>,
    /// What the executor was told last of who may drive.
    fence: (Option<Token>, Option<Moment>),
    /// The newest word on its way.
    telling: Option<Ticket>,
}

impl Driving {
    pub(super) fn new(
        clock: &BootClock,
        limits: Limits,
        is_drivable: bool,
        token: Option<Token>,
        is_stopped: bool,
    ) -> Self {
        let asked = limits.values();
        let enabled = asked.enabled && is_drivable;
        let limits =
            Limits::checked(Asked { enabled, ..asked }).expect("it was checked with the same values");
        let chance = RandomState::new().hash_one(clock.now());
        let drive = Drive::recover(clock.stamp(), limits, token, is_stopped, chance);
        Self { drive, due: None, keeping: None, untold: None, fence: (None, None), telling: None }
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        self.drive.handle(now, input);
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) fn state(&self) -> DriveState {
        self.drive.drive_state()
    }

    /// Driving is asked in every turn, so it is the first that sees it.
    pub(super) fn has_lost_its_clock(&self) -> bool {
        self.drive.has_lost_its_clock()
    }

    pub(super) fn counts(&self) -> Counts {
        self.drive.counts()
    }

    /// A gateway that has the session anew knows nothing.
    pub(super) fn tell_again(&mut self) {
        self.untold = Some(self.drive.drive_state());
    }

    /// Whatever became of it: a session that is resumed has it, a new one is told anew.
    pub(super) fn settled(&mut self, ticket: Ticket) {
        self.telling.take_if(|telling| *telling == ticket);
    }

    /// The gateway has heard the newest.
    pub(super) fn is_told(&self) -> bool {
        self.untold.is_none() && self.telling.is_none()
    }

    pub(super) fn on_kept(&mut self, now: Moment, kept: bool) {
        let token = self.keeping.take().expect("a token is kept only when asked for, one at a time");
        if !kept {
            error!(%token, "the lease's token could not be kept: nobody can drive");
        }
        self.drive.handle(now, if kept { Input::Kept(token) } else { Input::KeepFailed(token) });
    }
}

impl<V: Vehicle> Agent<V> {
    /// Does all that driving wants done.
    pub(super) fn drive_on(&mut self) {
        loop {
            let now = self.clock.now();
            let output = self.driving.drive.poll(now);
            match (output, self.vehicle.drivable()) {
                (Output::Wait(due), _) => {
                    self.driving.due = due;
                    return self.fence_off(now);
                }
                (Output::Tell(state), _) => {
                    info!(phase = %state.phase, cause = ?state.cause, "driving");
                    self.driving.untold = Some(state);
                }
                (Output::Keep(token), _) => {
                    self.driving.keeping = Some(token);
                    self.journal.keep_token(token);
                }
                (Output::Release, _) => self.executor.handle(now, executor::Input::Release),
                (Output::Halt(cause), Some(vehicle)) => {
                    warn!(%cause, "safe state");
                    vehicle.halt(now, cause);
                }
                (Output::Arm, Some(vehicle)) => vehicle.arm(now),
                (Output::Control(controls), Some(vehicle)) => vehicle.control(now, controls),
                // Of what cannot be driven only an emergency stop comes here, and the vehicle has that.
                (Output::Halt(_) | Output::Arm | Output::Control(_), None) => {}
            }
        }
    }

    /// FENCE holds for drive commands as it does for control.
    fn fence_off(&mut self, now: Moment) {
        let fence = self.driving.drive.leases().fence();
        if std::mem::replace(&mut self.driving.fence, fence) != fence {
            let (newest, lease_lives_until) = fence;
            self.executor.handle(now, executor::Input::Fence { newest, lease_lives_until });
        }
    }

    pub(super) fn on_released(&mut self, now: Moment, released: bool) {
        if released {
            self.state.handle(now, reconciler::Input::Latched(false));
        } else {
            error!("the journal could not record the release: the emergency stop stays latched");
        }
        self.driving.handle(now, if released { Input::Released } else { Input::ReleaseFailed });
    }

    pub(super) fn tell_drive_state(&mut self) {
        let Some(state) = self.driving.untold else { return };
        match self.link.send(Class::Safety, Message::DriveState(state).encode(), None) {
            Ok(ticket) => (self.driving.untold, self.driving.telling) = (None, Some(ticket)),
            Err(SendError::Full(_) | SendError::Ended(_)) => {}
            Err(SendError::TooLarge(_)) => unreachable!("a drive state has some twenty bytes"),
        }
    }
}
