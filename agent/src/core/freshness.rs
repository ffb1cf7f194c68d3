//! How old something is, by one host's clock, and whether that clock can be trusted (FRESH).

use std::time::Duration;

use carriageway_proto::{BootId, Moment, Reason, Stamp};

/// Judges ages by one host's clock, and notices when that clock cannot be trusted.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    boot: BootId,
    latest: Moment,
    /// The clock has shown every reading up to this one before it went backwards: a stamp from there
    /// could be of either time.
    ambiguous: Option<Moment>,
}

/// Why something may not take effect any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// [`Reason::AgeUnknowable`] where nobody can tell its age.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: String,
}

impl Judge {
    /// Judges on the host of this boot, whose clock reads `now`.
    pub fn new(boot: BootId, now: Moment) -> Self {
        Self { boot, latest: now, ambiguous: None }
    }

    /// The boot by whose clock it judges.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Takes in a reading, be it of now or of a record of this boot.
    pub fn note(&mut self, now: Moment) {
        if now < self.latest {
            self.ambiguous = self.ambiguous.max(Some(self.latest));
        }
        self.latest = now;
    }

    /// FRESH: nothing if what was stamped so may still take effect, or why it may not. Without a ttl it must
    /// be of this boot and of a time that the clock can tell.
    pub fn too_old(&self, now: Moment, stamp: Stamp, ttl: Option<Duration>) -> Option<TooOld> {
        let unknowable = |why: &str| Some(TooOld { reason: Some(Reason::AgeUnknowable), detail: why.into() });
        if stamp.boot != self.boot {
            return unknowable("it was stamped for another boot of this vehicle");
        }
        if self.ambiguous.is_some_and(|through| stamp.clock <= through) {
            return unknowable("the vehicle's clock went backwards since it was stamped");
        }
        let Some(age) = stamp.age(self.boot, now) else {
            return unknowable("its stamp lies ahead of the vehicle's clock");
        };
        let ttl = ttl.filter(|ttl| with_drift(age) > *ttl)?;
        let detail = format!("{} ms old, ttl {} ms", age.as_millis(), ttl.as_millis());
        Some(TooOld { reason: None, detail })
    }
}

/// A duration that a clock within 1 +- 0.001 of true time measured, at its longest in true time.
fn with_drift(measured: Duration) -> Duration {
    measured + measured / 999
}
