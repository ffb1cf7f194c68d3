//! Stories of desired state, and of commands that are withdrawn or need a lease.

use std::time::Duration;

use carriageway_agent::journal::{Keeper, Sqlite};
use carriageway_proto::{
    Cancel, Class, Command, Desired, DesiredValue, Message, PathState, Phase, Reason, SyncStatus, Token,
    Value,
};
use carriageway_transport::link::Happening;

use crate::agent::reopened;
use crate::world::{WINDOW, World, clock};

/// The window is to stand at `position`.
async fn desire(world: &mut World, version: u64, position: i64) -> Desired {
    let stamp = world.window("any", 0).await.stamp;
    let (path, value) = (WINDOW.parse().unwrap(), Value::Int(position));
    let desired = Desired { version, values: vec![DesiredValue { path, value, version, stamp, ttl: None }] };
    send(world, &desired);
    desired
}

fn send(world: &World, desired: &Desired) {
    world.gateway().send(Class::Config, Message::Desired(desired.clone()).encode(), None).unwrap();
}

/// The next report about the window, once it says `status`.
async fn reported(world: &mut World, status: SyncStatus) -> PathState {
    loop {
        let Happening::Message { class: Class::Config, payload } = world.next().await else { continue };
        let Ok(Message::StateReport(mut report)) = Message::decode(payload) else { continue };
        match report.paths.pop() {
            Some(state) if state.status == status => return state,
            Some(_) | None => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_desired_open_and_a_command_that_closes_it_is_not_fought() {
    let mut world = World::new().await;
    let desired = desire(&mut world, 1, 60).await;
    reported(&mut world, SyncStatus::Applying).await;
    let state = reported(&mut world, SyncStatus::InSync).await;
    assert_eq!((state.version, state.path.as_str()), (1, WINDOW));
    world.signal(WINDOW, |value| *value == Value::Int(60)).await;

    let close = world.window("close", 0).await;
    world.send(&close);
    reported(&mut world, SyncStatus::Diverged).await;
    world.signal(WINDOW, |value| *value == Value::Int(0)).await;
    world.new_session().await;
    send(&world, &desired);
    reported(&mut world, SyncStatus::Diverged).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.signal(WINDOW, |value| *value == Value::Int(0)).await;

    desire(&mut world, 2, 100).await;
    reported(&mut world, SyncStatus::InSync).await;
    world.signal(WINDOW, |value| *value == Value::Int(100)).await;
    assert_eq!(world.handle.status().commands.acted, 1, "one command; what is desired is none");
}

#[tokio::test(start_paused = true)]
async fn what_is_desired_takes_a_moving_window_over_and_the_horn_is_no_state() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    while world.outcome().await.1.phase != Phase::Executing {}
    desire(&mut world, 1, 0).await;
    assert_eq!(world.end_of("open").await, Phase::Superseded);
    reported(&mut world, SyncStatus::InSync).await;

    let mut horn = desire(&mut world, 2, 0).await;
    horn.version = 3;
    horn.values[0].version = 3;
    horn.values[0].path = "Vehicle.Body.Horn.IsActive".parse().unwrap();
    send(&world, &horn);
    let state = reported(&mut world, SyncStatus::GivenUp).await;
    assert_eq!(state.reason, Some(Reason::Unsupported));
}

// In real time: the journal's thread does not know of tokio's.
#[tokio::test]
async fn a_restarted_agent_does_not_act_on_the_same_version_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let clock = clock();
    let vehicle = || "car".parse().unwrap();

    let keeper = Keeper::start(Sqlite::open(&path).unwrap()).unwrap();
    let mut world = World::with(clock.clone(), keeper.open(vehicle()).await.unwrap()).await;
    let desired = desire(&mut world, 1, 5).await;
    reported(&mut world, SyncStatus::InSync).await;
    drop((world, keeper));

    // The simulated vehicle is another one: its window is closed.
    let keeper = Keeper::start(reopened(&path).await).unwrap();
    let mut world = World::with(clock, keeper.open(vehicle()).await.unwrap()).await;
    world.signal(WINDOW, |value| *value == Value::Int(0)).await;
    send(&world, &desired);
    let state = reported(&mut world, SyncStatus::GivenUp).await;
    assert!(state.detail.contains("restarted"), "{}", state.detail);
    desire(&mut world, 2, 5).await;
    reported(&mut world, SyncStatus::InSync).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_withdrawn_before_it_comes_never_acts() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    let cancel = Cancel { key: open.key.clone(), class: Class::Body, fingerprint: Some(open.fingerprint()) };
    world.gateway().send(Class::Body, Message::Cancel(cancel).encode(), None).unwrap();
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Canceled);
    assert_eq!(world.end_of("open").await, Phase::Canceled);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let commands = world.handle.status().commands;
    assert_eq!((commands.acted, commands.canceled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drive_command_without_a_lease_that_the_vehicle_knows_is_refused() {
    let mut world = World::new().await;
    let path = "Vehicle.Powertrain.Transmission.SelectedGear".parse().unwrap();
    let body = world.window("park", 126).await;
    let ttl = Duration::from_millis(500);
    world.send(&Command { class: Class::Drive, path, ttl, token: Token::granted(7), ..body });
    let (lane, outcome) = world.outcome().await;
    assert_eq!((lane, outcome.phase, outcome.reason), (Class::Drive, Phase::Rejected, Some(Reason::NoLease)));
}
