//! Who may drive.

use super::*;

#[test]
fn the_lease_ends_by_itself_and_by_word() {
    let mut car = Car::new();
    car.lease(1, 1_000);
    car.arm(1);
    for _ in 0..4 {
        car.pass(200);
        car.control(1, going());
    }
    assert_eq!(car.phase(), DrivePhase::Armed);
    car.pass(99);
    car.control(1, going());
    assert_eq!(car.cause(), Some(SafeCause::LeaseEnded), "a millisecond early, for the drift");
    car.lease(1, 60_000);
    car.arm(1);
    car.lease(1, 0);
    assert_eq!(car.cause(), Some(SafeCause::LeaseEnded));
    car.lease(1, 60_000);
    car.rearm(1);
    assert_eq!(car.phase(), DrivePhase::Safe, "what was ended stays so");
    car.control(1, Controls::NEUTRAL);
    assert_eq!(car.refused(Refused::Lease), 2);
}

#[test]
fn renewals_keep_it_going_and_one_from_another_boot_does_not() {
    let mut car = Car::new();
    car.lease(1, 300);
    car.arm(1);
    for _ in 0..10 {
        car.pass(100);
        car.lease(1, 300);
        car.control(1, going());
    }
    assert_eq!(car.phase(), DrivePhase::Armed);
    let stamp = Stamp { boot: BootId::from_bytes([8; 16]), clock: car.now };
    let lease = Lease { token: token(1), operator: String::new(), stamp, ttl: ms(60_000) };
    for _ in 0..4 {
        car.pass(100);
        car.give(Input::Lease(lease.clone()));
        car.control(1, going());
    }
    assert_eq!(car.cause(), Some(SafeCause::LeaseEnded));
    assert_eq!(car.drive.counts().leases_refused, 4);
}

#[test]
fn a_take_over_stops_the_one_and_obeys_the_other_once_it_is_durable() {
    let mut car = Car::armed();
    car.disk_answers = false;
    car.control(1, going());
    car.acts();
    car.lease(2, 60_000);
    assert_eq!(car.cause(), Some(SafeCause::TakenOver), "at once");
    assert_eq!(car.drive.drive_state().token, Some(token(1)), "told once it is durable");
    car.rearm(1);
    car.rearm(2);
    assert_eq!(car.phase(), DrivePhase::Safe, "neither of them, until the disk has it");
    car.control(1, Controls::NEUTRAL);
    car.control(2, Controls::NEUTRAL);
    assert_eq!(car.refused(Refused::Token), 2);
    car.give(Input::Kept(token(2)));
    assert_eq!(car.drive.drive_state().token, Some(token(2)));
    car.arm(2);
    assert_eq!(car.phase(), DrivePhase::Armed);
    car.lease(1, 60_000);
    car.control(1, going());
    assert_eq!((car.phase(), car.refused(Refused::Token)), (DrivePhase::Armed, 3), "the old one is out");
}

#[test]
fn a_token_that_cannot_be_kept_is_never_obeyed() {
    let mut car = Car::armed();
    car.disk_answers = false;
    car.lease(2, 60_000);
    car.give(Input::KeepFailed(token(2)));
    assert_eq!(car.drive.drive_state().token, Some(token(1)), "what a restart forgets is not told");
    car.lease(2, 60_000);
    car.arm(2);
    assert_eq!(car.phase(), DrivePhase::Safe);
    car.arm(1);
    assert_eq!(car.phase(), DrivePhase::Safe, "and no older one either");
}

#[test]
fn after_a_restart_only_the_kept_token_and_newer_ones_count() {
    let mut car = Car::started(Some(token(5)), false);
    assert_eq!(car.drive.drive_state().token, Some(token(5)));
    car.lease(4, 60_000);
    car.arm(4);
    assert_eq!(car.phase(), DrivePhase::Safe);
    car.arm(5);
    assert_eq!(car.phase(), DrivePhase::Safe, "whether its lease lives, only a message can tell");
    car.lease(5, 60_000);
    car.arm(5);
    assert_eq!(car.phase(), DrivePhase::Armed);
    assert!(!car.done.contains(&Output::Keep(token(5))), "it is durable already");
}
