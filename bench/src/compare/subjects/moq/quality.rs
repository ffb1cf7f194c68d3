//! What each kind asks of the library, as its subscriber and its publisher say it.

use std::time::Duration;

use crate::compare::workload::Kind;

/// Longer than any connection of a run: nothing is dropped for its age.
const EVER: Duration = Duration::from_hours(1);

/// A picture that is older than another by this is of no use.
const PICTURE: Duration = Duration::from_secs(1);

/// Of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quality {
    /// The higher goes first.
    pub(super) priority: u8,
    /// By how much newer data may be ahead before a group is given up, in which case its stream is reset. With zero the newest
    /// replaces all before it.
    pub(super) max_age: Duration,
}

impl Quality {
    /// Of confirmations of pieces: a newer one says all that an older one would.
    pub(super) const GOT: Self = Self { priority: 5, max_age: Duration::ZERO };

    pub(super) const fn of(kind: Kind) -> Self {
        let (priority, max_age) = match kind {
            Kind::Control => (7, Duration::ZERO),
            Kind::Command | Kind::Ack => (6, EVER),
            Kind::Telemetry => (4, Duration::ZERO),
            Kind::Snapshot => (3, Duration::ZERO),
            Kind::Camera => (2, PICTURE),
            Kind::Log | Kind::Map => (1, EVER),
        };
        Self { priority, max_age }
    }

    /// Whether no group is ever given up.
    pub(super) const fn is_lasting(self) -> bool {
        self.max_age.as_secs() == EVER.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_replaced_at_once_and_nothing_else_is() {
        for kind in Kind::ALL {
            assert_eq!(Quality::of(kind).max_age.is_zero(), kind.is_state(), "{kind:?}");
        }
        for kind in [Kind::Command, Kind::Ack, Kind::Log, Kind::Map] {
            assert!(Quality::of(kind).is_lasting(), "{kind:?} must arrive");
        }
        assert!(!Quality::of(Kind::Camera).is_lasting() && !Quality::GOT.is_lasting());
    }

    #[test]
    fn control_goes_first_and_files_last() {
        let order = [Kind::Control, Kind::Command, Kind::Telemetry, Kind::Snapshot, Kind::Camera, Kind::Log];
        let priorities = order.map(|kind| Quality::of(kind).priority);
        assert!(priorities.is_sorted_by(|one, next| one > next), "{priorities:?}");
        assert_eq!(Quality::of(Kind::Command), Quality::of(Kind::Ack));
        assert_eq!(Quality::of(Kind::Log), Quality::of(Kind::Map));
        assert!(Quality::GOT.priority > Quality::of(Kind::Log).priority, "files wait for it");
    }
}
