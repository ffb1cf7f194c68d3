//! Targets that the vehicle refuses, and targets that take over from others.

use super::*;

#[test]
fn what_was_moving_goes_on_where_the_vehicle_refuses_what_is_desired() {
    let mut bench = Bench::new();
    let (by_command, result) = (Actuation(1), Ok(()));
    bench.answer = Applied::Refused(Refusal::new(Reason::NotPermitted, "not in this gear"));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(10), moving: Some(by_command) });
    bench.want(1, vec![wanted(SEAT, 40, 1)]).read(SEAT, 40);
    assert_eq!((bench.acted.len(), bench.status(SEAT).0), (1, SyncStatus::GivenUp), "it is on its way to 10");
    bench.put(Input::Finished { actuation: by_command, result }).put(Input::Established);
    assert_eq!((bench.state(SEAT).reported, bench.status(SEAT).0), (None, SyncStatus::GivenUp));
    bench.read(SEAT, 40);
    assert_eq!(bench.status(SEAT), (SyncStatus::InSync, None), "it is read at its end");
}

#[test]
fn a_refused_version_does_not_end_the_one_before_it() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 10, 1)]);
    bench.answer = Applied::Refused(Refusal::new(Reason::NotPermitted, "not in this gear"));
    bench.want(2, vec![wanted(SEAT, 40, 2)]).read(SEAT, 40);
    assert_eq!((bench.acted.len(), bench.status(SEAT).0), (2, SyncStatus::GivenUp), "it is on its way to 10");
    assert!(bench.reconciler.is_acting());
    let first = bench.acted[0].0;
    bench.put(Input::Finished { actuation: first, result: Ok(()) }).put(Input::Established);
    assert!(!bench.reconciler.is_acting());
    assert_eq!((bench.state(SEAT).reported, bench.status(SEAT).0), (None, SyncStatus::GivenUp));
}

#[test]
fn what_a_newer_version_takes_over_is_not_waited_for() {
    let mut bench = Bench::new();
    for (version, answer) in [(1, Applied::Moving), (2, Applied::Moving), (3, Applied::Done)] {
        bench.answer = answer;
        bench.want(version, vec![wanted(SEAT, 10 * version.cast_signed(), version)]);
        assert_eq!(bench.reconciler.moving.len(), usize::from(version < 3));
    }
    bench.read(SEAT, 30);
    assert_eq!(bench.status(SEAT), (SyncStatus::InSync, None));
}
