//! Driving on the vehicle: the glue around the core, as in the agent's shell, and what the log is told of it.

use carriageway_agent::core::drive::{Drive, Input, Limits, Output};
use carriageway_agent::core::{executor, reconciler};
use carriageway_proto::time::micros;
use carriageway_proto::{Class, ControlFrame, DrivePhase, DriveState, Lease, Message, Moment, Rearm, Token};
use carriageway_transport::core::lane::Ticket;

use super::agent::Agent;
use super::{TOKEN, Vehicle};
use crate::air::{Air, Died};
use crate::checker::What;
use crate::disk::Change;
use crate::pilot;

/// Driving, with what its shell has to remember.
#[derive(Debug)]
pub(super) struct Driving {
    drive: Drive,
    /// When it has to be asked again.
    due: Option<Moment>,
    /// The token that is being made durable.
    keeping: Option<Token>,
    /// What the gateway has not been told yet.
    untold: Option<DriveState>,
    /// What the executor was told last of who may drive.
    fence: (Option<Token>, Option<Moment>),
    /// The newest word on its way.
    telling: Option<Ticket>,
}

impl Driving {
    pub(super) fn new(vehicle: &Vehicle, air: &mut Air, is_stopped: bool) -> Self {
        let (here, token) = (vehicle.host.stamp(air.now), vehicle.disk.token);
        let chance = air.chance.below(u64::MAX);
        let drive = Drive::recover(here, Limits::default(), token, is_stopped, chance);
        let driving =
            Self { drive, due: None, keeping: None, untold: None, fence: (None, None), telling: None };
        driving.log(vehicle, air, false);
        driving
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        self.drive.handle(now, input);
    }

    /// Driving is asked in every turn, so it is the first that sees it.
    pub(super) fn has_lost_its_clock(&self) -> bool {
        self.drive.has_lost_its_clock()
    }

    /// The gateway has heard the newest.
    pub(super) fn is_told(&self) -> bool {
        self.untold.is_none() && self.telling.is_none()
    }

    /// A gateway that has the session anew knows nothing.
    pub(super) fn tell_again(&mut self) {
        self.untold = Some(self.drive.drive_state());
    }

    pub(super) fn settled(&mut self, ticket: Ticket) {
        self.telling.take_if(|telling| *telling == ticket);
    }

    pub(super) fn on_kept(&mut self, now: Moment, kept: bool) {
        let token = self.keeping.take().expect("a token is kept only when asked for, one at a time");
        self.drive.handle(now, if kept { Input::Kept(token) } else { Input::KeepFailed(token) });
    }

    pub(super) fn lease(&mut self, vehicle: &Vehicle, air: &mut Air, lease: Lease) {
        let what = What::LeaseHeard { token: lease.token.number(), ended: lease.ttl.is_zero() };
        air.tell(&vehicle.name, what);
        self.drive.handle(vehicle.host.read(air.now), Input::Lease(lease));
    }

    pub(super) fn rearm(&mut self, vehicle: &Vehicle, air: &mut Air, rearm: Rearm) {
        let is_arming = |drive: &Drive| drive.drive_state().phase == DrivePhase::Arming;
        let was_arming = is_arming(&self.drive);
        self.drive.handle(vehicle.host.read(air.now), Input::Rearm(rearm));
        if !was_arming && is_arming(&self.drive) {
            let (token, nonce) = (rearm.token.number(), rearm.nonce.get());
            air.tell(&vehicle.name, What::Rearmed { token, nonce });
        }
    }

    pub(super) fn control(&mut self, vehicle: &Vehicle, air: &mut Air, frame: ControlFrame) {
        let before = self.drive.counts().accepted;
        let (token, newest) = (frame.token, frame.states.first().copied());
        self.drive.handle(vehicle.host.read(air.now), Input::Control(frame));
        if self.drive.counts().accepted > before
            && let Some(newest) = newest
        {
            let print = pilot::print(token, &newest);
            air.tell(&vehicle.name, What::Controlled { token: token.number(), print });
        }
    }

    /// Says whether the vehicle follows control.
    fn log(&self, vehicle: &Vehicle, air: &mut Air, armed: bool) {
        let state = self.drive.drive_state();
        let nonce = state.nonce.map_or(0, std::num::NonZeroU64::get);
        let limit = micros(Limits::default().values().watchdog);
        let token = state.token.map_or(0, Token::number);
        air.tell(&vehicle.name, What::Driving { armed, limit, nonce, token });
    }
}

impl Agent {
    /// Does all that driving wants done.
    pub(super) fn drive_on(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<(), Died> {
        loop {
            let now = vehicle.host.read(air.now);
            match self.driving.drive.poll(now) {
                Output::Wait(due) => {
                    self.driving.due = due;
                    self.fence_off(now);
                    return Ok(());
                }
                Output::Tell(state) => self.driving.untold = Some(state),
                Output::Keep(token) => {
                    vehicle.fuse.step()?;
                    self.driving.keeping = Some(token);
                    vehicle.write(air, (Some(TOKEN), Change::Token(token)));
                }
                Output::Release => self.executor.handle(now, executor::Input::Release),
                Output::Halt(_) => {
                    vehicle.fuse.step()?;
                    // At a re-arm whatever moved the vehicle until then lets go; it is safe already.
                    if self.driving.drive.drive_state().phase == DrivePhase::Safe {
                        self.driving.log(vehicle, air, false);
                    }
                }
                Output::Arm => {
                    vehicle.fuse.step()?;
                    self.driving.log(vehicle, air, true);
                }
                Output::Control(_) => vehicle.fuse.step()?,
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

    pub(super) fn on_released(&mut self, vehicle: &Vehicle, air: &mut Air, released: bool) {
        if released {
            air.tell(&vehicle.name, What::Released);
            let latched = reconciler::Input::Latched(false);
            self.wishes.handle(vehicle.host.read(air.now), latched);
        }
        let input = if released { Input::Released } else { Input::ReleaseFailed };
        self.driving.handle(vehicle.host.read(air.now), input);
    }

    /// True where anything went.
    pub(super) fn tell_drive_state(&mut self, vehicle: &mut Vehicle) -> Result<bool, Died> {
        let Some(state) = self.driving.untold else { return Ok(false) };
        vehicle.fuse.step()?;
        let Ok(ticket) = self.session.send(Class::Safety, Message::DriveState(state).encode(), None) else {
            return Ok(false);
        };
        (self.driving.untold, self.driving.telling) = (None, Some(ticket));
        Ok(true)
    }
}
