//! Withdrawing commands.

use carriageway_proto::Cancel;

use super::*;

fn cancel_of(command: &Command) -> Input {
    let cancel =
        Cancel { key: command.key.clone(), class: command.class, fingerprint: Some(command.fingerprint()) };
    Input::Cancel { lane: command.class, cancel }
}

fn anything(key: &str) -> Input {
    let cancel = Cancel { key: key.parse().unwrap(), class: Class::Body, fingerprint: None };
    Input::Cancel { lane: Class::Body, cancel }
}

#[test]
fn what_waits_for_its_intent_can_be_withdrawn_and_never_acts() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900)).put(cancel_of(&command("a", 1, 9_900)));
    assert!(bench.told.is_empty(), "CANCELED is told once it is durable");
    bench.release();
    bench.release();
    assert_eq!((bench.phases("a"), bench.acted.len()), (vec![Phase::Canceled], 0));
    assert_eq!(bench.executor.counts().canceled, 1);
    bench.give(command("a", 1, 9_950));
    assert_eq!(bench.last().0, Phase::Canceled);
    let mut bench = bench.restart(BOOT, at(10_100));
    bench.give(command("a", 1, 9_950));
    assert_eq!((bench.phases("a"), bench.acted.len()), (vec![Phase::Canceled, Phase::Canceled], 0));
}

#[test]
fn what_is_ready_but_has_not_acted_can_be_withdrawn() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    let (id, record) = bench.held.remove(0);
    bench.disk.insert(record.key().clone(), record);
    bench.executor.handle(bench.now, Input::Written(id));
    bench.put(cancel_of(&command("a", 1, 9_900)));
    bench.release();
    assert_eq!((bench.phases("a"), bench.acted.len()), (vec![Phase::Received, Phase::Canceled], 0));
}

#[test]
fn what_has_acted_ends_as_it_does() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).put(cancel_of(&command("a", 1, 9_900)));
    assert_eq!(bench.last().0, Phase::Executing);
    bench.finish().put(cancel_of(&command("a", 1, 9_900)));
    assert_eq!(bench.last().0, Phase::Succeeded);
    assert_eq!(bench.executor.counts().canceled, 0);
}

#[test]
fn what_was_withdrawn_before_it_came_is_refused_when_it_comes_even_after_a_restart() {
    let mut bench = Bench::new();
    bench.put(cancel_of(&command("a", 1, 9_900)));
    assert_eq!(bench.phases("a"), [Phase::Canceled]);
    bench.now = at(14_000);
    bench.give(command("a", 1, 13_900));
    assert_eq!((bench.phases("a"), bench.acted.len()), (vec![Phase::Canceled; 2], 0));
    assert_eq!(bench.told.last().unwrap().fingerprint, Some(command("a", 1, 0).fingerprint()));
    let mut bench = bench.restart(BOOT, at(14_100));
    bench.give(command("a", 1, 14_050)).give(command("a", 2, 14_050));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::KeyConflict)), "another wish was not withdrawn");
    assert!(bench.acted.is_empty());
}

#[test]
fn whatever_has_the_key_can_be_withdrawn_without_a_fingerprint() {
    let mut bench = Bench::new();
    bench.put(anything("a")).give(command("a", 1, 9_900));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Canceled, 0));
    bench.holding = true;
    bench.give(command("b", 1, 9_900)).put(anything("b"));
    bench.release();
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Canceled, 0));
}

#[test]
fn a_cancel_that_means_another_command_changes_nothing() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900)).put(cancel_of(&command("a", 2, 9_900)));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::KeyConflict)));
    assert_eq!(bench.told[0].fingerprint, Some(command("a", 2, 0).fingerprint()), "of the command it means");
    let comfort = Command { class: Class::Comfort, ..command("a", 1, 9_900) };
    let Input::Cancel { cancel, .. } = cancel_of(&comfort) else { unreachable!("it makes nothing else") };
    bench.put(Input::Cancel { lane: Class::Comfort, cancel: Cancel { fingerprint: None, ..cancel.clone() } });
    bench.put(Input::Cancel { lane: Class::Body, cancel });
    assert_eq!(bench.told.len(), 1, "an answer to these would be taken for the end of the command");
    bench.release();
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn an_emergency_stop_is_never_withdrawn() {
    let mut bench = Bench::new();
    bench.put(cancel_of(&emergency_stop("before", 9_900))).give(emergency_stop("before", 9_900));
    assert_eq!((bench.stops.len(), bench.phases("before")), (1, vec![Phase::Executing]));
    bench.put(cancel_of(&emergency_stop("before", 9_900)));
    assert_eq!(bench.last().0, Phase::Executing, "it is under way");
    bench.put(anything("under")).give(emergency_stop("under", 9_900));
    assert_eq!((bench.stops.len(), bench.last().0), (2, Phase::Executing), "not even by its key alone");
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.stops.len(), 1);
    bench.give(command("under", 1, 10_050));
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Rejected, Some(Reason::KeyConflict)), 0));
}

#[test]
fn what_is_withdrawn_before_it_comes_is_bounded_and_leaves_room_for_refusals() {
    let limits = Limits { admitted: 5, refused: 2, remember: Duration::ZERO };
    let mut bench = Bench::with(limits, Vec::new(), BOOT, at(10_000));
    for number in 0..5 {
        bench.put(anything(&format!("c{number}")));
    }
    assert_eq!((bench.executor.remembered(), bench.told.len()), (2, 2));
    assert_eq!(bench.executor.counts().unanswered, 3);
    bench.give(command("late", 1, 1_000));
    assert_eq!(bench.phases("late"), [Phase::Expired]);
    bench.now = at(10_000) + LONGEST_TTL;
    bench.run();
    assert_eq!(bench.executor.remembered(), 2, "some copy may be that old");
    bench.now = bench.now + LONGEST_TTL / 100;
    bench.run();
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (0, 0));
}

#[test]
fn a_withdrawal_that_cannot_be_recorded_is_not_certain() {
    let mut bench = Bench::new();
    bench.failing = true;
    bench.put(anything("a"));
    assert_eq!(bench.last().0, Phase::Unknown, "a copy may act after a restart");
    bench.give(command("a", 1, 9_900));
    assert!(bench.acted.is_empty());
}
