//! From intent to verdict.

use super::*;

#[test]
fn a_command_is_received_executed_and_succeeds() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).finish();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Executing, Phase::Succeeded]);
    assert_eq!(bench.acted.len(), 1);
    assert_eq!(bench.disk[&"a".parse().unwrap()].verdict, Some(Verdict::succeeded()));
}

#[test]
fn nothing_acts_before_its_intent_is_durable() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 100, 9_900));
    assert!(bench.acted.is_empty() && bench.told.is_empty());
    bench.release();
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn success_is_told_only_once_it_is_durable() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900));
    bench.holding = true;
    bench.finish();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Executing]);
    bench.release();
    assert_eq!(bench.last().0, Phase::Succeeded);
}

#[test]
fn a_repeat_is_answered_from_memory_at_every_stage() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 100, 9_900)).give(command("a", 100, 9_950));
    assert!(bench.told.is_empty(), "RECEIVED is not true yet");
    bench.release();
    bench.give(command("a", 100, 9_960));
    assert_eq!(bench.last().0, Phase::Executing);
    bench.finish().give(command("a", 100, 9_970));
    assert_eq!(bench.last().0, Phase::Succeeded);
    assert_eq!((bench.acted.len(), bench.executor.counts().repeats), (1, 3));
}

#[test]
fn a_crash_between_intent_and_result_is_unknown_and_never_retried() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900));
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("a"), [Phase::Unknown]);
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.phases("a"), [Phase::Unknown, Phase::Unknown]);
    assert!(bench.acted.is_empty());
}

#[test]
fn verdicts_survive_a_restart_and_are_told_again() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("a"), [Phase::Succeeded]);
}

#[test]
fn a_crash_before_the_intent_was_durable_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    let mut bench = bench.restart(BOOT, at(10_100));
    assert!(bench.told.is_empty());
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn what_never_ends_is_unknown_and_frees_its_slot() {
    let mut bench = Bench::new();
    let lock = |number: u64, stamped: u64| {
        let path = path(&format!("Vehicle.Cabin.Door.Row{number}.IsLocked"));
        Command { path, ..command(&format!("k{number}"), 1, stamped) }
    };
    for number in 0..16 {
        bench.give(lock(number, 9_900));
    }
    bench.now = at(39_999);
    bench.run();
    assert_eq!(bench.last().0, Phase::Executing);
    assert_eq!(bench.executor.poll(bench.now), Output::Wait(Some(at(40_000))));
    bench.now = at(40_000);
    bench.run();
    assert_eq!(bench.phases("k0").last(), Some(&Phase::Unknown));
    assert_eq!(bench.told.last().unwrap().detail, "the vehicle did not report an end");
    assert!(bench.executor.is_idle() && !bench.executor.is_acting());
    bench.finish();
    assert_eq!(bench.phases("k15").last(), Some(&Phase::Unknown), "a report that comes too late is ignored");
    bench.give(lock(16, 39_900));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Executing, 17));
}

#[test]
fn a_vehicle_has_the_ttl_for_its_report_within_limits() {
    let mut bench = Bench::new();
    bench.give(Command { ttl: ms(60_000), path: path("Vehicle.A"), ..command("minute", 1, 9_900) });
    bench.give(Command { ttl: ms(3_600_000), path: path("Vehicle.B"), ..command("hour", 1, 9_900) });
    bench.give(emergency_stop("stop", 9_900));
    for (now, phases) in [
        (39_999, [Phase::Executing, Phase::Executing, Phase::Executing]),
        (40_000, [Phase::Executing, Phase::Executing, Phase::Unknown]),
        (70_000, [Phase::Unknown, Phase::Executing, Phase::Unknown]),
        (310_000, [Phase::Unknown, Phase::Unknown, Phase::Unknown]),
    ] {
        bench.now = at(now);
        bench.run();
        let last = |key: &str| *bench.phases(key).last().unwrap();
        assert_eq!([last("minute"), last("hour"), last("stop")], phases, "at {now} ms");
    }
    assert_eq!(bench.restart(BOOT, at(310_001)).stops.len(), 1, "the stop is latched all the same");
}

#[test]
fn a_newer_target_for_the_same_thing_supersedes_the_older() {
    let mut bench = Bench::new();
    bench.give(command("open", 100, 9_900)).give(command("close", 0, 9_950)).finish();
    assert_eq!(bench.phases("open"), [Phase::Received, Phase::Executing, Phase::Superseded]);
    assert_eq!(bench.phases("close"), [Phase::Received, Phase::Executing, Phase::Succeeded]);
}

#[test]
fn a_broken_journal_refuses_all_but_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(command("moving", 1, 9_900));
    bench.failing = true;
    bench.finish();
    assert_eq!(bench.last().0, Phase::Unknown, "an effect that is not recorded is not known");
    bench.give(command("next", 2, 9_900));
    assert_eq!(bench.last().0, Phase::Unknown, "a copy of it may act after a restart");
    assert!(bench.told.last().unwrap().detail.contains("not executed (REJECTED"), "the fact itself is told");
    bench.give(command("old", 3, 1_000));
    assert_eq!(bench.last().0, Phase::Expired, "what is too old stays so");
    assert!(bench.executor.is_broken());
    bench.give(emergency_stop("stop", 9_900));
    let actuation = bench.stops[0];
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.phases("stop"), [Phase::Executing, Phase::Unknown]);
    assert!(bench.told.last().unwrap().detail.contains("SUCCEEDED"), "the stop itself is told");
}

#[test]
fn an_intent_that_could_not_be_written_does_not_act() {
    let mut bench = Bench::new();
    bench.failing = true;
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.phases("a"), [Phase::Unknown]);
    assert!(bench.told.last().unwrap().detail.contains("not executed"), "the fact itself is told");
    assert!(bench.acted.is_empty());
}

/// The write failed, but what it wrote may have reached the disk, or not.
#[test]
fn a_failed_write_and_the_restart_after_it_tell_the_same() {
    let intent = |bench: &Bench| {
        let record = bench.executor.entries[&"a".parse::<CommandKey>().unwrap()].record.clone();
        Record { verdict: None, ..record }
    };
    let mut bench = Bench::new();
    bench.failing = true;
    bench.give(command("a", 1, 9_900));
    let (told, left) = (bench.last().0, intent(&bench));
    bench.disk.insert(left.key().clone(), left);
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!((told, bench.last().0), (Phase::Unknown, Phase::Unknown), "the intent failed");
    bench.give(command("a", 1, 9_900));
    assert!(bench.acted.is_empty());

    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    bench.now = at(15_000);
    bench.failing = true;
    bench.release();
    let told = bench.last().0;
    let bench = bench.restart(BOOT, at(15_100));
    assert_eq!((told, bench.last().0), (Phase::Unknown, Phase::Unknown), "the refusal after it failed");
}
