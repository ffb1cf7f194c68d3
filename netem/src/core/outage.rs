//! When nothing passes.

use std::time::Duration;

use super::law::{Outage, OutageMode};
use super::moment::Moment;

/// Windows that may follow each other without a gap: a link that is held through more counts as held for ever, so that asking
/// always ends.
const MOST_WINDOWS: usize = 1_000;

/// Scheduled outages of a law and those declared while the link runs.
#[derive(Clone, Debug)]
pub(super) struct Outages {
    start: Moment,
    planned: Vec<Outage>,
    declared: Option<Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    from: Moment,
    until: Moment,
    mode: OutageMode,
}

impl Outages {
    pub(super) const fn new(start: Moment, planned: Vec<Outage>) -> Self {
        Self { start, planned, declared: None }
    }

    /// Replaces the schedule; what was declared goes on.
    pub(super) fn plan(&mut self, planned: Vec<Outage>) {
        self.planned = planned;
    }

    /// Declares an outage. A newer declaration replaces an older one.
    pub(super) const fn declare(&mut self, from: Moment, until: Moment, mode: OutageMode) {
        self.declared = Some(Window { from, until, mode });
    }

    /// Whether a packet that leaves at `at` is lost.
    pub(super) fn drops_at(&self, at: Moment) -> bool {
        self.windows_at(at).any(|window| window.mode == OutageMode::Drop)
    }

    /// The first moment not before `at` at which the link is not held; [`Moment::NEVER`] if there is none.
    pub(super) fn released_at(&self, at: Moment) -> Moment {
        let mut at = at;
        for _ in 0..MOST_WINDOWS {
            match self.windows_at(at).find(|window| window.mode == OutageMode::Hold) {
                Some(window) if window.until < Moment::NEVER => at = window.until,
                Some(_) => return Moment::NEVER,
                None => return at,
            }
        }
        Moment::NEVER
    }

    /// The first moment not before `at` at which the link is not held and the server is ready, which `ready_at` tells of any
    /// moment; [`Moment::NEVER`] if there is none.
    pub(super) fn first_start(&self, at: Moment, ready_at: impl Fn(Moment) -> Moment) -> Moment {
        let mut at = self.released_at(at);
        for _ in 0..MOST_WINDOWS {
            let ready = ready_at(at);
            let released = self.released_at(ready);
            if released == ready {
                return ready;
            }
            at = released;
        }
        Moment::NEVER
    }

    /// The first moment after `at` at which an outage may begin or end.
    pub(super) fn next_edge(&self, at: Moment) -> Moment {
        let planned = self.planned.iter().flat_map(|outage| {
            let window = self.occurrence(*outage, at);
            let first = self.start + outage.from;
            let again = match (window, outage.every) {
                (Some(window), Some(every)) if !every.is_zero() => window.from + every,
                (Some(_), _) => Moment::NEVER,
                (None, _) => first,
            };
            [window.map_or(Moment::NEVER, |window| window.until), again]
        });
        let declared = self.declared.iter().flat_map(|window| [window.from, window.until]);
        planned.chain(declared).filter(|edge| *edge > at).min().unwrap_or(Moment::NEVER)
    }

    fn windows_at(&self, at: Moment) -> impl Iterator<Item = Window> {
        let planned = self.planned.iter().filter_map(move |outage| self.occurrence(*outage, at));
        planned.chain(self.declared).filter(move |window| window.from <= at && at < window.until)
    }

    /// The last occurrence of `outage` that begins at or before `at`.
    fn occurrence(&self, outage: Outage, at: Moment) -> Option<Window> {
        let first = self.start + outage.from;
        if at < first {
            return None;
        }
        let from = match outage.every {
            Some(every) if !every.is_zero() => {
                let turns = at.since(first).as_nanos() / every.as_nanos();
                first + nanos(turns * every.as_nanos())
            }
            Some(_) | None => first,
        };
        Some(Window { from, until: from + outage.length, mode: outage.mode })
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tunnel(mode: OutageMode) -> Outage {
        Outage {
            from: Duration::from_secs(10),
            length: Duration::from_secs(2),
            every: Some(Duration::from_secs(30)),
            mode,
        }
    }

    #[test]
    fn an_outage_recurs() {
        let outages = Outages::new(Moment::from_millis(500), vec![tunnel(OutageMode::Drop)]);
        let drops: Vec<_> = [10_499, 10_500, 12_499, 12_500, 40_500, 42_500]
            .map(Moment::from_millis)
            .map(|at| outages.drops_at(at))
            .into();
        assert_eq!(drops, [false, true, true, false, true, false]);
    }

    #[test]
    fn a_held_link_is_released_at_the_end() {
        let mut outages = Outages::new(Moment::ZERO, vec![tunnel(OutageMode::Hold)]);
        assert_eq!(outages.released_at(Moment::from_millis(11_000)), Moment::from_millis(12_000));
        assert_eq!(outages.released_at(Moment::from_millis(12_000)), Moment::from_millis(12_000));
        let always = |from| Outage { length: Duration::from_secs(29), from, ..tunnel(OutageMode::Hold) };
        let closed =
            Outages::new(Moment::ZERO, vec![always(Duration::ZERO), always(Duration::from_secs(10))]);
        assert_eq!(closed.released_at(Moment::from_millis(5)), Moment::NEVER);
        outages.declare(Moment::from_millis(12_000), Moment::NEVER, OutageMode::Hold);
        assert_eq!(outages.released_at(Moment::from_millis(11_000)), Moment::NEVER);
    }
}
