//! What a seed draws: the world's make, what operators do, and which faults happen when.

use std::fmt;

use carriageway_proto::Class;

use crate::chance::Chance;

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000_000;

/// After the last fault the world gets so long to come to rest.
pub(crate) const REST: u64 = 100 * SECOND;

/// How large the worlds are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clicks of operators per seed, their repeats included.
    pub commands: u64,
    /// Virtual minutes per seed, with faults.
    pub minutes: u64,
}

impl Default for Size {
    /// A thousand commands per vehicle-hour, with two vehicles.
    fn default() -> Self {
        Self { commands: 300, minutes: 9 }
    }
}

/// The make of one world.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) vehicles: usize,
    pub(crate) gateways: usize,
    /// True microseconds until the faults stop.
    pub(crate) horizon: u64,
    /// One way, in microseconds.
    pub(crate) delay: u64,
    pub(crate) jitter: u64,
    /// In percent.
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// QUIC, WebSocket or both.
    pub(crate) transports: u64,
    /// One write to the disk, in microseconds.
    pub(crate) sync: u64,
    /// Per class on the vehicle: per second and at once.
    pub(crate) rate: (u32, u32),
    pub(crate) vehicle_ppm: Vec<i64>,
    pub(crate) gateway_ppm: Vec<i64>,
    /// How long a gateway keeps a session without connections, in microseconds.
    pub(crate) resume_window: u64,
    /// Of a hundred actuations, how many are refused and how many never reported.
    pub(crate) refusals: u64,
    pub(crate) mutes: u64,
}

/// One fault. Times are true microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes in a direction: from the vehicle, to it, or both; for one gateway or all.
    Partition {
        /// Which vehicle.
        vehicle: usize,
        /// Which gateway; `None`: all.
        gateway: Option<usize>,
        /// From the vehicle.
        up: bool,
        /// To the vehicle.
        down: bool,
        /// From and until when.
        span: (u64, u64),
    },
    /// More loss, in percent.
    Lossy {
        /// Which vehicle.
        vehicle: usize,
        /// How much.
        percent: u64,
        /// From and until when.
        span: (u64, u64),
    },
    /// More delay one way, in microseconds.
    Slow {
        /// Which vehicle.
        vehicle: usize,
        /// How much.
        delay: u64,
        /// From and until when.
        span: (u64, u64),
    },
    /// A new path opens; so long before or after, the old one goes dark.
    Handover {
        /// Which vehicle.
        vehicle: usize,
        /// When the old path goes dark.
        dark: u64,
        /// When the new one opens.
        opens: u64,
    },
    /// The vehicle's agent is killed after so many more actions.
    KillVehicle {
        /// Which.
        vehicle: usize,
        /// When.
        at: u64,
        /// Actions until then.
        actions: u32,
        /// How long it is down.
        down: u64,
        /// Its host boots anew.
        reboot: bool,
    },
    /// As above, a gateway.
    KillGateway {
        /// Which.
        gateway: usize,
        /// When.
        at: u64,
        /// Actions until then.
        actions: u32,
        /// How long it is down.
        down: u64,
    },
    /// A gateway drains, ends, and starts again.
    Drain {
        /// Which.
        gateway: usize,
        /// When.
        at: u64,
    },
    /// A vehicle's host is suspended.
    SuspendVehicle {
        /// Which.
        vehicle: usize,
        /// From and until when.
        span: (u64, u64),
    },
    /// A gateway's host is suspended.
    SuspendGateway {
        /// Which.
        gateway: usize,
        /// From and until when.
        span: (u64, u64),
    },
    /// A vehicle's boot clock goes backwards.
    VehicleClockBack {
        /// Which.
        vehicle: usize,
        /// When.
        at: u64,
        /// By how much.
        by: u64,
    },
    /// A gateway's boot clock goes backwards.
    GatewayClockBack {
        /// Which.
        gateway: usize,
        /// When.
        at: u64,
        /// By how much.
        by: u64,
    },
    /// The vehicle's disk takes longer, in microseconds.
    SlowDisk {
        /// Which vehicle.
        vehicle: usize,
        /// How long a write takes.
        sync: u64,
        /// From and until when.
        span: (u64, u64),
    },
    /// The vehicle's disk fails until its agent is started anew.
    BadDisk {
        /// Which vehicle.
        vehicle: usize,
        /// When.
        at: u64,
        /// When somebody restarts the agent.
        restart: u64,
    },
    /// The vehicle dials another gateway from now on.
    Reroute {
        /// Which vehicle.
        vehicle: usize,
        /// When.
        at: u64,
        /// Where.
        gateway: usize,
    },
    /// A copy of an old command reaches the vehicle by some other way.
    Replay {
        /// Which vehicle.
        vehicle: usize,
        /// When.
        at: u64,
        /// How many commands ago.
        age: usize,
    },
}

impl Fault {
    /// When it begins.
    pub(crate) fn begins(&self) -> u64 {
        match self {
            Self::Partition { span, .. }
            | Self::Lossy { span, .. }
            | Self::Slow { span, .. }
            | Self::SuspendVehicle { span, .. }
            | Self::SuspendGateway { span, .. }
            | Self::SlowDisk { span, .. } => span.0,
            Self::Handover { dark, opens, .. } => *dark.min(opens),
            Self::KillVehicle { at, .. }
            | Self::KillGateway { at, .. }
            | Self::Drain { at, .. }
            | Self::VehicleClockBack { at, .. }
            | Self::GatewayClockBack { at, .. }
            | Self::BadDisk { at, .. }
            | Self::Reroute { at, .. }
            | Self::Replay { at, .. } => *at,
        }
    }
}

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
    /// From the first byte of the request to its last.
    pub(crate) slow: u64,
}

/// All that a seed draws.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mix: Mix,
    pub(crate) faults: Vec<Fault>,
    pub(crate) clicks: Vec<Click>,
}

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn draw(seed: u64, size: Size) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = Mix::draw(&mut chance, size);
        let mut faults = Vec::new();
        // Some seeds are calm, most are not.
        let storms = chance.pick(&[0, 1, 2, 4, 8]);
        for vehicle in 0..mix.vehicles {
            for _ in 0..chance.below(3 + 2 * storms) {
                faults.push(draw_fault(&mut chance, vehicle, &mix));
            }
            if storms > 0 && chance.percent(10) {
                reboot_twice(&mut chance, vehicle, &mix, &mut faults);
            }
        }
        faults.sort_by_key(Fault::begins);
        let clicks = draw_clicks(&mut chance, &mix, size.commands);
        Self { seed, mix, faults, clicks }
    }

    /// Some clock goes backwards.
    pub(crate) fn has_jumps(&self) -> bool {
        let jumps =
            |fault: &Fault| matches!(fault, Fault::VehicleClockBack { .. } | Fault::GatewayClockBack { .. });
        self.faults.iter().any(jumps)
    }
}

impl Mix {
    fn draw(chance: &mut Chance, size: Size) -> Self {
        let (vehicles, gateways) = (chance.pick(&[1, 2, 2, 3]), chance.pick(&[1, 2, 2]));
        let mut ppm = |count| (0..count).map(|_| 1_000 - chance.between(0, 2_000).cast_signed()).collect();
        let (vehicle_ppm, gateway_ppm) = (ppm(vehicles), ppm(gateways));
        Self {
            vehicles,
            gateways,
            horizon: size.minutes * 60 * SECOND,
            delay: chance.between(2, 80) * MS,
            jitter: chance.pick(&[0, 2, 10, 40]) * MS,
            loss: chance.pick(&[0, 0, 1, 5, 15]),
            duplicates: chance.pick(&[0, 1, 10]),
            transports: chance.below(3),
            sync: chance.pick(&[200, 2 * MS, 15 * MS, 60 * MS]),
            rate: chance.pick(&[(10, 20), (10, 20), (2, 4), (1, 2)]),
            vehicle_ppm,
            gateway_ppm,
            resume_window: chance.pick(&[2, 10, 30]) * SECOND,
            refusals: chance.pick(&[0, 0, 10]),
            mutes: chance.pick(&[0, 0, 5]),
        }
    }
}

fn span(chance: &mut Chance, mix: &Mix, longest: u64) -> (u64, u64) {
    let from = chance.below(mix.horizon);
    (from, (from + chance.between(50 * MS, longest)).min(mix.horizon))
}

fn draw_fault(chance: &mut Chance, vehicle: usize, mix: &Mix) -> Fault {
    let (at, gateway) = (chance.below(mix.horizon), chance.index(mix.gateways));
    let actions = chance.below(60) as u32;
    match chance.below(24) {
        0..=3 => {
            let longest = chance.pick(&[SECOND, 5 * SECOND, 40 * SECOND]);
            let direction = chance.below(4);
            let gateway = Some(gateway).filter(|_| chance.percent(20));
            let span = span(chance, mix, longest);
            Fault::Partition { vehicle, gateway, up: direction != 1, down: direction != 2, span }
        }
        4 => Fault::Lossy { vehicle, percent: chance.between(5, 60), span: span(chance, mix, 30 * SECOND) },
        5..=6 => Fault::Slow {
            vehicle,
            delay: chance.between(50, 3_000) * MS,
            span: span(chance, mix, 20 * SECOND),
        },
        7..=8 => {
            let opens = (at + chance.below(4 * SECOND)).saturating_sub(2 * SECOND);
            Fault::Handover { vehicle, dark: at, opens }
        }
        9..=12 => {
            let down = chance.pick(&[0, 300 * MS, 5 * SECOND]);
            Fault::KillVehicle { vehicle, at, actions, down, reboot: chance.percent(25) }
        }
        13..=14 => Fault::KillGateway { gateway, at, actions, down: chance.below(4 * SECOND) },
        15 => Fault::Drain { gateway, at },
        16 => Fault::SuspendVehicle { vehicle, span: span(chance, mix, 10 * SECOND) },
        17 => Fault::SuspendGateway { gateway, span: span(chance, mix, 10 * SECOND) },
        18 => Fault::VehicleClockBack { vehicle, at, by: chance.between(60, 6_000) * MS },
        19 if chance.percent(50) => {
            Fault::GatewayClockBack { gateway, at, by: chance.between(60, 6_000) * MS }
        }
        19 => Fault::SlowDisk {
            vehicle,
            sync: chance.between(100, 3_000) * MS,
            span: span(chance, mix, 20 * SECOND),
        },
        20 => {
            let restart = (at + chance.below(20 * SECOND)).min(mix.horizon);
            Fault::BadDisk { vehicle, at, restart }
        }
        21 => Fault::Reroute { vehicle, at, gateway },
        _ => Fault::Replay { vehicle, at, age: chance.index(20) },
    }
}

/// Two boots soon after each other show the same readings of the clock: copies from the first turn up in the
/// second.
fn reboot_twice(chance: &mut Chance, vehicle: usize, mix: &Mix, faults: &mut Vec<Fault>) {
    let first = chance.below(mix.horizon.saturating_sub(90 * SECOND));
    let second = first + chance.between(8, 25) * SECOND;
    for at in [first, second] {
        faults.push(Fault::KillVehicle {
            vehicle,
            at,
            actions: 0,
            down: chance.below(5 * SECOND),
            reboot: true,
        });
    }
    for age in 0..8 {
        let at = second + chance.between(5, 40) * SECOND;
        faults.push(Fault::Replay { vehicle, at, age });
    }
}

fn draw_clicks(chance: &mut Chance, mix: &Mix, count: u64) -> Vec<Click> {
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
            clicks.push(Click { at, key: number, value, ..first.clone() });
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
        path: chance.below(3) as u8,
        value: number.cast_signed(),
        ttl: chance.pick(&[None, Some(300 * MS), Some(SECOND), Some(2 * SECOND), Some(5 * SECOND)]),
        cancel: false,
        queue: class != Class::Safety && chance.percent(25),
        slow,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { vehicles, gateways, delay, jitter, loss, duplicates, sync, .. } = &self.mix;
        writeln!(
            f,
            "seed {}: {vehicles} vehicles, {gateways} gateways, {} clicks; {} ms + {} ms one way, {loss} % loss, \
             {duplicates} % copies; {} ms per write",
            self.seed,
            self.clicks.len(),
            delay / MS,
            jitter / MS,
            *sync as f64 / 1e3,
        )?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "    {fault:?}"))
    }
}
