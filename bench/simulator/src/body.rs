//! A vehicle's actuators: they take their time, refuse, or never report. They outlive its agent.

use std::collections::{BTreeMap, VecDeque};

use carriageway_agent::core::vehicle::{Actuation, Applied, Progress, Refusal, Target};
use carriageway_proto::{Reason, SignalPath, Value};

use crate::chance::Chance;
use crate::plan::{MS, Mix, SECOND};

/// A target that is being reached.
#[derive(Debug)]
struct Motion {
    actuation: Actuation,
    path: SignalPath,
    value: Value,
    until: u64,
}

/// What holds and what moves. Ends are true times.
#[derive(Debug, Default)]
pub(crate) struct Body {
    holds: BTreeMap<SignalPath, Value>,
    moving: Vec<Motion>,
    stopping: VecDeque<(Actuation, u64)>,
    /// Motions that the emergency stop broke off.
    broken_off: VecDeque<Actuation>,
}

/// Whether the vehicle can read what holds there.
pub(crate) fn is_readable(path: &SignalPath) -> bool {
    !path.as_str().ends_with("Heating")
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
        let Target { path, value, .. } = target.clone();
        self.moving.retain(|motion| motion.path != path);
        if is_healthy || chance.percent(40) {
            self.holds.insert(path, value);
            return Applied::Done;
        }
        let takes = if chance.percent(mix.mutes) { u64::MAX / 2 } else { chance.between(10, 3_000) * MS };
        self.moving.push(Motion { actuation, path, value, until: now + takes });
        Applied::Moving
    }

    /// Brings the vehicle to a halt: what moves stays where it is.
    pub(crate) fn stop(&mut self, now: u64, actuation: Actuation) {
        self.broken_off.extend(self.moving.drain(..).map(|motion| motion.actuation));
        self.stopping.push_back((actuation, now + SECOND));
    }

    /// The next end by `now`.
    pub(crate) fn progress(&mut self, now: u64) -> Option<Progress> {
        if let Some(actuation) = self.broken_off.pop_front() {
            let refusal = Refusal::new(Reason::NotPermitted, "an emergency stop broke it off");
            return Some(Progress { actuation, result: Err(refusal) });
        }
        if let Some(index) = self.moving.iter().position(|motion| motion.until <= now) {
            let Motion { actuation, path, value, .. } = self.moving.remove(index);
            self.holds.insert(path, value);
            return Some(Progress { actuation, result: Ok(()) });
        }
        let actuation = self.stopping.pop_front_if(|(_, until)| *until <= now)?.0;
        Some(Progress { actuation, result: Ok(()) })
    }

    /// When something ends next.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        let moving = self.moving.iter().map(|motion| motion.until);
        let broken_off = self.broken_off.front().map(|_| 0);
        moving.chain(self.stopping.front().map(|(_, until)| *until)).chain(broken_off).min()
    }

    /// The agent is gone: nobody will ask for these ends, and some targets are reached all the same.
    pub(crate) fn forget(&mut self, chance: &mut Chance) {
        for Motion { path, value, .. } in self.moving.drain(..) {
            if chance.percent(50) {
                self.holds.insert(path, value);
            }
        }
        self.stopping.clear();
        self.broken_off.clear();
    }

    /// What never reports does so soon: somebody looked after it.
    pub(crate) fn mend(&mut self, now: u64) {
        for motion in &mut self.moving {
            motion.until = motion.until.min(now + SECOND);
        }
    }

    /// What holds at `path`.
    pub(crate) fn holds(&self, path: &SignalPath) -> Option<&Value> {
        self.holds.get(path)
    }

    /// What the vehicle reads.
    pub(crate) fn readings(&self) -> Vec<(SignalPath, Value)> {
        let readable = self.holds.iter().filter(|(path, _)| is_readable(path));
        readable.map(|(path, value)| (path.clone(), value.clone())).collect()
    }
}
