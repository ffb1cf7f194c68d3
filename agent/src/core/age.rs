//! Judges ages by one host's clock, and notices when that clock cannot be trusted.

use std::fmt;
use std::time::Duration;

use carriageway_proto::{BootId, Moment, Stamp};

/// A host's boot clock, as its readings showed it.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    boot: BootId,
    latest: Moment,
    /// The clock has shown every reading up to this one before it went backwards: a stamp from there
    /// could be of either time.
    ambiguous: Option<Moment>,
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
            Self::OtherBoot => "stamped for another boot of this vehicle",
            Self::WentBack => "the vehicle's clock went backwards since it was stamped",
            Self::Ahead => "its stamp lies ahead of the vehicle's clock",
        })
    }
}

impl Ages {
    /// The clock of `here`.
    pub fn new(here: Stamp) -> Self {
        Self { boot: here.boot, latest: here.clock, ambiguous: None }
    }

    /// Takes in a reading of now. False where the clock went backwards, which a boot clock never should.
    #[must_use]
    pub fn note(&mut self, now: Moment) -> bool {
        let is_later = now >= self.latest;
        if !is_later {
            self.ambiguous = self.ambiguous.max(Some(self.latest));
        }
        self.latest = now;
        is_later
    }

    /// An upper bound of the true age of what was stamped with a floor under this clock.
    pub fn of(&self, stamp: Stamp, now: Moment) -> Result<Duration, Unknowable> {
        if stamp.boot != self.boot {
            return Err(Unknowable::OtherBoot);
        }
        if self.ambiguous.is_some_and(|through| stamp.clock <= through) {
            return Err(Unknowable::WentBack);
        }
        stamp.age(self.boot, now).map(with_drift).ok_or(Unknowable::Ahead)
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
        let mut ages = Ages::new(stamp(1, 1_000));
        assert!(ages.note(Moment::from_micros(5_000)));
        assert!(!ages.note(Moment::from_micros(3_000)));
        let now = Moment::from_micros(9_000);
        assert!(ages.note(now));
        assert_eq!(ages.of(stamp(1, 5_000), now), Err(Unknowable::WentBack));
        assert_eq!(ages.of(stamp(1, 5_001), now).map(|age| age.as_millis()), Ok(4));
        assert_eq!(ages.of(stamp(2, 5_001), now), Err(Unknowable::OtherBoot));
        assert_eq!(ages.of(stamp(1, 9_001), now), Err(Unknowable::Ahead));
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
