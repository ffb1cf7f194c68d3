//! The session's record of one of its connections.

use std::collections::BTreeSet;

use carriageway_proto::frame::{Goodbye, Hello};
use carriageway_proto::{Class, ClassMap, Moment};

use super::connection::{Capabilities, Channel, ConnectionId, Lanes};
use super::pulse::Pulse;

/// Where a connection stands in its life.
#[derive(Debug)]
pub(super) enum Stage {
    /// Connecting side: hello waits for room.
    Hello,
    /// Connecting side: hello is out, welcome is not here.
    Greeted { since: Moment },
    /// Accepting side: welcome waits for room; the lanes stand at `resumed`'s.
    Welcome { resumed: bool },
    /// Accepting side: welcome is out; the first frame from the peer says that it arrived.
    Welcomed { resumed: bool },
    /// Carries lanes.
    Ready,
    /// Goodbye waits for room, then it is closed.
    Leaving(Goodbye),
    /// Told to close; its end is awaited.
    Closed,
}

/// One connection of a session.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) capabilities: Capabilities,
    pub(super) stage: Stage,
    /// It has carried lanes.
    pub(super) was_ready: bool,
    /// Why this transport, for people.
    pub(super) why: String,
    pub(super) since: Moment,
    pub(super) pulse: Pulse,
    /// Per lane, the first sequence not yet given to this connection.
    pub(super) cursors: ClassMap<u64>,
    rooms: BTreeSet<Channel>,
    /// The newest control given to this connection.
    pub(super) control_cursor: u64,
    /// No signals before then: their rate is capped so that they never starve a lane.
    pub(super) signals_not_before: Moment,
    /// On a shared stream signals and the less urgent lanes take turns.
    pub(super) lane_goes_next: bool,
}

impl Peer {
    pub(super) fn new(
        id: ConnectionId,
        capabilities: Capabilities,
        stage: Stage,
        why: String,
        pulse: Pulse,
        now: Moment,
    ) -> Self {
        Self {
            id,
            capabilities,
            stage,
            was_ready: false,
            why,
            since: now,
            pulse,
            cursors: ClassMap::from_fn(|_| 1),
            rooms: BTreeSet::new(),
            control_cursor: 0,
            signals_not_before: Moment::ZERO,
            lane_goes_next: false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    pub(super) fn make_ready(&mut self) {
        self.stage = Stage::Ready;
        self.was_ready = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// The channel that carries a lane.
    pub(super) fn channel_of(&self, class: Class) -> Channel {
        match self.capabilities.lanes {
            Lanes::Independent => Channel::Lane(class),
            Lanes::Shared => Channel::Shared,
        }
    }

    /// The channel that carries signals.
    pub(super) fn signal_channel(&self) -> Channel {
        match self.capabilities.datagram {
            Some(_) => Channel::Datagram,
            None => self.channel_of(Class::Session),
        }
    }

    pub(super) fn has_room(&self, channel: Channel) -> bool {
        self.rooms.contains(&channel)
    }

    pub(super) fn gained_room(&mut self, channel: Channel) {
        self.rooms.insert(channel);
    }

    pub(super) fn used_room(&mut self, channel: Channel) {
        self.rooms.remove(&channel);
    }

    /// Forgets what was given out: the lanes of a new session start over.
    pub(super) fn restart_lanes(&mut self) {
        self.cursors = ClassMap::from_fn(|_| 1);
    }
}

/// The hello of a connecting peer, with the time it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The hello.
    pub hello: Hello,
    /// The peer's clock in the envelope that brought it.
    pub clock: Moment,
    /// When it arrived, by our clock.
    pub arrived: Moment,
}
