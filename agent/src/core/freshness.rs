//! How old something is, by one host's clock, and whether that clock can be trusted (FRESH).

use std::fmt;
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{BootId, Moment, Reason, Stamp};

/// Judges ages by one host's clock, and notices when that clock cannot be trusted.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    boot: BootId,
    latest: Moment,
    trust: Trust,
}

/// What a stamp of this boot is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Full,
    /// The clock has shown every reading up to this one before it went backwards while no agent ran: a stamp
    /// from there could be of either time.
    After(Moment),
    /// The clock went backwards under this agent, and so under the sessions whose gateways know it: the floor
    /// that they stamp by is ahead of it by as much, and no age can be told. A new agent's session has a floor
    /// of its own.
    None,
}

/// Why something may not take effect any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// [`Reason::AgeUnknowable`] where nobody can tell its age.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
}

/// Why nobody can say how old something is. FRESH then counts it as too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknowable {
    /// It was stamped for another boot of this host.
    OtherBoot,
    /// The clock went backwards since it was stamped.
    WentBack,
    /// Its stamp lies ahead of the clock.
    Ahead,
}

impl fmt::Display for Unknowable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherBoot => "it was stamped for another boot of this vehicle",
            Self::WentBack => "the vehicle's clock went backwards since it was stamped",
            Self::Ahead => "its stamp lies ahead of the vehicle's clock",
        })
    }
}

impl Judge {
    /// A judge on the host of this boot that begins at `now`. The clock has shown `latest` before, as what is
    /// kept of this boot says.
    pub fn new(boot: BootId, latest: Moment, now: Moment) -> Self {
        let trust = if now < latest { Trust::After(latest) } else { Trust::Full };
        Self { boot, latest: now, trust }
    }

    /// The boot by whose clock it judges.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Takes in a reading of now. False where the clock went backwards, which a boot clock never should.
    pub fn note(&mut self, now: Moment) -> bool {
        let is_later = now >= self.latest;
        if !is_later && !sabotage::on(Sabotage::BackwardClockUnnoticed) {
            self.trust = Trust::None;
        }
        self.latest = now;
        is_later
    }

    /// The clock went backwards under this judge: it can tell no age any more, and only a new agent can.
    pub fn has_lost_its_clock(&self) -> bool {
        self.trust == Trust::None
    }

    /// An upper bound of the true age of what was stamped with a floor under this clock.
    pub fn age(&self, mut stamp: Stamp, now: Moment) -> Result<Duration, Unknowable> {
        if sabotage::on(Sabotage::BootNotCompared) {
            stamp.boot = self.boot;
        }
        if stamp.boot != self.boot {
            return Err(Unknowable::OtherBoot);
        }
        let is_worthless = match self.trust {
            Trust::Full => false,
            Trust::After(through) => stamp.clock <= through,
            Trust::None => true,
        };
        if is_worthless {
            return Err(Unknowable::WentBack);
        }
        stamp.age(self.boot, now).map(with_drift).ok_or(Unknowable::Ahead)
    }

    /// FRESH: nothing if what was stamped so may still take effect, or why it may not. Without a ttl it must
    /// be of this boot and of a time that the clock can tell.
    pub fn too_old(&self, now: Moment, stamp: Stamp, ttl: Option<Duration>) -> Option<TooOld> {
        let age = match self.age(stamp, now) {
            Ok(age) => age,
            Err(why) => return Some(TooOld { reason: Some(Reason::AgeUnknowable), detail: why.to_string() }),
        };
        let ttl = ttl.filter(|ttl| age > *ttl)?;
        let detail = format!("{} ms old, ttl {} ms", age.as_millis(), ttl.as_millis());
        Some(TooOld { reason: None, detail })
    }
}

/// A duration that a clock within 1 +- 0.001 of true time measured, at its longest in true time.
fn with_drift(measured: Duration) -> Duration {
    measured + measured / 999
}

/// How much of `life` in true time is certainly left to such a clock: the inverse of the bound above.
pub fn by_this_clock(life: Duration) -> Duration {
    life.saturating_sub(life / 1_000 + Duration::from_micros(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(boot: u8, micros: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([boot; 16]), clock: Moment::from_micros(micros) }
    }

    #[test]
    fn a_clock_that_went_backwards_makes_what_it_showed_worthless() {
        let (boot, now) = (BootId::from_bytes([1; 16]), Moment::from_micros(9_000));
        let while_none_ran = Judge::new(boot, Moment::from_micros(5_000), Moment::from_micros(3_000));
        assert_eq!(while_none_ran.age(stamp(1, 5_000), now), Err(Unknowable::WentBack));
        assert_eq!(while_none_ran.age(stamp(1, 5_001), now).map(|age| age.as_millis()), Ok(4));
        assert_eq!(while_none_ran.age(stamp(2, 5_001), now), Err(Unknowable::OtherBoot));
        assert_eq!(while_none_ran.age(stamp(1, 9_001), now), Err(Unknowable::Ahead));
        let mut under_it = Judge::new(boot, Moment::ZERO, Moment::from_micros(5_000));
        assert!(!under_it.has_lost_its_clock() && !while_none_ran.has_lost_its_clock());
        assert!(!under_it.note(Moment::from_micros(3_000)));
        assert!(under_it.note(now) && under_it.has_lost_its_clock(), "no later reading mends it");
        assert_eq!(under_it.age(stamp(1, 8_000), now), Err(Unknowable::WentBack), "its floor is ahead");
    }

    proptest! {
        /// What is left of a life by this clock never reaches beyond it in true time.
        #[test]
        fn a_life_by_this_clock_never_outlasts_the_true_one(micros in 0_u64..100_000_000) {
            let life = Duration::from_micros(micros);
            prop_assert!(with_drift(by_this_clock(life)) <= life);
        }
    }
}
