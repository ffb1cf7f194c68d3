//! Paths that are not desired any more, and come back from a gateway that knows nothing of that.

use super::super::past::MOST_DROPPED;
use super::*;

#[test]
fn what_another_gateway_brings_back_is_not_acted_upon_again() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    bench.want(13, vec![wanted(SEAT, 40, 13)]).want(16, vec![wanted(LIGHT, 1, 16)]).command(SEAT, 10);
    bench.want(17, vec![wanted(SEAT, 40, 13), wanted(LIGHT, 1, 17)]);
    let moved = |bench: &Bench| bench.acted.iter().filter(|(_, target)| target.path == path(SEAT)).count();
    assert_eq!(moved(&bench), 1);
    let state = bench.state(SEAT);
    assert_eq!((state.status, state.version), (SyncStatus::GivenUp, 13));
    assert!(state.detail.contains("a newer state did not have it"), "{}", state.detail);
    bench.read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync, "it holds, whoever did it");
    let mut bench = bench.restart(at(60_000));
    bench.want(18, vec![wanted(SEAT, 40, 13)]);
    assert_eq!((moved(&bench), bench.status(SEAT).0), (0, SyncStatus::GivenUp));
    bench.want(19, vec![wanted(SEAT, 40, 19)]);
    assert_eq!(moved(&bench), 1, "a newer version is another wish");
}

#[test]
fn what_was_dropped_before_it_was_decided_on_is_ended_too() {
    let mut bench = Bench::new();
    bench.put(Input::Stopping).want(1, vec![wanted(SEAT, 40, 1)]).want(2, vec![]);
    let mut bench = bench.restart(at(11_000));
    bench.want(1, vec![wanted(SEAT, 40, 1)]).want(3, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.acted.len(), bench.status(SEAT).0), (0, SyncStatus::GivenUp));
}

#[test]
fn a_version_that_an_older_one_replaced_is_ended_as_the_older_one_is() {
    let mut bench = Bench::new();
    let policy = PolicyTable::defaults()[Class::Comfort];
    while bench.buckets[Class::Comfort].take(&policy, bench.now).is_ok() {}
    bench.want(4, vec![wanted(SEAT, 40, 4)]).want(5, vec![wanted(SEAT, 30, 3)]);
    assert_eq!(bench.disk.decided, [(path(SEAT), 4)].into());
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, 0));
    bench.command(SEAT, 10).want(8, vec![wanted(SEAT, 40, 4)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, 0), "the command is newer");
}

#[test]
fn what_a_journal_forgot_path_by_path_its_floor_ends() {
    let disk = Past { floor: 6, decided: [(path(LIGHT), 2)].into() };
    let mut bench = Bench::with(disk, false, at(10_000));
    bench.want(7, vec![wanted(SEAT, 40, 6), wanted(LIGHT, 1, 3)]);
    assert_eq!(
        (bench.status(SEAT).0, bench.acted.len()),
        (SyncStatus::GivenUp, 1),
        "only the light is known"
    );
    bench.want(8, vec![wanted(SEAT, 40, 8), wanted(LIGHT, 1, 3)]);
    assert_eq!(bench.acted.len(), 2);
}

#[test]
fn more_dropped_paths_than_are_remembered_end_at_one_floor() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    let all = || (0..=MOST_DROPPED as u64).map(|number| (format!("Vehicle.Seat{number}"), number + 1));
    for (name, version) in all() {
        bench.want(version, vec![wanted(&name, 1, version)]).pass(1_000);
    }
    let version = MOST_DROPPED as u64 + 2;
    bench.want(version, vec![]);
    assert_eq!((bench.acted.len(), bench.disk.decided.len()), (MOST_DROPPED + 1, MOST_DROPPED));
    assert_eq!(bench.disk.floor, 2, "the version that dropped the first of them");
    let brought_back = |bench: &mut Bench, version| {
        let before = bench.acted.len();
        for (more, chunk) in all().collect::<Vec<_>>().chunks(100).enumerate() {
            let values = chunk.iter().map(|(name, version)| wanted(name, 1, *version)).collect();
            bench.want(version + more as u64, values).pass(1_000);
        }
        bench.acted.len() - before
    };
    assert_eq!(brought_back(&mut bench, version + 1), 0);
    assert!(bench.disk.decided.len() <= MOST_DROPPED + 100);
    let mut bench = bench.restart(at(9_000_000));
    assert_eq!(brought_back(&mut bench, version + 100), 0);
}

#[test]
fn a_version_that_another_gateway_gave_to_another_value_is_neither_acted_upon_nor_in_sync() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    bench.want(4, vec![wanted(SEAT, 40, 4)]).read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync);
    bench.want(5, vec![wanted(SEAT, 30, 4)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, 1));
    bench.read(SEAT, 30);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync, "it holds, whoever did it");
    bench.want(6, vec![wanted(SEAT, 20, 6)]);
    assert_eq!(bench.acted.len(), 2, "a newer version is another wish");
}
