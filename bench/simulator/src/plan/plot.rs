//! Faults and clicks that together bring about what chance alone seldom does.

use carriageway_proto::Class;

use super::{Click, Fault, MS, Mix, SECOND};
use crate::chance::Chance;

pub(super) fn draw_plots(chance: &mut Chance, mix: &Mix, faults: &mut Vec<Fault>, clicks: &mut Vec<Click>) {
    for vehicle in 0..mix.vehicles {
        if chance.percent(15) {
            reboot_twice(chance, vehicle, mix, faults);
        }
        if chance.percent(15) {
            restart_in_a_tunnel(chance, vehicle, mix, faults);
        }
        if mix.gateways > 1 && chance.percent(25) {
            two_wishes(chance, vehicle, mix, faults, clicks);
        }
    }
    for gateway in 0..mix.gateways {
        if chance.percent(15) {
            reboot_gateway_twice(chance, gateway, mix, faults);
        }
    }
}

/// Some time that leaves `room` before the faults stop.
fn some_time(chance: &mut Chance, mix: &Mix, room: u64) -> u64 {
    chance.below(mix.horizon.saturating_sub(room))
}

/// Two boots soon after each other show the same readings of the clock. What was sent in the first and did not get
/// through a tunnel turns up in the second.
fn reboot_twice(chance: &mut Chance, vehicle: usize, mix: &Mix, faults: &mut Vec<Fault>) {
    let first = some_time(chance, mix, 90 * SECOND);
    let second = first + chance.between(8, 25) * SECOND;
    for at in [first, second] {
        let down = chance.below(5 * SECOND);
        faults.push(Fault::KillVehicle { vehicle, at, actions: 0, down, reboot: true });
    }
    let span = (second - chance.between(3, 7) * SECOND, second + SECOND);
    faults.push(Fault::Partition { vehicle, gateway: None, up: false, down: true, span });
    for _ in 0..24 {
        let at = second + chance.between(2, 40) * SECOND;
        faults.push(Fault::Replay { vehicle, at, age: chance.index(12) });
    }
}

/// The agent restarts where nothing reaches it, so that its session is lost with what was under way. Copies of that
/// turn up after newer commands have come by the next session.
fn restart_in_a_tunnel(chance: &mut Chance, vehicle: usize, mix: &Mix, faults: &mut Vec<Fault>) {
    let at = some_time(chance, mix, 30 * SECOND);
    let until = at + chance.between(1, 6) * SECOND;
    faults.push(Fault::Partition { vehicle, gateway: None, up: false, down: true, span: (at, until) });
    let killed = until - chance.between(50, 900) * MS;
    faults.push(Fault::KillVehicle { vehicle, at: killed, actions: 0, down: 0, reboot: false });
    for _ in 0..24 {
        let at = until + chance.between(500, 15_000) * MS;
        faults.push(Fault::Replay { vehicle, at, age: chance.index(10) });
    }
}

/// Two gateways take different wishes under one key, one of them for its queue. The vehicle carries out the first, and
/// comes to the second gateway with the word of it.
fn two_wishes(
    chance: &mut Chance,
    vehicle: usize,
    mix: &Mix,
    faults: &mut Vec<Fault>,
    clicks: &mut Vec<Click>,
) {
    let Some(model) = clicks.iter().find(|click| click.vehicle == vehicle && click.class != Class::Safety)
    else {
        return;
    };
    let at = some_time(chance, mix, 30 * SECOND);
    let (here, there) = (vehicle % mix.gateways, (vehicle + 1) % mix.gateways);
    let key = 500_000 + vehicle as u64;
    let ask = |gateway: usize, value: i64, queue: bool, at: u64| Click {
        at,
        gateway: Some(gateway),
        key,
        class: Class::Comfort,
        path: 0,
        value,
        ttl: None,
        cancel: false,
        queue,
        slow: 0,
        patch: None,
        ..model.clone()
    };
    let pair = [ask(here, 500_000, false, at), ask(there, 500_001, true, at + chance.below(SECOND))];
    clicks.extend(pair);
    let moves = at + chance.between(500, 3_000) * MS;
    faults.push(Fault::Reroute { vehicle, at: moves, gateway: there });
    faults.push(Fault::KillVehicle { vehicle, at: moves, actions: 0, down: 0, reboot: false });
}

/// Two boots of a gateway's host soon after each other show the same readings of its clock.
fn reboot_gateway_twice(chance: &mut Chance, gateway: usize, mix: &Mix, faults: &mut Vec<Fault>) {
    let first = some_time(chance, mix, 60 * SECOND);
    let second = first + chance.between(4, 15) * SECOND;
    for (at, down) in [(first, chance.below(3 * SECOND)), (second, chance.between(2, 20) * SECOND)] {
        faults.push(Fault::KillGateway { gateway, at, actions: 0, down, reboot: true });
    }
}
