//! The world: nodes, the network between them, and what goes wrong.

mod drives;

use std::collections::VecDeque;
use std::rc::Rc;

use carriageway_proto::{Class, SignalPath};

use crate::air::{Air, Log};
use crate::body::is_readable;
use crate::chance::Chance;
use crate::checker::{Name, Rules, What, Wish};
use crate::gateway::{Gateway, path_of};
use crate::network::{Network, Side};
use crate::pilot::Pilot;
use crate::plan::{Click, Fault, Plan, REST, SECOND, last_patch};
use crate::queue::{Queue, Task};
use crate::vehicle::{Vehicle, policies};

/// A world that is underway.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) air: Air,
    vehicles: Vec<Vehicle>,
    gateways: Vec<Gateway>,
    /// The clicks of the plan, and one for each vehicle once the world is healthy.
    clicks: Vec<Click>,
    /// By drive, once it has begun.
    pilots: Vec<Option<Pilot>>,
}

/// A command given to a healthy world lives so long: ten round trips and a second, and more.
const FINAL_TTL: u64 = 10 * SECOND;

impl World {
    pub(crate) fn new(mut plan: Plan, keep: bool) -> Self {
        drives::add_final(&mut plan);
        let mix = &plan.mix;
        let policies = policies(mix.rate);
        let rate = |class: Class| {
            let rate = policies[class].rate_per_second?;
            Some((Name::from(class.name()), (rate, policies[class].burst)))
        };
        let window = |class: Class| {
            let window = policies[class].duplicate_window;
            (Name::from(class.name()), u64::try_from(window.as_micros()).unwrap_or(u64::MAX))
        };
        let duplicate_windows = Class::ALL.into_iter().map(window).collect();
        let rates = Class::ALL.into_iter().filter_map(rate).collect();
        let rules = Rules { rates, duplicate_windows };
        let clicks = all_clicks(&plan);
        let (vehicles, gateways) = (mix.vehicles, mix.gateways);
        let air = Air {
            now: 0,
            chance: Chance::new(plan.seed, 2),
            queue: Queue::default(),
            network: Network::default(),
            log: Log::new(&rules, keep),
            copies: vec![VecDeque::new(); vehicles],
            routes: (0..vehicles).map(|vehicle| vehicle % gateways).collect(),
            plan,
        };
        let pilots = air.plan.drives.iter().map(|_| None).collect();
        let mut world = Self { air, vehicles: Vec::new(), gateways: Vec::new(), clicks, pilots };
        world.people(vehicles, gateways);
        world
    }

    fn people(&mut self, vehicles: usize, gateways: usize) {
        let air = &mut self.air;
        self.vehicles = (0..vehicles).map(|index| Vehicle::new(index, air)).collect();
        let names: Rc<[_]> = self.vehicles.iter().map(|one| (one.id.clone(), one.name.clone())).collect();
        self.gateways = (0..gateways).map(|index| Gateway::new(index, Rc::clone(&names), air)).collect();
        (0..gateways).for_each(|index| air.queue.push(0, Task::StartGateway(index)));
        (0..vehicles).for_each(|index| air.queue.push(1_000, Task::StartVehicle(index)));
        for (index, click) in self.clicks.iter().enumerate() {
            air.queue.push(click.at, Task::Click(index));
        }
        for (index, fault) in air.plan.faults.iter().enumerate() {
            air.queue.push(fault.begins(), Task::Fault(index));
            if let Fault::Handover { opens: later, .. } | Fault::BadDisk { restart: later, .. } = fault {
                air.queue.push(*later, Task::Follow(index));
            }
        }
        for (index, drive) in air.plan.drives.iter().enumerate() {
            air.queue.push(drive.span.0, Task::Beat(index));
        }
        let healed = air.plan.mix.horizon;
        air.queue.push(healed, Task::Healed);
        air.queue.push(healed + REST, Task::Judge);
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        while self.air.log.violation.is_none()
            && let Some((at, task)) = self.air.queue.pop()
        {
            self.air.now = at;
            let is_last = matches!(task, Task::Judge);
            self.happen(task);
            if is_last {
                self.air.log.finish(at);
                return;
            }
        }
    }

    /// Until when the node that a task is for sleeps.
    fn sleeps_until(&self, task: &Task) -> Option<u64> {
        let at_connection = |connection: u32, side: Side| {
            let connection = self.air.network.of(connection);
            match side {
                Side::Vehicle => self.vehicles[connection.vehicle].host.suspended_until,
                Side::Gateway => self.gateways[connection.gateway].host.suspended_until,
            }
        };
        let until = match task {
            Task::Frame { connection, to: side, .. }
            | Task::Room { connection, side, .. }
            | Task::Closed { connection, to: side, .. } => at_connection(*connection, *side),
            Task::Dialed { vehicle, .. }
            | Task::Synced { vehicle, .. }
            | Task::Stray { vehicle, .. }
            | Task::WakeVehicle(vehicle)
            | Task::StartVehicle(vehicle) => self.vehicles[*vehicle].host.suspended_until,
            Task::WakeGateway(gateway)
            | Task::StartGateway(gateway)
            | Task::Deadline { gateway, .. }
            | Task::Stored { gateway, .. }
            | Task::Kept { gateway, .. }
            | Task::Word { gateway, .. }
            | Task::Submit { gateway, .. } => self.gateways[*gateway].host.suspended_until,
            Task::Click(_)
            | Task::Beat(_)
            | Task::Report { .. }
            | Task::Dark(_)
            | Task::Fault(_)
            | Task::Follow(_)
            | Task::Healed
            | Task::Judge => 0,
        };
        (until > self.air.now).then_some(until)
    }

    fn happen(&mut self, task: Task) {
        if let Some(until) = self.sleeps_until(&task) {
            return self.air.queue.push(until, task);
        }
        let Self { air, vehicles, gateways, .. } = self;
        match task {
            Task::Frame { connection, to, channel, bytes } => {
                let (network, mut weather) = air.net();
                if !network.arrive(&mut weather, connection, to, channel) {
                    return;
                }
                let of = air.network.of(connection);
                match to {
                    Side::Vehicle => vehicles[of.vehicle].frame(air, connection, channel, bytes),
                    Side::Gateway => gateways[of.gateway].frame(air, connection, channel, bytes),
                }
            }
            Task::Room { connection, side, channel } => {
                let of = air.network.of(connection);
                match side {
                    _ if !air.network.is_open(connection, side) => {}
                    Side::Vehicle => vehicles[of.vehicle].room(air, connection, channel),
                    Side::Gateway => gateways[of.gateway].room(air, connection, channel),
                }
            }
            Task::Closed { connection, to, ended } => {
                if !air.network.closed(connection, to) {
                    return;
                }
                let of = air.network.of(connection);
                match to {
                    Side::Vehicle => vehicles[of.vehicle].closed(air, connection, ended),
                    Side::Gateway => gateways[of.gateway].closed(air, connection, ended),
                }
            }
            Task::Dialed { vehicle, run, choice, gateway, is_up } => {
                let is_quic = choice == carriageway_transport::core::keeper::Choice::Quic;
                let is_up = is_up && gateways[gateway].is_up();
                let connection = is_up.then(|| air.network.connect(vehicle, gateway, is_quic));
                vehicles[vehicle].dialed(air, run, choice, connection);
            }
            Task::Synced { vehicle, run } => vehicles[vehicle].synced(air, run),
            Task::Stored { gateway, run } => gateways[gateway].stored(air, run),
            Task::Kept { gateway, run } => gateways[gateway].kept(air, run),
            Task::Beat(drive) => self.beat(drive),
            Task::Word { drive, gateway, word } => self.word(drive, gateway, *word),
            Task::Report { drive, report } => self.report(drive, report),
            Task::Stray { vehicle, gateway, sent, frame } => self.stray((vehicle, gateway), (sent, *frame)),
            Task::WakeVehicle(vehicle) => vehicles[vehicle].wake(air),
            Task::WakeGateway(gateway) => gateways[gateway].wake(air),
            Task::StartVehicle(vehicle) => vehicles[vehicle].start(air),
            Task::StartGateway(gateway) => gateways[gateway].start(air),
            Task::Click(click) => self.click(click),
            Task::Submit { click, gateway, run, arrived } => {
                if gateways[gateway].run == run {
                    gateways[gateway].click(air, &self.clicks[click], arrived);
                }
            }
            Task::Dark(connections) => air.network.darken(&connections),
            Task::Fault(index) => self.fault(index),
            Task::Follow(index) => self.follow(index),
            Task::Deadline { gateway, run } => gateways[gateway].deadline(air, run),
            Task::Healed => self.heal(),
            Task::Judge => self.judge(),
        }
    }

    fn click(&mut self, index: usize) {
        let click = &self.clicks[index];
        let mut gateway = click.gateway.unwrap_or(self.air.routes[click.vehicle]);
        if self.air.is_healthy() {
            gateway = home(&self.air, &self.gateways, click.vehicle);
        }
        let gate = &mut self.gateways[gateway];
        // While its host sleeps nobody reads the request.
        if gate.host.suspended_until > self.air.now {
            return self.air.queue.push(gate.host.suspended_until, Task::Click(index));
        }
        let Some(arrival) = gate.arrival(self.air.now) else { return };
        let (run, arrived) = (gate.run, (self.air.now, arrival));
        self.air.queue.push(self.air.now + click.slow, Task::Submit { click: index, gateway, run, arrived });
    }

    fn fault(&mut self, index: usize) {
        let Self { air, vehicles, gateways, .. } = self;
        match air.plan.faults[index] {
            Fault::Handover { vehicle, dark, opens } => {
                let old = air.network.open_at(Side::Vehicle, vehicle);
                air.queue.push(dark, Task::Dark(old));
                if opens < dark {
                    self.open_path(vehicle);
                }
            }
            Fault::KillVehicle { vehicle, actions, down, reboot, .. } => {
                vehicles[vehicle].after_kill = (down, reboot);
                vehicles[vehicle].fuse.light(actions);
            }
            Fault::KillGateway { gateway, actions, down, reboot, .. } => {
                gateways[gateway].after_kill = (down, reboot);
                gateways[gateway].fuse.light(actions);
            }
            // A process that sleeps reads no signal.
            Fault::Drain { gateway, .. } if gateways[gateway].host.suspended_until > air.now => {
                air.queue.push(gateways[gateway].host.suspended_until, Task::Fault(index));
            }
            Fault::Drain { gateway, .. } => gateways[gateway].drain(air),
            Fault::SuspendVehicle { vehicle, span } => vehicles[vehicle].suspend(air, span.1),
            Fault::SuspendGateway { gateway, span } => gateways[gateway].suspend(air, span.1),
            Fault::VehicleClockBack { vehicle, by, .. } => {
                // An agent reads its clock twenty times a second; a smaller jump nobody could notice.
                if vehicles[vehicle].host.suspended_until <= air.now {
                    vehicles[vehicle].look(air);
                    vehicles[vehicle].host.jump_back(air.now, by);
                    vehicles[vehicle].look(air);
                }
            }
            Fault::GatewayClockBack { gateway, by, .. } => {
                // As above; while no process runs nobody could ever know.
                if gateways[gateway].is_up() && gateways[gateway].host.suspended_until <= air.now {
                    gateways[gateway].look(air);
                    gateways[gateway].jump_back(air, by);
                    gateways[gateway].look(air);
                }
            }
            Fault::BadDisk { vehicle, .. } => vehicles[vehicle].disk.is_bad = true,
            Fault::Reroute { vehicle, gateway, .. } => air.routes[vehicle] = gateway,
            Fault::Replay { vehicle, age, .. } => {
                let copies = &air.copies[vehicle];
                let copy = copies.len().checked_sub(age + 1).map(|index| copies[index].clone());
                if let Some(copy) = copy {
                    vehicles[vehicle].replay(air, copy);
                }
            }
            Fault::Partition { vehicle, span, .. } => {
                let node = vehicles[vehicle].name.clone();
                air.tell(&node, What::Partitioned { until: span.1 });
            }
            Fault::Lossy { .. }
            | Fault::Slow { .. }
            | Fault::SlowDisk { .. }
            | Fault::BadGatewayDisk { .. }
            | Fault::SlowGatewayDisk { .. } => {}
        }
    }

    /// The second half of a fault; of a handover, whichever half is later.
    fn follow(&mut self, index: usize) {
        let fault = &self.air.plan.faults[index];
        if let Fault::Handover { vehicle, dark, opens } = *fault
            && opens >= dark
        {
            self.open_path(vehicle);
        } else if let Fault::BadDisk { vehicle, .. } = *fault
            && self.vehicles[vehicle].is_broken()
        {
            self.vehicles[vehicle].killed(&mut self.air);
        }
    }

    fn open_path(&mut self, vehicle: usize) {
        let gateway = self.air.routes[vehicle];
        if self.gateways[gateway].is_up() && self.vehicles[vehicle].is_up() {
            let is_quic = self.air.plan.mix.transports != 1;
            let connection = self.air.network.connect(vehicle, gateway, is_quic);
            self.vehicles[vehicle].hand_over(&mut self.air, connection);
        }
    }

    /// The faults are over. What a person would have to mend is mended.
    fn heal(&mut self) {
        let Self { air, vehicles, gateways, .. } = self;
        for vehicle in vehicles.iter_mut() {
            vehicle.fuse.put_out();
            vehicle.host.suspended_until = 0;
            vehicle.body.mend(air.now);
            if vehicle.is_broken() || vehicle.disk.is_bad {
                vehicle.killed(air);
            }
        }
        for gateway in gateways.iter_mut() {
            gateway.fuse.put_out();
            gateway.host.suspended_until = 0;
        }
        // A route counts for what is dialed next, and on a lossy path that may be at any time. A vehicle that has
        // not followed its route yet does so now: from here on nobody moves between gateways, and when the world is
        // judged a second session is one that stayed.
        for vehicle in vehicles.iter() {
            let astray = air.network.open_at(Side::Vehicle, vehicle.index);
            let is_astray = |number: &u32| air.network.of(*number).gateway != air.routes[vehicle.index];
            let astray: Vec<_> = astray.into_iter().filter(is_astray).collect();
            air.network.darken(&astray);
        }
        air.tell(&"world".into(), What::Healed);
    }

    fn judge(&mut self) {
        let Self { air, vehicles, gateways, clicks, .. } = self;
        for vehicle in vehicles.iter() {
            let views: Vec<_> = gateways.iter().map(|gateway| gateway.view(air, vehicle.index)).collect();
            let held = views.iter().find(|(sessions, _, _)| *sessions > 0).copied().unwrap_or_default();
            let what = What::Rested {
                vehicle: vehicle.name.clone(),
                sessions: views.iter().map(|(sessions, _, _)| sessions).sum(),
                online: held.1,
                outcomes: vehicle.unsent(),
                // Signals are not sent again, and a few in a row may be lost.
                is_shown: held.2 + 8 >= vehicle.signal,
            };
            air.tell(&"world".into(), what);
            let holder = gateways.iter().find(|gateway| gateway.view(air, vehicle.index).0 > 0);
            let rested = holder.map_or_else(Vec::new, |gateway| gateway.wishes_rested(air, vehicle.index));
            let missing = missing(vehicle, &rested);
            for wish in rested.into_iter().chain(missing) {
                air.tell(&"world".into(), What::Wish(vehicle.complete(wish)));
            }
        }
        if air.plan.is_driven {
            for (vehicle, armed) in vehicles.iter().flat_map(|vehicle| [(vehicle, true), (vehicle, false)]) {
                let vehicle = vehicle.name.clone();
                air.tell(&"world".into(), What::ExpectedDriving { vehicle, armed });
            }
        }
        let healed = air.plan.mix.horizon;
        for click in clicks.iter().filter(|click| click.at >= healed && click.patch.is_none()) {
            let vehicle = vehicles[click.vehicle].name.clone();
            let (key, phase) = (format!("k{}", click.key).into(), "SUCCEEDED".into());
            air.tell(&"world".into(), What::Expected { vehicle, key, phase });
        }
    }
}

/// What was desired of a vehicle at last, and no gateway that has its session knows of.
fn missing(vehicle: &Vehicle, rested: &[Wish]) -> Vec<Wish> {
    let is_there = |wanted: &SignalPath, value: i64| {
        let is_it = |one: &Wish| matches!(one, Wish::Rested { path, desired, .. } if **path == *wanted.as_str() && *desired == value);
        rested.iter().any(is_it)
    };
    let edits = last_patch(vehicle.index).edits.into_iter();
    let wanted = edits.filter_map(|(class, path, value)| Some((path_of(class, path), value?)));
    let absent = wanted.filter(|(path, value)| !is_there(path, *value));
    let wish = |(path, desired): (SignalPath, i64)| Wish::Rested {
        vehicle: vehicle.name.clone(),
        path: path.as_str().into(),
        status: "not desired".into(),
        desired,
        reported: None,
        holds: None,
        is_readable: is_readable(&path),
        is_expected: true,
    };
    absent.map(wish).collect()
}

/// The gateway that people ask for a vehicle: the one it is routed to, unless another alone has its session.
fn home(air: &Air, gateways: &[Gateway], vehicle: usize) -> usize {
    let route = air.routes[vehicle];
    let holds = |gate: &&Gateway| gate.view(air, vehicle).0 > 0;
    let at_route = gateways.get(route).filter(holds);
    at_route.or_else(|| gateways.iter().find(holds)).map_or(route, |gate| gate.index)
}

fn all_clicks(plan: &Plan) -> Vec<Click> {
    let last = |vehicle: usize| Click {
        at: plan.mix.horizon + REST - 2 * FINAL_TTL - 20 * SECOND,
        operator: 0,
        vehicle,
        gateway: None,
        key: 1_000_000 + vehicle as u64,
        class: Class::Config,
        path: 9,
        value: 1_000_000 + (vehicle as u64).cast_signed(),
        ttl: Some(FINAL_TTL),
        cancel: false,
        queue: false,
        leaks: false,
        slow: 0,
        patch: None,
    };
    let desire = |vehicle: usize| Click { patch: Some(last_patch(vehicle)), ..last(vehicle) };
    let vehicles = 0..plan.mix.vehicles;
    plan.clicks.iter().cloned().chain(vehicles.flat_map(|vehicle| [last(vehicle), desire(vehicle)])).collect()
}
