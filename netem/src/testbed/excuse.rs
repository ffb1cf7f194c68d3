//! Device drops that a scenario itself causes: an interface that is down or has no carrier drops packets, and that is no fault.

use std::collections::BTreeMap;

/// Drops while some path was cut, by the devices' own counters.
#[derive(Debug, Default)]
pub(super) struct Excuse {
    /// Paths that are cut, and what the devices had dropped when they were.
    cut: BTreeMap<usize, u64>,
    earlier: u64,
}

impl Excuse {
    /// Path `path` is about to be cut, or has just come back; the devices have dropped `drops` so far.
    pub(super) fn change(&mut self, path: usize, present: bool, drops: u64) {
        if present {
            let since = self.cut.remove(&path);
            self.earlier += since.map_or(0, |since| drops.saturating_sub(since));
        } else {
            self.cut.entry(path).or_insert(drops);
        }
    }

    /// Of `drops` so far, those without excuse.
    pub(super) fn inexcusable(&self, drops: u64) -> u64 {
        let current = self.cut.values().map(|since| drops.saturating_sub(*since)).max().unwrap_or(0);
        drops.saturating_sub(self.earlier + current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_during_a_cut_are_excused() {
        let mut excuse = Excuse::default();
        assert_eq!(excuse.inexcusable(3), 3);
        excuse.change(0, false, 3);
        excuse.change(0, false, 4);
        assert_eq!(excuse.inexcusable(10), 3);
        excuse.change(0, true, 10);
        assert_eq!(excuse.inexcusable(12), 5);
        excuse.change(1, true, 12);
        assert_eq!(excuse.inexcusable(12), 5);
    }
}
