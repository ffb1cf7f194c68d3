//! A slice of the simulation that every check runs.

use carriageway_simulator::plan::Size;
use carriageway_simulator::run;
use carriageway_simulator::shrink::Kept;

#[test]
fn a_slice_of_seeds_breaks_nothing() {
    for seed in 0..25 {
        let report = run::run(seed, Size::default());
        if let Some(violation) = report.violation {
            panic!("carriageway-simulate --seed {seed}\n{}{violation}", report.plan);
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    let size = Size::default();
    let (first, again) = (run::run(7, size), run::replay(7, size, &Kept::all(7, size)));
    assert_eq!((first.hash, first.events), (again.hash, again.events));
    assert_ne!(first.hash, run::run(8, size).hash);
}

#[test]
fn a_plan_names_its_faults_and_a_log_is_kept_on_demand() {
    let size = Size { commands: 30, minutes: 1 };
    let report = run::replay(11, size, &Kept::all(11, size));
    assert_eq!(report.log.len() as u64, report.events);
    assert_eq!(report.plan.lines().count(), 1 + report.faults.len());
}
