//! The operators' side of a gateway: commands in, phases out.

use std::time::Duration;

use carriageway_agent::core::vehicle::EMERGENCY_STOP;
use carriageway_gateway::core::commands::{CommandId, Reach, Refusal, Request, Submitted};
use carriageway_proto::{Class, Command, Message, Moment, SignalPath, Value};

use super::{Gateway, Process};
use crate::air::{Air, Died};
use crate::checker::{Name, Refused, What};
use crate::plan::Click;

/// What the glue remembers of a record.
#[derive(Debug)]
pub(super) struct Known {
    name: Name,
    key: Name,
    vehicle: usize,
    class: Class,
    ended: bool,
}

/// What a click is after.
pub(crate) fn target(click: &Click) -> (SignalPath, Value) {
    let path = match click.class {
        Class::Safety => return (EMERGENCY_STOP.parse().expect("a VSS path"), Value::Bool(true)),
        Class::Drive => "Vehicle.Powertrain.Gear".to_owned(),
        Class::Comfort => format!("Vehicle.Cabin.Seat{}.Heating", click.path),
        Class::Session | Class::Body | Class::Config | Class::Diagnostics | Class::Bulk => {
            format!("Vehicle.Cabin.Door{}.Window", click.path)
        }
    };
    (path.parse().expect("a VSS path"), Value::Int(click.value))
}

impl Process {
    /// A request is all here: it is decided on, and handed to the vehicle's session.
    pub(crate) fn click(
        &mut self,
        gateway: &mut Gateway,
        air: &mut Air,
        click: &Click,
        arrived: (u64, Moment),
    ) -> Result<(), Died> {
        gateway.fuse.step()?;
        let now = gateway.host.read(air.now);
        self.observe(gateway, now, click.vehicle);
        let (vehicle, name) = gateway.vehicles[click.vehicle].clone();
        let (path, value) = target(click);
        let request = Request {
            vehicle,
            key: format!("k{}", click.key).parse().expect("visible characters"),
            class: click.class,
            path,
            value,
            ttl: click.ttl.map(Duration::from_micros),
            operator: format!("operator-{}", click.operator),
        };
        let way = self.sessions.iter().rposition(|live| {
            live.vehicle == click.vehicle && !live.over && live.session.silent_for(now).is_some()
        });
        let way = way.filter(|index| self.sessions[*index].session.peer_clock(now).is_some());
        let key = Name::from(request.key.as_str());
        let class = Name::from(click.class.name());
        let refused =
            |why| What::Refused { vehicle: name.clone(), key: key.clone(), class: class.clone(), why };
        if self.draining {
            air.tell(&gateway.name, refused(Refused::Other));
            return Ok(());
        }
        let print = request.fingerprint().get();
        let reach = if way.is_some() { Reach::Connected } else { Reach::Offline };
        let fresh = CommandId::from_bytes(air.chance.bytes());
        let target = (request.path.as_str().into(), print);
        match self.commands.submit(now, arrived.1, fresh, request, reach) {
            Submitted::Accepted { id, ttl } => {
                let way = way.expect("accepted only where the vehicle is connected");
                if !self.dispatch(gateway, air, id, way, click.vehicle) {
                    air.tell(&gateway.name, refused(Refused::Other));
                    return Ok(());
                }
                self.accepted(gateway, air, (id, ttl), click, (target.0, target.1, arrived.0));
            }
            Submitted::Expired(id) => {
                let ttl = self.commands.record(id).map_or(Duration::ZERO, |record| record.ttl);
                self.accepted(gateway, air, (id, ttl), click, (target.0, target.1, arrived.0));
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

    fn accepted(
        &mut self,
        gateway: &Gateway,
        air: &mut Air,
        (id, ttl): (CommandId, Duration),
        click: &Click,
        (path, print, born): (Name, u64, u64),
    ) {
        let (key, name) = (Name::from(format!("k{}", click.key)), Name::from(id.to_string()));
        let (vehicle, class) = (gateway.vehicles[click.vehicle].1.clone(), Name::from(click.class.name()));
        let count = self.under_way.entry((click.vehicle, click.class)).or_default();
        *count += 1;
        let limit = u64::from(self.policies[click.class].in_flight);
        if *count > limit / 2 && click.class != Class::Safety {
            let what = format!("commands of class {class} to {vehicle}").into();
            air.tell(&gateway.name, What::Held { what, count: *count, limit });
        }
        let known = Known {
            name: name.clone(),
            key: key.clone(),
            vehicle: click.vehicle,
            class: click.class,
            ended: false,
        };
        self.known.insert(id, known);
        let what = What::Accepted {
            vehicle,
            key,
            id: name,
            class,
            path,
            print,
            born,
            ttl: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX),
            queued: false,
        };
        air.tell(&gateway.name, what);
    }

    /// Hands the command to the session. What is left of its ttl counts from now, by the floor under the
    /// vehicle's clock.
    fn dispatch(
        &mut self,
        gateway: &Gateway,
        air: &mut Air,
        id: CommandId,
        way: usize,
        vehicle: usize,
    ) -> bool {
        let now = gateway.host.read(air.now);
        let record = self.commands.record(id).expect("it was accepted a moment ago");
        let live = &mut self.sessions[way];
        let (class, ends) = (record.request.class, record.lives_until());
        let command = Command {
            key: record.request.key.clone(),
            class,
            path: record.request.path.clone(),
            value: record.request.value.clone(),
            stamp: live.session.peer_clock(now).expect("looked at above"),
            ttl: ends.since(now),
            operator: record.request.operator.clone(),
            token: None,
            order: 0,
        };
        air.note_copy(vehicle, command.clone());
        let sent = live.session.send(class, Message::Command(command).encode(), Some(ends));
        if let Ok(ticket) = sent {
            self.tickets.insert((live.id, ticket), id);
            self.touched.insert(live.id);
            self.commands.queued(now, id);
        } else {
            air.copies[vehicle].pop_back();
            self.commands.withdraw(id);
        }
        sent.is_ok()
    }

    /// Tells the phases that records have reached.
    pub(super) fn tell_phases(&mut self, gateway: &mut Gateway, air: &mut Air) -> Result<(), Died> {
        while let Some(change) = self.commands.poll() {
            let Some(known) = self.known.get_mut(&change.id) else { continue };
            gateway.fuse.step()?;
            let what = What::Phase {
                vehicle: gateway.vehicles[known.vehicle].1.clone(),
                key: known.key.clone(),
                id: known.name.clone(),
                phase: change.phase.name().into(),
            };
            if change.phase.is_terminal() && !std::mem::replace(&mut known.ended, true) {
                let count = self.under_way.entry((known.vehicle, known.class)).or_default();
                *count = count.saturating_sub(1);
            }
            air.tell(&gateway.name, what);
        }
        Ok(())
    }
}

fn word(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Offline => Refused::Offline,
        Refusal::KeyConflict(_) => Refused::KeyConflict,
        Refusal::RateLimited(_) | Refusal::InFlight { .. } | Refusal::Full => Refused::Busy,
        Refusal::NoCommandClass | Refusal::Ttl { .. } | Refusal::TtlMissing => Refused::Other,
    }
}
