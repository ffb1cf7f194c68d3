//! What goes wrong, and when.

use super::{MS, Mix, SECOND};
use crate::chance::Chance;

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
        /// Its host boots anew.
        reboot: bool,
    },
    /// A gateway's disk fails.
    BadGatewayDisk {
        /// Which.
        gateway: usize,
        /// From and until when.
        span: (u64, u64),
    },
    /// A gateway's disk takes longer, in microseconds.
    SlowGatewayDisk {
        /// Which.
        gateway: usize,
        /// How long a write takes.
        sync: u64,
        /// From and until when.
        span: (u64, u64),
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
            | Self::BadGatewayDisk { span, .. }
            | Self::SlowGatewayDisk { span, .. }
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

fn span(chance: &mut Chance, mix: &Mix, longest: u64) -> (u64, u64) {
    let from = chance.below(mix.horizon);
    (from, (from + chance.between(50 * MS, longest)).min(mix.horizon))
}

pub(super) fn draw_fault(chance: &mut Chance, vehicle: usize, mix: &Mix) -> Fault {
    let (at, gateway) = (chance.below(mix.horizon), chance.index(mix.gateways));
    let actions = chance.below(60) as u32;
    match chance.below(27) {
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
        13..=14 => {
            let down = chance.below(4 * SECOND);
            Fault::KillGateway { gateway, at, actions, down, reboot: chance.percent(25) }
        }
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
        22..=23 => Fault::BadGatewayDisk { gateway, span: span(chance, mix, 20 * SECOND) },
        24 => Fault::SlowGatewayDisk {
            gateway,
            sync: chance.between(100, 3_000) * MS,
            span: span(chance, mix, 20 * SECOND),
        },
        25.. => Fault::Replay { vehicle, at, age: chance.index(20) },
    }
}
