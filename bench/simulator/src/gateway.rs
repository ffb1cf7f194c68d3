//! A gateway: its host, and the process with the cores that run in production.

mod process;
mod tokens;

use std::collections::BTreeMap;

use bytes::Bytes;
use carriageway_gateway::core::commands::{Arrival, CommandId};
use carriageway_proto::{Phase, Token, VehicleId};
use carriageway_transport::core::connection::{Channel, ConnectionId, Ended};
use carriageway_transport::core::session;

use crate::air::{Air, Died, Fuse};
use crate::checker::{Name, What, Wish};
use crate::host::Host;
use crate::network::Side;
use crate::pilot::Word;
use crate::plan::{Click, Drive, Fault, MS, SECOND};
use crate::queue::{Alarm, Task};
use crate::store::{Change, Done, Put, Store};
use process::{Process, Vehicles};
pub(crate) use process::{operator_name, path_of};
use tokens::Tokens;

/// A drain may take so long, as production's default has it, with a clock that is slow by one per mille.
const DRAIN: u64 = process::DEADLINE.as_micros() as u64 + 20 * MS;

/// A host that wakes after its drain's time is over still says goodbye, for so long.
const GOODBYES: u64 = 2 * SECOND;

/// Of a hundred writes of a token, how many fail.
const TOKENS_LOST: u64 = 3;

/// One gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) index: usize,
    pub(crate) name: Name,
    pub(crate) host: Host,
    pub(crate) fuse: Fuse,
    /// Counts its processes.
    pub(crate) run: u32,
    /// How long it stays down after its kill, and whether the host boots anew.
    pub(crate) after_kill: (u64, bool),
    store: Store,
    tokens: Tokens,
    /// Records whose end was told, by whichever process.
    ended: BTreeMap<CommandId, Phase>,
    /// The end of its drain, if it drains.
    drains_until: Option<u64>,
    /// After so many sweeps of this process it is written, or under way to the disk, that the clock went backwards.
    witnessed_after: u32,
    vehicles: Vehicles,
    process: Option<Box<Process>>,
    alarm: Alarm,
}

impl Gateway {
    pub(crate) fn new(index: usize, vehicles: Vehicles, air: &mut Air) -> Self {
        Self {
            index,
            name: format!("gateway-{index}").into(),
            host: Host::new(air.plan.mix.gateway_ppm[index], &mut air.chance),
            fuse: Fuse::default(),
            run: 0,
            after_kill: (0, false),
            store: Store::default(),
            tokens: Tokens::default(),
            ended: BTreeMap::new(),
            drains_until: None,
            witnessed_after: 0,
            vehicles,
            process: None,
            alarm: Alarm::default(),
        }
    }

    pub(crate) fn start(&mut self, air: &mut Air) {
        if self.process.is_some() {
            return;
        }
        self.run += 1;
        air.tell(&self.name, What::Began);
        self.process = Some(Box::new(Process::new(self, air)));
        self.act(air, |process, gateway, air| {
            process.tell_restored(gateway, air);
            Ok(())
        });
    }

    fn act(
        &mut self,
        air: &mut Air,
        does: impl FnOnce(&mut Process, &mut Self, &mut Air) -> Result<(), Died>,
    ) {
        let Some(mut process) = self.process.take() else { return };
        process.note(self, air);
        match does(&mut process, self, air).and_then(|()| process.pump(self, air)) {
            Ok(()) if process.has_drained() => self.die(air, (SECOND, false)),
            Ok(()) => {
                self.look_for_the_witness(&process);
                let wake_at = process.wakes_at(self, air);
                self.process = Some(process);
                if self.alarm.set(wake_at, air.now) {
                    air.queue.push(wake_at, Task::WakeGateway(self.index));
                }
            }
            Err(Died) => self.killed(air),
        }
    }

    pub(crate) fn killed(&mut self, air: &mut Air) {
        let after = std::mem::take(&mut self.after_kill);
        self.die(air, after);
    }

    /// The process is gone, and is back after so long; on a host that boots anew, where it is to.
    fn die(&mut self, air: &mut Air, (down, reboot): (u64, bool)) {
        self.process = None;
        self.drains_until = None;
        self.fuse.put_out();
        let left = self.store.crash(self.has_bad_disk(air), &mut air.chance);
        left.under_way.iter().for_each(|done| self.tell_stored(air, done));
        for (vehicle, token) in self.tokens.crash(&mut air.chance) {
            self.tell_token(air, &vehicle, token);
        }
        air.tell(&self.name, What::Died);
        left.failed.iter().for_each(|done| self.tell_stored(air, done));
        // A process that begins cannot know what the disk does not say yet of a step of the clock: then the host boots
        // anew, too.
        if reboot || self.host.has_jumped {
            self.host.reboot(air.now, &mut air.chance);
            air.tell(&self.name, What::Rebooted);
        }
        for connection in air.network.open_at(Side::Gateway, self.index) {
            let (network, mut weather) = air.net();
            network.abandon(&mut weather, connection, Side::Gateway);
        }
        air.queue.push(air.now + down, Task::StartGateway(self.index));
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Reads its clock, as it does all the time.
    pub(crate) fn look(&mut self, air: &mut Air) {
        self.act(air, |_, _, _| Ok(()));
    }

    pub(crate) fn wake(&mut self, air: &mut Air) {
        if self.alarm.rings(air.now) {
            self.act(air, |process, gateway, air| {
                process.tick(gateway, air);
                Ok(())
            });
        }
    }

    pub(crate) fn frame(&mut self, air: &mut Air, connection: u32, channel: Channel, bytes: Bytes) {
        self.act(air, |process, gateway, air| process.frame(gateway, air, connection, channel, bytes));
    }

    pub(crate) fn room(&mut self, air: &mut Air, connection: u32, channel: Channel) {
        let input = session::Input::Room(ConnectionId(connection), channel);
        self.act(air, |process, gateway, air| {
            process.session_input(gateway, air, connection, input);
            Ok(())
        });
    }

    pub(crate) fn closed(&mut self, air: &mut Air, connection: u32, ended: Ended) {
        let input = session::Input::Ended(ConnectionId(connection), ended);
        self.act(air, |process, gateway, air| {
            process.session_input(gateway, air, connection, input);
            Ok(())
        });
    }

    /// An operator's request begins to come in. `None` where no process is there to read it.
    pub(crate) fn arrival(&mut self, now: u64) -> Option<Arrival> {
        let now = self.host.read(now);
        self.process.as_mut().map(|process| process.arrival(now))
    }

    /// An operator's request is all here.
    pub(crate) fn click(&mut self, air: &mut Air, click: &Click, arrived: (u64, Arrival)) {
        self.act(air, |process, gateway, air| process.click(gateway, air, click, arrived));
    }

    /// The disk is done with a write of the process `run`.
    pub(crate) fn stored(&mut self, air: &mut Air, run: u32) {
        if run != self.run {
            return;
        }
        for done in self.store.finish(self.has_bad_disk(air)) {
            self.tell_stored(air, &done);
            self.note_desired(&done);
            self.act(air, |process, gateway, air| {
                process.persisted(gateway, air, &done);
                Ok(())
            });
        }
        self.sync(air);
    }

    fn tell_stored(&self, air: &mut Air, done: &Done) {
        match done {
            Done::Commands { kept: false, .. } => air.tell(&self.name, What::DiskFailed),
            Done::Commands { put, kept: true, .. } => {
                for Put { vehicle, id, phase, may_have_left } in put {
                    let (vehicle, id) = (vehicle.as_str().into(), id.to_string().into());
                    let (phase, left) = (phase.name().into(), *may_have_left);
                    air.tell(&self.name, What::Stored { vehicle, id, phase, left });
                }
            }
            Done::Desired { vehicle, version, kept: true } => {
                let vehicle = self.vehicles[*vehicle].1.clone();
                air.tell(&self.name, What::Wish(Wish::Stored { vehicle, version: *version }));
            }
            Done::Desired { kept: false, .. } => {}
        }
    }

    /// Its clock goes backwards. What waits expires at once, and what is desired for a while is doubted at the next
    /// sweep. Once that is on the disk, a process that begins knows what this one did.
    pub(crate) fn jump_back(&mut self, air: &mut Air, by: u64) {
        self.host.jump_back(air.now, by);
        self.begin_to_witness();
        if let Some(until) = self.drains_until {
            self.drain_until(air, until + by + by / 500);
        }
    }

    fn begin_to_witness(&mut self) {
        self.witnessed_after = self.process.as_deref().map_or(0, Process::sweeps) + 1;
    }

    /// What is desired is doubted once nothing of it is under way to the disk, at a sweep after that.
    fn note_desired(&mut self, done: &Done) {
        if let Done::Desired { .. } = done {
            self.begin_to_witness();
        }
    }

    /// A step of the clock is on the disk with all that follows from it.
    fn look_for_the_witness(&mut self, process: &Process) {
        let is_written = process.is_settled() && self.store.is_idle();
        self.host.has_jumped &= !(is_written && process.sweeps() >= self.witnessed_after);
    }

    /// Hands a change to the disk.
    fn write(&mut self, air: &mut Air, change: Change) {
        self.store.push(self.host.boot(), change);
        self.sync(air);
    }

    /// Starts the disk's next commit, where one is due.
    fn sync(&mut self, air: &mut Air) {
        if !self.store.begin() {
            return;
        }
        let slow = |fault: &Fault| {
            let Fault::SlowGatewayDisk { gateway, sync, span } = fault else { return None };
            (*gateway == self.index && (span.0..span.1).contains(&air.now)).then_some(*sync)
        };
        let most = air.plan.faults.iter().find_map(slow).unwrap_or(air.plan.mix.sync);
        let at = air.now + air.chance.between(most / 4 + 1, most);
        air.queue.push(at, Task::Stored { gateway: self.index, run: self.run });
    }

    /// An operator at the wheel asks for something.
    pub(crate) fn word(&mut self, air: &mut Air, drive: (usize, &Drive), word: Word) {
        self.act(air, |process, gateway, air| process.word(gateway, air, drive, word));
    }

    /// Hands a token to the disk.
    fn keep_token(&mut self, air: &mut Air, vehicle: VehicleId, token: Token) {
        self.tokens.begin(vehicle, token);
        let most = air.plan.mix.sync;
        let at = air.now + air.chance.between(most / 4 + 1, most);
        air.queue.push(at, Task::Kept { gateway: self.index, run: self.run });
    }

    /// The disk is done with a token of the process `run`.
    pub(crate) fn kept(&mut self, air: &mut Air, run: u32) {
        if run != self.run {
            return;
        }
        let is_kept = air.is_healthy() || !air.chance.percent(TOKENS_LOST);
        let Some((vehicle, token)) = self.tokens.finish(is_kept) else { return };
        if is_kept {
            self.tell_token(air, &vehicle, token);
        }
        self.act(air, |process, gateway, air| {
            process.token_kept(gateway, air, vehicle, token, is_kept);
            Ok(())
        });
    }

    fn tell_token(&self, air: &mut Air, vehicle: &VehicleId, token: Token) {
        let (vehicle, token) = (vehicle.as_str().into(), token.number());
        air.tell(&self.name, What::TokenDurable { vehicle, token });
    }

    fn has_bad_disk(&self, air: &Air) -> bool {
        air.plan.faults.iter().any(|fault| {
            let Fault::BadGatewayDisk { gateway, span } = fault else { return false };
            *gateway == self.index && (span.0..span.1).contains(&air.now)
        })
    }

    /// Starts to drain. Told to once more it ends at once, as in production.
    pub(crate) fn drain(&mut self, air: &mut Air) {
        if self.drains_until.is_some() {
            return self.die(air, (SECOND, false));
        }
        if self.process.is_none() {
            return;
        }
        self.drain_until(air, air.now + DRAIN);
        self.act(air, |process, gateway, air| {
            process.start_draining(gateway, air);
            Ok(())
        });
    }

    /// Its drain has to end by `until`. A service manager kills what is still there a second later.
    fn drain_until(&mut self, air: &mut Air, until: u64) {
        self.drains_until = Some(until);
        air.tell(&self.name, What::Draining { until });
        air.queue.push(until + SECOND, Task::Deadline { gateway: self.index, run: self.run });
    }

    /// Its host sleeps until `until`: where it drains it can end after that only.
    pub(crate) fn suspend(&mut self, air: &mut Air, until: u64) {
        self.host.suspend(air.now, until);
        air.tell(&self.name, What::Suspended { until: self.host.suspended_until });
        if let Some(drains_until) = self.drains_until {
            self.drain_until(air, drains_until.max(until + GOODBYES));
        }
    }

    /// The drain's time is up.
    pub(crate) fn deadline(&mut self, air: &mut Air, run: u32) {
        let is_due = self.drains_until.is_some_and(|until| air.now > until);
        if run == self.run && self.process.is_some() && is_due {
            self.die(air, (SECOND, false));
        }
    }

    /// Sessions held for a vehicle, whether it is called online, and the newest value shown of its signals.
    pub(crate) fn view(&self, air: &Air, vehicle: usize) -> (u64, bool, u64) {
        let now = self.host.read(air.now);
        self.process
            .as_ref()
            .map_or((0, false, 0), |process| process.view(now, &self.vehicles[vehicle].0, vehicle))
    }
    /// How it stands with what is desired of a vehicle.
    pub(crate) fn wishes_rested(&self, air: &Air, vehicle: usize) -> Vec<Wish> {
        let now = self.host.read(air.now);
        self.process.as_ref().map_or_else(Vec::new, |process| process.wishes_rested(self, now, vehicle))
    }
}
