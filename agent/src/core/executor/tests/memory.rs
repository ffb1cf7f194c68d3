//! What is remembered, and how long.

use super::*;

#[test]
fn a_late_repeat_of_what_succeeded_is_not_called_expired() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).finish();
    bench.now = at(14_950);
    bench.give(command("a", 100, 9_900));
    assert_eq!(bench.last().0, Phase::Succeeded);
}

#[test]
fn a_copy_with_a_better_stamp_cannot_revive_what_was_called_expired() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 4_000)).give(command("a", 1, 9_000));
    assert_eq!(bench.phases("a"), [Phase::Expired, Phase::Expired]);
    assert!(bench.acted.is_empty());
}

#[test]
fn a_reboot_keeps_records_until_their_ttl_has_passed_on_the_new_clock() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let reborn = BootId::from_bytes([2; 16]);
    let mut bench = bench.restart(reborn, at(4_000));
    let again = |stamped| Command { stamp: Stamp { boot: reborn, clock: at(stamped) }, ..command("a", 1, 0) };
    bench.give(again(3_900));
    assert_eq!(bench.phases("a"), [Phase::Succeeded, Phase::Succeeded]);
    bench.now = at(9_000);
    bench.run();
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (0, 0));
}

#[test]
fn a_record_outlives_every_copy_that_was_seen() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    bench.give(Command { ttl: ms(60_000), ..command("a", 1, 9_950) });
    bench.now = at(69_900);
    bench.give(Command { ttl: ms(60_000), ..command("a", 1, 9_950) });
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 1));
    bench.now = at(69_960);
    bench.run();
    assert_eq!(bench.executor.remembered(), 0);
}

/// A client comes back with its key after the ttl, and a gateway that has forgotten stamps it anew.
#[test]
fn a_key_is_remembered_for_an_hour_whatever_its_ttl() {
    let mut bench = Bench::with(Limits::default(), Vec::new(), BOOT, at(10_000));
    bench.give(command("a", 1, 9_900)).finish();
    bench.now = at(10_000) + Duration::from_mins(59);
    bench.give(command("a", 1, 10_000 + 59 * 60_000));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 1));
    bench.now = bench.now + Duration::from_mins(2);
    bench.run();
    assert_eq!(bench.executor.remembered(), 0);
}

#[test]
fn a_record_is_kept_until_its_outcome_has_arrived() {
    let mut bench = Bench::new();
    bench.deaf = true;
    bench.give(command("a", 1, 9_900)).finish();
    bench.now = at(60_000);
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.last().0, Phase::Succeeded, "EXPIRED would say that it never took effect");
    bench.deaf = false;
    bench.put(Input::Arrived("a".parse().unwrap()));
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (0, 0));
}

#[test]
fn a_full_journal_refuses_and_never_evicts() {
    let mut bench = Bench::with(
        Limits { admitted: 2, refused: 1, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.answer = Applied::Done;
    bench.give(command("a", 1, 9_900)).give(command("b", 2, 9_900)).give(command("c", 3, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Busy)));
    bench.give(command("d", 4, 9_900));
    assert!(bench.phases("d").is_empty(), "what cannot be remembered is not answered");
    assert_eq!(bench.executor.counts().unanswered, 1);
    bench.give(command("a", 1, 9_900));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 2));
    bench.now = at(16_000);
    bench.give(command("e", 5, 15_900));
    assert_eq!(bench.acted.len(), 3, "room again once the ttl has passed");
}

#[test]
fn one_class_cannot_fill_the_journal_of_another() {
    let mut bench = Bench::with(
        Limits { admitted: 1, refused: 1, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.give(command("a", 1, 9_900)).give(command("b", 2, 9_900));
    bench.give(Command { class: Class::Comfort, ..command("c", 3, 9_900) });
    assert_eq!(bench.acted.len(), 2);
}
