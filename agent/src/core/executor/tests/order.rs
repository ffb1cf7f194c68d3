//! ORDER, FENCE and the duplicate window.

use carriageway_proto::Token;

use super::*;

const HORN: &str = "Vehicle.Body.Horn.IsActive";

fn ordered(key: &str, order: u64) -> Command {
    Command { order, ..command(key, i64::try_from(order).unwrap(), 9_900) }
}

fn token(number: u64) -> Option<Token> {
    Token::granted(number)
}

fn gear(key: &str, token: Option<Token>, order: u64) -> Command {
    let ttl = ms(60_000);
    Command { class: Class::Drive, token, ttl, path: path("Vehicle.Gear"), ..ordered(key, order) }
}

fn lease(newest: u64, until: u64) -> Input {
    Input::Fence { newest: token(newest), lease_lives_until: Some(at(until)) }
}

fn horn(key: &str, stamped: u64) -> Command {
    Command { path: path(HORN), value: Value::Bool(true), ..command(key, 0, stamped) }
}

#[test]
fn an_older_command_that_comes_later_is_superseded() {
    let mut bench = Bench::new();
    bench.give(ordered("new", 5)).give(ordered("old", 4));
    assert_eq!((bench.phases("old"), bench.acted.len()), (vec![Phase::Superseded], 1));
    assert!(bench.told.last().unwrap().detail.contains("new"), "it names the newer one");
    bench.give(ordered("unordered", 0)).give(ordered("newer", 6));
    assert_eq!(bench.acted.len(), 3);
    bench.give(Command { class: Class::Comfort, ..ordered("other", 1) });
    assert_eq!(bench.acted.len(), 4, "each class has an order of its own");
}

#[test]
fn the_order_is_judged_again_at_the_moment_of_acting() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(ordered("new", 5)).give(ordered("old", 4));
    bench.release();
    bench.release();
    assert_eq!(bench.phases("old"), [Phase::Received, Phase::Superseded]);
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn a_place_that_was_given_twice_is_refused_the_second_time() {
    let mut bench = Bench::new();
    bench.give(ordered("one", 5)).give(ordered("two", 5));
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Rejected, Some(Reason::Malformed)), 1));
}

#[test]
fn what_the_vehicle_refused_does_not_count_in_the_order() {
    let mut bench = Bench::new();
    bench.answer = Applied::Refused(Refusal::new(Reason::NotPermitted, "not now"));
    bench.give(ordered("new", 5));
    bench.answer = Applied::Moving;
    bench.give(ordered("old", 4));
    assert_eq!(bench.acted.len(), 2);
    let mut bench = bench.restart(BOOT, at(10_100));
    bench.now = at(10_300);
    bench.give(ordered("mid", 5));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn the_order_survives_restarts_however_long_ago_it_was() {
    let mut bench = Bench::new();
    bench.give(ordered("new", 5)).finish();
    bench.now = at(100_000);
    bench.run();
    assert_eq!(bench.disk.len(), 1, "the record that holds the order stays");
    let mut bench = bench.restart(BootId::from_bytes([2; 16]), at(900_000));
    bench.now = at(1_000_000);
    let stamp = Stamp { boot: BootId::from_bytes([2; 16]), clock: at(999_900) };
    bench.give(Command { stamp, ..ordered("old", 4) });
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Superseded, 0));
    bench.give(Command { stamp, ..ordered("newer", 6) }).finish();
    assert_eq!(bench.acted.len(), 1);
    bench.now = at(1_100_000);
    bench.run();
    assert_eq!(bench.executor.remembered(), 1, "and goes when another holds it");
}

#[test]
fn what_may_have_acted_before_a_crash_counts_in_the_order() {
    let mut bench = Bench::new();
    bench.give(ordered("new", 5));
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("new"), [Phase::Unknown]);
    bench.give(ordered("old", 4));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Superseded, 0));
}

#[test]
fn an_emergency_stop_is_never_out_of_order() {
    let mut bench = Bench::new();
    bench.give(Command { order: 9, ..emergency_stop("s0", 9_900) });
    bench.give(Command { order: 3, ..emergency_stop("s1", 9_900) });
    assert_eq!(bench.stops.len(), 2);
}

#[test]
fn nobody_drives_before_a_lease_is_known() {
    let mut bench = Bench::new();
    bench.give(gear("a", token(1), 1)).give(gear("b", None, 2));
    for key in ["a", "b"] {
        assert_eq!(bench.phases(key), [Phase::Rejected], "{key}");
    }
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Rejected, Some(Reason::NoLease)), 0));
}

#[test]
fn only_the_newest_lease_drives_and_only_while_it_lives() {
    let mut bench = Bench::new();
    bench.put(lease(7, 10_500));
    bench.give(gear("older", token(6), 9)).give(gear("newer", token(8), 1)).give(gear("none", None, 1));
    assert!(bench.acted.is_empty() && bench.told.iter().all(|one| one.reason == Some(Reason::NoLease)));
    bench.give(gear("good", token(7), 1));
    assert_eq!(bench.acted.len(), 1);
    bench.now = at(10_500);
    bench.give(gear("late", token(7), 2));
    bench.put(lease(7, 11_000)).put(Input::Fence { newest: token(7), lease_lives_until: None });
    bench.give(gear("ended", token(7), 3));
    assert_eq!(bench.acted.len(), 1);
    bench.give(command("window", 1, 9_900));
    assert_eq!(bench.acted.len(), 2, "other classes need none");
}

#[test]
fn the_lease_is_judged_again_at_the_moment_of_acting() {
    for change in [lease(8, 20_000), Input::Fence { newest: token(7), lease_lives_until: None }] {
        let mut bench = Bench::new();
        bench.holding = true;
        bench.put(lease(7, 20_000)).give(gear("a", token(7), 1)).put(change);
        bench.release();
        bench.release();
        assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::NoLease)));
        assert!(bench.acted.is_empty());
    }
}

#[test]
fn a_newer_lease_begins_its_own_order() {
    let mut bench = Bench::new();
    bench.put(lease(7, 20_000)).give(gear("a", token(7), 50)).put(lease(8, 20_000));
    bench.give(gear("b", token(8), 1));
    assert_eq!(bench.acted.len(), 2);
    let body = |key, number, order| Command { token: token(number), ..ordered(key, order) };
    bench.give(body("c", 9, 5)).give(body("d", 8, 6));
    assert_eq!(bench.acted.len(), 4, "a token counts only where a lease is needed");
}

#[test]
fn a_second_click_within_the_window_has_nothing_to_do() {
    let mut bench = Bench::new();
    bench.give(command("first", 100, 9_900));
    bench.now = at(10_499);
    bench.give(command("second", 100, 10_400));
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Superseded, Some(Reason::Duplicate)), 1));
    assert!(bench.told.last().unwrap().detail.contains("first"));
    bench.give(command("other", 50, 10_400));
    assert_eq!(bench.acted.len(), 2, "another value is another wish");
    bench.give(command("back", 100, 10_400));
    assert_eq!(bench.acted.len(), 3, "100 is not what was brought about last");
    bench.now = at(10_999);
    bench.give(command("alone", 100, 10_900));
    assert_eq!(bench.acted.len(), 4, "the window has passed");
}

#[test]
fn two_clicks_whose_intents_are_written_together_act_once() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("first", 100, 9_900)).give(command("second", 100, 9_900));
    bench.release();
    bench.release();
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Superseded, Some(Reason::Duplicate)), 1));
}

#[test]
fn what_did_not_work_may_be_tried_again_at_once() {
    let mut bench = Bench::new();
    bench.give(command("first", 100, 9_900));
    let actuation = bench.acted[0].0;
    let result = Err(Refusal::new(Reason::ActuatorFault, "stuck"));
    bench.put(Input::Finished { actuation, result });
    bench.give(command("second", 100, 9_900));
    assert_eq!(bench.acted.len(), 2);
}

#[test]
fn a_change_from_elsewhere_ends_the_window_and_what_moved() {
    let mut bench = Bench::new();
    bench.give(command("first", 100, 9_900)).put(Input::TakenOver(path(WINDOW)));
    assert_eq!(bench.phases("first").last(), Some(&Phase::Superseded));
    bench.give(command("second", 100, 9_900)).finish().put(Input::TakenOver(path(WINDOW)));
    bench.give(command("third", 100, 9_900)).finish().give(emergency_stop("stop", 9_900));
    bench.give(command("fourth", 100, 9_900));
    assert_eq!(bench.acted.len(), 4);
}

#[test]
fn the_window_survives_a_restart_where_the_effect_is_known() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("first", 100, 9_900));
    bench.now = at(10_300);
    bench.release();
    bench.finish();
    let mut bench = bench.restart(BOOT, at(10_700));
    bench.give(command("second", 100, 10_600));
    assert_eq!((bench.last(), bench.acted.len()), ((Phase::Superseded, Some(Reason::Duplicate)), 0));
    bench.now = at(10_800);
    bench.give(command("third", 100, 10_700));
    assert_eq!(bench.acted.len(), 1, "it counts from the effect");
    let mut bench = bench.restart(BOOT, at(10_801));
    assert_eq!(bench.phases("third"), [Phase::Unknown]);
    bench.now = at(11_001);
    bench.give(command("fourth", 100, 10_700));
    assert_eq!(bench.acted.len(), 1, "what is not known to hold is no reason to do nothing");
}

#[test]
fn drive_and_safety_have_no_window() {
    let mut bench = Bench::new();
    bench.put(lease(7, 20_000)).give(gear("a", token(7), 1));
    bench.give(Command { value: gear("a", None, 1).value, ..gear("b", token(7), 2) });
    assert_eq!(bench.acted.len(), 2);
    let mut policies = PolicyTable::defaults();
    policies[Class::Safety].duplicate_window = ms(5_000);
    let here = Stamp { boot: BOOT, clock: at(10_000) };
    bench.executor = Executor::recover(here, policies, FORGETFUL, Vec::new());
    let hazard = |key| Command { class: Class::Safety, ..command(key, 1, 9_900) };
    bench.give(hazard("c")).give(hazard("d"));
    assert_eq!(bench.acted.len(), 4, "whatever is configured");
}

#[test]
fn a_horn_that_may_have_sounded_before_a_crash_never_sounds_again_by_itself() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(horn("beep", 9_900));
    assert!(bench.acted.is_empty(), "its intent comes first");
    bench.release();
    assert_eq!(bench.acted.len(), 1);
    let mut bench = bench.restart(BOOT, at(10_100)).restart(BOOT, at(10_200));
    bench.give(horn("beep", 9_900));
    bench.now = at(12_000);
    bench.give(horn("beep", 11_900)).run();
    assert!(bench.acted.is_empty());
    assert_eq!(bench.phases("beep"), [Phase::Unknown; 3]);
    bench.give(horn("again", 11_900));
    assert_eq!(bench.acted.len(), 1, "a person may press it again");
}
