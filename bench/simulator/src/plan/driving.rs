//! Who drives when, how well, and what goes wrong just then.

use carriageway_proto::Class;

use super::{Click, Fault, MS, Mix, SECOND};
use crate::chance::Chance;

/// Keys of commands that drivers give count from here.
const KEYS: u64 = 3_000_000;

/// One operator's drive: takes the lease, re-arms, steers, and goes.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    pub(crate) operator: u8,
    pub(crate) vehicle: usize,
    /// The gateway asked; `None`: the one that the vehicle is at.
    pub(crate) gateway: Option<usize>,
    pub(crate) span: (u64, u64),
    /// Between two states of control.
    pub(crate) period: u64,
    /// From the operator to the gateway, one way; a part of it again comes and goes.
    pub(crate) delay: u64,
    /// Takes the lease from whoever has it.
    pub(crate) force: bool,
    pub(crate) farewell: Farewell,
    /// Moves the wheel while the vehicle waits for neutral input, in percent of states.
    pub(crate) haste: u64,
    /// The hands are off the wheel then, while the lease is renewed.
    pub(crate) nod: (u64, u64),
    /// Does not renew the lease from then on.
    pub(crate) forgets: u64,
    /// Goes on with control when the lease is lost.
    pub(crate) is_stubborn: bool,
    /// Of a hundred states, how many are made for something else than this vehicle.
    pub(crate) foreign: u64,
    /// Of a hundred states, how many are changed between gateway and vehicle.
    pub(crate) changed: u64,
    /// Of a hundred frames, how many come to the vehicle once more, later.
    pub(crate) copied: u64,
    /// The gateway lets through what its lease does not cover: the vehicle has to notice.
    pub(crate) leaks: bool,
}

/// How a drive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The lease is given back.
    Release,
    /// Nobody hears of the operator again.
    Silence,
}

/// Draws from a source of its own: worlds without drives stay as they are.
pub(super) fn draw(seed: u64, mix: &Mix, faults: &mut Vec<Fault>, clicks: &mut Vec<Click>) -> Vec<Drive> {
    let mut chance = Chance::new(seed, 3);
    let mut drives = Vec::new();
    if !chance.percent(40) {
        return drives;
    }
    for vehicle in 0..mix.vehicles {
        for _ in 0..chance.between(1, 3) {
            let first = draw_drive(&mut chance, vehicle, mix);
            if mix.gateways > 1 && chance.percent(25) {
                drives.push(commute(&mut chance, &first, mix, faults));
            } else if chance.percent(50) {
                drives.push(takeover(&mut chance, &first, mix));
            }
            if chance.percent(60) {
                for _ in 0..chance.between(1, 3) {
                    faults.push(aimed_fault(&mut chance, &first, mix));
                }
            }
            commands(&mut chance, &first, clicks);
            drives.push(first);
        }
    }
    drives
}

/// A drive without habits in a healthy world.
pub(crate) fn final_drive(vehicle: usize, at: u64) -> Drive {
    Drive {
        operator: 0,
        vehicle,
        gateway: None,
        span: (at, at + 8 * SECOND),
        period: 40 * MS,
        delay: 3 * MS,
        force: false,
        farewell: Farewell::Silence,
        haste: 0,
        nod: (0, 0),
        forgets: u64::MAX,
        is_stubborn: false,
        foreign: 0,
        changed: 0,
        copied: 0,
        leaks: false,
    }
}

fn draw_drive(chance: &mut Chance, vehicle: usize, mix: &Mix) -> Drive {
    let at = chance.below(mix.horizon.saturating_sub(25 * SECOND));
    let until = at + chance.between(3 * SECOND, 20 * SECOND);
    let moment = |chance: &mut Chance| at + chance.below(until - at);
    let nods = moment(chance);
    let nod = if chance.percent(30) { (nods, nods + chance.between(100 * MS, 3 * SECOND)) } else { (0, 0) };
    Drive {
        operator: chance.below(2) as u8,
        vehicle,
        gateway: Some(chance.index(mix.gateways)).filter(|_| chance.percent(10)),
        span: (at, until),
        period: chance.between(20, 50) * MS,
        delay: chance.pick(&[1, 5, 20, 60]) * MS,
        force: chance.percent(20),
        farewell: chance.pick(&[Farewell::Release, Farewell::Silence]),
        haste: chance.pick(&[0, 0, 5, 20]),
        nod,
        forgets: if chance.percent(25) { moment(chance) } else { u64::MAX },
        is_stubborn: chance.percent(40),
        foreign: chance.pick(&[0, 0, 2]),
        changed: chance.pick(&[0, 0, 2]),
        copied: chance.pick(&[0, 5, 20]),
        leaks: chance.percent(40),
    }
}

/// The other operator comes in the middle of it, by force.
fn takeover(chance: &mut Chance, first: &Drive, mix: &Mix) -> Drive {
    let (from, until) = first.span;
    let at = from + chance.between(SECOND, until - from);
    Drive {
        operator: 1 - first.operator,
        gateway: if chance.percent(50) { first.gateway } else { Some(chance.index(mix.gateways)) },
        span: (at, at + chance.between(2 * SECOND, 8 * SECOND)),
        force: chance.percent(80),
        ..draw_drive(chance, first.vehicle, mix)
    }
}

/// The vehicle goes to the other gateway, where the other operator waits, and comes back while the first one
/// still renews.
fn commute(chance: &mut Chance, first: &Drive, mix: &Mix, faults: &mut Vec<Fault>) -> Drive {
    let vehicle = first.vehicle;
    let home = first.gateway.unwrap_or(vehicle % mix.gateways);
    let other = (home + 1) % mix.gateways;
    let leaves = first.span.0 + chance.between(SECOND, 3 * SECOND);
    let returns = leaves + chance.between(SECOND, 5 * SECOND);
    for (at, gateway) in [(leaves, other), (returns, home)] {
        let (actions, down, reboot) = (chance.below(10) as u32, chance.below(300 * MS), false);
        faults.push(Fault::Reroute { vehicle, at, gateway });
        faults.push(Fault::KillVehicle { vehicle, at, actions, down, reboot });
    }
    Drive {
        operator: 1 - first.operator,
        gateway: Some(other),
        span: (leaves, returns + chance.below(4 * SECOND)),
        ..draw_drive(chance, vehicle, mix)
    }
}

/// Gears and modes, by whoever may and whoever may not any more; and emergency stops.
fn commands(chance: &mut Chance, drive: &Drive, clicks: &mut Vec<Click>) {
    let stops = u64::from(chance.percent(30));
    for number in 0..chance.between(0, 6) + stops {
        let key = KEYS + clicks.len() as u64;
        let (from, until) = drive.span;
        let class = if number < stops { Class::Safety } else { Class::Drive };
        clicks.push(Click {
            at: from + chance.below(until - from + 3 * SECOND),
            operator: if chance.percent(80) { drive.operator } else { 1 - drive.operator },
            vehicle: drive.vehicle,
            gateway: drive.gateway,
            key,
            class,
            path: chance.below(2) as u8,
            value: key.cast_signed(),
            ttl: chance.pick(&[None, Some(SECOND), Some(3 * SECOND)]).filter(|_| class == Class::Drive),
            cancel: false,
            queue: false,
            leaks: drive.leaks,
            patch: None,
            slow: 0,
        });
    }
}

/// Something goes wrong while somebody drives.
fn aimed_fault(chance: &mut Chance, drive: &Drive, mix: &Mix) -> Fault {
    let vehicle = drive.vehicle;
    let at = drive.span.0 + chance.below(drive.span.1 - drive.span.0);
    let gateway = drive.gateway.unwrap_or(vehicle % mix.gateways);
    let span = (at, (at + chance.between(50 * MS, 3 * SECOND)).min(mix.horizon));
    let actions = chance.below(40) as u32;
    match chance.below(15) {
        0..=1 => {
            let direction = chance.below(4);
            Fault::Partition { vehicle, gateway: None, up: direction != 1, down: direction != 2, span }
        }
        2 => Fault::Slow { vehicle, delay: chance.between(50, 800) * MS, span },
        3 => Fault::Handover { vehicle, dark: at, opens: at + chance.below(SECOND) },
        4 => Fault::KillVehicle {
            vehicle,
            at,
            actions,
            down: chance.below(SECOND),
            reboot: chance.percent(25),
        },
        5..=6 => Fault::KillGateway {
            gateway,
            at,
            actions,
            down: chance.below(SECOND),
            reboot: chance.percent(25),
        },
        7 => Fault::SuspendVehicle { vehicle, span },
        8 => Fault::SuspendGateway { gateway, span },
        9 => Fault::VehicleClockBack { vehicle, at, by: chance.between(60, 3_000) * MS },
        10 => Fault::SlowDisk { vehicle, sync: chance.between(100, 3_000) * MS, span },
        11 => Fault::GatewayClockBack { gateway, at, by: chance.between(60, 3_000) * MS },
        12 => Fault::BadDisk { vehicle, at, restart: (at + chance.below(5 * SECOND)).min(mix.horizon) },
        13 => Fault::Drain { gateway, at },
        _ => Fault::Reroute { vehicle, at, gateway: chance.index(mix.gateways) },
    }
}
