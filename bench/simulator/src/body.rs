//! A vehicle's actuators: they take their time, refuse, or never report. They outlive its agent.

use std::collections::{BTreeMap, VecDeque};

use carriageway_agent::core::vehicle::{Actuation, Applied, Progress, Refusal, Target};
use carriageway_proto::Reason;

use crate::chance::Chance;
use crate::plan::{MS, Mix, SECOND};

/// What moves. Ends are true times.
#[derive(Debug, Default)]
pub(crate) struct Body {
    moving: BTreeMap<String, (Actuation, u64)>,
    stopping: VecDeque<(Actuation, u64)>,
}

impl Body {
    /// Begins to bring about `target`. In a healthy world it just works.
    pub(crate) fn apply(
        &mut self,
        now: u64,
        actuation: Actuation,
        target: &Target,
        (mix, chance): (&Mix, &mut Chance),
    ) -> Applied {
        let is_healthy = now >= mix.horizon;
        if !is_healthy && chance.percent(mix.refusals) {
            return Applied::Refused(Refusal::new(Reason::NotPermitted, "not in this gear"));
        }
        let path = target.path.as_str().to_owned();
        self.moving.remove(&path);
        if is_healthy || chance.percent(40) {
            return Applied::Done;
        }
        let takes = if chance.percent(mix.mutes) { u64::MAX / 2 } else { chance.between(10, 3_000) * MS };
        self.moving.insert(path, (actuation, now + takes));
        Applied::Moving
    }

    /// Brings the vehicle to a halt.
    pub(crate) fn stop(&mut self, now: u64, actuation: Actuation) {
        self.moving.clear();
        self.stopping.push_back((actuation, now + SECOND));
    }

    /// The next end by `now`.
    pub(crate) fn progress(&mut self, now: u64) -> Option<Progress> {
        let ended = self.moving.iter().find(|(_, (_, until))| *until <= now).map(|(path, _)| path.clone());
        let actuation = match ended {
            Some(path) => self.moving.remove(&path)?.0,
            None if self.stopping.front()?.1 <= now => self.stopping.pop_front()?.0,
            None => return None,
        };
        Some(Progress { actuation, result: Ok(()) })
    }

    /// When something ends next.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        let moving = self.moving.values().map(|(_, until)| *until);
        moving.chain(self.stopping.front().map(|(_, until)| *until)).min()
    }

    /// The agent is gone: nobody will ask for these ends.
    pub(crate) fn forget(&mut self) {
        self.moving.clear();
        self.stopping.clear();
    }
}
