//! What the channel does to a packet that leaves at a given moment.

use std::time::Duration;

use super::burst::Burst;
use super::chance::{Chance, Direction, Draw, Seed};
use super::counts::Cause;
use super::jitter::Additions;
use super::law::{Draws, Law, Loss, Probability};
use super::moment::{Moment, Slot};

/// The fate of a packet on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost(Cause),
    /// It arrives.
    Arrives {
        /// Propagation delay and jitter together.
        after: Duration,
        /// One, or two if the channel duplicates it.
        copies: u8,
        /// If set, one bit is flipped: this number, reduced to the packet's length, says which.
        corrupt: Option<u64>,
    },
}

/// The channel: a pure function of seed, direction and moment, outages aside.
#[derive(Clone, Debug)]
pub struct Air {
    chance: Chance,
    start: Moment,
    delay: Duration,
    jitter: Additions,
    duplicate: Probability,
    corrupt: Probability,
    draws: Draws,
    loss: Loss,
    burst: Option<Burst>,
}

impl Air {
    /// The channel that `law` describes, for a link that starts at `start`.
    pub fn new(law: &Law, seed: Seed, direction: Direction, start: Moment) -> Self {
        let chance = Chance::new(seed, direction);
        let burst = match law.loss {
            Loss::GilbertElliott { mean_good, mean_bad, .. } => {
                Some(Burst::new(chance, start, mean_good, mean_bad))
            }
            Loss::None | Loss::Bernoulli(_) => None,
        };
        Self {
            chance,
            start,
            delay: law.delay,
            jitter: Additions::new(law.jitter, law.draws, chance, start),
            duplicate: law.duplicate,
            corrupt: law.corrupt,
            draws: law.draws,
            loss: law.loss,
            burst,
        }
    }

    /// No packet is in the air for less.
    pub const fn shortest(&self) -> Duration {
        self.delay
    }

    /// No packet is in the air for more.
    pub(super) const fn longest(&self) -> Duration {
        self.delay.saturating_add(self.jitter.longest())
    }

    /// The fate of packet number `index` if it leaves at `at`.
    pub fn fate(&mut self, at: Moment, index: u64) -> Fate {
        let slot = Slot::of(at, self.start);
        let n = match self.draws {
            Draws::BySlot => slot.0,
            Draws::ByIndex => index,
        };
        if let Some(cause) = self.loses(slot, n) {
            return Fate::Lost(cause);
        }
        let chance = self.chance;
        let hit = |share: Probability, draw| share.holds(chance.unit(draw, n));
        Fate::Arrives {
            after: self.delay.saturating_add(self.jitter.addition(at, index)),
            copies: if hit(self.duplicate, Draw::Duplicate) { 2 } else { 1 },
            corrupt: hit(self.corrupt, Draw::Corrupt).then(|| self.chance.bits(Draw::CorruptBit, n)),
        }
    }

    fn loses(&mut self, slot: Slot, n: u64) -> Option<Cause> {
        let unit = self.chance.unit(Draw::Loss, n);
        match (self.loss, &mut self.burst) {
            (Loss::Bernoulli(share), _) => share.holds(unit).then_some(Cause::Loss),
            (Loss::GilbertElliott { loss_good, loss_bad, .. }, Some(burst)) => {
                if burst.is_bad(slot.begins(self.start)) {
                    loss_bad.holds(unit).then_some(Cause::Burst)
                } else {
                    loss_good.holds(unit).then_some(Cause::Loss)
                }
            }
            (Loss::None | Loss::GilbertElliott { .. }, _) => None,
        }
    }
}
