//! Device drops that a scenario itself causes: an interface that is down or has no carrier drops packets, and that is no fault.

use std::collections::BTreeMap;

/// An interface: the vehicle that it is in (`None`: the network's side) and its name.
pub(super) type Interface = (Option<usize>, String);
/// What devices have dropped so far.
pub(super) type Drops = BTreeMap<Interface, u64>;

/// Drops of vehicles' interfaces while these were cut, by the devices' own counters. A cut does not touch the far end.
#[derive(Debug, Default)]
pub(super) struct Excuse {
    /// What was dropped when the cut began.
    cut: Drops,
    /// What was dropped during cuts that are over.
    earlier: Drops,
}

impl Excuse {
    /// Path `path` of every vehicle is about to be cut, or has just come back; the devices have dropped `drops` so far.
    pub(super) fn change(&mut self, path: &str, present: bool, drops: &Drops) {
        for (interface, drops) in drops.iter().filter(|((side, name), _)| side.is_some() && name == path) {
            if present {
                let since = self.cut.remove(interface);
                let excused = since.map_or(0, |since| drops.saturating_sub(since));
                *self.earlier.entry(interface.clone()).or_default() += excused;
            } else {
                self.cut.entry(interface.clone()).or_insert(*drops);
            }
        }
    }

    /// Of `drops` so far, those without excuse.
    pub(super) fn inexcusable(&self, drops: &Drops) -> u64 {
        let of_one = |(interface, drops): (&Interface, &u64)| {
            let earlier = self.earlier.get(interface).copied().unwrap_or(0);
            let current = self.cut.get(interface).map_or(0, |since| drops.saturating_sub(*since));
            drops.saturating_sub(earlier + current)
        };
        drops.iter().map(of_one).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(lte: u64, wlan: u64, far: u64) -> Drops {
        let interfaces = [(Some(0), "lte0"), (Some(0), "wlan0"), (None, "v1-lte0")];
        interfaces.into_iter().map(|(side, name)| (side, name.to_owned())).zip([lte, wlan, far]).collect()
    }

    #[test]
    fn only_drops_during_a_cut_are_excused() {
        let mut excuse = Excuse::default();
        assert_eq!(excuse.inexcusable(&drops(3, 0, 0)), 3);
        excuse.change("lte0", false, &drops(3, 0, 0));
        excuse.change("lte0", false, &drops(4, 0, 0));
        assert_eq!(excuse.inexcusable(&drops(10, 0, 0)), 3);
        excuse.change("lte0", true, &drops(10, 0, 0));
        assert_eq!(excuse.inexcusable(&drops(12, 0, 0)), 5);
        excuse.change("wlan0", true, &drops(12, 0, 0));
        assert_eq!(excuse.inexcusable(&drops(12, 0, 0)), 5);
    }

    #[test]
    fn a_cut_excuses_its_own_interface_and_overlapping_cuts_count_once() {
        let mut excuse = Excuse::default();
        excuse.change("lte0", false, &drops(3, 0, 0));
        excuse.change("wlan0", false, &drops(5, 1, 0));
        assert_eq!(excuse.inexcusable(&drops(10, 2, 6)), 3 + 1 + 6);
        excuse.change("lte0", true, &drops(10, 2, 6));
        excuse.change("wlan0", true, &drops(10, 2, 6));
        assert_eq!(excuse.inexcusable(&drops(12, 3, 6)), 5 + 2 + 6);
    }
}
