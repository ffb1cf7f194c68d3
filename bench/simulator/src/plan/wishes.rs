//! What operators desire of vehicles, and when they change it.

use carriageway_proto::Class;

use super::{Click, MS, Mix, SECOND};
use crate::chance::Chance;

/// Which version a change is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Whatever there is.
    Any,
    /// The one that the operator has just read.
    Present,
    /// One before that: somebody else was quicker.
    Stale,
}

/// A change of what is desired of a vehicle.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    /// By class and number of the path, as in a click; `None`: nothing is desired of it any more.
    pub(crate) edits: Vec<(Class, u8, Option<i64>)>,
    /// In microseconds; `None`: without end.
    pub(crate) valid_for: Option<u64>,
    pub(crate) made_to: Match,
}

/// About one change for ten clicks, many of them of paths that commands move, too.
pub(super) fn draw_patches(chance: &mut Chance, mix: &Mix, clicks: &mut Vec<Click>) {
    if chance.percent(15) {
        return;
    }
    for number in 0..clicks.len() as u64 / 10 {
        let near = clicks[chance.index(clicks.len())].clone();
        let mut edits = Vec::new();
        for edit in 0..chance.between(1, 3) {
            let class = chance.pick(&[Class::Body, Class::Comfort, Class::Config, Class::Config]);
            let class = if chance.percent(3) { Class::Diagnostics } else { class };
            let fresh = 10_000 + 10 * number.cast_signed() + edit.cast_signed();
            let value = if chance.percent(50) { chance.pick(&[1, 2]) } else { fresh };
            edits.push((class, chance.below(3) as u8, Some(value).filter(|_| chance.percent(90))));
        }
        // Now and then it is what a command asks for, too.
        if chance.percent(20) && near.class != Class::Safety {
            edits = vec![(near.class, near.path, Some(near.value))];
        }
        let at = near.at + chance.below(3 * SECOND);
        let valid_for = chance.pick(&[None, None, Some(400 * MS), Some(2 * SECOND), Some(20 * SECOND)]);
        let made_to = chance.pick(&[Match::Any, Match::Any, Match::Present, Match::Stale]);
        let patch = Some(Patch { edits, valid_for, made_to });
        if at < mix.horizon {
            let gateway = Some(chance.index(mix.gateways)).filter(|_| chance.percent(5));
            clicks.push(Click { at, gateway, cancel: false, slow: 0, patch, ..near });
        }
    }
}

/// What is desired of a vehicle once the world is healthy.
pub(crate) fn last_patch(vehicle: usize) -> Patch {
    let value = 2_000_000 + (vehicle as u64).cast_signed();
    let edits = [(Class::Body, 0), (Class::Comfort, 0), (Class::Config, 7)];
    let edits = edits.into_iter().map(|(class, path)| (class, path, Some(value))).collect();
    Patch { edits, valid_for: None, made_to: Match::Any }
}
