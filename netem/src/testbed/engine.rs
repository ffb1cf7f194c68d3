//! The emulator's thread: from TUN to TUN through the model.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::log::{Fate, Log, Record};
use super::nat::{Nat, Verdict};
use super::packet;
use super::tun::Tun;
use crate::clock;
use crate::core::{
    Capacity, Counts, Delivery, Direction, Dropped, Event, Law, Moment, OutageMode, Packet, Pipe, Seed,
    UdpPolicy,
};
use crate::lateness::Lateness;
use crate::orders::Inbox;
use crate::poller::{EventFlags, Poller, Waker};
use crate::profile::Rebinding;

/// Packets read from one device before others get their turn.
const TURN: usize = 64;
/// Largest packet that a TUN hands over.
const LARGEST: usize = 65_535;

/// A path of a vehicle: two devices with the model between them.
pub(super) struct Wire {
    pub(super) vehicle: usize,
    pub(super) path: usize,
    /// The vehicle's end and the other one.
    pub(super) ends: [Tun; 2],
    pub(super) pipes: [Pipe<Box<[u8]>>; 2],
    nat: Nat,
    /// Packets that the NAT dropped.
    nat_drops: u64,
    /// Packets that arrived at an interface that was down.
    met_no_interface: u64,
}

/// Which wires an order concerns: all that match.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Which {
    pub(super) vehicle: Option<usize>,
    pub(super) path: Option<usize>,
}

/// What the thread can be told.
pub(super) enum Command {
    Udp(Which, UdpPolicy),
    Outage { which: Which, length: Duration, mode: OutageMode },
    Laws(Which, Box<[Law; 2]>),
    Capacity(Which, [Option<Capacity>; 2]),
    Rebind(Which, Rebinding),
    Carrier(Which, bool),
    Stats,
}

/// What it answers.
pub(super) enum Answer {
    Done,
    Failed(io::Error),
    Stats(Box<Snapshot>),
}

/// What happened on one wire.
pub(super) struct WireCounts {
    pub(super) vehicle: usize,
    pub(super) path: usize,
    pub(super) counts: [Counts; 2],
    pub(super) nat_drops: u64,
    pub(super) met_no_interface: u64,
}

/// What the thread knows about its own work.
pub(super) struct Snapshot {
    pub(super) wires: Vec<WireCounts>,
    pub(super) lateness: Lateness,
    /// CPU time of the thread.
    pub(super) cpu: Duration,
    /// Packets that the kernel did not take.
    pub(super) refused: u64,
    /// Records that the log lost.
    pub(super) unlogged: u64,
}

/// Everything that the thread owns.
pub(super) struct Engine {
    poller: Poller,
    wires: Vec<Wire>,
    /// When something can next arrive on each wire, up and down: looked through far more often than it changes.
    dues: Vec<Moment>,
    lateness: Lateness,
    log: Option<Log>,
    refused: u64,
    buffer: Box<[u8]>,
}

impl Wire {
    /// A wire under `laws` (up, down) that starts at `start`.
    pub(super) fn new(
        vehicle: usize,
        path: usize,
        ends: [Tun; 2],
        laws: [Law; 2],
        seed: Seed,
        start: Moment,
    ) -> Self {
        let [up, down] = laws;
        let pipes =
            [Pipe::new(up, seed, Direction::Up, start), Pipe::new(down, seed, Direction::Down, start)];
        Self { vehicle, path, ends, pipes, nat: Nat::default(), nat_drops: 0, met_no_interface: 0 }
    }
}

impl Wire {
    /// When something can next arrive; `NEVER` if nothing is under way.
    fn next_arrival(&self, direction: Direction) -> Moment {
        self.pipes[direction.index()].next_arrival().unwrap_or(Moment::NEVER)
    }

    /// Writes all copies; gives the number that the kernel did not take.
    fn hand_over(&mut self, direction: Direction, delivery: &mut Delivery<Box<[u8]>>) -> u64 {
        let payload = &mut delivery.packet.payload;
        if direction == Direction::Up && self.nat.outbound(payload) == Verdict::Drop {
            self.nat_drops += 1;
            return 0;
        }
        if let Some(choice) = delivery.corrupt {
            packet::corrupt(payload, choice);
        }
        let end = &self.ends[direction.opposite().index()];
        let mut refused = 0;
        for _ in 0..delivery.copies {
            match end.write(payload) {
                Ok(()) => {}
                Err(error) if is_down(&error) => self.met_no_interface += 1,
                Err(_) => refused += 1,
            }
        }
        refused
    }
}

impl Which {
    fn is(self, wire: &Wire) -> bool {
        self.vehicle.is_none_or(|vehicle| vehicle == wire.vehicle)
            && self.path.is_none_or(|path| path == wire.path)
    }
}

impl Engine {
    pub(super) fn new(wires: Vec<Wire>, log: Option<Log>) -> io::Result<Self> {
        let poller = Poller::new()?;
        for (number, wire) in wires.iter().enumerate() {
            for (direction, end) in Direction::BOTH.into_iter().zip(&wire.ends) {
                poller.watch(end, (number * 2 + direction.index()) as u64, EventFlags::IN)?;
            }
        }
        let buffer = vec![0; LARGEST].into();
        let dues = vec![Moment::NEVER; wires.len() * 2];
        Ok(Self { poller, wires, dues, lateness: Lateness::default(), log, refused: 0, buffer })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        self.poller.waker()
    }

    /// Works until the asking side is gone.
    pub(super) fn run(mut self, inbox: &Inbox<Command, Answer>) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            let due = self.dues.iter().copied().min().filter(|due| *due != Moment::NEVER);
            self.poller.wait(due, &mut events)?;
            for (source, _) in events.drain(..) {
                self.take((source / 2) as usize, Direction::BOTH[(source % 2) as usize])?;
            }
            if inbox.obey(|command| self.obey(command)).is_err() {
                self.tell_drops();
                return self.log.as_mut().map_or(Ok(()), Log::finish);
            }
            self.deliver(clock::now());
        }
    }

    /// Reads what came in at one end of a wire.
    fn take(&mut self, number: usize, direction: Direction) -> io::Result<()> {
        let wire = &mut self.wires[number];
        for _ in 0..TURN {
            let Some(length) = wire.ends[direction.index()].read(&mut self.buffer)? else { break };
            let bytes = &mut self.buffer[..length];
            // The NAT is on the network's side: what comes from there meets it before the link.
            if direction == Direction::Down && wire.nat.inbound(bytes) == Verdict::Drop {
                wire.nat_drops += 1;
                continue;
            }
            let bytes = &*bytes;
            let packet = Packet { size: length as u32, kind: packet::kind(bytes), payload: bytes.into() };
            let (now, pipe) = (clock::now(), &mut wire.pipes[direction.index()]);
            let refused = pipe.push(now, packet).err();
            // At once: on a link that loses everything nothing becomes due, and each drop holds a packet.
            for dropped in refused.into_iter().chain(std::iter::from_fn(|| pipe.pop_drop(now))) {
                note_drop(self.log.as_mut(), wire.vehicle, wire.path, direction, &dropped);
            }
        }
        self.dues[number * 2 + direction.index()] = wire.next_arrival(direction);
        Ok(())
    }

    /// Hands over what is due.
    fn deliver(&mut self, now: Moment) {
        for number in 0..self.wires.len() {
            for direction in Direction::BOTH {
                let place = number * 2 + direction.index();
                if self.dues[place] <= now {
                    self.deliver_on(number, direction);
                    self.dues[place] = self.wires[number].next_arrival(direction);
                }
            }
        }
    }

    fn deliver_on(&mut self, number: usize, direction: Direction) {
        let Self { wires, log, lateness, refused, .. } = self;
        let wire = &mut wires[number];
        let (vehicle, path) = (wire.vehicle, wire.path);
        while let Some(event) = wire.pipes[direction.index()].pop(clock::now()) {
            match event {
                Event::Dropped(dropped) => note_drop(log.as_mut(), vehicle, path, direction, &dropped),
                Event::Delivered(mut delivery) => {
                    *refused += wire.hand_over(direction, &mut delivery);
                    let now = clock::now();
                    lateness.record(now.since(delivery.due));
                    note_delivery(log.as_mut(), vehicle, path, direction, &delivery, now);
                }
            }
        }
    }

    /// Logs what the links have dropped since they were last asked.
    fn tell_drops(&mut self) {
        let now = clock::now();
        for wire in &mut self.wires {
            for (direction, pipe) in Direction::BOTH.into_iter().zip(&mut wire.pipes) {
                while let Some(dropped) = pipe.pop_drop(now) {
                    note_drop(self.log.as_mut(), wire.vehicle, wire.path, direction, &dropped);
                }
            }
        }
    }

    fn obey(&mut self, command: Command) -> Answer {
        let answer = self.carry_out(command);
        self.tell_drops();
        for (number, wire) in self.wires.iter().enumerate() {
            for direction in Direction::BOTH {
                self.dues[number * 2 + direction.index()] = wire.next_arrival(direction);
            }
        }
        answer
    }

    fn carry_out(&mut self, command: Command) -> Answer {
        let now = clock::now();
        let done = match command {
            Command::Udp(which, policy) => {
                self.each_pipe(which, |pipe, _| pipe.set_udp(now, policy));
                Ok(())
            }
            Command::Outage { which, length, mode } => {
                self.each_pipe(which, |pipe, _| pipe.declare_outage(now, now + length, mode));
                Ok(())
            }
            Command::Laws(which, laws) => {
                self.each_pipe(which, |pipe, direction| pipe.set_law(now, laws[direction.index()].clone()));
                Ok(())
            }
            Command::Capacity(which, capacities) => {
                self.each_pipe(which, |pipe, direction| {
                    if let Some(capacity) = &capacities[direction.index()] {
                        pipe.set_capacity(now, capacity.clone());
                    }
                });
                Ok(())
            }
            Command::Rebind(which, how) => {
                self.wires.iter_mut().filter(|wire| which.is(wire)).for_each(|wire| wire.nat.rebind(how));
                Ok(())
            }
            Command::Carrier(which, on) => self.set_carrier(which, on),
            Command::Stats => return Answer::Stats(Box::new(self.snapshot())),
        };
        done.map_or_else(Answer::Failed, |()| Answer::Done)
    }

    fn each_pipe(&mut self, which: Which, mut act: impl FnMut(&mut Pipe<Box<[u8]>>, Direction)) {
        for wire in self.wires.iter_mut().filter(|wire| which.is(wire)) {
            for (direction, pipe) in Direction::BOTH.into_iter().zip(&mut wire.pipes) {
                act(pipe, direction);
            }
        }
    }

    fn set_carrier(&self, which: Which, on: bool) -> io::Result<()> {
        let mut wires = self.wires.iter().filter(|wire| which.is(wire));
        wires.try_for_each(|wire| wire.ends[Direction::Up.index()].set_carrier(on))
    }

    fn snapshot(&self) -> Snapshot {
        let counts = |wire: &Wire| WireCounts {
            vehicle: wire.vehicle,
            path: wire.path,
            counts: [*wire.pipes[0].counts(), *wire.pipes[1].counts()],
            nat_drops: wire.nat_drops,
            met_no_interface: wire.met_no_interface,
        };
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        Snapshot {
            wires: self.wires.iter().map(counts).collect(),
            lateness: self.lateness.clone(),
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32),
            refused: self.refused,
            unlogged: self.log.as_ref().map_or(0, Log::missing),
        }
    }
}

/// A TUN whose interface is down refuses packets with EIO.
fn is_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn note_drop(
    log: Option<&mut Log>,
    vehicle: usize,
    path: usize,
    direction: Direction,
    dropped: &Dropped<Box<[u8]>>,
) {
    let Some(log) = log else { return };
    log.write(Record {
        vehicle,
        path,
        direction,
        number: dropped.index,
        bytes: dropped.packet.size,
        kind: dropped.packet.kind,
        offered: dropped.pushed,
        left: dropped.at,
        fate: Fate::Dropped(dropped.cause),
    });
}

fn note_delivery(
    log: Option<&mut Log>,
    vehicle: usize,
    path: usize,
    direction: Direction,
    delivery: &Delivery<Box<[u8]>>,
    handed_over: Moment,
) {
    let Some(log) = log else { return };
    let (copies, corrupt, due) = (delivery.copies, delivery.corrupt.is_some(), delivery.due);
    log.write(Record {
        vehicle,
        path,
        direction,
        number: delivery.index,
        bytes: delivery.packet.size,
        kind: delivery.packet.kind,
        offered: delivery.pushed,
        left: delivery.left,
        fate: Fate::Delivered { copies, corrupt, due, handed_over },
    });
}
