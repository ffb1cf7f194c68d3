//! How an agent ends whose boot clock went backwards, as in its shell: nothing new is begun, what is under way ends,
//! the gateway is told, and a service manager starts the next one in the same boot.

use std::time::Duration;

use carriageway_agent::core::{drive, executor, reconciler};
use carriageway_proto::{CloseCode, Moment};

use super::Vehicle;
use super::agent::Agent;
use crate::air::Air;

/// What is under way gets this long to end and its answers to arrive, as in production.
const DRAIN: Duration = Duration::from_secs(5);

/// After its goodbye the session gets this long to end, as in production.
const FAREWELL: Duration = Duration::from_secs(3);

/// How far an agent has come with its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Working,
    /// Nothing new is begun; what is under way may last until then.
    Stopping(Moment),
    /// It has said goodbye, and ends then at the latest.
    Leaving(Moment),
    Over,
}

impl Stage {
    pub(super) fn wakes_at(self) -> Option<Moment> {
        match self {
            Self::Stopping(until) | Self::Leaving(until) => Some(until),
            Self::Working | Self::Over => None,
        }
    }
}

impl Agent {
    /// Goes on with its end, where its clock went backwards. True where that leaves something to do.
    pub(super) fn mind_its_clock(&mut self, vehicle: &Vehicle, air: &Air) -> bool {
        let now = vehicle.host.read(air.now);
        let next = match self.stage {
            Stage::Working if self.driving.has_lost_its_clock() => {
                self.executor.handle(now, executor::Input::Stopping);
                self.wishes.handle(now, reconciler::Input::Stopping);
                self.driving.handle(now, drive::Input::Stopping);
                Stage::Stopping(now + DRAIN)
            }
            Stage::Stopping(until) if self.is_idle(now) || now >= until => {
                self.session.close(CloseCode::Normal, "the agent stops", None);
                Stage::Leaving(now + FAREWELL)
            }
            Stage::Leaving(until) if self.session.is_finished() || now >= until => Stage::Over,
            Stage::Working | Stage::Stopping(_) | Stage::Leaving(_) | Stage::Over => return false,
        };
        self.stage = next;
        next != Stage::Over
    }

    /// Nothing is under way, and no answer that could arrive soon.
    fn is_idle(&self, now: Moment) -> bool {
        let is_told = self.unsent() == 0 && self.driving.is_told();
        let is_still = self.executor.is_idle() && self.wishes.is_idle();
        is_still && (is_told || self.session.silent_for(now).is_none())
    }
}
