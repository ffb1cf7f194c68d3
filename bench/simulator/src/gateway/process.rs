//! A gateway's process: registry, command records and sessions, and the glue between them, as in its hub.

mod draining;
mod driving;
mod operators;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_gateway::core::board::{Board, Update};
use carriageway_gateway::core::commands::{self, CommandId, Commands, Delivery};
use carriageway_gateway::core::registry::{self, Admission, Presence, Registry};
use carriageway_proto::frame::Goodbye;
use carriageway_proto::{
    Class, ClassMap, CloseCode, Epoch, Frame, Message, Moment, PolicyTable, SessionId, Value, VehicleId,
};
use carriageway_transport::core::connection::{Channel, ConnectionId, Ended};
use carriageway_transport::core::lane::{Fate, Ticket};
use carriageway_transport::core::session::{self, Happening};
use carriageway_transport::core::{Greeting, Session};

use super::Gateway;
use crate::air::{Air, Died};
use crate::checker::{Name, What};
use crate::network::Side;
use crate::probes::{self, Probes};

pub(super) use draining::DEADLINE;
use draining::Drain;
use driving::Driving;
pub(crate) use driving::operator_name;
use operators::Known;
pub(crate) use operators::path_of;
use wishes::Wishes;

/// What has no deadline of its own is looked at this often, as in the hub.
const TICK: Duration = Duration::from_millis(100);

/// Presence is read this often, in ticks, as in the hub.
const SWEEP_EVERY: u32 = 5;

/// Least time between two looks at deadlines, as in the hub.
const GRAIN: Duration = Duration::from_millis(1);

/// Whom the vehicles are, and what the log calls them.
pub(crate) type Vehicles = Rc<[(VehicleId, Name)]>;

/// A session, its vehicle and its last word.
#[derive(Debug)]
struct Live {
    id: SessionId,
    vehicle: usize,
    epoch: Epoch,
    session: Session,
    probes: Probes,
    wait: Option<Moment>,
    over: bool,
    /// How many commands of each class it was given: their order.
    given: ClassMap<u64>,
}

#[derive(Debug)]
pub(super) struct Process {
    registry: Registry,
    commands: Commands,
    driving: Driving,
    wishes: Wishes,
    policies: PolicyTable,
    boards: Vec<Board>,
    /// All sessions that have not finished, newest last.
    sessions: Vec<Live>,
    /// By connection, its session.
    carried: BTreeMap<u32, SessionId>,
    tickets: BTreeMap<(SessionId, Ticket), CommandId>,
    /// By vehicle, what was sent and had not ended when something was last sent.
    away: BTreeMap<usize, BTreeSet<CommandId>>,
    known: BTreeMap<CommandId, Known>,
    under_way: BTreeMap<(usize, Class), u64>,
    /// Sessions that something happened to since they were last driven.
    touched: BTreeSet<SessionId>,
    look_at: Moment,
    /// Counts the looks.
    round: u32,
    drain: Option<Drain>,
}

impl Process {
    pub(super) fn new(gateway: &Gateway, air: &mut Air) -> Self {
        let resume_window = Duration::from_micros(air.plan.mix.resume_window);
        let limits = registry::Limits { resume_window, ..registry::Limits::default() };
        let policies = PolicyTable::defaults();
        let now = gateway.host.read(air.now);
        let mut commands = Commands::new(commands::Limits::default(), policies);
        let restored = gateway.store.load(gateway.host.boot());
        let known = restored.iter().map(|one| Known::restored(gateway, &one.kept.record)).collect();
        commands.restore(now, restored);
        Self {
            registry: Registry::new(limits),
            commands,
            driving: Driving::new(gateway),
            wishes: Wishes::recover(gateway, air),
            policies,
            boards: gateway.vehicles.iter().map(|_| Board::new(512)).collect(),
            sessions: Vec::new(),
            carried: BTreeMap::new(),
            tickets: BTreeMap::new(),
            away: BTreeMap::new(),
            known,
            under_way: BTreeMap::new(),
            touched: BTreeSet::new(),
            look_at: now + TICK,
            round: 0,
            drain: None,
        }
    }

    pub(super) fn has_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::is_over)
    }

    pub(super) fn wakes_at(&self, gateway: &Gateway, air: &Air) -> u64 {
        let probes = |live: &Live| (!live.over).then(|| live.probes.wakes_at());
        let sessions = self.sessions.iter().flat_map(|live| [live.wait, probes(live)]);
        let earliest = gateway.host.read(air.now) + GRAIN;
        let commands = self.commands.wakes_at().map(|at| at.max(earliest));
        let drain = self.drain.as_ref().map(Drain::wakes_at);
        let due = sessions.chain([commands, drain, Some(self.look_at)]).flatten();
        due.map(|at| gateway.host.when(at, air.now)).min().map_or(u64::MAX, |at| at.max(air.now + 1))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, gateway: &mut Gateway, air: &mut Air) {
        let now = gateway.host.read(air.now);
        for live in &mut self.sessions {
            let is_due = live.wait.is_some_and(|at| at <= now);
            if is_due {
                live.session.handle(now, session::Input::Tick);
                self.touched.insert(live.id);
            }
            if live.probes.wakes_at() <= now && !live.over {
                let vehicle = &gateway.vehicles[live.vehicle].1;
                live.probes.send(now, &mut live.session, air, (&gateway.name, vehicle), &gateway.host);
                self.touched.insert(live.id);
            }
        }
        let is_due = self.commands.wakes_at().is_some_and(|at| at <= now);
        if is_due || now >= self.look_at {
            self.look_for_the_awaited(gateway, now);
            if is_due {
                self.commands.handle(now, commands::Input::Tick);
            }
            self.driving.tick(now);
        }
        if now >= self.look_at {
            self.look_at = now + TICK;
            self.round = self.round.wrapping_add(1);
            if self.round.is_multiple_of(SWEEP_EVERY) {
                self.sweep(gateway, now);
            }
        }
        self.drain_on(gateway, air);
    }

    fn sweep(&mut self, gateway: &Gateway, now: Moment) {
        for vehicle in 0..gateway.vehicles.len() {
            self.observe(gateway, now, vehicle);
        }
        self.registry.handle(now, registry::Input::Tick);
        self.sweep_wishes(now);
    }

    fn observe(&mut self, gateway: &Gateway, now: Moment, vehicle: usize) {
        let id = &gateway.vehicles[vehicle].0;
        let current = self.registry.session(id);
        let Some(live) = self.sessions.iter().rfind(|live| live.vehicle == vehicle && !live.over) else {
            return;
        };
        if current != Some(live.id) {
            return;
        }
        let silent = live.session.silent_for(now);
        let (connected, heard) = (silent.is_some(), silent.map(|silent| now - silent));
        let input = registry::Input::Observed { vehicle: id.clone(), session: live.id, connected, heard };
        self.registry.handle(now, input);
    }

    pub(super) fn frame(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        connection: u32,
        channel: Channel,
        bytes: Bytes,
    ) -> Result<(), Died> {
        if self.carried.contains_key(&connection) {
            let input = session::Input::Frame(ConnectionId(connection), channel, bytes);
            self.session_input(gateway, air, connection, input);
            return Ok(());
        }
        // In the lobby: nothing but a hello on the session's lane counts, as in production.
        match Frame::decode(bytes) {
            Ok((clock, Frame::Hello(hello))) if channel != Channel::Datagram => {
                let arrived = gateway.host.read(air.now);
                self.admit(gateway, air, connection, Greeting { hello, clock, arrived })
            }
            Ok(_) | Err(_) if channel == Channel::Datagram => Ok(()),
            Ok(_) | Err(_) => {
                let (network, mut weather) = air.net();
                let reason = "a frame before the hello";
                network.close(
                    &mut weather,
                    (connection, Side::Gateway),
                    CloseCode::ProtocolViolation,
                    reason,
                );
                Ok(())
            }
        }
    }

    fn admit(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        connection: u32,
        greeting: Greeting,
    ) -> Result<(), Died> {
        gateway.fuse.step()?;
        let (now, vehicle) = (gateway.host.read(air.now), air.network.of(connection).vehicle);
        let id = gateway.vehicles[vehicle].0.clone();
        if self.drain.is_some() {
            refuse(gateway, air, connection, CloseCode::Restarting);
            return Ok(());
        }
        let hello = &greeting.hello;
        let request =
            registry::Request { version: hello.version, session: hello.session, epoch: hello.epoch };
        let fresh = SessionId::from_bytes(air.chance.bytes());
        let (session, epoch) = match self.registry.admit(now, &id, request, fresh) {
            Admission::Resume(session) => (session, None),
            Admission::New { session, epoch, takes_over } => {
                let older = self.sessions.iter_mut().filter(|live| Some(live.id) == takes_over);
                for older in older {
                    older.session.close(CloseCode::TakenOver, "a newer session was opened", None);
                    self.touched.insert(older.id);
                }
                (session, Some(epoch))
            }
            Admission::Refuse(code) => {
                refuse(gateway, air, connection, code);
                return Ok(());
            }
        };
        if let Some(epoch) = epoch {
            let core = Session::accepting(session::Config::default(), gateway.host.boot(), session, epoch);
            let sender = format!("{}.{}.{epoch}", gateway.index, gateway.run);
            let probes = Probes::new("down", sender, now);
            self.sessions.push(Live {
                id: session,
                vehicle,
                epoch,
                session: core,
                probes,
                wait: None,
                over: false,
                given: ClassMap::default(),
            });
        }
        self.carried.insert(connection, session);
        let capabilities = air.network.capabilities(connection);
        let input = session::Input::Greeted { connection: ConnectionId(connection), capabilities, greeting };
        self.session_input(gateway, air, connection, input);
        for channel in air.network.channels(connection) {
            let input = session::Input::Room(ConnectionId(connection), channel);
            self.session_input(gateway, air, connection, input);
        }
        Ok(())
    }

    pub(super) fn session_input(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        connection: u32,
        input: session::Input,
    ) {
        let Some(id) = self.carried.get(&connection).copied() else { return };
        let Some(live) = self.sessions.iter_mut().find(|live| live.id == id) else { return };
        live.session.handle(gateway.host.read(air.now), input);
        self.touched.insert(id);
    }

    /// The clock is read before anything else, as by whoever takes hold of the hub's state.
    pub(super) fn note(&mut self, gateway: &Gateway, air: &Air) {
        let now = gateway.host.read(air.now);
        self.wishes.note(now);
        self.commands.note(now);
        // However far the clock has gone back.
        self.look_at = self.look_at.min(now + TICK);
    }

    /// How often it has swept.
    pub(super) fn sweeps(&self) -> u32 {
        self.round / SWEEP_EVERY
    }

    /// Everything that is to be on disk of commands is there.
    pub(super) fn is_settled(&self) -> bool {
        self.commands.is_settled()
    }

    /// Does all that the cores want done.
    pub(super) fn pump(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        loop {
            while let Some(id) = self.touched.pop_first() {
                self.drive(gateway, air, id)?;
            }
            self.tell(gateway, air)?;
            if self.touched.is_empty() {
                return Ok(());
            }
        }
    }

    fn drive(&mut self, gateway: &mut Gateway, air: &mut Air, id: SessionId) -> Result<(), Died> {
        while let Some(index) = self.sessions.iter().position(|live| live.id == id) {
            let now = gateway.host.read(air.now);
            let live = &mut self.sessions[index];
            match live.session.poll(now) {
                session::Output::Transmit(to, channel, frame) => {
                    gateway.fuse.step()?;
                    air.note_copy(live.vehicle, channel, &frame);
                    let (network, mut weather) = air.net();
                    if network.is_open(to.0, Side::Gateway)
                        && network.send(&mut weather, (to.0, Side::Gateway), channel, frame)
                    {
                        live.session.handle(now, session::Input::Room(to, channel));
                    }
                }
                session::Output::Close(to, code, reason) => {
                    gateway.fuse.step()?;
                    let (network, mut weather) = air.net();
                    network.close(&mut weather, (to.0, Side::Gateway), code, &reason);
                    live.session.handle(now, session::Input::Ended(to, Ended::ByUs));
                    self.carried.remove(&to.0);
                }
                session::Output::Happened(happening) => {
                    gateway.fuse.step()?;
                    self.happened(gateway, air, index, happening);
                }
                session::Output::Wait(until) => {
                    live.wait = until;
                    if live.session.is_finished() {
                        self.sessions.remove(index);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn happened(&mut self, gateway: &Gateway, air: &mut Air, index: usize, happening: Happening) {
        let now = gateway.host.read(air.now);
        let live = &mut self.sessions[index];
        let (vehicle, epoch) = (live.vehicle, live.epoch);
        let (id, name) = &gateway.vehicles[vehicle];
        match happening {
            Happening::Established { resumed, .. } => {
                let what = What::Established { vehicle: name.clone(), epoch: epoch.number(), resumed };
                air.tell(&gateway.name, what);
                self.observe(gateway, now, vehicle);
                self.look_for_the_awaited(gateway, now);
                self.driving.established(now, id, epoch);
                self.wishes_established(gateway, now, (vehicle, epoch));
            }
            Happening::Message { class, payload } if probes::carries(class) => {
                probes::delivered(air, &gateway.name, (name, epoch.number()), (class, "up"), &payload);
            }
            Happening::Message { payload, .. } => match Message::decode(payload) {
                Ok(Message::StateReport(report)) => self.wish_report(gateway, now, (vehicle, epoch), report),
                other => self.message(now, (id, epoch), other.ok()),
            },
            Happening::Gap { class, frames } => {
                let (vehicle, class) = (name.clone(), class.name().into());
                air.tell(&gateway.name, What::Gap { vehicle, epoch: epoch.number(), class, frames });
            }
            Happening::Signals(updates) => {
                let update = |update: session::SignalUpdate| Update {
                    path: update.path,
                    value: update.value,
                    age: update.age,
                };
                let board = &mut self.boards[vehicle];
                let before = board.version();
                board.apply(now, epoch, updates.into_iter().map(update));
                for shown in board.since(before) {
                    let Value::Int(number) = shown.value else { continue };
                    let (path, number) = (shown.path.as_str().into(), number.unsigned_abs());
                    air.tell(&gateway.name, What::Shown { vehicle: name.clone(), path, number });
                }
            }
            Happening::Settled { ticket, fate } => {
                if live.probes.settled(air, (&gateway.name, name), ticket, fate) {
                    return;
                }
                let place = (live.id, ticket);
                if self.wish_settled(gateway, now, place, fate == Fate::Acknowledged) {
                    return;
                }
                if let Some(command) = self.tickets.remove(&place) {
                    if let Fate::Expired { sent: false } | Fate::Lost { sent: false } = fate {
                        self.unsent(gateway, air, command);
                    }
                    self.commands.handle(now, commands::Input::Delivery(command, delivery(fate)));
                }
            }
            Happening::Ended(_) => self.ended(gateway, now, index),
            Happening::Moved { .. } | Happening::Control(_) => {}
        }
    }

    fn message(&mut self, now: Moment, (vehicle, epoch): (&VehicleId, Epoch), message: Option<Message>) {
        if let Some(Message::Outcome(outcome)) = message {
            self.commands.handle(now, commands::Input::Outcome(vehicle.clone(), outcome));
            while self.commands.poll_heard().is_some() {}
        } else if let Some(Message::DriveState(state)) = message {
            self.driving.told(now, vehicle, epoch, state);
        }
    }

    fn ended(&mut self, gateway: &Gateway, now: Moment, index: usize) {
        let live = &mut self.sessions[index];
        live.over = true;
        let (session, epoch, vehicle) = (live.id, live.epoch, gateway.vehicles[live.vehicle].0.clone());
        let unsettled: Vec<_> = self
            .tickets
            .range((session, Ticket(0))..=(session, Ticket(u64::MAX)))
            .map(|(place, id)| (*place, *id))
            .collect();
        for (place, id) in unsettled {
            self.tickets.remove(&place);
            self.commands.handle(now, commands::Input::Delivery(id, Delivery::LostSent));
        }
        self.driving.ended(now, &vehicle, epoch);
        self.registry.handle(now, registry::Input::Ended { vehicle, session });
        self.wishes_ended(gateway, now, (index, session));
    }

    /// Tells what the cores have to tell.
    fn tell(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        while let Some(output) = self.registry.poll() {
            gateway.fuse.step()?;
            if let registry::Output::End { session, code, .. } = output
                && let Some(live) = self.sessions.iter_mut().find(|live| live.id == session)
            {
                live.session.close(code, "no connection came back in time", None);
                self.touched.insert(session);
            }
        }
        self.drain_commands(gateway, air)?;
        self.drain_wishes(gateway, air)?;
        self.pump_leases(gateway, air)
    }

    pub(super) fn view(&self, now: Moment, id: &VehicleId, vehicle: usize) -> (u64, bool, u64) {
        let view = self.registry.view(now, id);
        let sessions = self.sessions.iter().filter(|live| live.vehicle == vehicle && !live.over).count();
        let online = view.is_some_and(|view| view.presence == Presence::Online);
        let shown = self.boards[vehicle].since(0).filter_map(|shown| match shown.value {
            Value::Int(number) => Some(number.unsigned_abs()),
            Value::Bool(_) | Value::Float(_) | Value::Text(_) => None,
        });
        (sessions as u64, online, shown.min().unwrap_or(0))
    }
}

/// Turns a connection away.
fn refuse(gateway: &Gateway, air: &mut Air, connection: u32, code: CloseCode) {
    let goodbye = Goodbye { code, reason: String::new(), retry_after_ms: 1_000 };
    let frame = Frame::Goodbye(goodbye).encode(gateway.host.read(air.now));
    let is_quic = air.network.channels(connection).len() > 1;
    let channel = if is_quic { Channel::Lane(Class::Session) } else { Channel::Shared };
    let (network, mut weather) = air.net();
    network.send(&mut weather, (connection, Side::Gateway), channel, frame);
    network.close(&mut weather, (connection, Side::Gateway), code, "");
}

fn delivery(fate: Fate) -> Delivery {
    match fate {
        Fate::Acknowledged => Delivery::Acknowledged,
        Fate::Expired { sent: false } => Delivery::ExpiredUnsent,
        Fate::Expired { sent: true } => Delivery::ExpiredSent,
        Fate::Lost { sent: false } => Delivery::LostUnsent,
        Fate::Lost { sent: true } => Delivery::LostSent,
    }
}
