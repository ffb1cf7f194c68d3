//! Which vehicles there are, who holds a session, and how present each one is.
//!
//! One session per vehicle. A hello either resumes the session it names, where that one is still
//! kept, or opens a new one with a higher epoch, which takes over the older (OWNER). A session whose
//! connections are gone is kept for the resume window; one that is connected but silent is stale,
//! and after a longer while a zombie that is ended.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{CloseCode, Epoch, Moment, SessionId, VERSION, VehicleId};

/// How many and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Vehicles remembered, connected or not. Beyond it the one that has been offline longest is
    /// forgotten; where none is offline a new vehicle is refused.
    pub vehicles: usize,
    /// Sessions at once, those that wait to be resumed included.
    pub sessions: usize,
    /// How long a session without a connection may be resumed.
    pub resume_window: Duration,
    /// After a hello was admitted, for this long a session without a connection is one whose
    /// connection is still being taken in.
    pub settling: Duration,
    /// Silence after which a connected vehicle is stale.
    pub stale_after: Duration,
    /// Silence after which a connected session is ended.
    pub zombie_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vehicles: 20_000,
            sessions: 10_000,
            resume_window: Duration::from_mins(1),
            settling: Duration::from_millis(500),
            // Three heartbeats of a second.
            stale_after: Duration::from_secs(3),
            // Twice the idle timeout of a vehicle connection: by then the transport has given up.
            zombie_after: Duration::from_secs(30),
        }
    }
}

/// What a hello asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The protocol version it speaks.
    pub version: u32,
    /// The session it wants to go on with.
    pub session: Option<SessionId>,
    /// The highest epoch it has held.
    pub epoch: Epoch,
}

/// What a hello gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its session goes on.
    Resume(SessionId),
    /// A new session.
    New {
        /// Its id, from the chance passed in.
        session: SessionId,
        /// Higher than any this vehicle or this gateway has seen for it.
        epoch: Epoch,
        /// The older session of this vehicle, which is to be closed with `TakenOver`.
        takes_over: Option<SessionId>,
    },
    /// Nothing; close with this code.
    Refuse(CloseCode),
}

/// How present a vehicle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Connected and heard within three heartbeats.
    Online,
    /// Connected but silent for longer.
    Stale,
    /// No connection.
    Offline,
}

impl Presence {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Online, Self::Stale, Self::Offline];

    /// The name, as in HTTP and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
        }
    }
}

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The state of its connections, read from the link.
    Observed {
        /// Whose.
        vehicle: VehicleId,
        /// Which session.
        session: SessionId,
        /// Whether any connection carries it.
        connected: bool,
        /// When its peer was last heard, by the gateway's clock.
        heard: Option<Moment>,
    },
    /// It is over.
    Ended {
        /// Whose.
        vehicle: VehicleId,
        /// Which session.
        session: SessionId,
    },
    /// Time has passed.
    Tick,
}

/// Something to do or to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A vehicle's presence changed.
    Presence {
        /// Whose.
        vehicle: VehicleId,
        /// To what.
        presence: Presence,
    },
    /// The session is to be closed; an [`Input::Ended`] may follow and changes nothing more.
    End {
        /// Whose.
        vehicle: VehicleId,
        /// Which session.
        session: SessionId,
        /// With which code.
        code: CloseCode,
    },
}

/// What is known of one vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How present it is.
    pub presence: Presence,
    /// How long ago it was heard.
    pub age: Duration,
    /// Its session, also while that waits to be resumed.
    pub session: Option<SessionId>,
    /// The epoch of its newest session.
    pub epoch: Epoch,
    /// When it first came to this gateway.
    pub first_seen: Moment,
    /// Sessions it has opened here.
    pub sessions: u64,
    /// How often one was resumed.
    pub resumes: u64,
}

/// All vehicles.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    vehicles: BTreeMap<VehicleId, Vehicle>,
    live: usize,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Vehicle {
    highest: Epoch,
    first_seen: Moment,
    heard: Moment,
    admitted: Moment,
    told: Presence,
    sessions: u64,
    resumes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Gone,
    Connected(SessionId),
    Detached { session: SessionId, since: Moment },
}

impl State {
    fn session(self) -> Option<SessionId> {
        match self {
            Self::Gone => None,
            Self::Connected(session) | Self::Detached { session, .. } => Some(session),
        }
    }
}

impl Vehicle {
    fn new(now: Moment) -> Self {
        Self {
            highest: Epoch::NONE,
            first_seen: now,
            heard: now,
            admitted: now,
            told: Presence::Offline,
            sessions: 0,
            resumes: 0,
            state: State::Gone,
        }
    }

    fn presence(&self, now: Moment, limits: &Limits) -> Presence {
        match self.state {
            State::Gone | State::Detached { .. } => Presence::Offline,
            State::Connected(_) if now.since(self.heard) <= limits.stale_after => Presence::Online,
            State::Connected(_) => Presence::Stale,
        }
    }

    /// Why its session must end now.
    fn overdue(&self, now: Moment, limits: &Limits) -> Option<SessionId> {
        if sabotage::on(Sabotage::ZombieKept) {
            return None;
        }
        match self.state {
            State::Gone => None,
            State::Connected(session) => (now.since(self.heard) > limits.zombie_after).then_some(session),
            State::Detached { session, since } => {
                (now.since(since) > limits.resume_window).then_some(session)
            }
        }
    }
}

impl Registry {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self { limits, vehicles: BTreeMap::new(), live: 0, outputs: VecDeque::new() }
    }

    /// Decides on a hello that came with the identity `vehicle`. `fresh` is the id of the session,
    /// should it be a new one. A refused hello leaves nothing behind.
    pub fn admit(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        request: Request,
        fresh: SessionId,
    ) -> Admission {
        if request.version != VERSION {
            return Admission::Refuse(CloseCode::VersionMismatch);
        }
        let held = self.vehicles.get(vehicle).and_then(|known| known.state.session());
        if let Some(session) = held.filter(|held| Some(*held) == request.session)
            && self.vehicles[vehicle].highest >= request.epoch
        {
            self.resume(now, vehicle, session);
            return Admission::Resume(session);
        }
        if !self.make_room(vehicle, held.is_some()) {
            return Admission::Refuse(CloseCode::Overloaded);
        }
        self.open(now, vehicle, request.epoch, fresh)
    }

    fn resume(&mut self, now: Moment, vehicle: &VehicleId, session: SessionId) {
        let Some(known) = self.vehicles.get_mut(vehicle) else { return };
        known.state = State::Connected(session);
        known.heard = now;
        known.admitted = now;
        known.resumes += 1;
        self.tell(now, vehicle);
    }

    fn open(&mut self, now: Moment, vehicle: &VehicleId, claimed: Epoch, session: SessionId) -> Admission {
        let known = self.vehicles.entry(vehicle.clone()).or_insert_with(|| Vehicle::new(now));
        let takes_over = known.state.session();
        let claimed = if sabotage::on(Sabotage::EpochNotCompared) { Epoch::NONE } else { claimed };
        known.highest = known.highest.max(claimed).next();
        known.state = State::Connected(session);
        known.heard = now;
        known.admitted = now;
        known.sessions += 1;
        let epoch = known.highest;
        if takes_over.is_none() {
            self.live += 1;
        }
        self.tell(now, vehicle);
        Admission::New { session, epoch, takes_over }
    }

    /// Whether a new session of `vehicle` fits, after forgetting whom may be forgotten.
    fn make_room(&mut self, vehicle: &VehicleId, replaces: bool) -> bool {
        if !replaces && self.live >= self.limits.sessions {
            return false;
        }
        if self.vehicles.contains_key(vehicle) || self.vehicles.len() < self.limits.vehicles {
            return true;
        }
        let longest_gone = self
            .vehicles
            .iter()
            .filter(|(_, known)| known.state.session().is_none())
            .min_by_key(|(_, known)| known.heard)
            .map(|(id, _)| id.clone());
        longest_gone.is_some_and(|id| self.vehicles.remove(&id).is_some())
    }

    /// Takes in what happened; drain [`Registry::poll`] afterwards. What concerns a session other
    /// than the vehicle's current one changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Observed { vehicle, session, connected, heard } => {
                self.observe(now, &vehicle, session, connected, heard);
            }
            Input::Ended { vehicle, session } => self.end(now, &vehicle, session),
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn observe(
        &mut self,
        now: Moment,
        vehicle: &VehicleId,
        session: SessionId,
        connected: bool,
        heard: Option<Moment>,
    ) {
        let Some(known) = self.vehicles.get_mut(vehicle) else { return };
        if known.state.session() != Some(session) {
            return;
        }
        known.heard = known.heard.max(heard.unwrap_or(known.heard).min(now));
        let is_settling = now.since(known.admitted) < self.limits.settling;
        known.state = match (known.state, connected || is_settling) {
            (State::Gone, _) => State::Gone,
            (_, true) => State::Connected(session),
            (State::Connected(_), false) => State::Detached { session, since: now },
            (State::Detached { since, .. }, false) => State::Detached { session, since },
        };
        self.tell(now, vehicle);
    }

    fn end(&mut self, now: Moment, vehicle: &VehicleId, session: SessionId) {
        let Some(known) = self.vehicles.get_mut(vehicle) else { return };
        let is_other = known.state.session() != Some(session);
        if is_other && (known.state.session().is_none() || !sabotage::on(Sabotage::PresenceWithoutSession)) {
            return;
        }
        known.state = State::Gone;
        self.live -= 1;
        self.tell(now, vehicle);
    }

    fn tick(&mut self, now: Moment) {
        let limits = self.limits;
        let overdue: Vec<_> = self
            .vehicles
            .iter()
            .filter_map(|(id, known)| Some((id.clone(), known.overdue(now, &limits)?)))
            .collect();
        for (vehicle, session) in overdue {
            self.end(now, &vehicle, session);
            self.outputs.push_back(Output::End { vehicle, session, code: CloseCode::Dead });
        }
        let changed: Vec<_> = self
            .vehicles
            .iter()
            .filter(|(_, known)| known.presence(now, &limits) != known.told)
            .map(|(id, _)| id.clone())
            .collect();
        for vehicle in changed {
            self.tell(now, &vehicle);
        }
    }

    /// Tells of a change of presence, once.
    fn tell(&mut self, now: Moment, vehicle: &VehicleId) {
        let Some(known) = self.vehicles.get_mut(vehicle) else { return };
        let presence = known.presence(now, &self.limits);
        if presence != known.told {
            known.told = presence;
            self.outputs.push_back(Output::Presence { vehicle: vehicle.clone(), presence });
        }
    }

    /// What is known of `vehicle`; `None` where it has never been here or was forgotten.
    pub fn view(&self, now: Moment, vehicle: &VehicleId) -> Option<View> {
        self.vehicles.get(vehicle).map(|known| self.view_of(now, known))
    }

    /// Every vehicle, by id.
    pub fn views(&self, now: Moment) -> impl Iterator<Item = (&VehicleId, View)> {
        self.vehicles.iter().map(move |(id, known)| (id, self.view_of(now, known)))
    }

    fn view_of(&self, now: Moment, known: &Vehicle) -> View {
        View {
            presence: known.presence(now, &self.limits),
            age: now.since(known.heard),
            session: known.state.session(),
            epoch: known.highest,
            first_seen: known.first_seen,
            sessions: known.sessions,
            resumes: known.resumes,
        }
    }

    /// The live session of `vehicle`, whether connected or waiting to be resumed.
    pub fn session(&self, vehicle: &VehicleId) -> Option<SessionId> {
        self.vehicles.get(vehicle)?.state.session()
    }

    /// Sessions held.
    pub fn sessions(&self) -> usize {
        self.live
    }

    /// Whether `vehicle` is still remembered.
    pub fn knows(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.contains_key(vehicle)
    }
}
