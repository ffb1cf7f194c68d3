//! Takes away faults and clicks for as long as the violation stays.

use crate::plan::{Plan, Size};
use crate::run::{self, Report};

/// What is left of a seed's plan, by places in the plan as it was drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Faults.
    pub faults: Vec<usize>,
    /// Clicks.
    pub clicks: Vec<usize>,
    /// Drives.
    pub drives: Vec<usize>,
}

impl Kept {
    /// All that `seed` draws.
    pub fn all(seed: u64, size: Size) -> Self {
        let plan = Plan::draw(seed, size);
        Self {
            faults: (0..plan.faults.len()).collect(),
            clicks: (0..plan.clicks.len()).collect(),
            drives: (0..plan.drives.len()).collect(),
        }
    }

    pub(crate) fn of(&self, mut plan: Plan) -> Plan {
        plan.faults = self.faults.iter().filter_map(|index| plan.faults.get(*index).cloned()).collect();
        plan.clicks = self.clicks.iter().filter_map(|index| plan.clicks.get(*index).cloned()).collect();
        plan.drives = self.drives.iter().filter_map(|index| plan.drives.get(*index).cloned()).collect();
        plan
    }
}

/// The least that still breaks the invariant that `seed` breaks, and its run; `None` where it breaks none.
pub fn shrink(seed: u64, size: Size) -> Option<(Kept, Report)> {
    let mut kept = Kept::all(seed, size);
    let mut report = run::replay(seed, size, &kept);
    let invariant = report.violation.as_ref()?.invariant;
    let attempt = |smaller: Kept, kept: &mut Kept, report: &mut Report| {
        let run = run::replay(seed, size, &smaller);
        let stays = run.violation.as_ref().is_some_and(|violation| violation.invariant == invariant);
        if stays {
            (*kept, *report) = (smaller, run);
        }
        stays
    };
    // A removal changes what chance draws after it; a second pass finds what the first had to leave.
    for _ in 0..2 {
        for chunk in halves(kept.drives.len()) {
            let mut from = 0;
            while from < kept.drives.len() {
                let smaller = Kept { drives: without(&kept.drives, from, chunk), ..kept.clone() };
                from += if attempt(smaller, &mut kept, &mut report) { 0 } else { chunk };
            }
        }
        for chunk in halves(kept.faults.len()) {
            let mut from = 0;
            while from < kept.faults.len() {
                let smaller = Kept { faults: without(&kept.faults, from, chunk), ..kept.clone() };
                from += if attempt(smaller, &mut kept, &mut report) { 0 } else { chunk };
            }
        }
        for chunk in halves(kept.clicks.len()) {
            let mut from = 0;
            while from < kept.clicks.len() {
                let smaller = Kept { clicks: without(&kept.clicks, from, chunk), ..kept.clone() };
                from += if attempt(smaller, &mut kept, &mut report) { 0 } else { chunk };
            }
        }
    }
    Some((kept, report))
}

/// Lengths of what to take away at once: half, a quarter, and so on to one.
fn halves(length: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(length.div_ceil(2)), |chunk| (*chunk > 1).then(|| chunk.div_ceil(2)))
        .filter(|chunk| *chunk > 0)
}

fn without(all: &[usize], from: usize, count: usize) -> Vec<usize> {
    let until = (from + count).min(all.len());
    all[..from].iter().chain(&all[until..]).copied().collect()
}
