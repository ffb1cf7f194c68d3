//! Silence, and what ends it.

use super::*;

#[test]
fn silence_goes_stale_then_safe_exactly_at_the_limits() {
    let mut car = Car::armed();
    car.control(1, going());
    car.acts();
    car.pass(149);
    assert_eq!(car.phase(), DrivePhase::Armed);
    assert_eq!(car.drive.poll(car.now), Output::Wait(Some(car.now + ms(1))));
    car.pass(1);
    assert_eq!(car.phase(), DrivePhase::Stale);
    assert_eq!(car.acts(), [Output::Control(Controls::new(-0.2, 0.0, 0.0).unwrap())], "off the throttle");
    car.pass(349);
    assert_eq!(car.phase(), DrivePhase::Stale);
    assert_eq!(car.drive.poll(car.now), Output::Wait(Some(car.now + ms(1))));
    car.pass(1);
    assert_eq!((car.phase(), car.cause()), (DrivePhase::Safe, Some(SafeCause::ControlLost)));
    assert_eq!(car.acts(), [Output::Halt(SafeCause::ControlLost)]);
    assert_eq!(car.drive.counts().control_lost, 1);
}

#[test]
fn a_frame_that_comes_with_the_limit_saves_nothing() {
    let mut car = Car::armed();
    car.control(1, going());
    car.now = car.now + ms(500);
    car.control(1, going());
    assert_eq!(car.cause(), Some(SafeCause::ControlLost), "nobody polled in between");
    assert_eq!(car.refused(Refused::NotArmed), 1);
}

#[test]
fn control_that_comes_back_in_time_goes_on() {
    let mut car = Car::armed();
    for _ in 0..20 {
        car.pass(400);
        assert_eq!(car.phase(), DrivePhase::Stale);
        car.control(1, going());
        assert_eq!(car.phase(), DrivePhase::Armed);
    }
    assert_eq!(car.drive.counts().halted, 0);
}

#[test]
fn the_safe_state_is_latched() {
    let mut car = Car::armed();
    let first = car.nonce_after(ms(600));
    for _ in 0..50 {
        car.control(1, Controls::NEUTRAL);
        car.pass(20);
    }
    assert_eq!(car.phase(), DrivePhase::Safe, "good frames alone lead nowhere");
    assert_eq!(car.refused(Refused::NotArmed), 50);
    car.arm(1);
    assert_eq!(car.phase(), DrivePhase::Armed);
    let second = car.nonce_after(ms(600));
    assert_ne!(first, second);
    car.rearm_as(1, first);
    assert_eq!((car.phase(), car.drive.counts().rearms_refused), (DrivePhase::Safe, 1), "an old nonce");
}

#[test]
fn nothing_but_accepted_control_feeds_the_watchdog() {
    let mut car = Car::armed();
    for _ in 0..10 {
        car.pass(50);
        car.lease(1, 60_000);
        let mut bad = car.frame(1, going());
        bad.states[0].crc ^= 1;
        car.give(Input::Control(bad));
        car.counter -= 1;
    }
    assert_eq!(car.cause(), Some(SafeCause::ControlLost));
}
