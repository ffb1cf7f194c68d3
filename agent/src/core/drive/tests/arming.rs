//! From the safe state to driving.

use super::*;

#[test]
fn a_re_arm_needs_nonce_lease_and_freshness() {
    let mut car = Car::new();
    let nonce = car.nonce();
    car.rearm_as(1, nonce);
    assert_eq!(car.phase(), DrivePhase::Safe, "no lease");
    car.lease(2, 60_000);
    car.rearm_as(1, nonce);
    assert_eq!(car.phase(), DrivePhase::Safe, "another lease");
    car.rearm_as(2, NonZeroU64::new(nonce.get() ^ 1).unwrap());
    assert_eq!(car.phase(), DrivePhase::Safe, "another nonce");
    let late = Rearm { token: token(2), nonce, stamp: car.here(), ttl: ms(1_000) };
    car.pass(1_000);
    car.give(Input::Rearm(late));
    assert_eq!(car.phase(), DrivePhase::Safe, "too late by the drift");
    let elsewhere = Stamp { boot: BootId::from_bytes([8; 16]), clock: car.now };
    car.give(Input::Rearm(Rearm { stamp: elsewhere, ..late }));
    assert_eq!(car.phase(), DrivePhase::Safe, "another boot");
    assert_eq!(car.drive.counts().rearms_refused, 5);
    car.rearm_as(2, nonce);
    assert_eq!(car.phase(), DrivePhase::Arming);
}

#[test]
fn arming_needs_neutral_input_and_ends_after_two_seconds() {
    let mut car = Car::new();
    car.lease(1, 60_000);
    car.rearm(1);
    car.control(1, Controls::NEUTRAL);
    car.control(1, Controls::new(0.0, 0.1, 0.0).unwrap());
    assert_eq!(car.cause(), Some(SafeCause::NotArmed));
    let nonce = car.nonce();
    car.rearm(1);
    car.control(1, Controls::new(0.0, 0.0, 1.0).unwrap());
    assert_eq!(car.phase(), DrivePhase::Arming, "the brake may be on");
    car.pass(1_999);
    assert_eq!(car.phase(), DrivePhase::Arming);
    car.pass(1);
    assert_eq!(car.cause(), Some(SafeCause::NotArmed));
    assert_ne!(car.nonce(), nonce);
    assert!(!car.acts().iter().any(|act| matches!(act, Output::Arm | Output::Control(_))));
}

#[test]
fn a_gap_or_a_broken_frame_begins_the_row_anew() {
    for breaks in [true, false] {
        let mut car = Car::new();
        car.lease(1, 60_000);
        car.rearm(1);
        for _ in 0..4 {
            car.control(1, Controls::NEUTRAL);
        }
        if breaks {
            let mut bad = car.frame(1, Controls::NEUTRAL);
            bad.states[0].crc ^= 1;
            car.give(Input::Control(bad));
        } else {
            car.pass(151);
        }
        for _ in 0..4 {
            car.control(1, Controls::NEUTRAL);
        }
        assert_eq!(car.phase(), DrivePhase::Arming);
        car.control(1, Controls::NEUTRAL);
        assert_eq!(car.phase(), DrivePhase::Armed);
    }
}

#[test]
fn copies_on_other_connections_break_no_row_and_feed_nothing() {
    let mut car = Car::new();
    car.lease(1, 60_000);
    car.rearm(1);
    for count in 1..=5 {
        let frame = car.frame(1, Controls::NEUTRAL);
        car.give(Input::Control(frame.clone()));
        car.give(Input::Control(frame));
        assert_eq!(car.phase() == DrivePhase::Armed, count == 5, "after {count}");
    }
    let frame = car.frame(1, going());
    car.give(Input::Control(frame.clone()));
    for _ in 0..5 {
        car.pass(100);
        car.give(Input::Control(frame.clone()));
    }
    assert_eq!(car.cause(), Some(SafeCause::ControlLost), "copies do not keep it alive");
}

#[test]
fn a_sender_that_counted_through_a_silence_is_taken_up_by_a_re_arm() {
    let mut car = Car::armed();
    car.pass(600);
    car.counter += 500;
    car.control(1, Controls::NEUTRAL);
    assert_eq!(car.refused(Refused::Window), 1);
    car.arm(1);
    assert_eq!(car.phase(), DrivePhase::Armed);
    car.pass(600);
    car.counter -= 400;
    car.arm(1);
    assert_eq!(car.phase(), DrivePhase::Arming, "a counter below is a copy, re-armed or not");
}

#[test]
fn a_release_that_takes_longer_than_the_row_holds_needs_a_row_of_its_own() {
    let mut car = Car::started(Some(token(1)), true);
    car.lease(1, 60_000);
    car.disk_answers = false;
    car.arm(1);
    car.pass(200);
    car.give(Input::Released);
    assert_eq!(car.phase(), DrivePhase::Arming);
    for _ in 0..5 {
        car.control(1, Controls::NEUTRAL);
    }
    assert_eq!(car.phase(), DrivePhase::Armed);
}
