//! A vehicle: its host, disk and actuators, and the agent that runs on it.

mod agent;
mod driving;
mod ending;
mod wishes;

use carriageway_agent::core::executor::WriteId;
use carriageway_proto::{Command, Moment, Stamp, Value, VehicleId};
use carriageway_transport::core::connection::{Channel, ConnectionId, Ended};
use carriageway_transport::core::keeper::{self, Choice};
use carriageway_transport::core::session;

use crate::air::{Air, Died, Fuse};
use crate::body::Body;
use crate::checker::{Name, What, Wish};
use crate::disk::{Change, Disk, Write};
use crate::host::Host;
use crate::network::Side;
use crate::plan::{Fault, SECOND};
use crate::queue::{Alarm, Task};
use agent::Agent;
pub(crate) use agent::policies;

/// A service manager starts an agent that ended by itself so much later.
const RESTART: u64 = SECOND;

/// One vehicle.
#[derive(Debug)]
pub(crate) struct Vehicle {
    pub(crate) index: usize,
    pub(crate) id: VehicleId,
    pub(crate) name: Name,
    pub(crate) host: Host,
    pub(crate) disk: Disk,
    pub(crate) body: Body,
    pub(crate) fuse: Fuse,
    /// Counts its processes.
    pub(crate) run: u32,
    /// How long it stays down after its kill, and whether the host boots anew.
    pub(crate) after_kill: (u64, bool),
    /// The newest value given out of its signals.
    pub(crate) signal: u64,
    agent: Option<Box<Agent>>,
    doubt: Doubt,
    alarm: Alarm,
}

/// What an agent cannot know that begins in a boot in which the clock has gone backwards. In production nothing that was
/// stamped before reaches its session. Here copies come by other ways, and two kinds of them are left out, since
/// nobody could tell them from new ones: commands stamped later than what the journal shows, or at any time where it
/// shows nothing later than now; and control, of which no journal keeps anything.
#[derive(Debug, Default)]
struct Doubt {
    /// What was sent before this true time was stamped by the clock of before; it is not known yet while the agent has
    /// had no session in which a gateway could learn of the new clock.
    until: u64,
    /// Of that, the agent knows what is stamped no later than this.
    witnessed: Option<Moment>,
}

impl Vehicle {
    pub(crate) fn new(index: usize, air: &mut Air) -> Self {
        let name = format!("truck-{index}");
        Self {
            index,
            id: name.parse().expect("letters, a dash and a digit"),
            name: name.into(),
            host: Host::new(air.plan.mix.vehicle_ppm[index], &mut air.chance),
            disk: Disk::default(),
            body: Body::default(),
            fuse: Fuse::default(),
            run: 0,
            after_kill: (0, false),
            signal: 0,
            agent: None,
            doubt: Doubt::default(),
            alarm: Alarm::default(),
        }
    }

    /// Starts the agent, if none runs.
    pub(crate) fn start(&mut self, air: &mut Air) {
        if self.agent.is_some() {
            return;
        }
        self.run += 1;
        let (latest, now) = (self.disk.latest(self.host.boot()), self.host.read(air.now));
        if std::mem::take(&mut self.host.has_jumped) {
            self.doubt.until = u64::MAX;
        }
        self.doubt.witnessed = latest.filter(|latest| now < *latest);
        air.tell(&self.name, What::Began);
        self.agent = Some(Box::new(Agent::start(self, air)));
        self.act(air, |_, _, _| Ok(()));
    }

    /// Lets the agent do something and all that follows from it.
    fn act(&mut self, air: &mut Air, does: impl FnOnce(&mut Agent, &mut Self, &mut Air) -> Result<(), Died>) {
        let Some(mut agent) = self.agent.take() else { return };
        let result = does(&mut agent, self, air).and_then(|()| agent.pump(self, air));
        match result {
            Ok(()) if agent.is_over() => self.die(air, RESTART),
            Ok(()) => {
                let wake_at = agent.wakes_at(self, air);
                self.agent = Some(agent);
                if self.alarm.set(wake_at, air.now) {
                    air.queue.push(wake_at, Task::WakeVehicle(self.index));
                }
            }
            Err(Died) => self.killed(air),
        }
    }

    /// As [`Vehicle::act`], for what no kill can interrupt.
    fn calmly(&mut self, air: &mut Air, does: impl FnOnce(&mut Agent, &mut Self, &mut Air)) {
        self.act(air, |agent, vehicle, air| {
            does(agent, vehicle, air);
            Ok(())
        });
    }

    /// Kills the agent, here and now.
    pub(crate) fn killed(&mut self, air: &mut Air) {
        let (down, reboot) = self.after_kill;
        self.die(air, down);
        if reboot {
            self.host.reboot(air.now, &mut air.chance);
            air.tell(&self.name, What::Rebooted);
        }
    }

    fn die(&mut self, air: &mut Air, down: u64) {
        self.agent = None;
        self.fuse.put_out();
        self.body.forget(&mut air.chance);
        air.tell(&self.name, What::Died);
        for connection in air.network.open_at(Side::Vehicle, self.index) {
            let (network, mut weather) = air.net();
            network.abandon(&mut weather, connection, Side::Vehicle);
        }
        for (_, change) in self.disk.crash(&mut air.chance) {
            self.tell_durable(air, &change);
        }
        self.after_kill = (0, false);
        air.queue.push(air.now + down, Task::StartVehicle(self.index));
    }

    pub(crate) fn tell_durable(&self, air: &mut Air, change: &Change) {
        match change {
            Change::Put(record) => {
                let verdict = record.verdict.as_ref().map(|verdict| verdict.phase.name().into());
                let key = record.key().as_str().into();
                let print = record.command().map(|command| command.fingerprint().get());
                air.tell(&self.name, What::Durable { key, verdict, print });
                if record.released {
                    let key = record.key().as_str().into();
                    air.tell(&self.name, What::ReleaseDurable { key });
                }
            }
            Change::Decided(path, version) => {
                let decided = Wish::Decided { path: path.as_str().into(), version: *version };
                air.tell(&self.name, What::Wish(decided));
            }
            Change::Epoch(epoch) => air.tell(&self.name, What::EpochDurable { epoch: epoch.number() }),
            Change::Token(token) => {
                let what = What::TokenDurable { vehicle: self.name.clone(), token: token.number() };
                air.tell(&self.name, what);
            }
            Change::Forget(_) | Change::Undesired(..) => {}
        }
    }

    /// Reads its clock, as it does all the time.
    pub(crate) fn look(&mut self, air: &mut Air) {
        self.act(air, |_, _, _| Ok(()));
    }

    pub(crate) fn wake(&mut self, air: &mut Air) {
        if self.alarm.rings(air.now) {
            self.act(air, Agent::tick);
        }
    }

    pub(crate) fn frame(&mut self, air: &mut Air, connection: u32, channel: Channel, bytes: bytes::Bytes) {
        let input = session::Input::Frame(ConnectionId(connection), channel, bytes);
        self.calmly(air, |agent, vehicle, air| agent.session_input(vehicle, air, input));
    }

    pub(crate) fn room(&mut self, air: &mut Air, connection: u32, channel: Channel) {
        let input = session::Input::Room(ConnectionId(connection), channel);
        self.calmly(air, |agent, vehicle, air| agent.session_input(vehicle, air, input));
    }

    pub(crate) fn closed(&mut self, air: &mut Air, connection: u32, ended: Ended) {
        let input = session::Input::Ended(ConnectionId(connection), ended);
        self.calmly(air, |agent, vehicle, air| agent.session_input(vehicle, air, input));
    }

    /// A dial of the process `run` has led to `connection`, or to nothing.
    pub(crate) fn dialed(&mut self, air: &mut Air, run: u32, choice: Choice, connection: Option<u32>) {
        if run != self.run || self.agent.is_none() {
            if let Some(connection) = connection {
                let (network, mut weather) = air.net();
                network.abandon(&mut weather, connection, Side::Vehicle);
            }
            return;
        }
        self.act(air, |agent, vehicle, air| {
            let input = match connection {
                Some(connection) => {
                    agent.connected(choice, connection);
                    keeper::Input::Connected(choice)
                }
                None => keeper::Input::Failed(choice, "no answer".into()),
            };
            agent.keeper_input(vehicle, air, input);
            Ok(())
        });
    }

    /// A new path opens beside the others.
    pub(crate) fn hand_over(&mut self, air: &mut Air, connection: u32) {
        self.calmly(air, |agent, vehicle, air| agent.adopt(vehicle, air, connection, "a new path".into()));
    }

    /// The disk is done with a commit of the process `run`.
    pub(crate) fn synced(&mut self, air: &mut Air, run: u32) {
        if run != self.run {
            return;
        }
        let writes = self.disk.finish();
        if self.disk.is_bad {
            air.tell(&self.name, What::DiskFailed);
        } else {
            for (_, change) in &writes {
                self.tell_durable(air, change);
            }
        }
        let failed = self.disk.is_bad;
        for (id, _) in writes {
            let Some(id) = id else { continue };
            self.calmly(air, |agent, vehicle, air| agent.written(vehicle, air, id, !failed));
        }
    }

    /// Hands a write to the disk.
    pub(crate) fn write(&mut self, air: &mut Air, write: Write) {
        self.disk.write(write.0, write.1);
        self.sync(air);
    }

    /// Starts the disk's next commit, where one is due.
    pub(crate) fn sync(&mut self, air: &mut Air) {
        if !self.disk.begin() {
            return;
        }
        let slow = |fault: &Fault| {
            let Fault::SlowDisk { vehicle, sync, span } = fault else { return None };
            let is_here = *vehicle == self.index && (span.0..span.1).contains(&air.now);
            is_here.then_some(*sync)
        };
        let most = air.plan.faults.iter().find_map(slow).unwrap_or(air.plan.mix.sync);
        let at = air.now + air.chance.between(most / 4 + 1, most);
        air.queue.push(at, Task::Synced { vehicle: self.index, run: self.run });
    }

    /// A copy of an old command comes by another way.
    pub(crate) fn replay(&mut self, air: &mut Air, (sent, command): (u64, Command)) {
        let is_witnessed = self.doubt.witnessed.is_some_and(|witnessed| command.stamp.clock <= witnessed);
        if is_witnessed || !self.is_of_before(sent, command.stamp) {
            self.calmly(air, |agent, vehicle, air| agent.command(vehicle, air, command.class, command));
        }
    }

    /// What was sent at that true time was stamped by a clock that has gone backwards under an agent before this one.
    pub(crate) fn is_of_before(&self, sent: u64, stamp: Stamp) -> bool {
        sent < self.doubt.until && stamp.boot == self.host.boot()
    }

    /// It has a session, and the gateway a new floor under its clock.
    pub(crate) fn met(&mut self, now: u64) {
        self.doubt.until = self.doubt.until.min(now);
    }

    /// Its host sleeps until `until`.
    pub(crate) fn suspend(&mut self, air: &mut Air, until: u64) {
        self.host.suspend(air.now, until);
        air.tell(&self.name, What::Suspended { until: self.host.suspended_until });
    }

    /// Outcomes that have not arrived, the session's epoch, and the newest signal.
    pub(crate) fn unsent(&self) -> u64 {
        self.agent.as_deref().map_or(1, Agent::unsent)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// What is true of a path that has come to rest, as far as the gateway cannot know it.
    pub(crate) fn complete(&self, wish: Wish) -> Wish {
        let Wish::Rested { vehicle, path, status, desired, reported, is_readable, is_expected, .. } = wish
        else {
            return wish;
        };
        let is_latched = self.agent.as_deref().is_some_and(Agent::is_latched);
        let holds = match path.parse().ok().and_then(|path| self.body.holds(&path).cloned()) {
            Some(Value::Int(value)) => Some(value),
            Some(Value::Bool(_) | Value::Float(_) | Value::Text(_)) | None => None,
        };
        let is_expected = is_expected && !is_latched;
        Wish::Rested { vehicle, path, status, desired, reported, holds, is_readable, is_expected }
    }

    /// Its disk has failed under the agent that runs.
    pub(crate) fn is_broken(&self) -> bool {
        self.agent.as_deref().is_some_and(Agent::is_broken)
    }
}

/// Numbers the write that begins a session; the executor's own count from 1.
pub(crate) const SESSION: WriteId = WriteId(0);

/// Numbers every write of a lease's token.
pub(crate) const TOKEN: WriteId = WriteId(u64::MAX);
