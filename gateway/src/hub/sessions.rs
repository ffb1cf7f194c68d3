//! The vehicles' side of the hub: who gets in, and what their sessions say.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, ClassMap, CloseCode, Epoch, Message, Moment, SessionId, VehicleId};
use carriageway_transport::link::{self, Fate, Happening, Happenings, Link, SignalUpdate, Ticket};
use carriageway_transport::lobby::Greeted;

use super::room::{Live, Meter, Room};
use super::{Event, Hub, SessionChange, State, lock};
use crate::core::board::{Board, Update};
use crate::core::commands::{self, Delivery, Heard};
use crate::core::registry::{self, Admission};
use crate::core::{lease, shadow};

/// What a greeted connection gets.
pub enum Entry {
    /// Its session goes on.
    Attached,
    /// A session of its own, which wants to be driven and read.
    Opened(Box<Opened>),
    /// Nothing.
    Refused {
        /// The connection.
        greeted: Greeted,
        /// Why.
        code: CloseCode,
        /// When it may try again at the earliest.
        retry_after: Option<Duration>,
    },
}

/// What drives a session.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A new session.
pub struct Opened {
    /// Whose.
    pub vehicle: VehicleId,
    /// Its id.
    pub session: SessionId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The handle.
    pub link: Link,
    /// What it says.
    pub happenings: Happenings,
    /// What drives it.
    pub driver: Driver,
    board: Arc<Mutex<Board>>,
    meter: Arc<Meter>,
}

impl Hub {
    /// Decides on a connection that came with the identity `vehicle` and has said hello.
    pub fn admit(&self, vehicle: &VehicleId, greeted: Greeted) -> Entry {
        if self.is_draining() {
            self.0.metrics.hello("draining");
            let retry_after = Some(self.jittered(self.0.settings.retry_after));
            return Entry::Refused { greeted, code: CloseCode::Restarting, retry_after };
        }
        let hello = &greeted.greeting.hello;
        let request =
            registry::Request { version: hello.version, session: hello.session, epoch: hello.epoch };
        let mut state = self.state();
        let now = self.now();
        forget_the_dead(now, &mut state, vehicle);
        let admission = state.registry.admit(now, vehicle, request, SessionId::from_bytes(self.chance()));
        let entry = match admission {
            Admission::Resume(session) => self.resume(&state, vehicle, session, greeted),
            Admission::New { session, epoch, .. } => {
                self.0.metrics.hello("opened");
                // Once in each run, so that the newest are known.
                if state.registry.view(now, vehicle).is_some_and(|view| view.sessions == 1) {
                    state.known.remove(vehicle);
                    self.keep_vehicle(vehicle.clone());
                }
                Entry::Opened(Box::new(self.open(&mut state, vehicle, session, epoch, greeted)))
            }
            Admission::Refuse(code) => {
                self.0.metrics.hello(code.name());
                let retry_after = code.reconnects().then(|| self.jittered(self.0.settings.retry_after));
                Entry::Refused { greeted, code, retry_after }
            }
        };
        self.pump(now, &mut state);
        entry
    }

    fn resume(&self, state: &State, vehicle: &VehicleId, session: SessionId, greeted: Greeted) -> Entry {
        let live = state.rooms.get(vehicle).and_then(Room::live).filter(|live| live.session == session);
        let refused = |greeted| Entry::Refused { greeted, code: CloseCode::Overloaded, retry_after: None };
        match live.map(|live| live.link.attach(greeted)) {
            Some(Ok(())) => {
                self.0.metrics.hello("attached");
                Entry::Attached
            }
            Some(Err(greeted)) => {
                self.0.metrics.hello("overloaded");
                refused(*greeted)
            }
            None => unreachable!("the registry resumes only sessions that live in a room"),
        }
    }

    fn open(
        &self,
        state: &mut State,
        vehicle: &VehicleId,
        session: SessionId,
        epoch: Epoch,
        greeted: Greeted,
    ) -> Opened {
        let config = self.0.settings.session.clone();
        let (link, happenings, driver) = link::accept(config, self.0.clock.clone(), session, epoch, greeted);
        self.move_in(state, vehicle, (session, epoch), (link, happenings), Box::pin(driver))
    }

    /// Gives the vehicle's room to a new session. What it said in the one before is old from here on.
    fn move_in(
        &self,
        state: &mut State,
        vehicle: &VehicleId,
        (session, epoch): (SessionId, Epoch),
        (link, happenings): (Link, Happenings),
        driver: Driver,
    ) -> Opened {
        let room = state.rooms.entry(vehicle.clone()).or_insert_with(Room::new);
        let (board, meter) = (Arc::clone(&room.board), Arc::new(Meter::default()));
        let live = Live {
            session,
            epoch,
            link: link.clone(),
            transport: None,
            meter: Arc::clone(&meter),
            handed: ClassMap::default(),
        };
        if let Some(older) = room.move_in(live) {
            older.link.close(CloseCode::TakenOver, "a newer session of this vehicle was opened", None);
            let (vehicle, epoch) = (vehicle.clone(), older.epoch);
            state.leases.handle(self.now(), lease::Input::Ended { vehicle, epoch });
        }
        Opened { vehicle: vehicle.clone(), session, epoch, link, happenings, driver, board, meter }
    }

    /// Takes in one thing that a session said.
    pub fn happened(&self, opened: &Opened, happening: Happening) {
        match happening {
            Happening::Established { resumed, .. } => self.established(opened, resumed),
            Happening::Moved { transport, why } => self.moved(opened, transport, why),
            Happening::Message { class, payload } => self.message(opened, class, payload),
            // The session counts it among its drops.
            Happening::Gap { class, frames } => {
                tracing::debug!(vehicle = %opened.vehicle, %class, frames, "frames outlived their ttl at the vehicle");
            }
            Happening::Signals(updates) => self.shown(opened, updates),
            // Control flows to vehicles only.
            Happening::Control(_) => self.0.metrics.dropped("receive", "control_from_vehicle", 1),
            Happening::Settled { ticket, fate } => self.settled(opened.session, ticket, fate),
            Happening::Ended(ended) => self.ended(opened, &ended.to_string()),
        }
    }

    fn established(&self, opened: &Opened, resumed: bool) {
        if resumed {
            self.0.metrics.resumes.inc();
        }
        let change = if resumed { SessionChange::Resumed } else { SessionChange::Opened };
        tracing::info!(vehicle = %opened.vehicle, epoch = opened.epoch.number(), resumed, "session established");
        self.tell_session(opened, change);
        self.observe(&opened.vehicle);
        self.leases_established(opened);
        self.shadows_established(opened);
    }

    fn tell_session(&self, opened: &Opened, change: SessionChange) {
        let (session, epoch) = (opened.session, opened.epoch);
        let event = Event::Session { vehicle: opened.vehicle.clone(), session, epoch, change };
        self.tell(event);
    }

    fn tell(&self, event: Event) {
        let mut state = self.state();
        let now = self.now();
        self.pace(now, &mut state, event);
        self.pump(now, &mut state);
    }

    /// Tells of a session, a link or a drive state, at the vehicle's pace.
    pub(super) fn pace(&self, now: Moment, state: &mut State, event: Event) {
        let State { rooms, ring, .. } = state;
        let Some(room) = rooms.get_mut(event.vehicle()) else {
            ring.push(now, event);
            return;
        };
        let pacer = match event {
            Event::Presence { .. }
            | Event::Session { .. }
            | Event::Command(_)
            | Event::Lease(_)
            | Event::Drain { .. } => 0,
            Event::Link { .. } => 1,
            Event::Drive { .. } => 2,
            Event::State { .. } => 3,
        };
        let (event, gave_up) = room.pacers[pacer].offer(now, event);
        self.0.metrics.dropped("events", "superseded", u64::from(gave_up));
        if let Some(event) = event {
            ring.push(now, event);
        }
    }

    fn moved(
        &self,
        opened: &Opened,
        transport: carriageway_transport::core::connection::Transport,
        why: String,
    ) {
        tracing::info!(vehicle = %opened.vehicle, %transport, why, "lanes moved");
        if let Some(room) = self.state().rooms.get_mut(&opened.vehicle)
            && let Some(live) = room.live_mut(opened.session)
        {
            live.transport = Some(transport);
        }
        self.tell(Event::Link { vehicle: opened.vehicle.clone(), transport, why });
    }

    fn message(&self, opened: &Opened, class: Class, payload: Bytes) {
        let (now, vehicle) = (self.now(), &opened.vehicle);
        let metrics = &self.0.metrics;
        if let Some(room) = self.state().rooms.get_mut(vehicle) {
            room.heard[class] = Some(now);
        }
        match Message::decode(payload) {
            Ok(Message::Outcome(outcome)) => self.outcome(vehicle, outcome),
            // This version stores no files: it counts what comes and lets it go.
            Ok(Message::Chunk(chunk)) => {
                metrics.bulk_bytes.inc_by(chunk.data.len() as u64);
                metrics.bulk_files.inc_by(u64::from(chunk.last));
            }
            Ok(
                Message::Command(_)
                | Message::Cancel(_)
                | Message::Lease(_)
                | Message::Rearm(_)
                | Message::Desired(_),
            ) => {
                metrics.dropped("receive", "command_from_vehicle", 1);
            }
            Ok(Message::DriveState(state)) => self.drive_state(opened, state),
            Ok(Message::StateReport(report)) => self.state_report(opened, report),
            Err(error) => {
                tracing::debug!(%vehicle, %class, %error, "a message that is none");
                metrics.dropped("receive", "bad_message", 1);
            }
        }
    }

    fn outcome(&self, vehicle: &VehicleId, outcome: carriageway_proto::Outcome) {
        let key = outcome.key.clone();
        let mut state = self.state();
        let now = self.now();
        state.commands.handle(now, commands::Input::Outcome(vehicle.clone(), outcome));
        while let Some(heard) = state.commands.poll_heard() {
            self.0.metrics.outcome(match heard {
                Heard::News => "news",
                Heard::Repeat => "repeat",
                Heard::Contradiction => "contradiction",
                Heard::Stranger => "unknown_key",
            });
            if heard == Heard::Contradiction {
                tracing::error!(%vehicle, %key, "the vehicle reports another outcome than the one on record");
            }
        }
        self.pump(now, &mut state);
    }

    fn shown(&self, opened: &Opened, updates: Vec<SignalUpdate>) {
        let now = self.now();
        let updates =
            updates.into_iter().map(|SignalUpdate { path, value, age, .. }| Update { path, value, age });
        let applied = lock(&opened.board).apply(now, opened.epoch, updates);
        self.0.metrics.signals.inc_by(applied.shown);
        self.0.metrics.dropped("board", "signal_of_older_session", applied.older);
        self.0.metrics.dropped("board", "signal_too_many_paths", applied.beyond);
    }

    fn settled(&self, session: SessionId, ticket: Ticket, fate: Fate) {
        let mut state = self.state();
        let now = self.now();
        if let Some(vehicle) = state.desired.remove(&(session, ticket)) {
            let arrived = matches!(fate, Fate::Acknowledged);
            state.shadows.handle(now, shadow::Input::Settled { vehicle, arrived });
            return self.pump(now, &mut state);
        }
        let Some(id) = state.tickets.remove(&(session, ticket)) else { return };
        state.commands.handle(now, commands::Input::Delivery(id, delivery(fate)));
        self.pump(now, &mut state);
    }

    /// The session is over: whatever it had not settled may have left.
    fn ended(&self, opened: &Opened, why: &str) {
        if let Some(status) = self.survive("link", || opened.link.status()) {
            opened.meter.count(&status.session.drops, &self.0.metrics);
        }
        self.over(&opened.vehicle, (opened.session, opened.epoch), why);
    }

    /// Ends a session whose handle panics: its lock is poisoned, nothing more can come of it.
    pub(super) fn give_up(&self, vehicle: &VehicleId, session: (SessionId, Epoch), link: &Link) {
        tracing::error!(%vehicle, "a session is given up after a panic");
        let reason = "the session broke at the gateway";
        self.survive("link", || link.close(CloseCode::GoingAway, reason, None));
        self.over(vehicle, session, reason);
    }

    fn over(&self, vehicle: &VehicleId, (session, epoch): (SessionId, Epoch), why: &str) {
        tracing::info!(%vehicle, why, "session ended");
        let mut state = self.state();
        let now = self.now();
        let unsettled: Vec<_> = state
            .tickets
            .range((session, Ticket(0))..=(session, Ticket(u64::MAX)))
            .map(|(place, id)| (*place, *id))
            .collect();
        for (place, id) in unsettled {
            state.tickets.remove(&place);
            state.commands.handle(now, commands::Input::Delivery(id, Delivery::LostSent));
        }
        if let Some(room) = state.rooms.get_mut(vehicle) {
            room.move_out(session);
        }
        let input = registry::Input::Ended { vehicle: vehicle.clone(), session };
        state.registry.handle(now, input);
        state.leases.handle(now, lease::Input::Ended { vehicle: vehicle.clone(), epoch });
        state.desired.retain(|(over, _), _| *over != session);
        state.shadows.handle(now, shadow::Input::Ended { vehicle: vehicle.clone(), epoch });
        let change = SessionChange::Ended(why.into());
        self.pace(now, &mut state, Event::Session { vehicle: vehicle.clone(), session, epoch, change });
        self.pump(now, &mut state);
    }

    /// The session's task is over, whatever its last word was. Does nothing the second time.
    pub fn closed(&self, opened: &Opened) {
        let is_current = self
            .state()
            .rooms
            .get(&opened.vehicle)
            .and_then(Room::live)
            .is_some_and(|live| live.session == opened.session);
        if is_current {
            self.ended(opened, "the session's task ended");
        }
    }

    /// Reads how the vehicle's connections fare, and tells of a change.
    pub fn observe(&self, vehicle: &VehicleId) {
        let mut state = self.state();
        let now = self.now();
        observe_in(now, &mut state, vehicle);
        Self::look_for_the_awaited(now, &mut state);
        self.pump(now, &mut state);
    }

    /// Between `least` and three times that, and longer the more vehicles there are: who is sent away
    /// together shall not come back together.
    pub(super) fn jittered(&self, least: Duration) -> Duration {
        let spread = (least * 2).max(Duration::from_millis(2) * self.sessions());
        let chance = f64::from(u32::from_be_bytes(self.chance())) / f64::from(u32::MAX);
        least + spread.mul_f64(chance)
    }

    fn sessions(&self) -> u32 {
        u32::try_from(self.0.metrics.sessions.get()).unwrap_or(0)
    }
}

#[cfg(test)]
impl Hub {
    /// A hub with a store of its own, whose file is gone when the hub is.
    pub(crate) fn for_test() -> Self {
        use crate::store::{Sqlite, Store};
        let directory = tempfile::tempdir().unwrap();
        let (disk, loaded) = Sqlite::open(&directory.path().join("gateway.db")).unwrap();
        let clock = carriageway_transport::clock::BootClock::system().unwrap();
        let metrics = Arc::new(crate::metrics::Metrics::new());
        let store = Store::start(disk).unwrap();
        let held = super::Held { commands: loaded.commands, ..super::Held::default() };
        Self::new(super::Settings::default(), clock, metrics, store, held).unwrap()
    }
}

#[cfg(test)]
impl Opened {
    /// A session at `hub` that has no connection, and does what `driver` does.
    pub(crate) fn driven_by(
        hub: &Hub,
        vehicle: &VehicleId,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (link, happenings, _) = link::connect(link::Config::default(), hub.0.clock.clone(), Epoch::NONE);
        let request =
            registry::Request { version: carriageway_proto::VERSION, session: None, epoch: Epoch::NONE };
        let mut state = hub.state();
        let fresh = SessionId::from_bytes(hub.chance());
        let Admission::New { session, epoch, .. } = state.registry.admit(hub.now(), vehicle, request, fresh)
        else {
            unreachable!("a session that resumes none is new")
        };
        hub.move_in(&mut state, vehicle, (session, epoch), (link, happenings), Box::pin(driver))
    }
}

/// A session that is over but has not had its last word read cannot be resumed.
fn forget_the_dead(now: Moment, state: &mut State, vehicle: &VehicleId) {
    let Some(live) = state.rooms.get(vehicle).and_then(Room::live) else { return };
    if live.link.connectivity().borrow().over.is_some() {
        let input = registry::Input::Ended { vehicle: vehicle.clone(), session: live.session };
        state.registry.handle(now, input);
    }
}

pub(super) fn observe_in(now: Moment, state: &mut State, vehicle: &VehicleId) {
    let Some(live) = state.rooms.get(vehicle).and_then(Room::live) else { return };
    let (session, silent) = (live.session, live.link.silent_for());
    state.registry.handle(now, observation(now, vehicle, session, silent));
}

pub(super) fn observation(
    now: Moment,
    vehicle: &VehicleId,
    session: SessionId,
    silent: Option<Duration>,
) -> registry::Input {
    let (connected, heard) = (silent.is_some(), silent.map(|silent| now - silent));
    registry::Input::Observed { vehicle: vehicle.clone(), session, connected, heard }
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
