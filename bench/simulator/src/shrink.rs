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
    let mut attempt = |smaller: &Kept| {
        let run = run::replay(seed, size, smaller);
        let stays = run.violation.as_ref().is_some_and(|violation| violation.invariant == invariant);
        if stays {
            report = run;
        }
        stays
    };
    // A removal changes what chance draws after it; a second pass finds what the first had to leave.
    for _ in 0..2 {
        pass(&mut kept, |kept| &mut kept.drives, &mut attempt);
        pass(&mut kept, |kept| &mut kept.faults, &mut attempt);
        pass(&mut kept, |kept| &mut kept.clicks, &mut attempt);
    }
    Some((kept, report))
}

/// Takes away parts of one field, for as long as `attempt` says that the violation stays.
fn pass(kept: &mut Kept, field: fn(&mut Kept) -> &mut Vec<usize>, mut attempt: impl FnMut(&Kept) -> bool) {
    for chunk in halves(field(kept).len()) {
        let mut from = 0;
        while from < field(kept).len() {
            let mut smaller = kept.clone();
            *field(&mut smaller) = without(field(kept), from, chunk);
            if attempt(&smaller) {
                *kept = smaller;
            } else {
                from += chunk;
            }
        }
    }
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
