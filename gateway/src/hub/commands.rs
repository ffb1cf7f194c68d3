//! The operators' side of the hub: commands.

use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::{Cancel, Class, Command, Message, Moment, Stamp, VehicleId};
use carriageway_transport::link::{Link, SendError};
use tokio::sync::watch;

use super::room::Room;
use super::sessions::observe_in;
use super::{Event, Hub, State};
use crate::core::commands::{
    Arrival, Canceling, Change, CommandId, Input, NotSent, Reach, Record, Refusal, Request, Submitted,
};

/// How long an answer waits for the disk: a healthy one takes milliseconds.
pub const DISK_PATIENCE: Duration = Duration::from_secs(2);

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

/// How a command was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    OnDisk,
    /// It is in memory, for the disk fails or is slow; it goes its way all the same.
    InMemory,
    /// It was to wait on disk, and the disk did not take it: it is gone, and will never execute.
    Refused,
    /// It was to wait on disk, and whether it does is not known yet.
    Pending,
}

impl Hub {
    /// A request begins to come in now.
    pub fn arrival(&self) -> Arrival {
        let mut state = self.state();
        state.commands.arrival(self.now())
    }

    /// Takes in a command and hands it to the vehicle's session, or says why not; without delay. It
    /// lives from `arrived`, when it began to come in; one that has outlived its ttl by now gets a
    /// record that says EXPIRED, and is not sent.
    pub fn submit(&self, arrived: Arrival, request: Request) -> Submission {
        let class = request.class;
        let submission = self.try_submit(arrived, request);
        if let Some(reason) = refusal_name(&submission) {
            self.0.metrics.refused(class, reason);
        }
        submission
    }

    fn try_submit(&self, arrived: Arrival, request: Request) -> Submission {
        let mut state = self.state();
        let now = self.now();
        observe_in(now, &mut state, &request.vehicle);
        let vehicle = request.vehicle.clone();
        let way = way_to(&state, &vehicle);
        if self.is_draining() && !may_go_in_a_drain(&state, &request, way.as_ref()) {
            return Submission::Draining;
        }
        let reach = reach_of(way.as_ref());
        let is_known = state.knows(&vehicle);
        if !is_known {
            return Submission::UnknownVehicle;
        }
        let drives = state.leases.driving(now, &vehicle, &request.operator).map(|_| ());
        let request = Request { drives, ..request };
        // Read after the vehicle's clock was: what is left of the ttl is never overstated.
        let now = self.now();
        let fresh = CommandId::from_bytes(self.chance());
        let submitted = state.commands.submit(now, arrived, fresh, request, reach);
        self.0.metrics.dropped("records", "made_room_for_a_stop", state.commands.take_evicted());
        self.pump(now, &mut state);
        match submitted {
            Submitted::Accepted { id, .. } if state.commands.record(id).is_some() => Submission::Accepted(id),
            // The link did not take it.
            Submitted::Accepted { .. } if way_to(&state, &vehicle).is_some() => Submission::LaneFull,
            Submitted::Accepted { .. } => Submission::Refused(Refusal::Offline),
            Submitted::Expired(id) => Submission::Accepted(id),
            Submitted::Repeated(id) => Submission::Repeated(id),
            Submitted::Refused(refusal) => Submission::Refused(refusal),
        }
    }

    /// The record of this id, as far as it may be told now.
    pub fn command(&self, id: CommandId) -> Option<Record> {
        self.state().commands.record(id).map(Record::as_told)
    }

    /// The record of this id, and what says that it changed.
    pub fn watch(&self, id: CommandId) -> Option<(Record, watch::Receiver<()>)> {
        let mut state = self.state();
        let record = state.commands.record(id)?.as_told();
        let changed = state.waiters.entry(id).or_insert_with(|| watch::Sender::new(())).subscribe();
        Some((record, changed))
    }

    /// Waits until the command is kept, or it is clear that it is not for now. An emergency stop waits
    /// for nothing.
    pub async fn kept(&self, id: CommandId) -> Kept {
        let deadline = self.now() + DISK_PATIENCE;
        loop {
            let Some((record, mut changed)) = self.watch(id) else { return Kept::Refused };
            if record.is_durable() {
                return Kept::OnDisk;
            }
            let is_late = self.now() >= deadline;
            let may_go_on = is_late || record.request.class == Class::Safety || self.store_fault().is_some();
            match record.is_pending() {
                true if is_late => return Kept::Pending,
                false if may_go_on => return Kept::InMemory,
                true | false => {}
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = self.0.clock.sleep_until(deadline) => {}
            }
        }
    }

    /// Withdraws a command: at once where it has not left, else the vehicle is asked to.
    pub fn cancel(&self, id: CommandId) -> Canceling {
        let mut state = self.state();
        let now = self.now();
        let canceling = state.commands.cancel(now, id);
        self.pump(now, &mut state);
        canceling
    }

    /// Tells of a phase that a command reached.
    pub(super) fn changed(&self, now: Moment, state: &mut State, change: Change) {
        let Some(record) = state.commands.record(change.id) else { return };
        let record = record.as_of(change.phase);
        let first_end = record.timeline.iter().filter(|step| step.phase.is_terminal()).count() == 1;
        let duration = record.duration().filter(|_| first_end && change.phase.is_terminal());
        self.0.metrics.command(record.request.class, change.phase, duration);
        state.ring.push(now, Event::Command(Arc::new(record)));
        state.wake(change.id);
    }

    /// Hands a command to its vehicle's link, and says how that went.
    pub(super) fn dispatch(now: Moment, state: &mut State, id: CommandId) {
        // What it says may be more than was known: a link that broke, say.
        let input = match hand_over(now, state, id) {
            Ok(()) => Input::Sent(id),
            Err(why) => Input::NotSent(id, why),
        };
        state.commands.handle(now, input);
    }

    /// Asks the vehicle to withdraw a command, on the command's own lane, so that the wish follows it.
    pub(super) fn ask_to_cancel(&self, state: &State, id: CommandId) {
        let Some(record) = state.commands.record(id) else { return };
        let (request, ends) = (&record.request, record.lives_until());
        // Without a way it is asked again once there is one.
        let Some(way) = way_to(state, &request.vehicle) else { return };
        let cancel = Message::Cancel(Cancel {
            key: request.key.clone(),
            class: request.class,
            fingerprint: Some(request.fingerprint()),
        });
        if way.link.send(request.class, cancel.encode(), Some(ends)).is_err() {
            self.0.metrics.dropped("send", "cancel_lane_full", 1);
        }
    }

    /// Tells the commands whether the vehicles that some of them wait for can be reached.
    pub(super) fn look_for_the_awaited(now: Moment, state: &mut State) {
        let awaited: Vec<_> = state.commands.awaited().cloned().collect();
        for vehicle in awaited {
            let reach = reach_of(way_to(state, &vehicle).as_ref());
            state.commands.handle(now, Input::Reach(vehicle, reach));
        }
    }

    /// Commands on their way: not those that wait on disk for their vehicles.
    pub fn unfinished(&self) -> usize {
        self.state().commands.under_way()
    }
}

impl State {
    /// Whether the vehicle has been here, or the store knows it from before a restart.
    pub(super) fn knows(&self, vehicle: &VehicleId) -> bool {
        let Self { registry, commands, leases, shadows, known, .. } = self;
        let is_kept = leases.remembers(vehicle) || shadows.knows(vehicle) || known.contains(vehicle);
        is_kept || registry.knows(vehicle) || commands.knows(vehicle)
    }
}

fn reach_of(way: Option<&Way>) -> Reach {
    if way.is_some() { Reach::Connected } else { Reach::Offline }
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
fn hand_over(now: Moment, state: &mut State, id: CommandId) -> Result<(), NotSent> {
    let record = state.commands.record(id).expect("what is to go has a record");
    let way = way_to(state, &record.request.vehicle).ok_or(NotSent::Unreachable)?;
    let (request, ends) = (record.request.clone(), record.lives_until());
    // Where the lease has ended since, the vehicle refuses it for that.
    let lease = || state.leases.driving(now, &request.vehicle, &request.operator).ok();
    let token = if request.class == Class::Drive { lease().map(|lease| lease.token) } else { None };
    let room = state.rooms.get_mut(&request.vehicle).expect("there is a way to it");
    let command = Message::Command(Command {
        key: request.key,
        class: request.class,
        path: request.path,
        value: request.value,
        stamp: way.clock,
        ttl: ends.since(now),
        operator: request.operator,
        token,
        order: room.next_order(request.class),
    });
    match way.link.send(request.class, command.encode(), Some(ends)) {
        Ok(ticket) => {
            state.tickets.insert((way.session, ticket), id);
            Ok(())
        }
        Err(SendError::Full(_)) => Err(NotSent::LaneFull),
        Err(SendError::Ended(_)) => Err(NotSent::Unreachable),
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
        Submission::Refused(Refusal::OperatorRate(_)) => "operator_rate",
        Submission::Refused(Refusal::InFlight { .. }) => "in_flight",
        Submission::Refused(Refusal::NoLease) => "no_lease",
        Submission::Refused(Refusal::DriveStateUnknown) => "drive_state_unknown",
        Submission::Refused(Refusal::NotQueueable) => "not_queueable",
        Submission::Refused(Refusal::QueueFull { .. }) => "queue_full",
        Submission::Refused(Refusal::DiskBroken) => "store_broken",
        Submission::Refused(Refusal::Full) => "records_full",
    })
}
