//! Stories of one vehicle that is driven from afar.

mod arming;
mod leases;
mod stops;
mod watchdog;

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

    fn nonce_after(&mut self, silence: Duration) -> NonZeroU64 {
        self.now = self.now + silence;
        self.settle();
        self.nonce()
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
