//! How sure a figure is that was measured in a few blocks. Pure; the same figures give the same answers.

mod bootstrap;
mod paired;

pub use bootstrap::{Medians, estimate, unpaired};
pub use paired::{direction, holm, sign_flip};

/// Intervals cover the truth in so many of a hundred cases.
pub const CONFIDENCE: f64 = 0.95;

/// From fewer blocks no interval is sure: the median of four lies outside of all four in one of eight cases.
pub const FEWEST_BLOCKS: usize = 5;
