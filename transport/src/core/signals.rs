//! Latest-wins: one value per path at the sender, never an older one after a newer at the receiver.

use std::collections::{BTreeMap, VecDeque};

use carriageway_proto::frame::Signal;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::scan::MAX_FIELDS;
use carriageway_proto::time::micros;
use carriageway_proto::{Moment, SignalPath, Value};

/// What a signal takes in a frame beside its path and text, at most: tags and lengths 7, sequence 10,
/// number 10, wait 10, rounded up.
const SIGNAL_OVERHEAD: usize = 40;

/// What an envelope takes around its signals, at most.
const ENVELOPE_OVERHEAD: usize = 20;

/// Holds the newest value of each path until a frame has room for it.
#[derive(Debug)]
pub struct Conflator {
    max_paths: usize,
    slots: BTreeMap<SignalPath, Slot>,
    /// Paths with a value that waits, longest wait first.
    turn: VecDeque<SignalPath>,
    drops: SendDrops,
}

/// One place per path: an older value is worse than none.
#[derive(Debug, Default)]
struct Slot {
    sequence: u64,
    waiting: Option<(Value, Moment)>,
}

/// Values that a sender dropped, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SendDrops {
    /// A newer value took the place.
    pub replaced: u64,
    /// More paths than the limit.
    pub too_many_paths: u64,
}

impl Conflator {
    /// A conflator for at most `max_paths` paths.
    pub fn new(max_paths: usize) -> Self {
        Self { max_paths, slots: BTreeMap::new(), turn: VecDeque::new(), drops: SendDrops::default() }
    }

    /// Offers a value; it replaces the one that waits for the same path.
    pub fn offer(&mut self, path: SignalPath, value: Value, now: Moment) {
        if !self.slots.contains_key(&path) && self.slots.len() >= self.max_paths {
            self.drops.too_many_paths += 1;
            return;
        }
        let slot = self.slots.entry(path.clone()).or_default();
        slot.sequence += 1;
        match slot.waiting.replace((value, now)) {
            Some(_) => self.drops.replaced += 1,
            None => self.turn.push_back(path),
        }
    }

    /// As many waiting values as fit `max_bytes` of an encoded frame, longest wait first; empty where
    /// none waits.
    pub fn take(&mut self, max_bytes: usize, now: Moment) -> Vec<Signal> {
        let mut room = max_bytes.saturating_sub(ENVELOPE_OVERHEAD);
        let mut signals = Vec::new();
        while let Some(path) = self.turn.front()
            && signals.len() < MAX_FIELDS
        {
            let slot = self.slots.get_mut(path).expect("a path in turn has its slot");
            let (value, _) = slot.waiting.as_ref().expect("a path in turn has a value that waits");
            let size = size(path, value);
            // One that alone exceeds the frame goes by itself, where the connection drops it by size.
            if size > room && !signals.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            let (value, taken) = slot.waiting.take().expect("looked at above");
            let path = self.turn.pop_front().expect("looked at above");
            signals.push(Signal {
                path,
                sequence: slot.sequence,
                value,
                waited_us: micros(now.since(taken)),
            });
        }
        signals
    }

    /// True where a value waits.
    pub fn is_waiting(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Values that wait.
    pub fn waiting(&self) -> usize {
        self.turn.len()
    }

    /// What was dropped so far.
    pub fn drops(&self) -> SendDrops {
        self.drops
    }
}

fn size(path: &SignalPath, value: &Value) -> usize {
    let text = if let Value::Text(text) = value { text.len() } else { 0 };
    SIGNAL_OVERHEAD + path.as_str().len() + text
}

/// Lets only newer values pass.
#[derive(Debug)]
pub struct Latest {
    max_paths: usize,
    newest: BTreeMap<SignalPath, u64>,
    drops: ReceiveDrops,
}

/// Values that a receiver dropped, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveDrops {
    /// A newer value of the path, or the same one, was here before.
    pub stale: u64,
    /// More paths than the limit.
    pub too_many_paths: u64,
}

impl Latest {
    /// A filter for at most `max_paths` paths.
    pub fn new(max_paths: usize) -> Self {
        Self { max_paths, newest: BTreeMap::new(), drops: ReceiveDrops::default() }
    }

    /// True where the value is newer than all before it on its path.
    pub fn admit(&mut self, signal: &Signal) -> bool {
        let is_full = self.newest.len() >= self.max_paths;
        match self.newest.get_mut(&signal.path) {
            Some(newest) if signal.sequence <= *newest && !sabotage::on(Sabotage::OlderSignalPasses) => {
                self.drops.stale += 1;
                false
            }
            Some(newest) => {
                *newest = signal.sequence;
                true
            }
            None if is_full => {
                self.drops.too_many_paths += 1;
                false
            }
            None => {
                self.newest.insert(signal.path.clone(), signal.sequence);
                true
            }
        }
    }

    /// Forgets all sequences: the peer's session, and with it its counting, started over.
    pub fn restart(&mut self) {
        self.newest.clear();
    }

    /// What was dropped so far.
    pub fn drops(&self) -> ReceiveDrops {
        self.drops
    }
}
