//! Stories of one vehicle that is driven from afar.

use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{BootId, ControlState};

use super::*;

const BOOT: BootId = BootId::from_bytes([7; 16]);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn token(number: u64) -> Token {
    Token::granted(number).expect("not zero")
}

/// Half throttle, to the left.
fn going() -> Controls {
    Controls::new(-0.2, 0.5, 0.0).expect("within range")
}

/// A vehicle, its clock, and what it was told to do. Its disk answers at once unless told otherwise.
struct Car {
    drive: Drive,
    now: Moment,
    counter: u32,
    disk_answers: bool,
    done: Vec<Output>,
}

impl Car {
    fn started(token: Option<Token>, is_stopped: bool) -> Self {
        let now = Moment::from_micros(60_000_000);
        let here = Stamp { boot: BOOT, clock: now };
        let drive = Drive::recover(here, Limits::default(), token, is_stopped, 42);
        let mut car = Self { drive, now, counter: 0, disk_answers: true, done: Vec::new() };
        car.settle();
        car
    }

    fn new() -> Self {
        Self::started(None, false)
    }

    /// Under token 1 and armed.
    fn armed() -> Self {
        let mut car = Self::new();
        car.lease(1, 60_000);
        car.arm(1);
        assert_eq!(car.phase(), DrivePhase::Armed);
        car.done.clear();
        car
    }

    fn here(&self) -> Stamp {
        Stamp { boot: BOOT, clock: self.now }
    }

    fn give(&mut self, input: Input) {
        self.drive.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            match self.drive.poll(self.now) {
                Output::Wait(_) => return,
                Output::Keep(token) if self.disk_answers => {
                    self.done.push(Output::Keep(token));
                    self.drive.handle(self.now, Input::Kept(token));
                }
                Output::Release if self.disk_answers => {
                    self.done.push(Output::Release);
                    self.drive.handle(self.now, Input::Released);
                }
                output => self.done.push(output),
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + ms(millis);
        self.settle();
    }

    fn lease(&mut self, number: u64, ttl: u64) {
        let lease = Lease { token: token(number), operator: "ada".into(), stamp: self.here(), ttl: ms(ttl) };
        self.give(Input::Lease(lease));
    }

    fn frame(&mut self, number: u64, controls: Controls) -> ControlFrame {
        self.counter += 1;
        let seal = |counter| ControlState::seal(ROAD_VEHICLE, token(number), counter, controls);
        let states = vec![seal(self.counter), seal(self.counter - 1)];
        ControlFrame { token: token(number), stamp: self.here(), states }
    }

    fn control(&mut self, number: u64, controls: Controls) {
        let frame = self.frame(number, controls);
        self.give(Input::Control(frame));
    }

    fn rearm_as(&mut self, number: u64, nonce: NonZeroU64) {
        let rearm = Rearm { token: token(number), nonce, stamp: self.here(), ttl: ms(1_000) };
        self.give(Input::Rearm(rearm));
    }

    fn rearm(&mut self, number: u64) {
        let nonce = self.nonce();
        self.rearm_as(number, nonce);
    }

    /// Re-arms and sends five good frames, 20 ms apart.
    fn arm(&mut self, number: u64) {
        self.rearm(number);
        for _ in 0..5 {
            self.control(number, Controls::NEUTRAL);
            self.pass(20);
        }
    }

    fn phase(&self) -> DrivePhase {
        self.drive.drive_state().phase
    }

    fn cause(&self) -> Option<SafeCause> {
        self.drive.drive_state().cause
    }

    fn nonce(&self) -> NonZeroU64 {
        self.drive.drive_state().nonce.expect("it is in the safe state")
    }

    fn refused(&self, reason: Refused) -> u64 {
        self.drive.counts().refused.of(reason)
    }

    /// What moved or stopped the vehicle.
    fn acts(&mut self) -> Vec<Output> {
        let acts = |output: &Output| matches!(output, Output::Halt(_) | Output::Arm | Output::Control(_));
        std::mem::take(&mut self.done).into_iter().filter(acts).collect()
    }
}

#[test]
fn a_drive_from_start_to_armed() {
    let mut car = Car::new();
    assert_eq!((car.phase(), car.cause()), (DrivePhase::Safe, Some(SafeCause::Start)));
    car.lease(1, 2_000);
    car.rearm(1);
    assert_eq!(car.phase(), DrivePhase::Arming);
    for _ in 0..4 {
        car.control(1, Controls::NEUTRAL);
        car.pass(50);
        assert_eq!(car.phase(), DrivePhase::Arming, "four are not five");
    }
    car.control(1, Controls::NEUTRAL);
    car.control(1, going());
    let told: Vec<DrivePhase> = car
        .done
        .iter()
        .filter_map(|output| if let Output::Tell(state) = output { Some(state.phase) } else { None })
        .collect();
    let expected = [DrivePhase::Safe, DrivePhase::Safe, DrivePhase::Arming, DrivePhase::Armed];
    assert_eq!(told, expected, "every change is told, the token's too");
    let halt = Output::Halt(SafeCause::Start);
    let controls = [Output::Control(Controls::NEUTRAL), Output::Control(going())];
    assert_eq!(car.acts(), [halt, Output::Arm].into_iter().chain(controls).collect::<Vec<_>>());
}

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

impl Car {
    fn nonce_after(&mut self, silence: Duration) -> NonZeroU64 {
        self.now = self.now + silence;
        self.settle();
        self.nonce()
    }
}

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
fn what_is_not_good_control_is_refused_and_counted() {
    let mut car = Car::armed();
    let good = car.frame(1, going());
    let change = |change: fn(&mut ControlFrame)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame
    };
    let sealed = |data_id, counter| ControlState::seal(data_id, token(1), counter, going());
    let mut cases = vec![
        (Refused::Token, change(|frame| frame.token = token(2))),
        (Refused::Crc, change(|frame| frame.states[0].throttle = 1.0)),
        (Refused::DataId, change(|_| ())),
        (Refused::Window, change(|_| ())),
        (Refused::Repeated, change(|_| ())),
        (Refused::AgeUnknowable, change(|frame| frame.stamp.boot = BootId::from_bytes([8; 16]))),
        (Refused::AgeUnknowable, change(|frame| frame.stamp.clock = frame.stamp.clock + ms(1))),
        (Refused::TooOld, change(|frame| frame.stamp.clock = frame.stamp.clock - ms(250))),
        (Refused::OutOfRange, change(|frame| frame.states.clear())),
    ];
    cases[2].1.states[0] = sealed(ROAD_VEHICLE + 1, car.counter);
    cases[3].1.states[0] = sealed(ROAD_VEHICLE, car.counter - 1 + 51);
    cases[4].1.states[0] = sealed(ROAD_VEHICLE, car.counter - 1);
    car.acts();
    for (reason, frame) in cases {
        let before = car.refused(reason);
        car.give(Input::Control(frame));
        assert_eq!((car.refused(reason), car.acts()), (before + 1, vec![]), "{reason}");
    }
    car.give(Input::Control(good));
    assert_eq!(car.acts(), [Output::Control(going())], "and none of them was in the way of the good one");
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

#[test]
fn the_window_is_as_wide_as_it_says() {
    let mut car = Car::armed();
    car.counter += 49;
    car.control(1, going());
    let counts = car.drive.counts();
    assert_eq!((counts.refused.of(Refused::Window), counts.lost, counts.recovered), (0, 48, 1));
    car.counter += 50;
    car.control(1, going());
    assert_eq!(car.refused(Refused::Window), 1);
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
