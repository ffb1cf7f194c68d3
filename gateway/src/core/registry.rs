//! Which vehicles there are, who holds a session, and how present each one is.
//!
//! One session per vehicle. A hello either resumes the session it names, where that one is still
//! kept, or opens a new one with a higher epoch, which takes over the older (OWNER). A session whose
//! connections are gone is kept for the resume window; one that is connected but silent is stale,
//! and after a longer while a zombie that is ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

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
        known.resumes += 1;
        self.tell(now, vehicle);
    }

    fn open(&mut self, now: Moment, vehicle: &VehicleId, claimed: Epoch, session: SessionId) -> Admission {
        let known = self.vehicles.entry(vehicle.clone()).or_insert_with(|| Vehicle::new(now));
        let takes_over = known.state.session();
        known.highest = known.highest.max(claimed).next();
        known.state = State::Connected(session);
        known.heard = now;
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
        known.state = match (known.state, connected) {
            (State::Gone, _) => State::Gone,
            (_, true) => State::Connected(session),
            (State::Connected(_), false) => State::Detached { session, since: now },
            (State::Detached { since, .. }, false) => State::Detached { session, since },
        };
        self.tell(now, vehicle);
    }

    fn end(&mut self, now: Moment, vehicle: &VehicleId, session: SessionId) {
        let Some(known) = self.vehicles.get_mut(vehicle) else { return };
        if known.state.session() != Some(session) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Moment::from_micros(1_000_000_000);

    fn at(ms: u64) -> Moment {
        START + Duration::from_millis(ms)
    }

    fn id(n: u8) -> SessionId {
        SessionId::from_bytes([n; 16])
    }

    fn truck() -> VehicleId {
        "truck".parse().unwrap()
    }

    fn hello(session: Option<SessionId>, epoch: u64) -> Request {
        Request { version: VERSION, session, epoch: Epoch::new(epoch) }
    }

    fn observed(connected: bool, heard: Moment) -> Input {
        Input::Observed { vehicle: truck(), session: id(1), connected, heard: Some(heard) }
    }

    fn with_truck() -> Registry {
        let mut registry = Registry::new(Limits::default());
        let admission = registry.admit(at(0), &truck(), hello(None, 0), id(1));
        assert_eq!(admission, Admission::New { session: id(1), epoch: Epoch::new(1), takes_over: None });
        registry
    }

    fn drain(registry: &mut Registry) -> Vec<Output> {
        std::iter::from_fn(|| registry.poll()).collect()
    }

    fn presence(presence: Presence) -> Output {
        Output::Presence { vehicle: truck(), presence }
    }

    #[test]
    fn a_vehicle_goes_online_stale_offline_and_back() {
        let mut registry = with_truck();
        assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
        registry.handle(at(3_001), Input::Tick);
        assert_eq!(drain(&mut registry), [presence(Presence::Stale)]);
        registry.handle(at(3_500), observed(true, at(3_400)));
        assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
        registry.handle(at(4_000), observed(false, at(3_400)));
        assert_eq!(drain(&mut registry), [presence(Presence::Offline)]);
        assert_eq!(registry.view(at(4_400), &truck()).unwrap().age, Duration::from_secs(1));
        assert_eq!(
            registry.admit(at(5_000), &truck(), hello(Some(id(1)), 1), id(9)),
            Admission::Resume(id(1))
        );
        assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
        assert_eq!(registry.view(at(5_000), &truck()).unwrap().resumes, 1);
    }

    #[test]
    fn a_session_outlives_its_connection_by_the_resume_window_only() {
        let mut registry = with_truck();
        registry.handle(at(1_000), observed(false, at(900)));
        registry.handle(at(61_000), Input::Tick);
        assert_eq!(registry.session(&truck()), Some(id(1)));
        registry.handle(at(61_001), Input::Tick);
        assert!(drain(&mut registry).contains(&Output::End {
            vehicle: truck(),
            session: id(1),
            code: CloseCode::Dead
        }));
        assert_eq!(registry.sessions(), 0);
        let again = registry.admit(at(62_000), &truck(), hello(Some(id(1)), 1), id(2));
        assert_eq!(again, Admission::New { session: id(2), epoch: Epoch::new(2), takes_over: None });
    }

    #[test]
    fn a_newer_session_takes_over_and_the_older_ones_end_is_no_news() {
        let mut registry = with_truck();
        let newer = registry.admit(at(10), &truck(), hello(None, 0), id(2));
        assert_eq!(newer, Admission::New { session: id(2), epoch: Epoch::new(2), takes_over: Some(id(1)) });
        drain(&mut registry);
        registry.handle(at(20), Input::Ended { vehicle: truck(), session: id(1) });
        assert_eq!(drain(&mut registry), []);
        assert_eq!(registry.sessions(), 1);
        assert_eq!(registry.session(&truck()), Some(id(2)));
    }

    #[test]
    fn an_epoch_from_elsewhere_is_exceeded_even_when_the_session_is_known() {
        let mut registry = with_truck();
        let admission = registry.admit(at(10), &truck(), hello(Some(id(1)), 41), id(2));
        assert_eq!(
            admission,
            Admission::New { session: id(2), epoch: Epoch::new(42), takes_over: Some(id(1)) }
        );
    }

    #[test]
    fn a_connected_but_silent_session_is_no_zombie_for_ever() {
        let mut registry = with_truck();
        registry.handle(at(30_001), observed(true, at(0)));
        registry.handle(at(30_001), Input::Tick);
        assert!(drain(&mut registry).iter().any(|output| matches!(output, Output::End { .. })));
        assert_eq!(registry.session(&truck()), None);
    }

    #[test]
    fn another_version_is_told_so() {
        let mut registry = Registry::new(Limits::default());
        let request = Request { version: VERSION + 1, ..hello(None, 0) };
        let refused = Admission::Refuse(CloseCode::VersionMismatch);
        assert_eq!(registry.admit(at(0), &truck(), request, id(1)), refused);
        assert!(!registry.knows(&truck()));
    }

    #[test]
    fn beyond_the_limits_the_longest_gone_is_forgotten_or_the_newcomer_refused() {
        let mut registry = Registry::new(Limits { vehicles: 2, sessions: 2, ..Limits::default() });
        let name = |n: u8| format!("v{n}").parse::<VehicleId>().unwrap();
        for n in 1..=2 {
            registry.admit(at(u64::from(n)), &name(n), hello(None, 0), id(n));
        }
        let refused = Admission::Refuse(CloseCode::Overloaded);
        assert_eq!(registry.admit(at(3), &name(3), hello(None, 0), id(3)), refused);
        registry.handle(at(4), Input::Ended { vehicle: name(1), session: id(1) });
        assert!(matches!(registry.admit(at(5), &name(3), hello(None, 0), id(3)), Admission::New { .. }));
        assert!(!registry.knows(&name(1)));
        assert!(matches!(
            registry.admit(at(6), &name(2), hello(None, 0), id(4)),
            Admission::New { takes_over: Some(_), .. }
        ));
    }

    proptest! {
        /// OWNER: epochs rise strictly per vehicle, one session each, and the count of live ones is
        /// true, whatever comes.
        #[test]
        fn epochs_rise_and_counts_hold(steps in prop::collection::vec((0u8..4, 0u8..3, 0u8..8, 0u64..50), 1..200)) {
            let mut registry = Registry::new(Limits { vehicles: 3, sessions: 2, ..Limits::default() });
            let mut highest = BTreeMap::new();
            let mut now = START;
            for (n, (kind, who, session, epoch)) in steps.into_iter().enumerate() {
                now = now + Duration::from_secs(epoch);
                let vehicle: VehicleId = format!("v{who}").parse().unwrap();
                match kind {
                    0 => {
                        let fresh = SessionId::from_bytes((n as u128).to_be_bytes());
                        let known = registry.session(&vehicle).filter(|_| session % 2 == 0);
                        if let Admission::New { epoch: new, .. } =
                            registry.admit(now, &vehicle, hello(known, epoch), fresh)
                        {
                            prop_assert!(new > Epoch::new(epoch));
                            prop_assert!(Some(new) > highest.insert(vehicle, new));
                        }
                    }
                    1 => if let Some(session) = registry.session(&vehicle) {
                        registry.handle(now, Input::Ended { vehicle, session });
                    },
                    2 => if let Some(held) = registry.session(&vehicle) {
                        let connected = session % 2 == 0;
                        registry.handle(now, Input::Observed { vehicle, session: held, connected, heard: Some(now) });
                    },
                    _ => registry.handle(now, Input::Tick),
                }
                let live = registry.views(now).filter(|(_, view)| view.session.is_some()).count();
                prop_assert_eq!(live, registry.sessions());
                prop_assert!(live <= 2 && registry.vehicles.len() <= 3);
                // A forgotten vehicle starts over: its own hello carries its epoch from there on.
                highest.retain(|id, _| registry.knows(id));
            }
        }
    }
}
