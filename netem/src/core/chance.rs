//! Chance as a function: the same question has the same answer, in any order, on any machine.

/// Names one channel. The same seed is the same weather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of link number `number` where one seed makes several. The first keeps the seed itself; the others are far from it
    /// and from those of neighbouring seeds, so that experiments under seeds 1, 2, 3 share no link.
    #[must_use]
    pub const fn of_link(self, number: u64) -> Self {
        match number {
            0 => self,
            _ => Self(mix(mix(self.0).wrapping_add(number.wrapping_mul(GOLDEN)))),
        }
    }
}

/// Which way a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the vehicle (relay: from the connecting side) into the network.
    Up,
    /// From the network to the vehicle.
    Down,
}

impl Direction {
    /// Both, in the order in which pairs are stored.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// Position in a pair: up 0, down 1.
    pub const fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }

    /// The other way.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// `up` or `down`, as profiles and logs spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is being decided. Each kind has its own stream, so that adding loss does not change the jitter.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// Is the packet lost?
    Loss = 1,
    /// How long does this good or bad period last?
    Burst = 2,
    /// How much is added to the delay?
    Jitter = 3,
    /// Does it arrive twice?
    Duplicate = 4,
    /// Is a bit flipped?
    Corrupt = 5,
    /// Which bit?
    CorruptBit = 6,
}

/// Odd constant of the golden ratio: spreads consecutive numbers over the 64-bit range.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The chance of one direction of one link.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    key: u64,
}

impl Chance {
    /// Chance for `direction` under `seed`.
    pub const fn new(seed: Seed, direction: Direction) -> Self {
        let side = direction.index() as u64 + 1;
        Self { key: mix(seed.0.wrapping_add(side.wrapping_mul(GOLDEN))) }
    }

    /// 64 uniform bits for the `n`-th decision of this kind.
    pub const fn bits(self, draw: Draw, n: u64) -> u64 {
        let stream = mix(self.key ^ (draw as u64).wrapping_mul(GOLDEN));
        mix(stream.wrapping_add(n.wrapping_mul(GOLDEN)))
    }

    /// A uniform number in `[0, 1)` for the `n`-th decision of this kind.
    pub const fn unit(self, draw: Draw, n: u64) -> f64 {
        /// 2 to the power of -53: the spacing of doubles just below one.
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.bits(draw, n) >> 11) as f64 * STEP
    }

    /// An exponentially distributed number with mean one for the `n`-th decision of this kind.
    pub fn exponential(self, draw: Draw, n: u64) -> f64 {
        -(1.0 - self.unit(draw, n)).ln()
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_neighbouring_seeds_are_not_the_same() {
        let mut seeds: Vec<_> =
            (0..50).flat_map(|seed| (0..50).map(move |link| Seed(seed).of_link(link).0)).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 2_500);
        assert_eq!(Seed(7).of_link(0), Seed(7));
    }

    #[test]
    fn same_question_same_answer_other_question_other_answer() {
        let up = Chance::new(Seed(7), Direction::Up);
        let down = Chance::new(Seed(7), Direction::Down);
        assert_eq!(up.bits(Draw::Loss, 3), Chance::new(Seed(7), Direction::Up).bits(Draw::Loss, 3));
        assert_ne!(up.bits(Draw::Loss, 3), down.bits(Draw::Loss, 3));
        assert_ne!(up.bits(Draw::Loss, 3), up.bits(Draw::Jitter, 3));
        assert_ne!(up.bits(Draw::Loss, 3), up.bits(Draw::Loss, 4));
    }

    #[test]
    fn units_are_uniform() {
        let chance = Chance::new(Seed(1), Direction::Up);
        let mean = (0..100_000).map(|n| chance.unit(Draw::Loss, n)).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
        let mean = (0..100_000).map(|n| chance.exponential(Draw::Burst, n)).sum::<f64>() / 100_000.0;
        assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
    }
}
