//! What happens in the world of the model.

use carriageway_proto::Class;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An operator wants something new.
    Wish {
        class: Class,
        ttl: u64,
        path: u8,
        value: i64,
    },
    /// The gateway stamps a copy of some wish, by a floor that is `behind` the vehicle's clock.
    Copy {
        wish: prop::sample::Index,
        behind: u64,
    },
    /// One of the copies ever made reaches the vehicle.
    Deliver {
        copy: prop::sample::Index,
    },
    /// Somebody withdraws a wish, or whatever has its key.
    Cancel {
        wish: prop::sample::Index,
        exactly: bool,
    },
    /// The lease goes to the next token, or is renewed, or ends.
    Lease {
        grant: bool,
        millis: u64,
    },
    /// Something that is no command moves a path.
    TakeOver {
        path: u8,
    },
    Pass {
        millis: u64,
    },
    Sync {
        writes: usize,
    },
    Finish {
        which: prop::sample::Index,
    },
    Arrive,
    Crash {
        survivors: usize,
        reboot: bool,
        down: u64,
    },
    Backwards {
        millis: u64,
    },
    FailDisk,
    /// The vehicle was re-armed.
    Release,
}

fn meddling() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(wish, exactly)| Step::Cancel { wish, exactly }),
        2 => (any::<bool>(), 0..3_000_u64).prop_map(|(grant, millis)| Step::Lease { grant, millis }),
        1 => (0..3_u8).prop_map(|path| Step::TakeOver { path }),
        1 => (1..2_000_u64).prop_map(|millis| Step::Backwards { millis }),
    ]
}

pub(super) fn steps(with_bad_disk: bool) -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![
        6 => Just(Class::Body),
        2 => Just(Class::Comfort),
        3 => Just(Class::Drive),
        1 => Just(Class::Safety),
    ];
    let ttl = prop_oneof![Just(300_u64), Just(2_000), Just(6_000)];
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (class, ttl, 0..3_u8, 0..2_i64)
            .prop_map(|(class, ttl, path, value)| Step::Wish { class, ttl, path, value }),
        5 => meddling(),
        6 => (index(), 0..400_u64).prop_map(|(wish, behind)| Step::Copy { wish, behind }),
        12 => index().prop_map(|copy| Step::Deliver { copy }),
        5 => (1..1_500_u64).prop_map(|millis| Step::Pass { millis }),
        8 => (1..6_usize).prop_map(|writes| Step::Sync { writes }),
        5 => index().prop_map(|which| Step::Finish { which }),
        3 => Just(Step::Arrive),
        2 => (0..4_usize, any::<bool>(), 0..3_000_u64)
            .prop_map(|(survivors, reboot, down)| Step::Crash { survivors, reboot, down }),
        2 => any::<bool>().prop_map(move |fail| if fail && with_bad_disk { Step::FailDisk } else { Step::Release }),
    ];
    prop::collection::vec(step, 1..120)
}
