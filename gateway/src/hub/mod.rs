//! Where everything meets: the registry, the command records, the sessions' links, the signals and
//! the events, behind one lock that is never held across an await.
//!
//! The cores decide; the hub reads the clock, draws the chance, and does what they say.

mod answers;
mod commands;
mod disk;
mod kept;
mod lease;
mod room;
mod sessions;
mod shadow;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carriageway_proto::{Desired, DriveState, Epoch, Moment, PolicyTable, SessionId, Token, VehicleId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::Transport;
use carriageway_transport::link::{self, Ticket};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Notify, watch};

use crate::core::board::{Board, Shown};
use crate::core::commands::{CommandId, Commands, Output, Record};
use crate::core::lease::{self as core_lease, Audit, Leases};
use crate::core::registry::{self, Registry, View};
use crate::core::ring::{EventId, Read, Ring};
use crate::core::shadow::{self as core_shadow, Shadows};
use crate::core::{commands as core_commands, registry as core_registry};
use crate::metrics::Metrics;
use crate::store::Store;

pub(crate) use answers::desired_in;
pub use commands::{DISK_PATIENCE, Kept, Submission};
pub use disk::StoreHealth;
pub use kept::BadRecord;
pub(crate) use lease::change_name;
pub use lease::{DriveGlance, LeaseError};
pub use room::LinkView;
pub use sessions::{Entry, Opened};
pub use shadow::{StateError, StateGlance};

use room::Room;
use sessions::observe_in;

/// Most signal paths of one vehicle: what a session lets through.
const SIGNAL_PATHS: usize = 512;

/// What a hub needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of vehicles and sessions.
    pub registry: core_registry::Limits,
    /// Limits of command records.
    pub commands: core_commands::Limits,
    /// Limits of leases.
    pub leases: core_lease::Limits,
    /// Limits of desired and reported states.
    pub shadows: core_shadow::Limits,
    /// The policy of each class.
    pub policies: PolicyTable,
    /// The sessions' knobs.
    pub session: link::Config,
    /// Events kept for streams that come back.
    pub event_backlog: usize,
    /// Vehicles that are sent away while the gateway drains are told to wait at least this long.
    pub retry_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registry: core_registry::Limits::default(),
            commands: core_commands::Limits::default(),
            leases: core_lease::Limits::default(),
            shadows: core_shadow::Limits::default(),
            policies: PolicyTable::defaults(),
            session: link::Config::default(),
            event_backlog: 4_096,
            retry_after: Duration::from_secs(1),
        }
    }
}

/// What a store held.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Records of commands by id, in the order in which each was first kept.
    pub commands: Vec<([u8; 16], Vec<u8>)>,
    /// The highest token of each vehicle's lease.
    pub tokens: Vec<(VehicleId, Token)>,
    /// The desired states.
    pub desired: Vec<(VehicleId, Desired)>,
    /// Vehicles that were here.
    pub vehicles: Vec<VehicleId>,
}

/// Something that watchers are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A vehicle's presence changed.
    Presence {
        /// Whose.
        vehicle: VehicleId,
        /// To what.
        presence: registry::Presence,
    },
    /// A session opened, was resumed or ended.
    Session {
        /// Whose.
        vehicle: VehicleId,
        /// Which.
        session: SessionId,
        /// Its epoch.
        epoch: Epoch,
        /// What happened to it.
        change: SessionChange,
    },
    /// The lanes moved to another connection.
    Link {
        /// Whose.
        vehicle: VehicleId,
        /// Its transport.
        transport: Transport,
        /// Why that one, in the vehicle's words.
        why: String,
    },
    /// A command reached a phase: its record then.
    Command(Arc<Record>),
    /// A lease was granted or ended.
    Lease(Audit),
    /// A vehicle said whether it can be driven.
    Drive {
        /// Which.
        vehicle: VehicleId,
        /// Its words.
        state: DriveState,
    },
    /// The gateway is on its way out, and this vehicle's lease is held.
    Drain {
        /// Which.
        vehicle: VehicleId,
        /// When it is sent away at the latest.
        by: Moment,
    },
    /// A vehicle's desired or reported state changed.
    State {
        /// Whose.
        vehicle: VehicleId,
        /// The version of what is desired.
        version: u64,
        /// The newest that the vehicle has answered.
        answered: u64,
        /// Whether all that is desired is reported so.
        is_in_sync: bool,
    },
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// It began.
    Opened,
    /// It goes on, on another connection.
    Resumed,
    /// It is over.
    Ended(String),
}

impl Event {
    /// Whom it concerns.
    pub fn vehicle(&self) -> &VehicleId {
        match self {
            Self::Presence { vehicle, .. }
            | Self::Session { vehicle, .. }
            | Self::Link { vehicle, .. }
            | Self::Drive { vehicle, .. }
            | Self::Drain { vehicle, .. }
            | Self::State { vehicle, .. } => vehicle,
            Self::Lease(audit) => &audit.vehicle,
            Self::Command(record) => &record.request.vehicle,
        }
    }
}

/// A vehicle at a glance.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Which.
    pub vehicle: VehicleId,
    /// What the registry knows.
    pub view: View,
    /// What carries its session now.
    pub transport: Option<Transport>,
}

/// The hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    clock: BootClock,
    settings: Settings,
    metrics: Arc<Metrics>,
    random: SystemRandom,
    store: Store,
    draining: AtomicBool,
    /// The place of the newest event.
    newest: watch::Sender<EventId>,
    /// Changes with whatever is known of driving any vehicle.
    driving: watch::Sender<u64>,
    answers: answers::Answers,
    /// Rings when something is due earlier than the hub's timekeeper sleeps.
    alarm: Notify,
    state: Mutex<State>,
}

struct State {
    registry: Registry,
    commands: Commands,
    leases: Leases,
    /// Takes that wait for their token to be on disk.
    takes: lease::Takes,
    shadows: Shadows,
    /// Changes of desired states that wait to be on disk.
    patches: shadow::Patches,
    /// Desired states under way.
    desired: BTreeMap<(SessionId, Ticket), VehicleId>,
    ring: Ring<Event>,
    rooms: BTreeMap<VehicleId, Room>,
    /// Messages under way, by the session that numbers them.
    tickets: BTreeMap<(SessionId, Ticket), CommandId>,
    /// Commands that somebody waits for, or did a moment ago.
    waiters: BTreeMap<CommandId, watch::Sender<()>>,
    /// Why the last write of command records failed.
    broken: Option<String>,
    /// Why the last write of these kinds of things failed.
    unkept: BTreeMap<&'static str, String>,
    /// When the hub's timekeeper looks next.
    sleeps_until: Moment,
    /// When vehicles are sent away at the latest, once the gateway drains.
    drain_by: Option<Moment>,
    /// Vehicles that were being driven when the drain began.
    driven: BTreeSet<VehicleId>,
    /// Vehicles that the store knows and that have not been here since the start.
    known: BTreeSet<VehicleId>,
}

impl Hub {
    /// A hub without vehicles that goes on with what its store held. Fails where a command record cannot
    /// be read.
    pub fn new(
        settings: Settings,
        clock: BootClock,
        metrics: Arc<Metrics>,
        store: Store,
        held: Held,
    ) -> Result<Self, BadRecord> {
        let mut commands = Commands::new(settings.commands, settings.policies);
        let restored = kept::read_all(&held.commands, clock.boot())?;
        commands.restore(clock.now(), restored);
        let random = SystemRandom::new();
        let run = u32::from_be_bytes(draw(&random));
        let ring = Ring::new(run, settings.event_backlog);
        let state = State {
            registry: Registry::new(settings.registry),
            commands,
            leases: Leases::new(settings.leases, held.tokens),
            takes: lease::Takes::new(),
            shadows: Shadows::new(settings.shadows, clock.boot(), held.desired),
            patches: shadow::Patches::new(),
            desired: BTreeMap::new(),
            rooms: BTreeMap::new(),
            tickets: BTreeMap::new(),
            waiters: BTreeMap::new(),
            broken: None,
            unkept: BTreeMap::new(),
            sleeps_until: Moment::ZERO,
            drain_by: None,
            driven: BTreeSet::new(),
            known: held.vehicles.into_iter().collect(),
            ring,
        };
        let newest = watch::Sender::new(state.ring.newest());
        let draining = AtomicBool::new(false);
        let (driving, answers) = (watch::Sender::new(0), answers::Answers::default());
        let alarm = Notify::new();
        let state = Mutex::new(state);
        let inner = Inner {
            clock,
            settings,
            metrics,
            random,
            store,
            draining,
            newest,
            driving,
            answers,
            alarm,
            state,
        };
        let hub = Self(Arc::new(inner));
        hub.pump(hub.now(), &mut hub.state());
        Ok(hub)
    }

    /// The clock that everything here is told by.
    pub fn clock(&self) -> &BootClock {
        &self.0.clock
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// What goes to a core is read under the state's lock: readings that overtake each other on their way there
    /// would look to it like a clock that goes backwards.
    fn now(&self) -> Moment {
        self.0.clock.now()
    }

    /// Sixteen bytes that nobody has had before.
    pub(crate) fn fresh_id(&self) -> [u8; 16] {
        self.chance()
    }

    fn chance<const N: usize>(&self) -> [u8; N] {
        draw(&self.0.random)
    }

    /// A panic under the lock is a broken invariant that was logged already; what it left is still
    /// the best there is to go on with.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read by whoever holds the state, so that one reading is later than the last.
        let now = self.now();
        state.shadows.note(now);
        if state.commands.note(now) {
            self.0.alarm.notify_one();
        }
        state
    }

    /// Tells what the cores have to tell, and wakes the watchers.
    fn pump(&self, now: Moment, state: &mut State) {
        while let Some(output) = state.registry.poll() {
            self.told(now, state, output);
        }
        while let Some(output) = state.commands.poll() {
            match output {
                Output::Changed(change) => self.changed(now, state, change),
                Output::Dispatch(id) => Self::dispatch(now, state, id),
                Output::Cancel(id) => self.ask_to_cancel(state, id),
                Output::Durable(id) => state.wake(id),
                Output::Persist(write) => self.persist(now, state, write),
            }
        }
        if let Some(due) = state.commands.wakes_at().filter(|due| *due < state.sleeps_until) {
            state.sleeps_until = due;
            self.0.alarm.notify_one();
        }
        self.pump_leases(now, state);
        self.pump_shadows(now, state);
        let newest = state.ring.newest();
        self.0.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }

    fn told(&self, now: Moment, state: &mut State, output: registry::Output) {
        match output {
            registry::Output::Presence { vehicle, presence } => {
                state.ring.push(now, Event::Presence { vehicle, presence });
            }
            registry::Output::End { vehicle, session, code } => {
                let live = state.rooms.get(&vehicle).and_then(Room::live);
                if let Some(live) = live.filter(|live| live.session == session) {
                    let reason = "no connection came back in time";
                    self.survive("link", || live.link.close(code, reason, None));
                }
            }
        }
    }

    /// Every vehicle, by id.
    pub fn vehicles(&self) -> Vec<Glance> {
        let now = self.now();
        let state = self.state();
        state.registry.views(now).map(|(vehicle, view)| state.glance(vehicle, view)).collect()
    }

    /// One vehicle; `None` if it has never been here, or was forgotten.
    pub fn vehicle(&self, vehicle: &VehicleId) -> Option<Glance> {
        let mut state = self.state();
        let now = self.now();
        observe_in(now, &mut state, vehicle);
        self.pump(now, &mut state);
        let view = state.registry.view(now, vehicle)?;
        Some(state.glance(vehicle, view))
    }

    /// How a vehicle is connected; `None` as above.
    pub fn link(&self, vehicle: &VehicleId) -> Option<LinkView> {
        let glance = self.vehicle(vehicle)?;
        let (board, live, heard) = {
            let state = self.state();
            let room = state.rooms.get(vehicle)?;
            (Arc::clone(&room.board), room.live().map(|live| live.link.clone()), room.heard)
        };
        let sampled = lock(&board).since(0).map(|shown| shown.sampled).collect();
        Some(LinkView { glance, status: live.map(|link| link.status()), sampled, heard })
    }

    /// The newest values of a vehicle's signals that changed after `version`, and the version now.
    pub fn signals(&self, vehicle: &VehicleId, version: u64) -> Option<(Vec<Shown>, u64)> {
        let board = Arc::clone(&self.state().rooms.get(vehicle)?.board);
        let board = lock(&board);
        let changed = if board.version() > version { board.since(version).collect() } else { Vec::new() };
        Some((changed, board.version()))
    }

    /// Every vehicle that `wanted` wants with the version of its signals.
    pub fn versions(&self, wanted: impl Fn(&VehicleId) -> bool) -> Vec<(VehicleId, u64)> {
        let boards: Vec<_> = {
            let state = self.state();
            let rooms = state.rooms.iter().filter(|(vehicle, _)| wanted(vehicle));
            rooms.map(|(vehicle, room)| (vehicle.clone(), Arc::clone(&room.board))).collect()
        };
        boards.into_iter().map(|(vehicle, board)| (vehicle, lock(&board).version())).collect()
    }

    /// Up to `limit` events after `place` that `wanted` wants.
    pub fn events(&self, place: EventId, limit: usize, wanted: impl Fn(&Event) -> bool) -> Read<Event> {
        self.state().ring.read(place, limit, wanted)
    }

    /// The place of the newest event, and every change of it.
    pub fn newest(&self) -> watch::Receiver<EventId> {
        self.0.newest.subscribe()
    }

    /// Takes no more sessions from now on, grants and renews no lease, and takes of commands only emergency
    /// stops that have a way to their vehicle. Whoever drives is told, and that `patience` is left at most.
    pub fn start_draining(&self, patience: Duration) {
        self.0.draining.store(true, Ordering::Release);
        let mut state = self.state();
        let now = self.now();
        let by = now + patience;
        state.drain_by = Some(by);
        let held: Vec<_> = state.leases.held().cloned().collect();
        state.driven = held.iter().filter(|vehicle| state.is_steered(now, vehicle)).cloned().collect();
        for vehicle in held {
            state.ring.push(now, Event::Drain { vehicle, by });
        }
        self.0.driving.send_modify(|changes| *changes += 1);
        self.pump(now, &mut state);
    }

    /// Whether it is on its way out.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }
}

impl State {
    /// Wakes whoever waits for this command.
    fn wake(&self, id: CommandId) {
        if let Some(waiter) = self.waiters.get(&id) {
            waiter.send_replace(());
        }
    }

    fn glance(&self, vehicle: &VehicleId, view: View) -> Glance {
        let room = self.rooms.get(vehicle);
        let transport = room
            .filter(|_| view.presence != registry::Presence::Offline)
            .and_then(|room| room.live()?.transport);
        Glance { vehicle: vehicle.clone(), view, transport }
    }
}

/// Locks something that no holder leaves half done.
fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
