//! What operators ask for, and when.

use carriageway_proto::Class;

use super::{MS, Mix, Patch, SECOND};
use crate::chance::Chance;

/// What an operator does.
#[derive(Clone, Debug)]
pub(crate) struct Click {
    pub(crate) at: u64,
    pub(crate) operator: u8,
    pub(crate) vehicle: usize,
    /// The gateway asked; `None`: the one that the vehicle is routed to.
    pub(crate) gateway: Option<usize>,
    pub(crate) key: u64,
    pub(crate) class: Class,
    pub(crate) path: u8,
    pub(crate) value: i64,
    pub(crate) ttl: Option<u64>,
    /// It withdraws what has this key, instead of asking for anything.
    pub(crate) cancel: bool,
    /// It waits for a vehicle that is offline.
    pub(crate) queue: bool,
    /// The gateway lets a drive command through without a lease.
    pub(crate) leaks: bool,
    /// From the first byte of the request to its last.
    pub(crate) slow: u64,
    /// It changes what is desired of the vehicle, instead of asking for anything.
    pub(crate) patch: Option<Patch>,
}

pub(super) fn draw_clicks(chance: &mut Chance, mix: &Mix, count: u64) -> Vec<Click> {
    let mut clicks: Vec<Click> = Vec::new();
    let has_stops = chance.percent(30);
    let mut number = 0;
    while (clicks.len() as u64) < count {
        let first = draw_click(chance, mix, &mut number, has_stops);
        // Impatience: more of the same kind; a retry under the same key; rarely another wish under it.
        let most = chance.pick(&[7, 7, 7, 30]);
        let burst = if chance.percent(10) { chance.between(2, most) } else { 0 };
        for _ in 0..burst {
            number += 1;
            let at = first.at + chance.below(2 * SECOND);
            let value = if chance.percent(50) { first.value } else { number.cast_signed() };
            // Where there are many targets, they are clicked one after the other.
            let path = if mix.targets > 3 { chance.below(mix.targets) as u8 } else { first.path };
            clicks.push(Click { at, key: number, value, path, ..first.clone() });
        }
        if chance.percent(25) {
            let at = first.at + chance.between(50 * MS, 20 * SECOND);
            let gateway = Some(chance.index(mix.gateways));
            clicks.push(Click { at, gateway, ..first.clone() });
        }
        if chance.percent(10) {
            let at = first.at + first.slow + chance.below(SECOND);
            clicks.push(Click { at, cancel: true, slow: 0, ..first.clone() });
        }
        if chance.percent(3) && first.class != Class::Safety {
            number += 1;
            let at = first.at + chance.below(10 * SECOND);
            let gateway = Some(chance.index(mix.gateways));
            clicks.push(Click { at, gateway, value: number.cast_signed(), ..first.clone() });
        }
        clicks.push(first);
    }
    clicks.retain(|click| click.at + click.slow < mix.horizon);
    clicks
}

fn draw_click(chance: &mut Chance, mix: &Mix, number: &mut u64, has_stops: bool) -> Click {
    *number += 1;
    let ordinary = [Class::Body, Class::Body, Class::Body, Class::Comfort, Class::Diagnostics];
    let class = if has_stops && chance.percent(3) { Class::Safety } else { chance.pick(&ordinary) };
    let slow = if chance.percent(5) { chance.between(100 * MS, 3 * SECOND) } else { 0 };
    Click {
        at: chance.below(mix.horizon),
        operator: chance.below(2) as u8,
        vehicle: chance.index(mix.vehicles),
        gateway: Some(chance.index(mix.gateways)).filter(|_| chance.percent(20)),
        key: *number,
        class,
        path: chance.below(mix.targets) as u8,
        value: number.cast_signed(),
        ttl: chance.pick(&[None, Some(300 * MS), Some(SECOND), Some(2 * SECOND), Some(5 * SECOND)]),
        cancel: false,
        queue: class != Class::Safety && chance.percent(25),
        leaks: false,
        slow,
        patch: None,
    }
}
