//! The operators' side of a gateway: commands in, phases out.

use std::time::Duration;

use carriageway_agent::core::vehicle::EMERGENCY_STOP;
use carriageway_gateway::core::commands::{
    self, Arrival, Change, CommandId, NotSent, OnOffline, Output, Reach, Record, Refusal, Request, Submitted,
};
use carriageway_gateway::core::lease::NotDriving;
use carriageway_proto::{Cancel, Class, Command, Message, Moment, Phase, SignalPath, Value};
use carriageway_transport::core::session::SendError;

use super::{Gateway, Process, operator_name};
use crate::air::{Air, Died};
use crate::checker::{Name, Refused, What};
use crate::plan::Click;
use crate::store::{self, Done};

/// What the glue remembers of a record.
#[derive(Debug)]
pub(super) struct Known {
    name: Name,
    key: Name,
    vehicle: usize,
    class: Class,
    /// It was to wait for the vehicle, and is accepted once it is on the disk.
    is_queued: bool,
    /// It is one of those under way.
    is_counted: bool,
    /// Its end, as a process before this one put it on the disk.
    ended_as: Option<Phase>,
    /// Its acceptance, until it is told.
    birth: Option<Box<What>>,
}

impl Known {
    fn new(
        click: &Click,
        id: CommandId,
        vehicle: Name,
        (path, print, born, ttl): (Name, u64, u64, Duration),
        is_queued: bool,
    ) -> Self {
        let (name, key) = (Name::from(id.to_string()), Name::from(format!("k{}", click.key)));
        let birth = What::Accepted {
            vehicle,
            key: key.clone(),
            id: name.clone(),
            class: click.class.name().into(),
            path,
            print,
            born,
            ttl: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX),
            queued: is_queued,
        };
        let (vehicle, class) = (click.vehicle, click.class);
        // What waits on the disk has a limit of its own.
        let is_counted = !click.queue;
        let birth = Some(Box::new(birth));
        Self { name, key, vehicle, class, is_queued, is_counted, ended_as: None, birth }
    }

    /// Of a record that a process before this one left on the disk.
    pub(super) fn restored(gateway: &Gateway, record: &Record) -> (CommandId, Self) {
        let request = &record.request;
        let vehicle = gateway.vehicles.iter().position(|(id, _)| *id == request.vehicle);
        let known = Self {
            name: record.id.to_string().into(),
            key: request.key.as_str().into(),
            vehicle: vehicle.expect("every vehicle is known here"),
            class: request.class,
            is_queued: request.on_offline == OnOffline::Queue,
            is_counted: false,
            ended_as: Some(record.phase()).filter(|phase| phase.is_terminal()),
            birth: None,
        };
        (record.id, known)
    }

    /// That it may be accepted, while that is not said.
    fn asked(&self) -> Option<What> {
        let What::Accepted { vehicle, key, id, class, path, print, born, ttl, .. } = *self.birth.clone()?
        else {
            return None;
        };
        Some(What::Asked { vehicle, key, id, class, path, print, until: born.saturating_add(ttl) })
    }

    /// What the gateway shows of this phase of `record`, now.
    fn told(&self, gateway: &Gateway, record: &Record, phase: Phase, now: Moment) -> What {
        let place = record.timeline.iter().rposition(|step| step.phase == phase);
        let durable = place.is_some_and(|place| record.is_step_durable(place));
        let waited = place.map_or(Duration::ZERO, |place| now.since(record.timeline[place].at));
        What::Phase {
            vehicle: gateway.vehicles[self.vehicle].1.clone(),
            key: self.key.clone(),
            id: self.name.clone(),
            phase: phase.name().into(),
            durable,
            waited: u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// What a click is after.
fn target(click: &Click) -> (SignalPath, Value) {
    let is_stop = click.class == Class::Safety;
    let value = if is_stop { Value::Bool(true) } else { Value::Int(click.value) };
    (path_of(click.class, click.path), value)
}

/// The path of this number that belongs to a class.
pub(crate) fn path_of(class: Class, number: u8) -> SignalPath {
    let path = match class {
        Class::Safety => EMERGENCY_STOP.to_owned(),
        Class::Comfort => format!("Vehicle.Cabin.Seat{number}.Heating"),
        Class::Diagnostics => format!("Vehicle.OBD.Log{number}"),
        Class::Config => format!("Vehicle.Cabin.Light{number}.Level"),
        Class::Drive => format!("Vehicle.Powertrain.Transmission.Selector{number}"),
        Class::Session | Class::Body | Class::Bulk => {
            format!("Vehicle.Cabin.Door{number}.Window")
        }
    };
    path.parse().expect("a VSS path")
}

impl Process {
    /// A request begins to come in.
    pub(crate) fn arrival(&mut self, now: Moment) -> Arrival {
        self.commands.arrival(now)
    }

    /// A request is all here: it is decided on, and handed to the vehicle's session.
    pub(crate) fn click(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        click: &Click,
        arrived: (u64, Arrival),
    ) -> Result<(), Died> {
        gateway.fuse.step()?;
        let now = gateway.host.read(air.now);
        self.observe(gateway, now, click.vehicle);
        if let Some(patch) = &click.patch {
            self.patch(gateway, air, click, patch);
            return Ok(());
        }
        if click.cancel {
            self.withdraw(gateway, now, click);
            return Ok(());
        }
        let (vehicle, name) = gateway.vehicles[click.vehicle].clone();
        let (path, value) = target(click);
        let request = Request {
            vehicle,
            key: format!("k{}", click.key).parse().expect("visible characters"),
            class: click.class,
            path,
            value,
            ttl: click.ttl.map(Duration::from_micros),
            operator: operator_name(click.operator),
            on_offline: if click.queue { OnOffline::Queue } else { OnOffline::Fail },
            drives: self.drives(gateway, now, click),
        };
        let key = Name::from(request.key.as_str());
        let class = Name::from(click.class.name());
        let print = request.fingerprint().get();
        let refused = |why| {
            let (vehicle, key, class) = (name.clone(), key.clone(), class.clone());
            What::Refused { vehicle, key, class, print, why }
        };
        let reach = self.reach(now, click.vehicle);
        if self.drain.is_some() && !self.may_go_in_a_drain(&request, reach) {
            air.tell(&gateway.name, refused(Refused::Other));
            return Ok(());
        }
        let fresh = CommandId::from_bytes(air.chance.bytes());
        let path = Name::from(request.path.as_str());
        let submitted = self.commands.submit(now, arrived.1, fresh, request, reach);
        match submitted {
            Submitted::Accepted { id, ttl } => {
                let birth = (path, print, arrived.0, ttl);
                let is_queued = click.queue && reach == Reach::Offline;
                let known = Known::new(click, id, name.clone(), birth, is_queued);
                known.asked().into_iter().for_each(|asked| air.tell(&gateway.name, asked));
                self.known.insert(id, known);
                self.drain_commands(gateway, air)?;
                match self.commands.record(id).map(Record::is_pending) {
                    Some(false) => self.announce(gateway, air, id),
                    Some(true) => {}
                    None => {
                        self.known.remove(&id);
                        air.tell(&gateway.name, refused(Refused::Other));
                    }
                }
            }
            Submitted::Expired(id) => {
                let ttl = self.commands.record(id).map_or(Duration::ZERO, |record| record.ttl);
                let birth = (path, print, arrived.0, ttl);
                self.known.insert(id, Known::new(click, id, name, birth, false));
                self.announce(gateway, air, id);
            }
            Submitted::Repeated(id) => {
                let Some(known) = self.known.get(&id) else { return Ok(()) };
                let what = What::Repeated { vehicle: name, key, id: known.name.clone(), print };
                air.tell(&gateway.name, what);
            }
            Submitted::Refused(refusal) => air.tell(&gateway.name, refused(word(refusal))),
        }
        Ok(())
    }

    /// Whether a drive command has a lease; a gateway that does not look leaves it to the vehicle.
    fn drives(&self, gateway: &Gateway, now: Moment, click: &Click) -> Result<(), NotDriving> {
        let vehicle = &gateway.vehicles[click.vehicle].0;
        let driving = self.driving.driving(now, vehicle, &operator_name(click.operator));
        if click.leaks { Ok(()) } else { driving.map(|_| ()) }
    }

    /// An operator changes their mind. The phases tell what comes of it.
    fn withdraw(&mut self, gateway: &Gateway, now: Moment, click: &Click) {
        let key = format!("k{}", click.key).parse().expect("visible characters");
        let record = self.commands.record_of(&gateway.vehicles[click.vehicle].0, &key);
        if let Some(id) = record.map(|record| record.id) {
            let _told_by_its_phases = self.commands.cancel(now, id);
        }
    }

    /// The session that a command goes by, where the vehicle has a connection and its clock is known.
    pub(super) fn way(&self, now: Moment, vehicle: usize) -> Option<usize> {
        let live = |live: &super::Live| {
            live.vehicle == vehicle && !live.over && live.session.silent_for(now).is_some()
        };
        let way = self.sessions.iter().rposition(live)?;
        self.sessions[way].session.peer_clock(now).map(|_| way)
    }

    fn reach(&self, now: Moment, vehicle: usize) -> Reach {
        if self.way(now, vehicle).is_some() { Reach::Connected } else { Reach::Offline }
    }

    /// Tells the commands whether the vehicles that some of them wait for can be reached.
    pub(super) fn look_for_the_awaited(&mut self, gateway: &Gateway, now: Moment) {
        let awaited: Vec<_> = self.commands.awaited().cloned().collect();
        for id in awaited {
            let vehicle = gateway.vehicles.iter().position(|(other, _)| *other == id);
            let reach = self.reach(now, vehicle.expect("every vehicle is known here"));
            self.commands.handle(now, commands::Input::Reach(id, reach));
        }
    }

    /// The disk has what it was given, or has not.
    pub(crate) fn persisted(&mut self, gateway: &Gateway, air: &mut Air, done: &Done) {
        let now = gateway.host.read(air.now);
        match *done {
            Done::Commands { id, kept: true, .. } => {
                self.commands.handle(now, commands::Input::Persisted(id));
            }
            Done::Commands { id, kept: false, .. } => {
                self.commands.handle(now, commands::Input::PersistFailed(id));
                self.refuse_the_unkept(gateway, air);
            }
            Done::Desired { vehicle, version, kept } => {
                self.wish_kept(gateway, now, vehicle, (version, kept));
            }
        }
    }

    /// What was to wait on the disk and is not there is gone, and whoever asked is told.
    fn refuse_the_unkept(&mut self, gateway: &Gateway, air: &mut Air) {
        let commands = &self.commands;
        let is_gone =
            |id: &CommandId, known: &mut Known| known.birth.is_some() && commands.record(*id).is_none();
        for (_, known) in self.known.extract_if(.., is_gone) {
            let (vehicle, class) = (gateway.vehicles[known.vehicle].1.clone(), known.class.name().into());
            let Some(What::Accepted { print, .. }) = known.birth.as_deref() else { continue };
            let why = Refused::TakenBack;
            air.tell(&gateway.name, What::Refused { vehicle, key: known.key, class, print: *print, why });
        }
    }

    /// Tells the ends that a process before this one put on the disk and did not live to tell.
    pub(crate) fn tell_restored(&mut self, gateway: &mut Gateway, air: &mut Air) {
        let now = gateway.host.read(air.now);
        for (id, known) in &self.known {
            if let Some(phase) = known.ended_as.filter(|end| gateway.ended.insert(*id, *end) != Some(*end))
                && let Some(record) = self.commands.record(*id)
            {
                air.tell(&gateway.name, known.told(gateway, record, phase, now));
            }
        }
    }

    /// Says that a command was accepted, once.
    fn announce(&mut self, gateway: &Gateway, air: &mut Air, id: CommandId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let Some(birth) = known.birth.take() else { return };
        if known.is_counted {
            let (vehicle, class) = (known.vehicle, known.class);
            let limit = u64::from(self.policies[class].in_flight);
            let count = self.under_way.entry((vehicle, class)).or_default();
            *count += 1;
            if *count > limit / 2 {
                // An end that waits for the disk to be told has freed its place already, and so has what was held when
                // its vehicle went away.
                let same =
                    self.known.iter_mut().filter(|(_, one)| (one.vehicle, one.class) == (vehicle, class));
                for (id, one) in same.filter(|(_, one)| one.is_counted) {
                    let is_free =
                        |record: &Record| record.phase().is_terminal() || record.waits_for_vehicle();
                    if self.commands.record(*id).is_none_or(is_free) {
                        one.is_counted = false;
                        *count = count.saturating_sub(1);
                    }
                }
            }
            if *count > limit / 2 && class != Class::Safety {
                let what = format!("commands of class {class} to {}", gateway.vehicles[vehicle].1);
                air.tell(&gateway.name, What::Held { what: what.into(), count: *count, limit });
            }
        }
        air.tell(&gateway.name, *birth);
    }

    /// Hands the command to the session. What is left of its ttl counts from now, by the floor under the
    /// vehicle's clock.
    fn hand_over(&mut self, gateway: &Gateway, air: &mut Air, id: CommandId) -> Result<(), NotSent> {
        let now = gateway.host.read(air.now);
        let record = self.commands.record(id).expect("what is to go has a record");
        let vehicle = self.known[&id].vehicle;
        let way = self.way(now, vehicle).ok_or(NotSent::Unreachable)?;
        let live = &mut self.sessions[way];
        let (class, ends) = (record.request.class, record.lives_until());
        let lease = || self.driving.driving(now, &record.request.vehicle, &record.request.operator).ok();
        let token = if class == Class::Drive { lease().map(|lease| lease.token) } else { None };
        live.given[class] += 1;
        let command = Command {
            key: record.request.key.clone(),
            class,
            path: record.request.path.clone(),
            value: record.request.value.clone(),
            stamp: live.session.peer_clock(now).ok_or(NotSent::Unreachable)?,
            ttl: ends.since(now),
            operator: record.request.operator.clone(),
            token,
            order: live.epoch.number() << 32 | live.given[class],
        };
        let payload = Message::Command(command).encode();
        let ticket = live.session.send(class, payload, Some(ends)).map_err(|error| match error {
            SendError::Full(_) => NotSent::LaneFull,
            SendError::Ended(_) => NotSent::Unreachable,
            SendError::TooLarge(_) => unreachable!("the parts of a command are bounded far below a frame"),
        })?;
        self.tickets.insert((live.id, ticket), id);
        self.touched.insert(live.id);
        Ok(())
    }

    fn dispatch(&mut self, gateway: &Gateway, air: &mut Air, id: CommandId) {
        let now = gateway.host.read(air.now);
        match self.hand_over(gateway, air, id) {
            Ok(()) => {
                self.commands.handle(now, commands::Input::Sent(id));
                self.announce(gateway, air, id);
                self.tell_what_is_over(gateway, air, self.known[&id].vehicle);
                self.away.entry(self.known[&id].vehicle).or_default().insert(id);
                let (record, known) = (self.commands.record(id), &self.known[&id]);
                let path = record.map_or("", |record| record.request.path.as_str()).into();
                let (vehicle, class) = (gateway.vehicles[known.vehicle].1.clone(), known.class.name().into());
                let waited = known.is_queued;
                air.tell(&gateway.name, What::Sent { vehicle, id: known.name.clone(), class, path, waited });
            }
            Err(why) => {
                self.commands.handle(now, commands::Input::NotSent(id, why));
                self.unsent(gateway, air, id);
            }
        }
    }

    /// Of the commands sent to a vehicle, those that the core takes to have ended.
    pub(super) fn tell_what_is_over(&mut self, gateway: &Gateway, air: &mut Air, vehicle: usize) {
        let away = self.away.entry(vehicle).or_default();
        let is_over =
            |id: &CommandId| self.commands.record(*id).is_none_or(|record| record.phase().is_terminal());
        for over in away.extract_if(.., |id| is_over(id)) {
            if let Some(known) = self.known.get(&over) {
                air.tell(&gateway.name, What::Over { id: known.name.clone() });
            }
        }
    }

    /// A command is at the gateway again: it never left.
    pub(super) fn unsent(&self, gateway: &Gateway, air: &mut Air, id: CommandId) {
        let known = &self.known[&id];
        let vehicle = gateway.vehicles[known.vehicle].1.clone();
        air.tell(&gateway.name, What::Unsent { vehicle, id: known.name.clone() });
    }

    /// Asks the vehicle to withdraw a command, on the command's own lane. Without a way it is asked again
    /// once there is one.
    fn ask_to_cancel(&mut self, now: Moment, id: CommandId) {
        let Some((record, known)) = self.commands.record(id).zip(self.known.get(&id)) else { return };
        let Some(way) = self.way(now, known.vehicle) else { return };
        let (request, ends) = (&record.request, record.lives_until());
        let (key, class) = (request.key.clone(), request.class);
        let cancel = Cancel { key, class, fingerprint: Some(request.fingerprint()) };
        let live = &mut self.sessions[way];
        // A full lane: the operator sees that it is not withdrawn.
        let _sent = live.session.send(class, Message::Cancel(cancel).encode(), Some(ends));
        self.touched.insert(live.id);
    }

    /// Does what the command service wants done, and tells what it has to tell.
    pub(super) fn drain_commands(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        while let Some(output) = self.commands.poll() {
            gateway.fuse.step()?;
            let now = gateway.host.read(air.now);
            match output {
                Output::Changed(change) => self.changed(gateway, air, change),
                Output::Dispatch(id) => self.dispatch(gateway, air, id),
                Output::Cancel(id) => self.ask_to_cancel(now, id),
                Output::Durable(id) => {
                    if self.known.get(&id).is_some_and(|known| known.is_queued) {
                        self.announce(gateway, air, id);
                    }
                }
                Output::Persist(write) => gateway.write(air, store::Change::Commands(write)),
            }
        }
        Ok(())
    }

    /// Tells the phase that a record has reached. One whose link takes nothing leaves no trace beyond CREATED.
    fn changed(&mut self, gateway: &mut Gateway, air: &mut Air, change: Change) {
        if change.phase != Phase::Created {
            self.announce(gateway, air, change.id);
        }
        let Some(known) = self.known.get_mut(&change.id).filter(|known| known.birth.is_none()) else {
            return;
        };
        let now = gateway.host.read(air.now);
        let record = self.commands.record(change.id).expect("what is told is remembered");
        let what = known.told(gateway, record, change.phase, now);
        if change.phase.is_terminal() {
            gateway.ended.insert(change.id, change.phase);
        }
        if change.phase.is_terminal() && std::mem::take(&mut known.is_counted) {
            let count = self.under_way.entry((known.vehicle, known.class)).or_default();
            *count = count.saturating_sub(1);
        }
        air.tell(&gateway.name, what);
    }
}

fn word(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Offline => Refused::Offline,
        Refusal::KeyConflict(_) => Refused::KeyConflict,
        Refusal::RateLimited(_)
        | Refusal::OperatorRate(_)
        | Refusal::InFlight { .. }
        | Refusal::QueueFull { .. }
        | Refusal::DiskBroken
        | Refusal::Full => Refused::Busy,
        Refusal::NoCommandClass
        | Refusal::NoLease
        | Refusal::DriveStateUnknown
        | Refusal::NotQueueable
        | Refusal::Ttl { .. }
        | Refusal::TtlMissing => Refused::Other,
    }
}
