//! Stories of ends and the disk: when an end is told.

use super::slots::Desk;
use super::*;

fn told(desk: &Desk, n: u64) -> Vec<Phase> {
    desk.told.iter().filter(|change| change.id == id(n)).map(|change| change.phase).collect()
}

fn shown(desk: &Desk, n: u64) -> Phase {
    desk.commands.record(id(n)).unwrap().as_told().phase()
}

#[test]
fn an_end_is_told_once_the_disk_has_it_and_not_before() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.ends(40, "a", Received);
    desk.ends(41, "a", Succeeded);
    assert_eq!(told(&desk, 1), [Created, Queued, Received], "what may change is told at once");
    assert_eq!((desk.phase(1), shown(&desk, 1)), (Succeeded, Received));
    desk.disk(42);
    assert_eq!(shown(&desk, 1), Received, "that write was begun before the end");
    desk.disk(43);
    assert_eq!((told(&desk, 1).last(), shown(&desk, 1)), (Some(&Succeeded), Succeeded));
    let record = desk.commands.record(id(1)).unwrap();
    assert!((0..record.timeline.len()).all(|place| record.is_step_durable(place)));
    assert_eq!(desk.commands.loose_ends(), 0);
}

#[test]
fn the_next_command_of_a_target_does_not_wait_for_the_disk() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(10, 2, window("b", 60));
    desk.ends(600, "a", Succeeded);
    assert_eq!(desk.dispatched, [id(1), id(2)]);
    assert!(!told(&desk, 1).contains(&Succeeded));
}

#[test]
fn an_emergency_stops_end_waits_for_nothing() {
    let mut desk = Desk::new();
    desk.submit(0, 1, stop("a"));
    desk.ends(1, "a", Succeeded);
    assert_eq!(told(&desk, 1).last(), Some(&Succeeded));
    let record = desk.commands.record(id(1)).unwrap();
    assert!(!record.is_step_durable(record.timeline.len() - 1), "and says that it is not on disk");
}

#[test]
fn a_broken_disk_holds_back_no_end_and_every_such_end_is_counted_until_it_is_on_disk() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(0, 2, other("b"));
    desk.ends(1, "a", Succeeded);
    assert!(!told(&desk, 1).contains(&Succeeded));
    let write = desk.writes[0].id;
    desk.handle(2, Input::PersistFailed(write));
    assert_eq!(told(&desk, 1).last(), Some(&Succeeded), "told as soon as it is known that it is broken");
    desk.ends(3, "b", Phase::Failed);
    assert_eq!((told(&desk, 2).last(), desk.commands.loose_ends()), (Some(&Phase::Failed), 2));
    desk.handle(1_002, Input::Tick);
    desk.disk(1_003);
    assert_eq!(desk.commands.loose_ends(), 0);
    assert_eq!(told(&desk, 1).iter().filter(|phase| **phase == Succeeded).count(), 1, "told once");
}

#[test]
fn a_disk_that_says_nothing_holds_an_end_back_only_so_long() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.ends(100, "a", Succeeded);
    assert_eq!(desk.commands.wakes_at(), Some(at(850)));
    desk.handle(849, Input::Tick);
    assert!(!told(&desk, 1).contains(&Succeeded));
    desk.handle(850, Input::Tick);
    assert_eq!((told(&desk, 1).last(), desk.commands.loose_ends()), (Some(&Succeeded), 1));
    desk.disk(900);
    desk.disk(901);
    assert_eq!(desk.commands.loose_ends(), 0);
}

#[test]
fn unknown_and_what_resolves_it_are_told_in_their_order() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.disk(1);
    while !desk.commands.is_settled() {
        desk.disk(2);
    }
    desk.handle(7_000, Input::Tick);
    desk.ends(7_001, "a", Succeeded);
    while !desk.commands.is_settled() {
        desk.disk(7_002);
    }
    assert_eq!(told(&desk, 1), [Created, Queued, Unknown, Succeeded]);
}

#[test]
fn each_end_waits_for_the_disk_by_itself() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.handle(7_000, Input::Tick);
    desk.ends(7_740, "a", Succeeded);
    desk.handle(7_750, Input::Tick);
    assert_eq!(told(&desk, 1).last(), Some(&Unknown), "it has waited for long enough, and the other has not");
    desk.handle(8_490, Input::Tick);
    assert_eq!(told(&desk, 1).last(), Some(&Succeeded));
}
