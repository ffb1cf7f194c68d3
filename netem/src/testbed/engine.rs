//! The emulator's thread: from TUN to TUN through the model.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::log::{Fate, Log, Record};
use super::nat::Verdict;
use super::packet;
use super::pulse::Pulse;
use super::wire::{Handed, Mishap, Mishaps, Plan, Wire};
use crate::clock;
use crate::core::{
    Capacity, Counts, Delivery, Direction, Dropped, Event, Kind, Law, Moment, OutageMode, Packet, Pipe,
    UdpPolicy,
};
use crate::lateness::Lateness;
use crate::orders::Inbox;
use crate::poller::{BATCH, EventFlags, Poller, Waker};
use crate::profile::Rebinding;

/// Packets read from one device before others get their turn.
const TURN: usize = 64;
/// Largest packet that a TUN hands over.
const LARGEST: usize = 65_535;

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
    CloseLog,
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
    /// The model's.
    pub(super) counts: [Counts; 2],
    /// Packets inside the model.
    pub(super) held: [u64; 2],
    pub(super) mishaps: [Mishaps; 2],
}

/// What the thread knows about its own work.
pub(super) struct Snapshot {
    pub(super) wires: Vec<WireCounts>,
    /// Of deliveries, against their due times.
    pub(super) lateness: Lateness,
    /// Of the thread's own beat.
    pub(super) wake: Lateness,
    /// At most so long did packets wait in a device before they were read.
    pub(super) ingest: Lateness,
    /// CPU time of the thread.
    pub(super) cpu: Duration,
    /// Packets that came before the start and were thrown away.
    pub(super) early: u64,
    /// Records that the log lost.
    pub(super) unlogged: u64,
    /// Drops that the model counted and could not tell of.
    pub(super) untold: u64,
}

/// Devices that are watched, but whose time has not begun.
pub(super) struct Rig {
    poller: Poller,
    plans: Vec<Plan>,
}

/// Everything that the thread owns.
pub(super) struct Engine {
    poller: Poller,
    pulse: Pulse,
    wires: Vec<Wire>,
    /// When there is next something to do on each wire, up and down: looked through far more often than it changes.
    dues: Vec<Moment>,
    lateness: Lateness,
    watch: Watch,
    log: Option<Log>,
    /// Records that a log lost which is closed.
    unlogged: u64,
    early: u64,
    buffer: Box<[u8]>,
}

/// Since when packets may have been waiting in the devices, which do not say.
struct Watch {
    /// When the devices were looked at before this time: those that showed nothing were empty then.
    last: Moment,
    /// Looks so far that saw every device.
    looks: u64,
    /// Devices that were not read to the end: since when packets may wait there, and at which look that was.
    unread: Vec<Option<(Moment, u64)>>,
    ingest: Lateness,
}

impl Watch {
    fn new(devices: usize) -> Self {
        Self { last: clock::now(), looks: 0, unread: vec![None; devices], ingest: Lateness::default() }
    }

    /// Since when a packet that is in device `place` at this look may have been waiting.
    fn since(&self, place: usize) -> Moment {
        match self.unread[place] {
            Some((since, look)) if look + 1 >= self.looks => since,
            Some(_) | None => self.last,
        }
    }
}

impl Which {
    fn is(self, wire: &Wire) -> bool {
        self.vehicle.is_none_or(|vehicle| vehicle == wire.vehicle)
            && self.path.is_none_or(|path| path == wire.path)
    }
}

impl Rig {
    pub(super) fn new(plans: Vec<Plan>) -> io::Result<Self> {
        let poller = Poller::new()?;
        for (number, plan) in plans.iter().enumerate() {
            for (direction, end) in Direction::BOTH.into_iter().zip(&plan.ends) {
                poller.watch(end, (number * 2 + direction.index()) as u64, EventFlags::IN)?;
            }
        }
        Ok(Self { poller, plans })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        self.poller.waker()
    }

    /// Time begins at `start`: what the devices hold by now is thrown away.
    pub(super) fn begin(self, start: Moment, log: Option<Log>) -> io::Result<Engine> {
        let Self { poller, plans } = self;
        let mut buffer: Box<[u8]> = vec![0; LARGEST].into();
        let (mut wires, mut early) = (Vec::with_capacity(plans.len()), 0);
        for plan in plans {
            let (wire, thrown) = plan.begin(start, &mut buffer)?;
            early += thrown;
            wires.push(wire);
        }
        let devices = wires.len() * 2;
        let pulse = Pulse::start()?;
        poller.watch(&pulse, devices as u64, EventFlags::IN)?;
        let (dues, watch) = (vec![Moment::NEVER; devices], Watch::new(devices));
        let lateness = Lateness::default();
        Ok(Engine { poller, pulse, wires, dues, lateness, watch, log, unlogged: 0, early, buffer })
    }
}

impl Engine {
    /// Works until the asking side is gone.
    pub(super) fn run(mut self, inbox: &Inbox<Command, Answer>) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            let due = self.dues.iter().copied().min().filter(|due| *due != Moment::NEVER);
            // Before the wait: whoever is stopped or preempted on the way back from it has looked long ago.
            let look = clock::now();
            self.poller.wait(due, &mut events)?;
            // A full batch says nothing about the devices that are not in it.
            let complete = events.len() < BATCH;
            for (source, _) in events.drain(..) {
                match source as usize {
                    pulse if pulse == self.dues.len() => self.pulse.feel()?,
                    place => self.take(place / 2, Direction::BOTH[place % 2])?,
                }
            }
            if complete {
                self.watch.last = look;
                self.watch.looks += 1;
            }
            if inbox.obey(|command| self.obey(command)).is_err() {
                self.deliver(clock::now());
                self.tell_drops();
                return self.log.as_mut().map_or(Ok(()), Log::finish);
            }
            self.deliver(clock::now());
        }
    }

    /// Reads what came in at one end of a wire.
    fn take(&mut self, number: usize, direction: Direction) -> io::Result<()> {
        let Self { wires, watch, log, buffer, dues, .. } = self;
        let wire = &mut wires[number];
        let place = number * 2 + direction.index();
        let since = watch.since(place);
        watch.unread[place] = Some((since, watch.looks));
        for _ in 0..TURN {
            let Some(length) = wire.ends[direction.index()].read(buffer)? else {
                watch.unread[place] = None;
                break;
            };
            let now = clock::now();
            watch.ingest.record(now.since(since));
            let bytes = &mut buffer[..length];
            let kind = packet::kind(bytes);
            // The NAT is on the network's side: what comes from there meets it before the link.
            if wire.admit(direction, bytes) == Verdict::Drop {
                note_turned_away(log.as_mut(), wire, direction, (length as u32, kind), now);
                continue;
            }
            let packet = Packet { size: length as u32, kind, payload: (&*bytes).into() };
            let pipe = &mut wire.pipes[direction.index()];
            let refused = pipe.push(now, packet).err();
            // At once: on a link that loses everything nothing becomes due, and each drop holds a packet.
            for dropped in refused.into_iter().chain(std::iter::from_fn(|| pipe.pop_drop(now))) {
                note_drop(log.as_mut(), wire.vehicle, wire.path, direction, &dropped);
            }
        }
        dues[place] = wire.next_due(direction);
        Ok(())
    }

    /// Hands over what is due.
    fn deliver(&mut self, now: Moment) {
        for number in 0..self.wires.len() {
            for direction in Direction::BOTH {
                let place = number * 2 + direction.index();
                if self.dues[place] <= now {
                    self.deliver_on(number, direction);
                    self.dues[place] = self.wires[number].next_due(direction);
                }
            }
        }
    }

    fn deliver_on(&mut self, number: usize, direction: Direction) {
        let Self { wires, log, lateness, .. } = self;
        let wire = &mut wires[number];
        let (vehicle, path) = (wire.vehicle, wire.path);
        while let Some(event) = wire.pipes[direction.index()].pop(clock::now()) {
            match event {
                Event::Dropped(dropped) => note_drop(log.as_mut(), vehicle, path, direction, &dropped),
                Event::Delivered(mut delivery) => {
                    let handed = wire.hand_over(direction, &mut delivery);
                    let now = clock::now();
                    lateness.record(now.since(delivery.due));
                    note_delivery(log.as_mut(), (vehicle, path), direction, &delivery, (handed, now));
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
                self.dues[number * 2 + direction.index()] = wire.next_due(direction);
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
                self.wires.iter_mut().filter(|wire| which.is(wire)).for_each(|wire| wire.rebind(how));
                Ok(())
            }
            Command::Carrier(which, on) => self.set_carrier(which, on),
            Command::CloseLog => self.close_log(now),
            Command::Stats => return Answer::Stats(Box::new(self.snapshot())),
        };
        done.map_or_else(Answer::Failed, |()| Answer::Done)
    }

    /// Writes the log to its end. What happens later is not in it.
    fn close_log(&mut self, now: Moment) -> io::Result<()> {
        self.deliver(now);
        self.tell_drops();
        let Some(mut log) = self.log.take() else { return Ok(()) };
        self.unlogged = log.missing();
        log.finish()
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
            held: [wire.pipes[0].held() as u64, wire.pipes[1].held() as u64],
            mishaps: wire.mishaps,
        };
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        Snapshot {
            wires: self.wires.iter().map(counts).collect(),
            lateness: self.lateness.clone(),
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32),
            wake: self.pulse.lateness().clone(),
            ingest: self.watch.ingest.clone(),
            early: self.early,
            unlogged: self.log.as_ref().map_or(self.unlogged, Log::missing),
            untold: self.wires.iter().flat_map(|wire| &wire.pipes).map(Pipe::untold).sum(),
        }
    }
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
        number: Some(dropped.index),
        bytes: dropped.packet.size,
        kind: dropped.packet.kind,
        offered: dropped.pushed,
        left: dropped.at,
        fate: Fate::Dropped(dropped.cause),
    });
}

fn note_turned_away(
    log: Option<&mut Log>,
    wire: &Wire,
    direction: Direction,
    (bytes, kind): (u32, Kind),
    at: Moment,
) {
    let Some(log) = log else { return };
    let (vehicle, path) = (wire.vehicle, wire.path);
    let fate = Fate::Astray(Mishap::Nat);
    // The model, which counts the others, never had it.
    let number = None;
    log.write(Record { vehicle, path, direction, number, bytes, kind, offered: at, left: at, fate });
}

fn note_delivery(
    log: Option<&mut Log>,
    (vehicle, path): (usize, usize),
    direction: Direction,
    delivery: &Delivery<Box<[u8]>>,
    (handed, handed_over): (Handed, Moment),
) {
    let Some(log) = log else { return };
    let (corrupt, due) = (delivery.corrupt.is_some(), delivery.due);
    let fate = match handed {
        Handed::Over { copies } => Fate::Delivered { copies, corrupt, due, handed_over },
        Handed::Astray(mishap) => Fate::Astray(mishap),
    };
    log.write(Record {
        vehicle,
        path,
        direction,
        number: Some(delivery.index),
        bytes: delivery.packet.size,
        kind: delivery.packet.kind,
        offered: delivery.pushed,
        left: delivery.left,
        fate,
    });
}
