//! Control on its way out: one place, latest wins, on every live connection at once.

use std::time::Duration;

use carriageway_proto::{ControlFrame, Moment};

/// Control older than this is not sent any more: a vehicle refuses it by its own age limit's default.
const AGE_LIMIT: Duration = Duration::from_millis(250);

/// Holds the newest control until each connection has had it.
#[derive(Debug, Default)]
pub struct Slot {
    /// Counts what was offered; 0 is nothing yet.
    number: u64,
    waiting: Option<Waiting>,
    drops: Drops,
}

#[derive(Debug)]
struct Waiting {
    frame: ControlFrame,
    since: Moment,
    /// Some connection has had it.
    is_sent: bool,
}

/// Control that no connection was ever given, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Newer control took the place.
    pub replaced: u64,
    /// It grew too old before a connection had room.
    pub stale: u64,
}

impl Slot {
    /// Offers newer control; it replaces what waits.
    pub fn offer(&mut self, now: Moment, frame: ControlFrame) {
        self.forget_stale(now);
        self.number += 1;
        let before = self.waiting.replace(Waiting { frame, since: now, is_sent: false });
        self.drops.replaced += u64::from(before.is_some_and(|before| !before.is_sent));
    }

    /// What a connection that has had everything up to `cursor` is to be given; moves the cursor.
    pub fn next(&mut self, cursor: &mut u64, now: Moment) -> Option<ControlFrame> {
        self.forget_stale(now);
        let waiting = self.waiting.as_mut().filter(|_| *cursor < self.number)?;
        *cursor = self.number;
        waiting.is_sent = true;
        Some(waiting.frame.clone())
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    fn forget_stale(&mut self, now: Moment) {
        if let Some(stale) = self.waiting.take_if(|waiting| now.since(waiting.since) > AGE_LIMIT) {
            self.drops.stale += u64::from(!stale.is_sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::{BootId, Stamp, Token};

    use super::*;

    fn frame(clock: u64) -> ControlFrame {
        let stamp = Stamp { boot: BootId::from_bytes([1; 16]), clock: Moment::from_micros(clock) };
        ControlFrame { token: Token::FIRST, stamp, states: Vec::new() }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1_000)
    }

    #[test]
    fn each_connection_gets_the_newest_once() {
        let mut slot = Slot::default();
        let (mut first, mut second) = (0, 0);
        assert_eq!(slot.next(&mut first, at(0)), None, "nothing was offered");
        slot.offer(at(1), frame(1));
        slot.offer(at(2), frame(2));
        assert_eq!(slot.next(&mut first, at(3)), Some(frame(2)));
        assert_eq!(slot.next(&mut first, at(3)), None);
        assert_eq!(slot.next(&mut second, at(3)), Some(frame(2)));
        slot.offer(at(4), frame(3));
        assert_eq!(slot.next(&mut second, at(4)), Some(frame(3)));
        assert_eq!(slot.drops(), Drops { replaced: 1, stale: 0 }, "the sent one was not lost");
    }

    #[test]
    fn old_control_is_never_sent() {
        let mut slot = Slot::default();
        let mut cursor = 0;
        slot.offer(at(0), frame(1));
        assert_eq!(slot.next(&mut cursor, at(251)), None);
        assert_eq!(slot.drops(), Drops { replaced: 0, stale: 1 });
        slot.offer(at(300), frame(2));
        assert_eq!(slot.next(&mut cursor, at(550)), Some(frame(2)), "at its limit it still goes");
    }
}
