//! The agent's process: the cores that run in production, and the glue between them, as in the agent's shell.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use carriageway_agent::core::drive;
use carriageway_agent::core::executor::{Executor, Input, Limits, Output, WriteId};
use carriageway_agent::core::outbox::Outbox;
use carriageway_agent::core::reconciler;
use carriageway_agent::core::vehicle::{Applied, Refusal};
use carriageway_proto::message::{BadMessage, fingerprint};
use carriageway_proto::{Class, Command, Epoch, Message, Moment, Outcome, PolicyTable, Token, Value};
use carriageway_transport::core::Session;
use carriageway_transport::core::connection::{ConnectionId, Ended};
use carriageway_transport::core::keeper::{self, Allowed, Choice, Keeper};
use carriageway_transport::core::lane::{Fate, Ticket};
use carriageway_transport::core::session::{self, Happening};

use super::driving::Driving;
use super::ending::Stage;
use super::wishes::Wishes;
use super::{SESSION, TOKEN, Vehicle};
use crate::air::{Air, Died};
use crate::checker::What;
use crate::disk::Change;
use crate::network::Side;
use crate::plan::SECOND;
use crate::probes::{self, Probes};
use crate::queue::Task;

/// Between two looks at the vehicle's signals.
const LOOK: Duration = Duration::from_secs(2);

/// A dial is given up after so long.
const DIAL: u64 = 5 * SECOND;

/// The paths of the vehicle's signals.
pub(crate) const SIGNALS: [&str; 2] = ["Vehicle.Speed", "Vehicle.Heading"];

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) session: Session,
    keeper: Keeper,
    pub(super) executor: Executor,
    pub(super) driving: Driving,
    pub(super) wishes: Wishes,
    outbox: Outbox<Ticket>,
    connected: BTreeMap<Choice, u32>,
    probes: Probes,
    look_at: Moment,
    session_wait: Option<Moment>,
    executor_wait: Option<Moment>,
    keeper_wait: Option<Moment>,
    epoch: Epoch,
    limits: Limits,
    pub(super) stage: Stage,
}

/// The policy of a vehicle in this world.
pub(crate) fn policies(rate: (u32, u32)) -> PolicyTable {
    let mut table = PolicyTable::defaults();
    for class in [Class::Body, Class::Comfort, Class::Diagnostics] {
        table[class].rate_per_second = Some(rate.0);
        table[class].burst = rate.1;
    }
    table
}

impl Agent {
    /// What a new process begins with: nothing but its disk.
    pub(super) fn start(vehicle: &Vehicle, air: &mut Air) -> Self {
        let (stamp, now) = (vehicle.host.stamp(air.now), vehicle.host.read(air.now));
        let limits = air.plan.mix.memory;
        let policies = policies(air.plan.mix.rate);
        let session = Session::connecting(session::Config::default(), stamp.boot, vehicle.disk.epoch);
        let allowed = match air.plan.mix.transports {
            0 => Allowed::QuicOnly,
            1 => Allowed::WebSocketOnly,
            2.. => Allowed::Both,
        };
        let mut executor = Executor::recover(stamp, policies, limits, vehicle.disk.load());
        let wishes = Wishes::recover(now, &mut executor, &policies, vehicle);
        let driving = Driving::new(vehicle, air, executor.is_latched());
        let config = keeper::Config { allowed, ..keeper::Config::default() };
        Self {
            keeper: Keeper::new(config, session.connectivity(now), air.chance.below(u64::MAX)),
            session,
            wishes,
            executor,
            driving,
            outbox: Outbox::default(),
            connected: BTreeMap::new(),
            probes: Probes::new("up", format!("{}.{}", vehicle.index, vehicle.run), now),
            look_at: now,
            session_wait: None,
            executor_wait: None,
            keeper_wait: None,
            epoch: vehicle.disk.epoch,
            limits,
            stage: Stage::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn is_broken(&self) -> bool {
        self.executor.is_broken()
    }

    pub(super) fn is_latched(&self) -> bool {
        self.executor.is_latched()
    }

    pub(super) fn unsent(&self) -> u64 {
        (self.outbox.len() + self.executor.owed()) as u64
    }

    pub(super) fn connected(&mut self, choice: Choice, connection: u32) {
        self.connected.insert(choice, connection);
    }

    pub(super) fn session_input(&mut self, vehicle: &mut Vehicle, air: &mut Air, input: session::Input) {
        self.session.handle(vehicle.host.read(air.now), input);
    }

    pub(super) fn keeper_input(&mut self, vehicle: &Vehicle, air: &Air, input: keeper::Input) {
        self.keeper.handle(vehicle.host.read(air.now), input);
    }

    pub(super) fn executor_input(&mut self, vehicle: &mut Vehicle, air: &mut Air, input: Input) {
        self.executor.handle(vehicle.host.read(air.now), input);
    }

    /// The disk has a write of this number, or has not.
    pub(super) fn written(&mut self, vehicle: &mut Vehicle, air: &mut Air, id: WriteId, kept: bool) {
        let now = vehicle.host.read(air.now);
        if id == TOKEN {
            self.driving.on_kept(now, kept);
        }
        let (wish, input) = if kept {
            (reconciler::Input::Written(id), Input::Written(id))
        } else {
            (reconciler::Input::WriteFailed(id), Input::WriteFailed(id))
        };
        self.wishes.handle(now, wish);
        self.executor_input(vehicle, air, input);
    }

    /// Time has passed. Driving is looked at before the vehicle is asked for anything.
    pub(super) fn tick(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<(), Died> {
        self.drive_on(vehicle, air)?;
        let now = vehicle.host.read(air.now);
        self.session.handle(now, session::Input::Tick);
        while let Some(ended) = vehicle.body.progress(air.now) {
            let (actuation, result) = (ended.actuation, ended.result);
            self.wishes.handle(now, reconciler::Input::Finished { actuation, result: result.clone() });
            self.executor.handle(now, Input::Finished { actuation, result });
        }
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.wishes.handle(now, reconciler::Input::Readings(vehicle.body.readings()));
            vehicle.signal += 1;
            for path in SIGNALS {
                let path = path.parse().expect("a VSS path");
                self.session.signal(path, Value::Int(vehicle.signal.cast_signed()), now);
            }
            self.tell_what_is_held(vehicle, air);
        }
        self.probes.send(now, &mut self.session, air, (&vehicle.name, &vehicle.name), &vehicle.host);
        Ok(())
    }

    /// The journal holds no more of a class than the memory may; the latch and what the order is known by beside it.
    fn tell_what_is_held(&self, vehicle: &Vehicle, air: &mut Air) {
        let beside = 2;
        let admitted = self.limits.admitted + beside;
        let all = admitted + 2 * self.limits.refused;
        for class in Class::ALL.into_iter().filter(|class| class.is_command()) {
            let (records, acted) = vehicle.disk.records_of(class);
            for (what, count, limit) in [("records", records, all), ("records that acted", acted, admitted)] {
                let (what, count, limit) = (format!("{what} of class {class}"), count as u64, limit as u64);
                if count > limit / 2 {
                    air.tell(&vehicle.name, What::Held { what: what.into(), count, limit });
                }
            }
        }
    }

    /// Does all that the cores want done.
    pub(super) fn pump(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<(), Died> {
        loop {
            self.drain_session(vehicle, air)?;
            self.drain_executor(vehicle, air)?;
            let told = self.tell_drive_state(vehicle)?
                | self.tell(vehicle, air)?
                | self.wishes.tell(vehicle, &mut self.session)?;
            let dialed = self.keep_connected(vehicle, air)?;
            let goes_on = self.mind_its_clock(vehicle, air);
            if !told && !dialed && !goes_on {
                break;
            }
        }
        vehicle.sync(air);
        Ok(())
    }

    /// The next true time at which something is due.
    pub(super) fn wakes_at(&self, vehicle: &Vehicle, air: &Air) -> u64 {
        let local = [
            self.session_wait,
            self.executor_wait,
            self.driving.due(),
            self.wishes.wakes_at(),
            self.stage.wakes_at(),
            self.keeper_wait,
            Some(self.look_at),
            Some(self.probes.wakes_at()),
        ];
        let due = local.into_iter().flatten().map(|at| vehicle.host.when(at, air.now)).min();
        due.into_iter().chain(vehicle.body.wakes_at()).min().map_or(u64::MAX, |at| at.max(air.now + 1))
    }

    fn drain_session(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<(), Died> {
        loop {
            let now = vehicle.host.read(air.now);
            match self.session.poll(now) {
                session::Output::Transmit(id, channel, frame) => {
                    vehicle.fuse.step()?;
                    let (network, mut weather) = air.net();
                    if network.is_open(id.0, Side::Vehicle)
                        && network.send(&mut weather, (id.0, Side::Vehicle), channel, frame)
                    {
                        self.session.handle(now, session::Input::Room(id, channel));
                    }
                }
                session::Output::Close(id, code, reason) => {
                    vehicle.fuse.step()?;
                    let (network, mut weather) = air.net();
                    network.close(&mut weather, (id.0, Side::Vehicle), code, &reason);
                    self.session.handle(now, session::Input::Ended(id, Ended::ByUs));
                }
                session::Output::Happened(happening) => {
                    vehicle.fuse.step()?;
                    self.happened(vehicle, air, happening);
                    self.drain_executor(vehicle, air)?;
                }
                session::Output::Wait(until) => {
                    self.session_wait = until;
                    return Ok(());
                }
            }
        }
    }

    fn happened(&mut self, vehicle: &mut Vehicle, air: &mut Air, happening: Happening) {
        match happening {
            Happening::Established { epoch, resumed, .. } => {
                let what =
                    What::Established { vehicle: vehicle.name.clone(), epoch: epoch.number(), resumed };
                air.tell(&vehicle.name, what);
                self.epoch = epoch;
                if !resumed {
                    vehicle.met(air.now);
                    vehicle.write(air, (Some(SESSION), Change::Epoch(epoch)));
                    self.wishes.handle(vehicle.host.read(air.now), reconciler::Input::Established);
                }
                self.driving.tell_again();
            }
            Happening::Message { class, payload } if probes::carries(class) => {
                probes::delivered(
                    air,
                    &vehicle.name,
                    (&vehicle.name, self.epoch.number()),
                    (class, "down"),
                    &payload,
                );
            }
            Happening::Message { class, payload } => self.message(vehicle, air, class, payload),
            Happening::Gap { class, frames } => {
                let (whose, epoch) = (vehicle.name.clone(), self.epoch.number());
                air.tell(
                    &vehicle.name,
                    What::Gap { vehicle: whose, epoch, class: class.name().into(), frames },
                );
            }
            Happening::Settled { ticket, fate } => {
                self.driving.settled(ticket);
                if self.probes.settled(air, (&vehicle.name, &vehicle.name), ticket, fate) {
                    return;
                }
                if fate != Fate::Acknowledged {
                    if let Err(outcome) = self.outbox.lost(&ticket) {
                        self.executor.handle(vehicle.host.read(air.now), Input::Untold(outcome));
                    }
                } else if let Some(key) = self.outbox.arrived(&ticket) {
                    self.executor.handle(vehicle.host.read(air.now), Input::Arrived(key));
                }
            }
            Happening::Ended(_) if matches!(self.stage, Stage::Leaving(_)) => {}
            Happening::Ended(_) => {
                self.driving.handle(vehicle.host.read(air.now), drive::Input::Stopping);
                self.stage = Stage::Over;
            }
            Happening::Control(frame) => self.driving.control(vehicle, air, frame),
            Happening::Moved { .. } | Happening::Signals(_) => {}
        }
    }

    fn message(&mut self, vehicle: &mut Vehicle, air: &mut Air, lane: Class, payload: Bytes) {
        match Message::decode(payload) {
            Ok(Message::Command(command)) => self.command(vehicle, air, lane, command),
            Err(BadMessage::Command { key, reason, detail }) => {
                let input = Input::Unreadable { lane, key, refusal: Refusal { reason, detail } };
                self.executor_input(vehicle, air, input);
            }
            Ok(Message::Cancel(cancel)) => {
                self.executor_input(vehicle, air, Input::Cancel { lane, cancel });
            }
            Ok(Message::Lease(lease)) => self.driving.lease(vehicle, air, lease),
            Ok(Message::Rearm(rearm)) => self.driving.rearm(vehicle, air, rearm),
            Ok(Message::Desired(desired)) if lane == Class::Config => {
                self.wishes.desired(vehicle.host.read(air.now), desired);
            }
            Ok(_) | Err(BadMessage::Unreadable(_)) => {}
        }
    }

    /// A copy of a command is here, over the session or by another way.
    pub(super) fn command(&mut self, vehicle: &mut Vehicle, air: &mut Air, lane: Class, command: Command) {
        let print = command.fingerprint().get();
        air.tell(&vehicle.name, What::Seen { key: command.key.as_str().into(), print });
        self.executor_input(vehicle, air, Input::Command { lane, command });
    }

    fn drain_executor(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<(), Died> {
        loop {
            self.drive_on(vehicle, air)?;
            let now = vehicle.host.read(air.now);
            match self.executor.poll(now) {
                Output::Wait(until) => {
                    if !self.wishes.act(vehicle, air, &mut self.executor)? {
                        self.executor_wait = until;
                        return Ok(());
                    }
                }
                Output::Stop(actuation) => {
                    vehicle.fuse.step()?;
                    air.tell(&vehicle.name, What::Stopped);
                    vehicle.body.stop(air.now, actuation);
                    self.driving.handle(now, drive::Input::EmergencyStop);
                    self.wishes.handle(now, reconciler::Input::Latched(true));
                }
                Output::Apply { actuation, target } => {
                    vehicle.fuse.step()?;
                    let Air { plan, chance, .. } = air;
                    let applied = vehicle.body.apply(air.now, actuation, &target, (&plan.mix, chance));
                    if !matches!(applied, Applied::Refused(_)) {
                        let print = fingerprint(target.class, &target.path, &target.value).get();
                        let command = self.executor.acting(actuation).expect("it has just been handed over");
                        let key = command.key.as_str().into();
                        let (token, order) = (command.token.map_or(0, Token::number), command.order);
                        let (class, path) = (target.class.name().into(), target.path.as_str().into());
                        air.tell(&vehicle.name, What::Effect { key, class, path, print, token, order });
                        let moving = (applied == Applied::Moving).then_some(actuation);
                        let (path, value) = (target.path.clone(), target.value.clone());
                        self.wishes.handle(now, reconciler::Input::Commanded { path, value, moving });
                    }
                    vehicle.fuse.step()?;
                    self.executor.handle(now, Input::Applied { actuation, applied });
                }
                Output::Write { id, record } => {
                    vehicle.fuse.step()?;
                    vehicle.write(air, (Some(id), Change::Put(record)));
                }
                Output::Tell { class, outcome } => {
                    vehicle.fuse.step()?;
                    say(vehicle, air, &outcome, class);
                    if let Err(outcome) = self.outbox.push(class, outcome) {
                        self.executor.handle(now, Input::Untold(outcome));
                    }
                }
                Output::Released(released) => self.on_released(vehicle, air, released),
                Output::Forget(key) => {
                    air.tell(&vehicle.name, What::Forgot { key: key.as_str().into() });
                    vehicle.write(air, (None, Change::Forget(key)));
                }
            }
        }
    }

    /// Sends what is to be told. True where anything went.
    fn tell(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<bool, Died> {
        let mut any = false;
        for class in Class::ALL {
            while self.outbox.has_room(class)
                && let Some(outcome) = self.executor.next_owed(class)
            {
                vehicle.fuse.step()?;
                say(vehicle, air, &outcome, class);
                self.outbox.push(class, outcome).expect("there is room");
            }
            while let Some(outcome) = self.outbox.next(class) {
                vehicle.fuse.step()?;
                let payload = Message::Outcome(outcome.clone()).encode();
                let Ok(ticket) = self.session.send(class, payload, None) else { break };
                self.outbox.sent(class, ticket);
                any = true;
            }
        }
        Ok(any)
    }

    /// Does what the keeper wants. True where the session was given something.
    fn keep_connected(&mut self, vehicle: &mut Vehicle, air: &mut Air) -> Result<bool, Died> {
        let now = vehicle.host.read(air.now);
        self.keeper.handle(now, keeper::Input::Connectivity(self.session.connectivity(now)));
        loop {
            match self.keeper.poll(now) {
                keeper::Output::Dial(choice) => {
                    vehicle.fuse.step()?;
                    dial(vehicle, air, choice);
                }
                keeper::Output::Adopt(choice, why) => {
                    vehicle.fuse.step()?;
                    if let Some(connection) = self.connected.remove(&choice) {
                        self.adopt(vehicle, air, connection, why);
                        return Ok(true);
                    }
                }
                keeper::Output::Discard(choice) => {
                    if let Some(connection) = self.connected.remove(&choice) {
                        let (network, mut weather) = air.net();
                        network.abandon(&mut weather, connection, Side::Vehicle);
                    }
                }
                keeper::Output::Wait(until) => {
                    self.keeper_wait = until;
                    return Ok(false);
                }
                keeper::Output::Stop(_) => {
                    if !matches!(self.stage, Stage::Leaving(_)) {
                        self.stage = Stage::Over;
                    }
                    return Ok(false);
                }
            }
        }
    }

    pub(super) fn adopt(&mut self, vehicle: &Vehicle, air: &Air, connection: u32, why: String) {
        let (id, now) = (ConnectionId(connection), vehicle.host.read(air.now));
        let capabilities = air.network.capabilities(connection);
        self.session.handle(now, session::Input::Opened { connection: id, capabilities, why });
        for channel in air.network.channels(connection) {
            self.session.handle(now, session::Input::Room(id, channel));
        }
    }
}

fn say(vehicle: &Vehicle, air: &mut Air, outcome: &Outcome, class: Class) {
    let what = What::Said {
        key: outcome.key.as_str().into(),
        class: class.name().into(),
        phase: outcome.phase.name().into(),
        reason: outcome.reason.map(|reason| reason.name().into()),
        print: outcome.fingerprint.map(std::num::NonZeroU64::get),
    };
    air.tell(&vehicle.name, what);
}

/// A handshake of one round trip, or silence.
fn dial(vehicle: &Vehicle, air: &mut Air, choice: Choice) {
    let (gateway, run, start) = (air.routes[vehicle.index], vehicle.run, air.now);
    let (_, mut weather) = air.net();
    weather.now = weather.reliably(vehicle.index, gateway, Side::Vehicle);
    let at = weather.reliably(vehicle.index, gateway, Side::Gateway);
    let is_up = at < start + DIAL;
    let task = Task::Dialed { vehicle: vehicle.index, run, choice, gateway, is_up };
    air.queue.push(at.min(start + DIAL), task);
}
