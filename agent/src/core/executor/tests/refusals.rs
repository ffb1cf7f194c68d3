//! What may not act, and why.

use super::*;

#[test]
fn another_command_under_the_same_key_is_refused() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).give(command("a", 50, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::KeyConflict)));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn what_is_too_old_or_of_unknowable_age_never_acts() {
    let mut bench = Bench::new();
    bench.give(command("late", 1, 4_990));
    assert_eq!(bench.last(), (Phase::Expired, None));
    bench.give(command("ahead", 1, 10_001));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    let foreign = Stamp { boot: BootId::from_bytes([2; 16]), clock: at(9_999) };
    bench.give(Command { stamp: foreign, ..command("foreign", 1, 0) });
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    assert!(bench.acted.is_empty());
}

#[test]
fn the_age_counts_the_drift_of_the_clock() {
    let mut bench = Bench::new();
    bench.give(command("edge", 1, 5_004));
    assert_eq!(bench.last(), (Phase::Expired, None), "4,996 ms on this clock may be 5,001 in truth");
    bench.give(command("just", 1, 5_006));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn age_is_judged_again_when_the_journal_took_too_long() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    bench.now = at(15_000);
    bench.release();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Expired]);
    assert!(bench.acted.is_empty());
}

#[test]
fn a_clock_that_went_backwards_makes_older_stamps_worthless() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("waiting", 1, 9_900));
    bench.now = at(3_000);
    bench.release();
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    bench.now = at(10_100);
    bench.give(command("of-either-time", 1, 9_999));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    assert!(bench.acted.is_empty());
}

/// The gateway's floor was 7 s ahead of the clock from the jump on: its stamps look younger by that.
#[test]
fn a_floor_from_before_the_clock_went_backwards_passes_nothing_for_fresh() {
    let mut bench = Bench::new();
    bench.now = at(3_000);
    bench.give(command("first", 1, 2_900));
    bench.now = at(12_000);
    bench.give(command("stamped-for-7-s-later", 2, 11_500));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    let mut bench = bench.restart(BOOT, at(12_100));
    bench.now = at(13_000);
    bench.give(command("of-a-new-floor", 1, 12_950));
    assert_eq!(bench.acted.len(), 1, "a new agent's session has a new floor");
}

#[test]
fn a_clock_that_went_backwards_while_the_agent_was_down_is_noticed() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let mut bench = bench.restart(BOOT, at(9_500));
    bench.give(command("b", 1, 9_400));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
}

#[test]
fn the_rate_holds_and_a_refused_key_stays_refused() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    for number in 0..25 {
        bench.give(command(&format!("k{number}"), number, 9_900));
    }
    assert_eq!((bench.acted.len(), bench.last()), (20, (Phase::Rejected, Some(Reason::RateLimited))));
    bench.now = at(11_000);
    bench.give(command("k24", 24, 9_900));
    assert_eq!((bench.acted.len(), bench.last().0), (20, Phase::Rejected));
    bench.give(command("later", 24, 10_900));
    assert_eq!(bench.acted.len(), 21);
}

#[test]
fn too_many_under_way_are_refused() {
    let mut bench = Bench::new();
    for number in 0..17 {
        let door = path(&format!("Vehicle.Cabin.Door.Row{number}.IsLocked"));
        bench.give(Command { path: door, ..command(&format!("k{number}"), 1, 9_900) });
    }
    assert_eq!((bench.acted.len(), bench.last()), (16, (Phase::Rejected, Some(Reason::Busy))));
}

#[test]
fn what_the_vehicle_refuses_is_rejected_in_its_words() {
    let mut bench = Bench::new();
    bench.answer = Applied::Refused(Refusal::new(Reason::Unsupported, "no such window"));
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Unsupported)));
    assert_eq!(bench.told.last().unwrap().detail, "no such window");
}

#[test]
fn a_command_must_keep_to_its_lane_and_to_a_class_of_commands() {
    let mut bench = Bench::new();
    bench.put(Input::Command { lane: Class::Safety, command: command("a", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Malformed)));
    bench.give(Command { class: Class::Bulk, ..command("b", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Unsupported)));
    let refusal = Refusal::new(Reason::Malformed, "no ttl");
    bench.put(Input::Unreadable { lane: Class::Body, key: "c".parse().unwrap(), refusal });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Malformed)));
    bench.give(Command { ttl: ms(1_000 * 3_600 * 24 * 8), ..command("d", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::OutOfRange)));
    assert!(bench.acted.is_empty() && bench.disk.is_empty());
}

#[test]
fn a_stopping_agent_takes_nothing_new_but_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(command("moving", 1, 9_900)).put(Input::Stopping).give(command("new", 2, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Busy)));
    assert_eq!(bench.told.last().unwrap().detail, "the vehicle's agent is stopping");
    bench.give(command("moving", 1, 9_900));
    assert_eq!(bench.last().0, Phase::Executing, "a repeat is answered");
    bench.finish();
    assert_eq!((bench.last().0, bench.executor.is_idle()), (Phase::Succeeded, true));
    bench.give(emergency_stop("stop", 9_900));
    assert_eq!((bench.stops.len(), bench.acted.len()), (1, 1));
}
