//! Stories of a vehicle that is driven from afar, over a real link.

use std::time::Duration;

use carriageway_agent::agent::End;
use carriageway_agent::core::drive::Refused;
use carriageway_agent::core::vehicle::EMERGENCY_STOP;
use carriageway_agent::journal::{Journal, Keeper, Loaded, Sqlite};
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{
    Class, Command, ControlFrame, ControlState, Controls, DrivePhase, DriveState, Lease, Message, Phase,
    Rearm, Reason, SafeCause, Token, Value,
};
use carriageway_transport::link::Happening;

use crate::agent::reopened;
use crate::world::{World, clock};

const SPEED: &str = "Vehicle.Speed";
const THROTTLE: &str = "Vehicle.Chassis.Accelerator.PedalPosition";
const GEAR: &str = "Vehicle.Powertrain.Transmission.SelectedGear";

/// Gears by VSS.
const NEUTRAL_GEAR: i64 = 0;
const PARK: i64 = 126;
const DRIVE_GEAR: i64 = 127;

fn token(number: u64) -> Token {
    Token::granted(number).unwrap()
}

fn throttle(share: f32) -> Controls {
    Controls::new(0.0, share, 0.0).unwrap()
}

/// An operator's end of it.
struct Operator {
    token: Token,
    counter: u32,
}

impl Operator {
    /// Takes the wheel of `world` under lease `number`.
    async fn lease(world: &mut World, number: u64) -> Self {
        let ttl = Duration::from_secs(30);
        let stamp = world.floor().await;
        let lease = Lease { token: token(number), operator: "ada".into(), stamp, ttl };
        world.gateway().send(Class::Drive, Message::Lease(lease).encode(), None).unwrap();
        drive_state(world, |state| state.token == Some(token(number))).await;
        Self { token: token(number), counter: 0 }
    }

    async fn frame(&mut self, world: &mut World, controls: Controls) -> ControlFrame {
        self.counter += 1;
        let seal = |counter| ControlState::seal(ROAD_VEHICLE, self.token, counter, controls);
        let states = vec![seal(self.counter), seal(self.counter - 1)];
        ControlFrame { token: self.token, stamp: world.floor().await, states }
    }

    async fn control(&mut self, world: &mut World, controls: Controls) {
        let frame = self.frame(world, controls).await;
        world.gateway().control(frame);
    }

    async fn rearm(&self, world: &mut World, safe: DriveState) {
        let (stamp, ttl) = (world.floor().await, Duration::from_secs(1));
        let rearm = Rearm { token: self.token, nonce: safe.nonce.unwrap(), stamp, ttl };
        world.gateway().send(Class::Drive, Message::Rearm(rearm).encode(), None).unwrap();
    }

    /// Re-arms and keeps neutral until the vehicle says that it is armed.
    async fn arm(&mut self, world: &mut World, safe: DriveState) {
        self.rearm(world, safe).await;
        drive_state(world, |state| state.phase == DrivePhase::Arming).await;
        loop {
            self.control(world, Controls::NEUTRAL).await;
            if let Some(state) = next_state_within(world, Duration::from_millis(50)).await {
                assert_eq!(state.phase, DrivePhase::Armed);
                return;
            }
        }
    }

    /// Keeps `controls` at 20 Hz until a signal fits.
    async fn hold(&mut self, world: &mut World, controls: Controls, path: &str, fits: impl Fn(f64) -> bool) {
        loop {
            self.control(world, controls).await;
            let seen = world.signal(path, |value| value.as_f64().is_some_and(&fits));
            if tokio::time::timeout(Duration::from_millis(50), seen).await.is_ok() {
                return;
            }
        }
    }
}

/// The next word on whether the vehicle can be driven.
async fn any_state(world: &mut World) -> DriveState {
    loop {
        if let Happening::Message { class, payload } = world.next().await
            && let Ok(Message::DriveState(state)) = Message::decode(payload)
        {
            assert_eq!(class, Class::Safety);
            return state;
        }
    }
}

async fn next_state_within(world: &mut World, time: Duration) -> Option<DriveState> {
    tokio::time::timeout(time, any_state(world)).await.ok()
}

async fn drive_state(world: &mut World, fits: impl Fn(&DriveState) -> bool) -> DriveState {
    loop {
        let state = any_state(world).await;
        if fits(&state) {
            return state;
        }
    }
}

async fn safe_by(world: &mut World, cause: SafeCause) -> DriveState {
    drive_state(world, |state| state.cause == Some(cause) && state.phase == DrivePhase::Safe).await
}

/// A vehicle that `operator` has armed, under token 1.
async fn armed() -> (World, Operator) {
    let mut world = World::new().await;
    let start = safe_by(&mut world, SafeCause::Start).await;
    let mut operator = Operator::lease(&mut world, 1).await;
    operator.arm(&mut world, start).await;
    (world, operator)
}

#[tokio::test(start_paused = true)]
async fn it_drives_under_control_and_stops_without() {
    let (mut world, mut operator) = armed().await;
    operator.hold(&mut world, throttle(1.0), THROTTLE, |percent| percent > 99.0).await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 10.0).await;
    assert_eq!(any_state(&mut world).await.phase, DrivePhase::Stale, "the silence begins");
    world.signal(THROTTLE, |value| *value == Value::Int(0)).await;
    let lost = any_state(&mut world).await;
    assert_eq!((lost.phase, lost.cause), (DrivePhase::Safe, Some(SafeCause::ControlLost)));
    world.signal(SPEED, |value| value.as_f64() == Some(0.0)).await;
    operator.control(&mut world, throttle(1.0)).await;
    assert_eq!(next_state_within(&mut world, Duration::from_secs(5)).await, None, "latched");
    operator.arm(&mut world, lost).await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 5.0).await;
    let counts = world.handle.status().drive;
    assert_eq!((counts.armed, counts.control_lost, counts.refused.of(Refused::NotArmed)), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_take_over_stops_the_one_before_and_hands_on() {
    let (mut world, mut ada) = armed().await;
    ada.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 5.0).await;
    let mut bob = Operator::lease(&mut world, 2).await;
    // Told with the token before, then with its own.
    world.new_session().await;
    let taken = any_state(&mut world).await;
    assert_eq!(
        (taken.phase, taken.cause, taken.token),
        (DrivePhase::Safe, Some(SafeCause::TakenOver), Some(token(2)))
    );
    ada.rearm(&mut world, taken).await;
    bob.arm(&mut world, taken).await;
    ada.control(&mut world, throttle(1.0)).await;
    // Before the next control takes its place on the way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    bob.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 5.0).await;
    let counts = world.handle.status().drive;
    assert_eq!((counts.rearms_refused, counts.refused.of(Refused::Token)), (1, 1));
}

async fn stop(world: &mut World, key: &str) -> Command {
    let body = world.window(key, 0).await;
    Command { class: Class::Safety, path: EMERGENCY_STOP.parse().unwrap(), value: Value::Bool(true), ..body }
}

#[tokio::test(start_paused = true)]
async fn an_emergency_stop_stays_until_somebody_re_arms() {
    let (mut world, mut operator) = armed().await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 10.0).await;
    let stop = stop(&mut world, "stop").await;
    world.send(&stop);
    let stopped = safe_by(&mut world, SafeCause::EmergencyStop).await;
    world.signal(SPEED, |value| value.as_f64() == Some(0.0)).await;
    world.signal(EMERGENCY_STOP, |value| *value == Value::Bool(true)).await;
    operator.arm(&mut world, stopped).await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 5.0).await;
    world.send(&stop);
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 10.0).await;
    assert_eq!(world.handle.status().commands.repeats, 1, "a copy of the old stop stops nobody");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_told_where_the_vehicle_stands() {
    let (mut world, _) = armed().await;
    world.new_session().await;
    let state = any_state(&mut world).await;
    assert_eq!((state.phase, state.token), (DrivePhase::Armed, Some(token(1))));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_agent_leaves_its_vehicle_in_the_safe_state() {
    let (mut world, mut operator) = armed().await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 10.0).await;
    world.begin_to_stop();
    let last = safe_by(&mut world, SafeCause::ControlLost).await;
    assert_eq!(last.nonce, None, "nobody can re-arm it any more");
}

/// Shifts under lease `number`, if any: what became of it, and why.
async fn shift(world: &mut World, key: &str, gear: i64, number: Option<u64>) -> (Phase, Option<Reason>) {
    let body = world.window(key, 0).await;
    let (path, value, token) = (GEAR.parse().unwrap(), Value::Int(gear), number.map(token));
    world.send(&Command { class: Class::Drive, path, value, token, ..body });
    loop {
        let (class, outcome) = world.outcome().await;
        if outcome.key.as_str() == key && outcome.phase.is_terminal() {
            assert_eq!(class, Class::Drive);
            return (outcome.phase, outcome.reason);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drive_commands_act_under_the_newest_lease_and_under_no_other() {
    let no_lease = (Phase::Rejected, Some(Reason::NoLease));
    let (mut world, _) = armed().await;
    safe_by(&mut world, SafeCause::ControlLost).await;
    // It shifts only while it stands.
    world.signal(SPEED, |value| value.as_f64() == Some(0.0)).await;
    assert_eq!(shift(&mut world, "without", NEUTRAL_GEAR, None).await, no_lease);
    assert_eq!(shift(&mut world, "under-1", PARK, Some(1)).await, (Phase::Succeeded, None));
    world.signal(GEAR, |value| *value == Value::Int(PARK)).await;
    Operator::lease(&mut world, 2).await;
    assert_eq!(shift(&mut world, "late-under-1", NEUTRAL_GEAR, Some(1)).await, no_lease);
    assert_eq!(world.handle.status().commands.acted, 1, "nothing else has acted");
    assert_eq!(shift(&mut world, "under-2", NEUTRAL_GEAR, Some(2)).await, (Phase::Succeeded, None));
    world.signal(GEAR, |value| *value == Value::Int(NEUTRAL_GEAR)).await;
}

#[tokio::test(start_paused = true)]
async fn no_drive_command_acts_once_its_lease_was_given_back() {
    let (mut world, _) = armed().await;
    // The gear that it is in: that holds at once, even while it rolls.
    assert_eq!(shift(&mut world, "before", DRIVE_GEAR, Some(1)).await, (Phase::Succeeded, None));
    let stamp = world.floor().await;
    let over = Lease { token: token(1), operator: "ada".into(), stamp, ttl: Duration::ZERO };
    world.gateway().send(Class::Drive, Message::Lease(over).encode(), None).unwrap();
    safe_by(&mut world, SafeCause::LeaseEnded).await;
    let refused = shift(&mut world, "after", DRIVE_GEAR, Some(1)).await;
    assert_eq!(refused, (Phase::Rejected, Some(Reason::NoLease)));
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_clock_went_backwards_stops_its_vehicle_and_ends() {
    let (mut world, mut operator) = armed().await;
    operator.hold(&mut world, throttle(1.0), SPEED, |speed| speed > 10.0).await;
    world.clock.set_back(Duration::from_secs(1));
    let last = |state: &DriveState| state.cause == Some(SafeCause::ControlLost) && state.nonce.is_none();
    drive_state(&mut world, last).await;
    assert_eq!(world.ended().await, End::ClockWentBack);
}

// In real time: the journal's thread does not know of tokio's.
#[tokio::test]
async fn a_restart_keeps_the_token_and_the_latch_and_a_release_survives_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let clock = clock();
    let open = async || {
        let keeper = Keeper::start(reopened(&path).await).unwrap();
        keeper.open("car".parse().unwrap()).await.unwrap()
    };
    drop(Sqlite::open(&path).unwrap());

    let mut world = World::with(clock.clone(), open().await).await;
    let start = safe_by(&mut world, SafeCause::Start).await;
    let mut operator = Operator::lease(&mut world, 7).await;
    operator.arm(&mut world, start).await;
    let stop = stop(&mut world, "stop").await;
    world.send(&stop);
    assert_eq!(world.end_of("stop").await, Phase::Succeeded);
    drop(world);
    let mut world = World::with(clock.clone(), open().await).await;
    let stopped = safe_by(&mut world, SafeCause::EmergencyStop).await;
    assert_eq!(stopped.token, Some(token(7)));
    let mut operator = Operator::lease(&mut world, 8).await;
    world.new_session().await;
    let stopped = any_state(&mut world).await;
    operator.arm(&mut world, stopped).await;
    drop(world);
    let journal: (Journal, Loaded) = open().await;
    assert_eq!(journal.1.token, Some(token(8)));
    let mut world = World::with(clock, journal).await;
    let state = any_state(&mut world).await;
    assert_eq!((state.cause, state.token), (Some(SafeCause::Start), Some(token(8))), "released for good");
    world.signal(EMERGENCY_STOP, |value| *value == Value::Bool(false)).await;
}
