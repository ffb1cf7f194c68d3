//! The operators' side of the hub: commands.

use carriageway_proto::{Class, Command, Message, Moment, Stamp, VehicleId};
use carriageway_transport::link::{Link, SendError};
use tokio::sync::watch;

use super::room::Room;
use super::sessions::observe_in;
use super::{Hub, State};
use crate::core::commands::{CommandId, Reach, Record, Refusal, Request, Submitted};

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submission {
    /// On its way now; or, where its ttl passed before it was all here, on record as EXPIRED.
    Accepted(CommandId),
    /// The key had been used for the same command: nothing was sent.
    Repeated(CommandId),
    /// Refused for one of the command service's reasons.
    Refused(Refusal),
    /// No such vehicle has ever been here.
    UnknownVehicle,
    /// The class's lane to the vehicle takes no more just now.
    LaneFull,
    /// The gateway is on its way out, and this is no emergency stop that could still get through.
    Draining,
}

/// A record, and what says that it changed.
pub struct Waiting {
    /// As it is now.
    pub record: Record,
    /// Changes with it; `None` where nothing more is to come.
    pub changed: Option<watch::Receiver<()>>,
}

impl Hub {
    /// Takes in a command and hands it to the vehicle's session, or says why not; without delay. It
    /// lives from `arrived`, when it began to come in; one that has outlived its ttl by now gets a
    /// record that says EXPIRED, and is not sent.
    pub fn submit(&self, arrived: Moment, request: Request) -> Submission {
        let class = request.class;
        let submission = self.try_submit(arrived, request);
        if let Some(reason) = refusal_name(&submission) {
            self.0.metrics.refused(class, reason);
        }
        submission
    }

    fn try_submit(&self, arrived: Moment, request: Request) -> Submission {
        let mut state = self.state();
        let now = self.now();
        observe_in(now, &mut state, &request.vehicle);
        let way = way_to(&state, &request.vehicle);
        if self.is_draining() && !may_go_in_a_drain(&state, &request, way.as_ref()) {
            return Submission::Draining;
        }
        let reach = if way.is_some() { Reach::Connected } else { Reach::Offline };
        let is_known = state.registry.knows(&request.vehicle);
        // Read after the vehicle's clock was: what is left of the ttl is never overstated.
        let now = self.now();
        let fresh = CommandId::from_bytes(self.chance());
        let submitted = state.commands.submit(now, arrived, fresh, request, reach);
        self.0.metrics.dropped("records", "made_room_for_a_stop", state.commands.take_evicted());
        let submission = match (submitted, way) {
            (Submitted::Accepted { id, .. }, Some(way)) => dispatch(now, &mut state, id, &way),
            (Submitted::Accepted { .. }, None) => {
                unreachable!("accepted only where the vehicle is connected")
            }
            (Submitted::Expired(id), _) => Submission::Accepted(id),
            (Submitted::Repeated(id), _) => Submission::Repeated(id),
            (Submitted::Refused(Refusal::Offline), _) if !is_known => Submission::UnknownVehicle,
            (Submitted::Refused(refusal), _) => Submission::Refused(refusal),
        };
        self.pump(now, &mut state);
        submission
    }

    /// The record of this id, as it is now.
    pub fn command(&self, id: CommandId) -> Option<Record> {
        self.state().commands.record(id).cloned()
    }

    /// The record of this id, and what says that it changed.
    pub fn wait_for(&self, id: CommandId) -> Option<Waiting> {
        let mut state = self.state();
        let record = state.commands.record(id)?.clone();
        let more = !record.phase().is_terminal();
        let changed =
            more.then(|| state.waiters.entry(id).or_insert_with(|| watch::Sender::new(())).subscribe());
        Some(Waiting { record, changed })
    }

    /// Commands without a terminal phase.
    pub fn unfinished(&self) -> usize {
        self.state().commands.unfinished()
    }
}

/// How a command gets to the vehicle.
struct Way {
    session: carriageway_proto::SessionId,
    link: Link,
    clock: Stamp,
}

/// What is known already is answered, and an emergency stop goes for as long as there is a way.
fn may_go_in_a_drain(state: &State, request: &Request, way: Option<&Way>) -> bool {
    let is_stop = request.class == Class::Safety && way.is_some();
    is_stop || state.commands.record_of(&request.vehicle, &request.key).is_some()
}

fn way_to(state: &State, vehicle: &VehicleId) -> Option<Way> {
    let live = state.rooms.get(vehicle).and_then(Room::live)?;
    live.link.silent_for()?;
    Some(Way { session: live.session, clock: live.link.peer_clock()?, link: live.link.clone() })
}

/// Hands the command to the link. What is left of its ttl counts from now, by the floor under the
/// vehicle's clock.
fn dispatch(now: Moment, state: &mut State, id: CommandId, way: &Way) -> Submission {
    let record = state.commands.record(id).expect("it was accepted a moment ago");
    let (class, ends) = (record.request.class, record.lives_until());
    let command = Message::Command(Command {
        key: record.request.key.clone(),
        class,
        path: record.request.path.clone(),
        value: record.request.value.clone(),
        stamp: way.clock,
        ttl: ends.since(now),
        operator: record.request.operator.clone(),
        token: None,
        order: 0,
    });
    match way.link.send(class, command.encode(), Some(ends)) {
        Ok(ticket) => {
            state.tickets.insert((way.session, ticket), id);
            state.commands.queued(now, id);
            Submission::Accepted(id)
        }
        Err(SendError::Full(_)) => {
            state.commands.withdraw(id);
            Submission::LaneFull
        }
        Err(SendError::Ended(_)) => {
            state.commands.withdraw(id);
            Submission::Refused(Refusal::Offline)
        }
        Err(SendError::TooLarge(_)) => unreachable!("the parts of a command are bounded far below a frame"),
    }
}

fn refusal_name(submission: &Submission) -> Option<&'static str> {
    Some(match submission {
        Submission::Accepted(_) | Submission::Repeated(_) => return None,
        Submission::UnknownVehicle => "vehicle_unknown",
        Submission::LaneFull => "lane_full",
        Submission::Draining => "draining",
        Submission::Refused(Refusal::Offline) => "vehicle_offline",
        Submission::Refused(Refusal::KeyConflict(_)) => "key_conflict",
        Submission::Refused(Refusal::NoCommandClass) => "class",
        Submission::Refused(Refusal::Ttl { .. } | Refusal::TtlMissing) => "ttl",
        Submission::Refused(Refusal::RateLimited(_)) => "rate_limited",
        Submission::Refused(Refusal::InFlight { .. }) => "in_flight",
        Submission::Refused(Refusal::Full) => "records_full",
    })
}
