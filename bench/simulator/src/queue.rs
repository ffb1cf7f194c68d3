//! What is still to happen, in order of true time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use carriageway_gateway::core::commands::Arrival;
use carriageway_proto::ControlFrame;
use carriageway_transport::core::connection::{Channel, Ended};
use carriageway_transport::core::keeper::Choice;

use crate::network::Side;
use crate::pilot::{Report, Word};

/// One thing that will happen.
#[derive(Debug)]
pub(crate) enum Task {
    /// A frame reaches one end.
    Frame { connection: u32, to: Side, channel: Channel, bytes: Bytes },
    /// A channel takes frames again.
    Room { connection: u32, side: Side, channel: Channel },
    /// The other end closed.
    Closed { connection: u32, to: Side, ended: Ended },
    /// A dial of a vehicle's process leads somewhere, or not.
    Dialed { vehicle: usize, run: u32, choice: Choice, gateway: usize, is_up: bool },
    /// A write of a vehicle's process to its disk is done.
    Synced { vehicle: usize, run: u32 },
    /// A write of a gateway's process to its disk is done.
    Stored { gateway: usize, run: u32 },
    /// A write of a token to a gateway's disk is done.
    Kept { gateway: usize, run: u32 },
    /// An operator's hands move.
    Beat(usize),
    /// What an operator at the wheel asks comes in.
    Word { drive: usize, gateway: usize, word: Box<Word> },
    /// What a gateway shows reaches an operator at the wheel.
    Report { drive: usize, report: Report },
    /// A copy of control that a gateway passed on at the true time `sent` comes once more.
    Stray { vehicle: usize, gateway: usize, sent: u64, frame: Box<ControlFrame> },
    /// A vehicle wants the time.
    WakeVehicle(usize),
    /// A gateway wants the time.
    WakeGateway(usize),
    /// A vehicle's agent starts.
    StartVehicle(usize),
    /// A gateway starts.
    StartGateway(usize),
    /// A request begins to come in.
    Click(usize),
    /// A request is all there, if the gateway's process `run` still is.
    Submit { click: usize, gateway: usize, run: u32, arrived: (u64, Arrival) },
    /// The paths of these connections are gone.
    Dark(Vec<u32>),
    /// A fault begins.
    Fault(usize),
    /// The second half of a fault: a new path opens, a broken disk's agent is restarted.
    Follow(usize),
    /// A gateway that drains has to be gone.
    Deadline { gateway: usize, run: u32 },
    /// The faults have stopped.
    Healed,
    /// The end: every vehicle is looked at.
    Judge,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    task: Task,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// When a node wants the time next. A task that comes earlier than it asks for another one.
#[derive(Debug)]
pub(crate) struct Alarm(u64);

impl Default for Alarm {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl Alarm {
    /// Sets it to `at`, unless it rings earlier. True where a task has to be put in for that.
    pub(crate) fn set(&mut self, at: u64, now: u64) -> bool {
        let is_needed = at < self.0 || self.0 <= now;
        if is_needed {
            self.0 = at;
        }
        is_needed
    }

    /// Whether it is time; if so, it is not set any more.
    pub(crate) fn rings(&mut self, now: u64) -> bool {
        let is_time = now >= self.0;
        if is_time {
            self.0 = u64::MAX;
        }
        is_time
    }
}

/// The queue. What is due at the same time happens in the order it was put in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, task: Task) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, task }));
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Task)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.task))
    }
}
