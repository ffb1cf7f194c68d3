//! Stories of vehicles that are away, of the disk, and of restarts.

use super::slots::Desk;
use super::*;

fn queued(key: &str, position: i64) -> Request {
    Request { on_offline: OnOffline::Queue, ttl: Some(Duration::from_secs(30)), ..window(key, position) }
}

fn queued_other(key: &str) -> Request {
    Request { on_offline: OnOffline::Queue, ttl: Some(Duration::from_secs(30)), ..other(key) }
}

fn offline() -> Desk {
    let mut desk = Desk::new();
    desk.reach = Reach::Offline;
    desk
}

/// What a disk holds after these writes.
fn on_disk(writes: &[Write]) -> Vec<Kept> {
    let mut kept: Vec<Kept> = Vec::new();
    for keep in writes.iter().flat_map(|write| &write.keeps) {
        match keep {
            Keep::Put(new) => match kept.iter_mut().find(|old| old.record.id == new.record.id) {
                Some(old) => *old = *new.clone(),
                None => kept.push(*new.clone()),
            },
            Keep::Forget(id) => kept.retain(|old| old.record.id != *id),
        }
    }
    kept
}

/// A gateway that starts with what these writes left.
fn restarted(ms: u64, writes: &[Write], is_same_boot: bool) -> Desk {
    let mut desk = offline();
    let read = |kept: Kept| {
        let Record { id, request, ttl, accepted, timeline, .. } = kept.record;
        let record = Record::restored(id, request, ttl, accepted, timeline);
        Restored { kept: Kept { record, ..kept }, is_same_boot }
    };
    desk.commands.restore(at(ms), on_disk(writes).into_iter().map(read));
    desk.handle(ms, Input::Tick);
    desk
}

#[test]
fn what_is_queued_is_accepted_once_it_is_on_disk_and_not_told_before() {
    let mut desk = offline();
    assert!(matches!(desk.submit(0, 1, queued("a", 50)), Submitted::Accepted { .. }));
    assert!(desk.told.is_empty() && desk.commands.record(id(1)).unwrap().is_pending());
    desk.disk(5);
    assert_eq!(desk.durable, [id(1)]);
    assert_eq!(desk.told.iter().map(|change| change.phase).collect::<Vec<_>>(), [Created, Queued]);
    assert!(desk.dispatched.is_empty());
}

#[test]
fn what_was_too_late_before_it_was_all_here_ends_whatever_the_disk_does() {
    let mut desk = offline();
    let late = Request { ttl: Some(Duration::from_millis(300)), ..queued("a", 50) };
    let submitted = submit(&mut desk.commands, 400, 0, id(1), late, Reach::Offline);
    assert_eq!(submitted, Submitted::Expired(id(1)));
    desk.handle(400, Input::Tick);
    let write = desk.writes[0].id;
    desk.handle(401, Input::PersistFailed(write));
    let told: Vec<_> = desk.told.iter().map(|change| change.phase).collect();
    assert_eq!(told, [Created, Expired], "the operator was told of it: it must not vanish");
}

#[test]
fn only_classes_that_may_wait_do() {
    let mut desk = offline();
    for class in [Class::Safety, Class::Drive] {
        let request = Request { class, ttl: None, ..queued("a", 50) };
        assert_eq!(desk.submit(0, 1, request), Submitted::Refused(Refusal::NotQueueable));
    }
    assert_eq!(desk.submit(0, 1, window("a", 50)), Submitted::Refused(Refusal::Offline));
}

#[test]
fn after_the_return_one_of_each_class_goes_in_the_order_of_acceptance() {
    let mut desk = offline();
    for (n, key) in (1..=3).zip(["a", "b", "c"]) {
        desk.submit(n, n, queued_other(key));
        desk.disk(n);
    }
    desk.submit(5, 4, Request { class: Class::Comfort, ..queued_other("d") });
    desk.disk(6);
    desk.reach(1_000, Reach::Connected);
    assert!(desk.dispatched.is_empty(), "the disk has to know first");
    desk.disk(1_001);
    assert_eq!(desk.dispatched, [id(1), id(4)]);
    desk.ends(1_100, "a", Succeeded);
    desk.disk(1_101);
    desk.disk(1_102);
    assert_eq!(desk.dispatched, [id(1), id(4), id(2)]);
    desk.ends(1_200, "b", Phase::Failed);
    desk.disk(1_201);
    desk.disk(1_202);
    assert_eq!(desk.dispatched, [id(1), id(4), id(2), id(3)]);
}

#[test]
fn before_the_release_the_queue_is_filtered() {
    let mut desk = offline();
    desk.submit(0, 1, Request { ttl: Some(Duration::from_secs(1)), ..queued_other("a") });
    desk.disk(1);
    for (n, key) in (2..=6).zip(["b", "c", "d", "e", "f"]) {
        desk.submit(n, n, queued("x", 1).with(key, n));
        desk.disk(n);
        desk.disk(n);
    }
    desk.reach(2_000, Reach::Connected);
    while !desk.commands.is_settled() {
        desk.disk(2_001);
    }
    assert_eq!(desk.phase(1), Expired);
    for n in 2..=5 {
        assert_eq!(desk.phase(n), Phase::Superseded, "{n}");
    }
    assert_eq!(desk.dispatched, [id(6)], "five clicks in a tunnel open one window, once");
}

impl Request {
    fn with(self, key: &str, position: u64) -> Self {
        let position = i64::try_from(position).unwrap();
        Self { key: key.parse().unwrap(), value: Value::Int(position), ..self }
    }
}

#[test]
fn five_clicks_that_outlive_their_ttl_open_none() {
    let mut desk = offline();
    for n in 1..=5 {
        desk.submit(n, n, queued("x", 50).with(&format!("k{n}"), 50));
        desk.disk(n);
        while !desk.commands.is_settled() {
            desk.disk(n);
        }
    }
    desk.reach(40_000, Reach::Connected);
    while !desk.commands.is_settled() {
        desk.disk(40_001);
    }
    assert!(desk.dispatched.is_empty());
    assert_eq!(desk.phase(5), Expired);
    for n in 1..=4 {
        assert_eq!(desk.phase(n), Phase::Superseded);
    }
}

#[test]
fn a_broken_disk_refuses_what_would_wait_and_lets_the_rest_go() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    let write = desk.writes[0].id;
    desk.handle(10, Input::PersistFailed(write));
    assert!(desk.commands.record(id(1)).is_none(), "it was never accepted");
    assert!(desk.told.is_empty() && desk.commands.is_disk_broken());
    assert_eq!(desk.submit(20, 2, queued("b", 50)), Submitted::Refused(Refusal::DiskBroken));
    desk.reach(30, Reach::Connected);
    desk.submit(30, 3, window("c", 50));
    assert_eq!(desk.dispatched, [id(3)], "what goes does not wait for the disk");
    assert_eq!(desk.writes.len(), 1, "one attempt per pause");
    desk.handle(1_010, Input::Tick);
    assert_eq!(desk.writes.len(), 2);
    desk.disk(1_020);
    assert!(!desk.commands.is_disk_broken() && desk.durable.contains(&id(3)));
}

#[test]
fn a_stop_and_a_lone_command_do_not_wait_for_the_disk() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(0, 2, stop("s"));
    assert_eq!(desk.dispatched, [id(1), id(2)]);
    assert!(desk.durable.is_empty());
}

#[test]
fn the_end_of_what_is_on_disk_is_told_when_the_disk_knows() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    desk.disk(1);
    assert_eq!(desk.commands.cancel(at(10), id(1)), Canceling::Noted);
    desk.handle(10, Input::Tick);
    assert_eq!(desk.phase(1), Queued);
    let before = desk.writes.len() - 1;
    assert_eq!(restarted(20, &desk.writes[..before], true).phase(1), Queued, "and it was not told");
    desk.reach(30, Reach::Connected);
    assert!(desk.dispatched.is_empty(), "yet it never leaves");
    desk.disk(40);
    assert_eq!(desk.phase(1), Phase::Canceled);
    assert_eq!(restarted(50, &desk.writes, true).phase(1), Phase::Canceled);
}

#[test]
fn one_that_is_leaving_can_still_be_canceled() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    desk.disk(1);
    desk.reach(10, Reach::Connected);
    assert_eq!(desk.commands.cancel(at(11), id(1)), Canceling::Noted);
    desk.disk(12);
    desk.disk(13);
    assert!(desk.dispatched.is_empty());
    assert_eq!(desk.phase(1), Phase::Canceled);
}

#[test]
fn what_a_session_never_sent_waits_again_and_what_it_sent_does_not() {
    let mut desk = Desk::new();
    desk.submit(0, 1, queued("a", 50));
    desk.submit(0, 2, queued_other("b"));
    desk.submit(1, 4, window("d", 60));
    desk.submit(0, 3, queued_other("c"));
    desk.disk(1);
    desk.reach(10, Reach::Offline);
    desk.handle(10, Input::Delivery(id(2), Delivery::LostUnsent));
    desk.handle(10, Input::Delivery(id(1), Delivery::LostUnsent));
    desk.handle(10, Input::Delivery(id(3), Delivery::LostSent));
    while !desk.commands.is_settled() {
        desk.disk(11);
    }
    assert_eq!((desk.phase(2), desk.phase(3)), (Queued, Dispatched));
    assert_eq!(desk.phase(1), Phase::Superseded, "a newer one waits for the same target");
    desk.handle(2_010, Input::Tick);
    assert_eq!(desk.phase(3), Unknown);
}

#[test]
fn a_restart_on_the_same_boot_goes_on_in_each_phase() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    desk.disk(1);
    let waiting = desk.writes.clone();
    let mut again = restarted(1_000, &waiting, true);
    again.reach(1_001, Reach::Connected);
    again.disk(1_002);
    assert_eq!(again.dispatched, [id(1)], "its timers go on, and it goes");
    assert_eq!(restarted(30_000, &waiting, true).phase(1), Expired, "its ttl counted meanwhile");

    desk.reach(10, Reach::Connected);
    let leaving = desk.writes.clone();
    let mut again = restarted(1_000, &leaving, true);
    again.reach(1_001, Reach::Connected);
    assert!(again.dispatched.is_empty(), "it may have left");
    again.handle(60_000, Input::Tick);
    assert_eq!(again.phase(1), Unknown, "nobody knows");
    again.ends(60_001, "a", Succeeded);
    assert_eq!(again.phase(1), Succeeded, "but the vehicle does");

    desk.disk(11);
    desk.ends(20, "a", Succeeded);
    while !desk.commands.is_settled() {
        desk.disk(21);
    }
    let again = restarted(1_000, &desk.writes, true);
    assert_eq!(again.phase(1), Succeeded);
    assert_eq!(again.commands.record(id(1)).unwrap().timeline.len(), 3);
}

#[test]
fn after_a_restart_of_the_host_the_age_of_everything_is_unknowable() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    desk.disk(1);
    let again = restarted(2, &desk.writes, false);
    assert_eq!((again.phase(1), again.end(1).1), (Expired, Some(Reason::AgeUnknowable)));
    assert!(again.end(1).2.contains("host restarted"), "{}", again.end(1).2);
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    let again = restarted(2, &desk.writes, false);
    assert_eq!(again.phase(1), Unknown);
    let later = restarted(1_000_000, &desk.writes, true);
    assert!(later.commands.record(id(1)).is_some(), "UNKNOWN is there to be read");
}

#[test]
fn records_that_have_gone_are_deleted_in_batches() {
    let mut desk = Desk::with(Limits { operator_rate: 1_000_000, ..Limits::default() });
    for n in 0..256 {
        desk.submit(n * 1_000, n, other(&format!("k{n}")));
        desk.ends(n * 1_000, &format!("k{n}"), Succeeded);
        while !desk.commands.is_settled() {
            desk.disk(n * 1_000);
        }
    }
    let writes = desk.writes.len();
    desk.handle(10_000_000, Input::Tick);
    assert!(desk.commands.is_empty());
    assert_eq!(desk.writes.len(), writes + 1, "one write deletes them all");
    assert!(on_disk(&desk.writes).is_empty());
}

#[test]
fn what_waits_is_filtered_at_its_release_whoever_was_late_to_look() {
    let mut desk = Desk::new();
    desk.submit(0, 1, Request { ttl: Some(Duration::from_secs(20)), ..window("a", 50) });
    desk.submit(100, 2, window("b", 60));
    desk.ends(5_100, "a", Succeeded);
    assert_eq!((desk.dispatched.as_slice(), desk.phase(2)), ([id(1)].as_slice(), Expired));
}

#[test]
fn a_long_queue_leaves_no_faster_than_its_class_may() {
    let mut desk = offline();
    for n in 1..=30 {
        desk.submit(n * 200, n, queued_other(&format!("k{n}")));
        desk.disk(n * 200);
    }
    desk.reach(6_500, Reach::Connected);
    for n in 1..=20 {
        while !desk.commands.is_settled() {
            desk.disk(6_500);
        }
        desk.ends(6_500, &format!("k{n}"), Succeeded);
    }
    while !desk.commands.is_settled() {
        desk.disk(6_500);
    }
    assert_eq!(desk.dispatched.len(), 20, "the burst; the rest at the class's rate");
    assert_eq!(desk.commands.wakes_at(), Some(at(6_600)));
}

#[test]
fn a_write_that_failed_is_written_again() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.ends(1, "a", Succeeded);
    let first = desk.writes[0].id;
    desk.handle(2, Input::PersistFailed(first));
    desk.handle(1_002, Input::Tick);
    desk.disk(1_003);
    assert_eq!(desk.durable, [id(1)]);
    desk.submit(2_000, 2, window("b", 50));
    let second = desk.writes.last().unwrap().id;
    desk.handle(2_001, Input::PersistFailed(second));
    desk.handle(3_001, Input::Tick);
    desk.disk(3_002);
    assert!(desk.durable.contains(&id(2)), "though nothing else happened to it");
}

#[test]
fn what_waited_while_the_clock_went_backwards_expires() {
    let mut desk = offline();
    desk.submit(50_000, 1, queued("a", 50));
    desk.disk(50_005);
    desk.commands.note(at(50_005));
    desk.commands.note(at(47_000));
    desk.submit(47_100, 2, queued_other("b"));
    desk.disk(47_105);
    desk.reach(47_200, Reach::Connected);
    desk.disk(47_210);
    assert_eq!(desk.end(1).0, Expired);
    assert_eq!(desk.end(1).1, Some(Reason::AgeUnknowable));
    assert_eq!(desk.dispatched, [id(2)], "what came after the step is of a known age");
}

#[test]
fn inputs_that_overtake_each_other_by_a_moment_are_no_step_of_the_clock() {
    let mut desk = Desk::new();
    desk.submit(50_000, 1, window("a", 50));
    desk.submit(50_010, 2, window("b", 60));
    desk.ends(50_009, "a", Succeeded);
    desk.handle(50_008, Input::Tick);
    desk.handle(50_600, Input::Tick);
    assert_eq!(desk.dispatched, [id(1), id(2)], "the second was held, and was not doubted");
}

#[test]
fn what_the_disk_let_go_too_late_to_know_its_age_stays() {
    let mut desk = offline();
    desk.submit(50_000, 1, queued("a", 50));
    desk.disk(50_005);
    desk.commands.note(at(50_100));
    desk.reach(50_100, Reach::Connected);
    desk.commands.note(at(49_000));
    desk.disk(49_000);
    assert!(desk.dispatched.is_empty());
    assert_eq!(desk.end(1).0, Expired);
}

#[test]
fn what_waits_while_the_clock_goes_backwards_ends_on_disk_at_once() {
    let mut desk = offline();
    desk.submit(50_000, 1, queued("a", 50));
    desk.disk(50_005);
    assert!(desk.commands.note(at(50_005)) | desk.commands.note(at(47_000)), "a step");
    assert_eq!(desk.commands.wakes_at(), Some(at(47_000)));
    desk.handle(47_000, Input::Tick);
    desk.disk(47_001);
    assert_eq!(desk.end(1).0, Expired);
    let Some(Keep::Put(kept)) = desk.writes.last().unwrap().keeps.last() else { panic!("nothing written") };
    assert_eq!(kept.record.phase(), Expired, "a restart on the same boot does not release it");
    assert!(!desk.commands.note(at(47_002)), "no step");
}

#[test]
fn what_a_failed_write_may_have_left_on_disk_is_deleted_there_though_nothing_else_is_to_be_written() {
    let mut desk = offline();
    desk.submit(0, 1, queued("a", 50));
    let write = desk.writes[0].id;
    desk.handle(10, Input::PersistFailed(write));
    assert!(!desk.commands.is_settled());
    desk.handle(1_010, Input::Tick);
    assert_eq!(desk.writes.last().unwrap().keeps, [Keep::Forget(id(1))]);
    desk.disk(1_020);
    assert!(desk.commands.is_settled());
}
