//! The emergency stop.

use super::*;

#[test]
fn the_emergency_stop_waits_for_nothing() {
    let mut bench = Bench::with(
        Limits { admitted: 3, refused: 0, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.holding = true;
    for number in 0..50 {
        bench.give(emergency_stop(&format!("s{number}"), 9_900));
    }
    assert_eq!(bench.stops.len(), 50, "no rate, no full journal, no slow disk");
    assert_eq!(bench.phases("s49"), [Phase::Unknown], "no room to record it");
    bench.give(emergency_stop("s0", 9_900));
    assert_eq!(bench.stops.len(), 50, "a repeat is the same stop");
    let actuation = bench.stops[0];
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.phases("s0"), [Phase::Executing, Phase::Executing]);
    bench.release();
    assert_eq!(bench.phases("s0").last(), Some(&Phase::Succeeded));
}

#[test]
fn emergency_stops_do_not_supersede_each_other() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900)).give(emergency_stop("s1", 9_900));
    for actuation in bench.stops.clone() {
        bench.put(Input::Finished { actuation, result: Ok(()) });
    }
    assert_eq!(bench.phases("s0").last(), Some(&Phase::Succeeded));
    assert_eq!(bench.phases("s1").last(), Some(&Phase::Succeeded));
}

#[test]
fn what_a_stop_may_have_halted_can_be_asked_for_again() {
    let mut bench = Bench::new();
    bench.give(command("one", 7, 9_900)).give(command("same", 7, 9_900));
    assert_eq!((bench.phases("same").last(), bench.acted.len()), (Some(&Phase::Superseded), 1));
    bench.give(emergency_stop("s0", 9_900)).give(command("again", 7, 9_900));
    assert_eq!(bench.acted.len(), 2, "the window may stand anywhere");
}

#[test]
fn a_stale_emergency_stop_is_refused() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 7_000));
    assert!(bench.stops.is_empty());
    assert_eq!(bench.last().0, Phase::Expired);
}

/// The executor's first wish after a restart on what this one's disk holds.
fn first_after_restart(bench: &Bench, boot: BootId, now: Moment) -> Output {
    let journal = bench.disk.values().cloned().collect();
    let here = Stamp { boot, clock: now };
    Executor::recover(here, PolicyTable::defaults(), FORGETFUL, journal).poll(now)
}

#[test]
fn a_restart_does_not_release_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let actuation = bench.stops[0];
    assert!(matches!(first_after_restart(&bench, BOOT, at(10_100)), Output::Stop(_)), "no verdict yet");
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.last().0, Phase::Succeeded);
    assert!(matches!(first_after_restart(&bench, BOOT, at(10_100)), Output::Stop(_)), "SUCCEEDED");
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.stops.len(), 1);
    bench.now = at(900_000_000);
    bench.run();
    let mut bench = bench.restart(BootId::from_bytes([2; 16]), at(1_000));
    assert_eq!(
        (bench.stops.len(), bench.phases("s0")),
        (1, vec![Phase::Succeeded]),
        "days and a reboot later"
    );
    bench.now = at(900_000_000);
    bench.run();
    assert_eq!(bench.executor.remembered(), 1);
    assert!(
        matches!(first_after_restart(&bench, BOOT, at(1_000)), Output::Stop(_)),
        "as often as it restarts"
    );
}

#[test]
fn a_stop_that_a_crash_made_unknown_or_that_failed_is_latched() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("s0"), [Phase::Unknown]);
    assert_eq!(bench.restart(BOOT, at(10_200)).stops.len(), 1);
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let result = Err(Refusal::new(Reason::ActuatorFault, "a brake is worn"));
    bench.put(Input::Finished { actuation: bench.stops[0], result });
    assert_eq!(bench.last().0, Phase::Failed);
    assert_eq!(bench.restart(BOOT, at(10_200)).stops.len(), 1);
}

#[test]
fn a_refused_stop_and_other_commands_latch_nothing() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("late", 7_000)).give(command("a", 1, 9_900));
    bench.give(Command { value: Value::Bool(false), ..emergency_stop("false", 9_900) });
    assert_eq!(bench.disk.len(), 3);
    assert!(bench.restart(BOOT, at(10_100)).stops.is_empty());
}

#[test]
fn stops_in_a_row_leave_one_latch_and_do_not_fill_the_journal() {
    let limits = Limits { admitted: 3, refused: 0, remember: Duration::ZERO };
    let mut bench = Bench::with(limits, Vec::new(), BOOT, at(10_000));
    for number in 0..20_u64 {
        bench.now = at(10_000 + number * 5_000);
        bench.give(emergency_stop(&format!("s{number}"), 9_900 + number * 5_000));
        let actuation = *bench.stops.last().unwrap();
        bench.put(Input::Finished { actuation, result: Ok(()) });
        assert_eq!(bench.last().0, Phase::Succeeded, "s{number}");
    }
    bench.now = at(200_000);
    bench.run();
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (1, 1));
    assert_eq!(bench.restart(BOOT, at(200_100)).stops.len(), 1, "one stop for one latch");
}

#[test]
fn a_full_journal_has_room_for_the_latch() {
    let limits = Limits { admitted: 0, refused: 0, remember: Duration::ZERO };
    let mut bench = Bench::with(limits, Vec::new(), BOOT, at(10_000));
    bench.give(emergency_stop("s0", 9_900));
    assert_eq!(bench.restart(BOOT, at(10_100)).stops.len(), 1);
}
