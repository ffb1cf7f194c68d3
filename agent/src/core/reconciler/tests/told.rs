//! What the gateway learns, and how much of it fits.

use carriageway_proto::Message;

use super::*;

/// As many paths as one message holds, of one gateway; nearly as long as a path can be.
fn from_gateway(name: &str, version: u64) -> Vec<Wanted> {
    let long = "Long".repeat(32);
    (0..MAX_VALUES).map(|number| wanted(&format!("Vehicle.{name}.{long}.N{number}"), 1, version)).collect()
}

/// The rate of a class lets some ten act in a second.
fn all_is_done(bench: &mut Bench) {
    for _ in 0..60 {
        bench.pass(1_000);
    }
}

#[test]
fn copies_of_one_version_with_other_paths_never_make_more_than_a_report_holds() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    for name in ["East", "West", "North", "South"] {
        bench.want(1, from_gateway(name, 1));
        all_is_done(&mut bench);
    }
    let report = bench.reports.last().expect("something was reported");
    assert_eq!((report.paths.len(), report.version), (MAX_VALUES, 1));
    assert!(report.paths.iter().all(|state| state.path.as_str().contains("South")), "the newest copy's");
    let largest = bench.reports.iter().map(size).max().expect("there are reports");
    assert!(largest <= MAX_FRAME, "{largest} bytes");
    let payload = Message::StateReport(report.clone()).encode();
    assert_eq!(Message::decode(payload), Ok(Message::StateReport(report.clone())), "the gateway takes it");
}

#[test]
fn what_one_version_has_no_room_for_has_ended() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    let policy = PolicyTable::defaults()[Class::Comfort];
    while bench.buckets[Class::Comfort].take(&policy, bench.now).is_ok() {}
    bench.want(1, vec![wanted(SEAT, 40, 1)]).want(1, from_gateway("East", 1));
    assert_eq!(bench.disk.decided, [(path(SEAT), 1)].into(), "nothing else is decided on yet");
    all_is_done(&mut bench);
    assert_eq!(bench.acted.len(), MAX_VALUES);
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, MAX_VALUES));
    bench.want(2, vec![wanted(SEAT, 40, 2)]);
    assert_eq!(bench.acted.len(), MAX_VALUES + 1, "a newer version is another wish");
}

#[test]
fn what_another_copy_left_out_is_wanted_as_far_as_there_is_room() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    let mut others = from_gateway("East", 1);
    others.truncate(MAX_VALUES - 1);
    bench.want(1, vec![wanted(LIGHT, 1, 1), wanted(SEAT, 40, 1)]).want(1, others);
    all_is_done(&mut bench);
    let report = bench.reports.last().expect("something was reported");
    let names: Vec<_> = report.paths.iter().map(|state| state.path.as_str()).collect();
    assert_eq!((names.len(), names.contains(&LIGHT), names.contains(&SEAT)), (MAX_VALUES, true, false));
}

#[test]
fn a_value_that_is_read_again_after_a_move_is_told() {
    let mut bench = Bench::new();
    bench.read(SEAT, 40).want(1, vec![wanted(SEAT, 40, 1)]);
    let moving = Some(Actuation(1));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(10), moving }).read(SEAT, 10);
    let state = bench.state(SEAT);
    assert_eq!((state.status, state.reported), (SyncStatus::Diverged, Some(Value::Int(10))));
    // The end comes while a report of values is due, and the first reading after it shows the same value.
    bench.read(SEAT, 11).put(Input::Finished { actuation: Actuation(1), result: Ok(()) });
    assert_eq!(bench.state(SEAT).reported, None, "until it is read, nobody knows");
    bench.read(SEAT, 11);
    assert_eq!(bench.state(SEAT).reported, Some(Value::Int(11)));
}
