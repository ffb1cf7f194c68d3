//! What a node can reach while it acts: the time, the network, chance, the log.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use carriageway_proto::{Command, Frame, Message};
use carriageway_transport::core::connection::Channel;

use crate::chance::Chance;
use crate::checker::{Checker, Event, Name, Rules, Violation, What};
use crate::network::{Network, Weather};
use crate::plan::Plan;
use crate::queue::Queue;

/// Copies of old commands that may still turn up, per vehicle.
const COPIES: usize = 32;

/// The node was killed in the middle of what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Died;

/// A kill that is due after so many more actions.
#[derive(Debug, Default)]
pub(crate) struct Fuse(Option<u32>);

impl Fuse {
    pub(crate) fn light(&mut self, actions: u32) {
        self.0 = Some(actions);
    }

    pub(crate) fn put_out(&mut self) {
        self.0 = None;
    }

    /// Between two actions.
    pub(crate) fn step(&mut self) -> Result<(), Died> {
        match &mut self.0 {
            None => Ok(()),
            Some(0) => Err(Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo; 64 bits): the same on every machine and in every version.
#[derive(Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Everything that happened, checked as it happens.
#[derive(Debug)]
pub(crate) struct Log {
    checker: Checker,
    pub(crate) hash: Fnv,
    pub(crate) events: u64,
    pub(crate) effects: u64,
    /// States of control that operators made.
    pub(crate) frames: u64,
    pub(crate) violation: Option<Violation>,
    /// Every event, where somebody wants to read them.
    pub(crate) kept: Option<Vec<Event>>,
}

impl Log {
    pub(crate) fn new(rules: &Rules, keep: bool) -> Self {
        Self {
            checker: Checker::new(rules),
            hash: Fnv::default(),
            events: 0,
            effects: 0,
            frames: 0,
            violation: None,
            kept: keep.then(Vec::new),
        }
    }

    pub(crate) fn tell(&mut self, at: u64, node: &Name, what: What) {
        let event = Event { at, node: node.clone(), what };
        event.hash(&mut self.hash);
        self.events += 1;
        self.effects += u64::from(matches!(event.what, What::Effect { .. }));
        self.frames += u64::from(matches!(event.what, What::Steered { .. }));
        if let Some(violation) = self.checker.take(&event) {
            self.violation.get_or_insert(violation);
        }
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    pub(crate) fn finish(&mut self, at: u64) {
        if self.violation.is_none() {
            self.violation = self.checker.finish(at);
        }
    }
}

/// What is around a node.
#[derive(Debug)]
pub(crate) struct Air {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) queue: Queue,
    pub(crate) network: Network,
    pub(crate) log: Log,
    /// By vehicle, what was sent to it and when, newest last.
    pub(crate) copies: Vec<VecDeque<(u64, Command)>>,
    /// The gateway that each vehicle dials.
    pub(crate) routes: Vec<usize>,
}

impl Air {
    pub(crate) fn tell(&mut self, node: &Name, what: What) {
        self.log.tell(self.now, node, what);
    }

    /// The network, with what it needs.
    pub(crate) fn net(&mut self) -> (&mut Network, Weather<'_>) {
        let Self { now, plan, chance, queue, network, .. } = self;
        (network, Weather { now: *now, plan, chance, queue })
    }

    /// A command leaves the gateway: a copy of it may turn up later, by some other way.
    pub(crate) fn note_copy(&mut self, vehicle: usize, channel: Channel, frame: &Bytes) {
        let may_be = match channel {
            Channel::Lane(class) => class.is_command(),
            Channel::Shared => true,
            Channel::Datagram => false,
        };
        let Some((_, Frame::Lane { payload, .. })) =
            may_be.then(|| Frame::decode(frame.clone()).ok()).flatten()
        else {
            return;
        };
        let Ok(Message::Command(command)) = Message::decode(payload) else { return };
        let copies = &mut self.copies[vehicle];
        if copies.len() == COPIES {
            copies.pop_front();
        }
        copies.push_back((self.now, command));
    }

    /// True while nothing goes wrong any more.
    pub(crate) fn is_healthy(&self) -> bool {
        self.now >= self.plan.mix.horizon
    }
}
