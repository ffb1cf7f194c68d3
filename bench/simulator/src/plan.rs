//! What a seed draws: the world's make, what operators do, and which faults happen when.

mod click;
mod driving;
mod fault;
mod plot;
mod wishes;

use std::fmt;

use carriageway_agent::core::executor::Limits;

pub(crate) use self::click::Click;
pub(crate) use self::driving::{Drive, Farewell, final_drive};
pub use self::fault::Fault;
pub(crate) use self::wishes::{Match, Patch, last_patch};
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
    /// How much vehicles remember of commands.
    pub(crate) memory: Limits,
    pub(crate) vehicle_ppm: Vec<i64>,
    pub(crate) gateway_ppm: Vec<i64>,
    /// How long a gateway keeps a session without connections, in microseconds.
    pub(crate) resume_window: u64,
    /// Targets of each class that operators click.
    pub(crate) targets: u64,
    /// Of a hundred actuations, how many are refused and how many never reported.
    pub(crate) refusals: u64,
    pub(crate) mutes: u64,
}

/// All that a seed draws.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mix: Mix,
    pub(crate) faults: Vec<Fault>,
    pub(crate) clicks: Vec<Click>,
    pub(crate) drives: Vec<Drive>,
    /// Somebody drives in this world, and at its end, too.
    pub(crate) is_driven: bool,
}

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn draw(seed: u64, size: Size) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mut mix = Mix::draw(&mut chance, size);
        mix.memory = draw_memory(seed);
        let mut faults = Vec::new();
        // Some seeds are calm, most are not.
        let storms = chance.pick(&[0, 1, 2, 4, 8]);
        for vehicle in 0..mix.vehicles {
            for _ in 0..chance.below(3 + 2 * storms) {
                faults.push(fault::draw_fault(&mut chance, vehicle, &mix));
            }
        }
        let mut clicks = click::draw_clicks(&mut chance, &mix, size.commands);
        wishes::draw_patches(&mut chance, &mix, &mut clicks);
        if storms > 0 {
            plot::draw_plots(&mut chance, &mix, &mut faults, &mut clicks);
        }
        let drives = driving::draw(seed, &mix, &mut faults, &mut clicks);
        faults.sort_by_key(Fault::begins);
        let is_driven = !drives.is_empty();
        Self { seed, mix, faults, clicks, drives, is_driven }
    }

    /// Some gateway's clock goes backwards.
    pub(crate) fn has_gateway_jumps(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::GatewayClockBack { .. }))
    }

    /// Some clock goes backwards.
    pub(crate) fn has_jumps(&self) -> bool {
        let jumps =
            |fault: &Fault| matches!(fault, Fault::VehicleClockBack { .. } | Fault::GatewayClockBack { .. });
        self.faults.iter().any(jumps)
    }
}

/// In some worlds vehicles remember so little that it does not do for everything. From a chance of its own, so that
/// what else a seed draws does not depend on it.
fn draw_memory(seed: u64) -> Limits {
    let mut chance = Chance::new(seed, 4);
    let all = Limits::default();
    if chance.percent(75) {
        return all;
    }
    Limits { admitted: chance.between(16, 64) as usize, refused: chance.between(8, 64) as usize, ..all }
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
            memory: Limits::default(),
            vehicle_ppm,
            gateway_ppm,
            resume_window: chance.pick(&[2, 10, 30]) * SECOND,
            targets: chance.pick(&[3, 3, 3, 12]),
            refusals: chance.pick(&[0, 0, 10]),
            mutes: chance.pick(&[0, 0, 5]),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { vehicles, gateways, delay, jitter, loss, duplicates, sync, .. } = &self.mix;
        writeln!(
            f,
            "seed {}: {vehicles} vehicles, {gateways} gateways, {} clicks, {} drives; {} ms + {} ms one way, {loss} % loss, \
             {duplicates} % copies; {} ms per write",
            self.seed,
            self.clicks.len(),
            self.drives.len(),
            delay / MS,
            jitter / MS,
            *sync as f64 / 1e3,
        )?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "    {fault:?}"))
    }
}
