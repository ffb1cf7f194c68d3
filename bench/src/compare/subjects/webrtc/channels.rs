//! Which channel a message goes on, and how much of each may wait in the library.

use str0m::channel::{ChannelConfig, Reliability};

use crate::compare::workload::Kind;

/// Bytes that str0m takes for all channels together, sent and not yet acknowledged ones among them: a bit more than their bounds
/// come to. Its default of 128 KiB is less.
pub(super) const MOST_IN_ALL: usize = 160 * 1024;

/// A data channel, agreed upon beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What a newer one replaces: unordered, never sent again.
    States,
    /// What must arrive: reliable, in order.
    Commands,
    /// Pictures: as states, with a bound of their own.
    Camera,
    /// Files: reliable, in order.
    Files,
}

impl Lane {
    /// All of them. Their places are the ids of their streams.
    pub(super) const ALL: [Self; 4] = [Self::States, Self::Commands, Self::Camera, Self::Files];

    /// The lane of a kind.
    pub(super) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Control | Kind::Telemetry | Kind::Snapshot => Self::States,
            Kind::Command | Kind::Ack => Self::Commands,
            Kind::Camera => Self::Camera,
            Kind::Log | Kind::Map => Self::Files,
        }
    }

    /// Its place among all.
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Bytes beyond which no more is written. They count until they are acknowledged, so each is a round trip of its kind at the
    /// least. That of files is what streams have in quinn's best practice.
    pub(super) const fn most(self) -> usize {
        match self {
            // About a second of them: what waits there during an outage is old when it comes.
            Self::States => 8 * 1024,
            Self::Commands => 16 * 1024,
            Self::Camera => 48 * 1024,
            Self::Files => 64 * 1024,
        }
    }

    /// How both ends open it, without a word about it on the connection.
    pub(super) fn config(self) -> ChannelConfig {
        let (label, is_reliable) = match self {
            Self::States => ("states", false),
            Self::Commands => ("commands", true),
            Self::Camera => ("camera", false),
            Self::Files => ("files", true),
        };
        let reliability =
            if is_reliable { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } };
        ChannelConfig {
            label: label.into(),
            ordered: is_reliable,
            reliability,
            negotiated: Some(self as u16),
            protocol: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::common::piece_bytes;
    use super::super::MANNER;
    use super::*;

    #[test]
    fn no_lane_shuts_out_another_however_full_they_are() {
        let bytes = |kind: Kind| if kind.is_file() { piece_bytes(MANNER) } else { kind.bytes() };
        let largest =
            |lane| Kind::ALL.into_iter().filter(move |kind| Lane::of(*kind) == lane).map(bytes).max();
        // A lane takes one more message while it holds no more than its bound.
        let held: usize = Lane::ALL.into_iter().map(|lane| lane.most() + largest(lane).unwrap()).sum();
        assert!(held <= MOST_IN_ALL, "{held}");
    }

    #[test]
    fn states_are_never_sent_again_and_all_else_arrives_in_order() {
        for kind in Kind::ALL {
            let config = Lane::of(kind).config();
            let is_loose = kind.is_state() || kind == Kind::Camera;
            assert_eq!(config.ordered, !is_loose, "{kind:?}");
            assert_eq!(config.reliability == Reliability::Reliable, !is_loose, "{kind:?}");
        }
    }

    #[test]
    fn both_ends_know_each_lane_by_its_place() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
            assert_eq!(lane.config().negotiated.map(usize::from), Some(index));
        }
        assert_ne!(Lane::of(Kind::Command), Lane::of(Kind::Log));
        assert_ne!(Lane::of(Kind::Control), Lane::of(Kind::Camera));
    }
}
