//! A path of a vehicle: two devices with the model between them, and what becomes of packets outside the model.

use std::io;

use super::nat::{Nat, Verdict};
use super::packet;
use super::tun::Tun;
use crate::core::{Delivery, Direction, Law, Moment, Pipe, Seed};
use crate::profile::Rebinding;

/// A wire whose time has not begun.
pub(super) struct Plan {
    pub(super) vehicle: usize,
    pub(super) path: usize,
    /// The vehicle's end and the other one.
    pub(super) ends: [Tun; 2],
    /// Up and down.
    pub(super) laws: [Law; 2],
    pub(super) seed: Seed,
}

/// Two devices with the model between them.
pub(super) struct Wire {
    pub(super) vehicle: usize,
    pub(super) path: usize,
    /// The vehicle's end and the other one.
    pub(super) ends: [Tun; 2],
    pub(super) pipes: [Pipe<Box<[u8]>>; 2],
    /// Per direction.
    pub(super) mishaps: [Mishaps; 2],
    nat: Nat,
}

/// Why a packet did not arrive although the model let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The NAT knows no such port.
    Nat,
    /// The interface was down.
    NoInterface,
    /// The kernel did not take it, for another reason.
    Refused,
}

impl Mishap {
    pub(super) const ALL: [Self; 3] = [Self::Nat, Self::NoInterface, Self::Refused];

    /// As logs and reports spell it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::NoInterface => "no-interface",
            Self::Refused => "refused",
        }
    }
}

/// Packets of one direction that were lost outside the model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mishaps {
    /// Never offered to the model: the NAT on the network's side turned them away.
    turned_away: Tally,
    /// Delivered by the model, but they did not arrive.
    astray: [Tally; Mishap::ALL.len()],
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Tally {
    const fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }
}

impl Mishaps {
    /// Before the model.
    pub(super) const fn turned_away(&self) -> Tally {
        self.turned_away
    }

    /// Behind the model, for all reasons.
    pub(super) fn astray(&self) -> Tally {
        let add = |sum: Tally, one: &Tally| Tally {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        };
        self.astray.iter().fold(Tally::default(), add)
    }

    /// Packets that met `mishap`, before or behind the model.
    pub(super) const fn by(&self, mishap: Mishap) -> u64 {
        let astray = self.astray[mishap as usize].packets;
        match mishap {
            Mishap::Nat => astray + self.turned_away.packets,
            Mishap::NoInterface | Mishap::Refused => astray,
        }
    }
}

/// What became of a packet that the model delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// So many copies were taken.
    Over {
        /// At least one.
        copies: u8,
    },
    /// None was.
    Astray(Mishap),
}

impl Plan {
    /// The wire, whose time begins at `start`. What came in before goes nowhere; gives how many packets that were.
    pub(super) fn begin(self, start: Moment, buffer: &mut [u8]) -> io::Result<(Wire, u64)> {
        let Self { vehicle, path, ends, laws: [up, down], seed } = self;
        let mut early = 0;
        for end in &ends {
            while end.read(buffer)?.is_some() {
                early += 1;
            }
        }
        let pipes =
            [Pipe::new(up, seed, Direction::Up, start), Pipe::new(down, seed, Direction::Down, start)];
        let wire = Wire { vehicle, path, ends, pipes, mishaps: Default::default(), nat: Nat::default() };
        Ok((wire, early))
    }
}

impl Wire {
    /// When there is next something to do; `NEVER` if nothing is under way. A drop that is not yet told of is due at once.
    pub(super) fn next_due(&self, direction: Direction) -> Moment {
        let pipe = &self.pipes[direction.index()];
        if pipe.next_due() == Some(Moment::ZERO) {
            return Moment::ZERO;
        }
        pipe.next_arrival().unwrap_or(Moment::NEVER)
    }

    /// What the NAT on the network's side does with a packet that comes in at the far end.
    pub(super) fn admit(&mut self, direction: Direction, packet: &mut [u8]) -> Verdict {
        let verdict = match direction {
            Direction::Up => Verdict::Pass,
            Direction::Down => self.nat.inbound(packet),
        };
        if verdict == Verdict::Drop {
            self.mishaps[direction.index()].turned_away.add(packet.len() as u64);
        }
        verdict
    }

    /// Writes all copies.
    pub(super) fn hand_over(&mut self, direction: Direction, delivery: &mut Delivery<Box<[u8]>>) -> Handed {
        let handed = self.try_hand_over(direction, delivery);
        if let Handed::Astray(mishap) = handed {
            let bytes = u64::from(delivery.packet.size);
            self.mishaps[direction.index()].astray[mishap as usize].add(bytes);
        }
        handed
    }

    fn try_hand_over(&mut self, direction: Direction, delivery: &mut Delivery<Box<[u8]>>) -> Handed {
        let payload = &mut delivery.packet.payload;
        if direction == Direction::Up && self.nat.outbound(payload) == Verdict::Drop {
            return Handed::Astray(Mishap::Nat);
        }
        if let Some(choice) = delivery.corrupt {
            packet::corrupt(payload, choice);
        }
        let end = &self.ends[direction.opposite().index()];
        let (mut taken, mut mishap) = (0, Mishap::Refused);
        for _ in 0..delivery.copies {
            match end.write(payload) {
                Ok(()) => taken += 1,
                Err(error) if is_down(&error) => mishap = Mishap::NoInterface,
                Err(_) => mishap = Mishap::Refused,
            }
        }
        if taken > 0 { Handed::Over { copies: taken } } else { Handed::Astray(mishap) }
    }

    /// Gives all flows new ports.
    pub(super) fn rebind(&mut self, how: Rebinding) {
        self.nat.rebind(how);
    }
}

/// A TUN whose interface is down refuses packets with EIO.
fn is_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
