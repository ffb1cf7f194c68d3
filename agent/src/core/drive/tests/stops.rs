//! What stops a vehicle for other reasons than silence.

use super::*;

#[test]
fn an_emergency_stop_wins_from_every_state_and_is_released_before_arming() {
    let mut car = Car::armed();
    car.control(1, going());
    car.give(Input::EmergencyStop);
    assert_eq!(car.cause(), Some(SafeCause::EmergencyStop));
    let first = car.nonce();
    car.give(Input::EmergencyStop);
    assert_ne!(car.nonce(), first, "a re-arm that crossed the second stop ends nothing");
    car.acts();
    car.disk_answers = false;
    car.arm(1);
    assert_eq!(car.phase(), DrivePhase::Arming, "not before the release is durable");
    assert_eq!(car.acts(), [Output::Halt(SafeCause::EmergencyStop)]);
    car.give(Input::Released);
    assert_eq!((car.phase(), car.acts().first()), (DrivePhase::Armed, Some(&Output::Arm)));
}

#[test]
fn a_stop_while_the_last_one_is_being_released_wins() {
    let mut car = Car::started(Some(token(1)), true);
    assert_eq!(car.cause(), Some(SafeCause::EmergencyStop), "as the journal says");
    car.lease(1, 60_000);
    car.disk_answers = false;
    car.arm(1);
    car.give(Input::EmergencyStop);
    car.give(Input::Released);
    assert_eq!(car.cause(), Some(SafeCause::EmergencyStop));
    car.done.clear();
    car.arm(1);
    assert!(car.done.contains(&Output::Release), "the second stop has to be released, too");
    assert_eq!(car.phase(), DrivePhase::Arming);
    car.give(Input::ReleaseFailed);
    assert_eq!(car.cause(), Some(SafeCause::EmergencyStop), "a broken journal arms nobody");
}

#[test]
fn a_clock_that_goes_backwards_ends_everything() {
    let mut car = Car::armed();
    car.now = car.now - ms(10);
    car.settle();
    assert_eq!(car.cause(), Some(SafeCause::ControlLost));
    car.pass(1_000);
    car.rearm(1);
    assert_eq!(car.phase(), DrivePhase::Safe, "how long the lease lives is not known any more");
    car.lease(1, 60_000);
    car.rearm(1);
    assert_eq!(
        car.phase(),
        DrivePhase::Safe,
        "the gateway's floor is ahead of this clock: no age can be told"
    );
}

#[test]
fn an_agent_that_ends_and_a_vehicle_that_cannot_be_driven_announce_no_nonce() {
    let mut car = Car::armed();
    car.give(Input::Stopping);
    let state = car.drive.drive_state();
    assert_eq!(
        (state.phase, state.cause, state.nonce),
        (DrivePhase::Safe, Some(SafeCause::ControlLost), None)
    );
    assert_eq!(car.acts(), [Output::Halt(SafeCause::ControlLost)]);

    let limits = Limits::checked(Asked { enabled: false, ..Asked::default() }).unwrap();
    let here = Stamp { boot: BOOT, clock: Moment::ZERO };
    let mut drive = Drive::recover(here, limits, None, false, 1);
    drive.handle(Moment::ZERO, Input::EmergencyStop);
    let state = drive.drive_state();
    assert_eq!((state.cause, state.nonce), (Some(SafeCause::EmergencyStop), None));
}

#[test]
fn what_moves_is_withdrawn_by_what_stops() {
    let mut car = Car::armed();
    let frame = car.frame(1, going());
    car.drive.handle(car.now, Input::Control(frame));
    car.drive.handle(car.now, Input::EmergencyStop);
    car.settle();
    assert_eq!(car.acts(), [Output::Halt(SafeCause::EmergencyStop)]);
}
