//! The order of runs.

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;

/// Puts them in an order that follows from the seed.
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut chance = Pcg32::seed_from_u64(seed);
    for last in (1..items.len()).rev() {
        items.swap(last, chance.next_u32() as usize % (last + 1));
    }
}
