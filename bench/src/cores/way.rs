//! The way of a command through the cores of gateway and vehicle, with memory in place of both disks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use carriageway_agent::core::executor::{self, Executor};
use carriageway_agent::core::outbox::Outbox;
use carriageway_agent::core::vehicle::Applied;
use carriageway_gateway::core::commands::{
    self, CommandId, Commands, Delivery, OnOffline, Reach, Request, Submitted,
};
use carriageway_gateway::core::lease::NotDriving;
use carriageway_proto::{Class, Command, Message, Moment, Phase, PolicyTable, Stamp, Value, VehicleId};
use carriageway_transport::core::lane::{Fate, Ticket};
use carriageway_transport::core::session::Happening;

use super::wire::{VEHICLE_BOOT, Wire};

/// From one command to the next, in virtual time: an hour of keys is what a vehicle remembers at most, and
/// this many an hour fit.
const PAUSE: Duration = Duration::from_millis(250);

/// One gateway, one vehicle.
pub(super) struct Way {
    now: Moment,
    wire: Wire,
    commands: Commands,
    executor: Executor,
    outbox: Outbox<Ticket>,
    tickets: BTreeMap<Ticket, CommandId>,
    number: u64,
    /// Bytes of the last message down, and up.
    sizes: [usize; 2],
}

impl Way {
    pub(super) fn new() -> Result<Self> {
        let now = Moment::from_micros(1_000_000);
        let (here, policies) = (Stamp { boot: VEHICLE_BOOT, clock: now }, PolicyTable::defaults());
        Ok(Self {
            now,
            wire: Wire::up(now)?,
            commands: Commands::new(commands::Limits::default(), policies),
            executor: Executor::recover(here, policies, executor::Limits::default(), Vec::new()),
            outbox: Outbox::default(),
            tickets: BTreeMap::new(),
            number: 0,
            sizes: [0; 2],
        })
    }

    /// One command, from an operator's request to SUCCEEDED at the gateway.
    pub(super) fn command(&mut self) -> Result<()> {
        self.pass_time();
        self.number += 1;
        let id = CommandId::from_bytes(u128::from(self.number).to_be_bytes());
        let request = request(self.number)?;
        let arrived = self.commands.arrival(self.now);
        match self.commands.submit(self.now, arrived, id, request, Reach::Connected) {
            Submitted::Accepted { .. } => {}
            refused => bail!("the gateway did not take a command: {refused:?}"),
        }
        self.settle()?;
        match self.commands.record(id).context("a record stays for minutes")?.phase() {
            Phase::Succeeded => Ok(()),
            phase => bail!("a command ended in {}", phase.name()),
        }
    }

    /// The bytes of the last command on its lane, and of its last outcome.
    pub(super) fn sizes(&self) -> [usize; 2] {
        self.sizes
    }

    /// Keys that the vehicle remembers.
    pub(super) fn remembered(&self) -> usize {
        self.executor.remembered()
    }

    /// Sessions alone: one message each way.
    pub(super) fn carriage(&mut self, down: &Bytes, up: &Bytes) -> Result<()> {
        self.pass_time();
        self.wire.exchange(self.now, down.clone(), up.clone())
    }

    fn pass_time(&mut self) {
        self.now = self.now + PAUSE;
        self.wire.tick(self.now);
        if self.commands.wakes_at().is_some_and(|at| at <= self.now) {
            self.commands.handle(self.now, commands::Input::Tick);
        }
    }

    /// Until nobody has anything more to say.
    fn settle(&mut self) -> Result<()> {
        loop {
            let acted = self.gateway()?;
            let told = self.wire.carry(self.now);
            let is_quiet = told.gateway.is_empty() && told.vehicle.is_empty();
            told.vehicle.into_iter().try_for_each(|happening| self.vehicle_told(happening))?;
            told.gateway.into_iter().try_for_each(|happening| self.gateway_told(happening))?;
            let answered = self.vehicle()?;
            if is_quiet && !acted && !answered {
                return Ok(());
            }
        }
    }

    fn gateway(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(output) = self.commands.poll() {
            any = true;
            match output {
                commands::Output::Dispatch(id) => self.dispatch(id)?,
                commands::Output::Persist(write) => {
                    self.commands.handle(self.now, commands::Input::Persisted(write.id));
                }
                commands::Output::Changed(_) | commands::Output::Cancel(_) | commands::Output::Durable(_) => {
                }
            }
        }
        Ok(any)
    }

    fn dispatch(&mut self, id: CommandId) -> Result<()> {
        let record = self.commands.record(id).context("what is to go has a record")?;
        let (request, ends) = (&record.request, record.lives_until());
        let command = Command {
            key: request.key.clone(),
            class: request.class,
            path: request.path.clone(),
            value: request.value.clone(),
            stamp: self.wire.gateway.peer_clock(self.now).context("the vehicle's clock is known")?,
            ttl: ends.since(self.now),
            operator: request.operator.clone(),
            token: None,
            order: self.number,
        };
        let class = command.class;
        let payload = Message::Command(command).encode();
        self.sizes[0] = payload.len();
        let ticket = self.wire.gateway.send(class, payload, Some(ends))?;
        self.tickets.insert(ticket, id);
        self.commands.handle(self.now, commands::Input::Sent(id));
        Ok(())
    }

    fn gateway_told(&mut self, happening: Happening) -> Result<()> {
        match happening {
            Happening::Message { payload, .. } => {
                let Message::Outcome(outcome) = Message::decode(payload)? else { return Ok(()) };
                self.commands.handle(self.now, commands::Input::Outcome(vehicle_id()?, outcome));
                while self.commands.poll_heard().is_some() {}
            }
            Happening::Settled { ticket, fate: Fate::Acknowledged } => {
                if let Some(id) = self.tickets.remove(&ticket) {
                    self.commands.handle(self.now, commands::Input::Delivery(id, Delivery::Acknowledged));
                }
            }
            other => bail!("nothing goes wrong here, and yet: {other:?}"),
        }
        Ok(())
    }

    fn vehicle_told(&mut self, happening: Happening) -> Result<()> {
        let input = match happening {
            Happening::Message { class: lane, payload } => match Message::decode(payload)? {
                Message::Command(command) => executor::Input::Command { lane, command },
                other => bail!("nobody sends {other:?} here"),
            },
            Happening::Settled { ticket, fate: Fate::Acknowledged } => match self.outbox.arrived(&ticket) {
                Some(key) => executor::Input::Arrived(key),
                None => return Ok(()),
            },
            other => bail!("nothing goes wrong here, and yet: {other:?}"),
        };
        self.executor.handle(self.now, input);
        Ok(())
    }

    fn vehicle(&mut self) -> Result<bool> {
        let mut any = false;
        loop {
            match self.executor.poll(self.now) {
                executor::Output::Wait(_) => break,
                executor::Output::Apply { actuation, .. } => {
                    let input = executor::Input::Applied { actuation, applied: Applied::Done };
                    self.executor.handle(self.now, input);
                }
                executor::Output::Write { id, .. } => {
                    self.executor.handle(self.now, executor::Input::Written(id));
                }
                executor::Output::Tell { class, outcome } => {
                    if let Err(outcome) = self.outbox.push(class, outcome) {
                        self.executor.handle(self.now, executor::Input::Untold(outcome));
                    }
                }
                executor::Output::Forget(_) => {}
                other @ (executor::Output::Stop(_) | executor::Output::Released(_)) => {
                    bail!("nobody stops this vehicle, and yet: {other:?}")
                }
            }
            any = true;
        }
        while self.outbox.has_room(Class::Body)
            && let Some(outcome) = self.executor.next_owed(Class::Body)
        {
            self.outbox.push(Class::Body, outcome).expect("there is room");
        }
        while let Some(outcome) = self.outbox.next(Class::Body) {
            let payload = Message::Outcome(outcome.clone()).encode();
            self.sizes[1] = payload.len();
            let ticket = self.wire.vehicle.send(Class::Body, payload, None)?;
            self.outbox.sent(Class::Body, ticket);
            any = true;
        }
        Ok(any)
    }
}

fn vehicle_id() -> Result<VehicleId> {
    "bench-1".parse().context("a vehicle's name")
}

/// A target of its own for each: no command waits for another.
fn request(number: u64) -> Result<Request> {
    Ok(Request {
        vehicle: vehicle_id()?,
        key: format!("key-{number}").parse().context("a key")?,
        class: Class::Body,
        path: format!("Vehicle.Carriageway.Bench.Lamp{number}").parse().context("a path")?,
        value: Value::Bool(true),
        ttl: None,
        operator: "bench".into(),
        on_offline: OnOffline::Fail,
        drives: Err(NotDriving::NoLease),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_succeeds_and_nothing_piles_up() {
        let mut way = Way::new().expect("two sessions");
        for number in 0..2_600 {
            way.command().unwrap_or_else(|error| panic!("command {number}: {error:#}"));
        }
        assert!(way.commands.len() <= 2_401, "{} records of ten minutes", way.commands.len());
        assert_eq!((way.tickets.len(), way.outbox.len()), (0, 0), "all has been acknowledged");
    }
}
