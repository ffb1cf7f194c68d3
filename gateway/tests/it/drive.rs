//! The terminal client, as a process of its own, driving by a script.

use std::process::Output;

use carriageway_gateway::auth::unix_now;
use carriageway_proto::{DrivePhase, DriveState, Message, SafeCause, Token};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Act, Gateway, Vehicle, until};

/// Runs `carriageway-gateway drive truck` with these arguments.
fn drive(gateway: &Gateway, token: &str, script: &str) -> JoinSet<Output> {
    let file = gateway.folder.path(&format!("token-{}", unix_now()));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_carriageway-gateway"));
    command.args(["drive", "truck", "--url", &format!("https://{}", gateway.tcp), "--script", script]);
    command.arg("--token-file").arg(file).arg("--ca").arg(gateway.folder.path("ca.pem"));
    let mut running = JoinSet::new();
    running.spawn_blocking(move || command.output().unwrap());
    running
}

async fn says(vehicle: &Vehicle, phase: DrivePhase, cause: Option<SafeCause>) {
    let nonce = cause.and_then(|_| std::num::NonZeroU64::new(9));
    let state = DriveState { phase, cause, nonce, token: Token::granted(1) };
    vehicle.act(Act::Say(Message::DriveState(state))).await;
}

/// Whether control has come with about this throttle.
fn throttle(vehicle: &Vehicle, wanted: f32) -> bool {
    let seen = vehicle.seen.lock().unwrap();
    seen.controls.iter().any(|(frame, _)| (frame.states[0].throttle - wanted).abs() < 0.001)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_takes_the_lease_re_arms_drives_and_releases() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.drivable("truck").await;
    let mut running = drive(&gateway, &gateway.token(), "throttle 0.3 for 300ms; steer -0.5 for 100ms; stop");
    until(async || !vehicle.seen.lock().unwrap().rearms.is_empty()).await;
    assert!(!throttle(&vehicle, 0.3), "nothing but neutral before the vehicle is armed");
    says(&vehicle, DrivePhase::Armed, None).await;
    until(async || throttle(&vehicle, 0.3)).await;
    let output = running.join_next().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the lease is yours") && text.contains("the script is done"), "{text}");
    until(async || vehicle.seen.lock().unwrap().leases.last().is_some_and(|lease| lease.ttl.is_zero())).await;
    let seen = vehicle.seen.lock().unwrap();
    let counters: Vec<_> = seen.controls.iter().map(|(frame, _)| frame.states[0].counter).collect();
    assert!(counters.is_sorted_by(|one, next| one < next), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_stops_ends_the_script_with_its_cause() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.drivable("truck").await;
    let mut running = drive(&gateway, &gateway.token(), "throttle 0.3 for 60s");
    until(async || !vehicle.seen.lock().unwrap().rearms.is_empty()).await;
    says(&vehicle, DrivePhase::Armed, None).await;
    until(async || throttle(&vehicle, 0.3)).await;
    says(&vehicle, DrivePhase::Safe, Some(SafeCause::ControlLost)).await;
    let output = running.join_next().await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && why.contains("CONTROL_LOST"), "{why}");
    // It gave the lease back all the same.
    let bob = gateway.token_with(|grant| grant.sub = "bob".into());
    let taken = gateway.post(&bob, "/v1/vehicles/truck/control-lease", &json!({ "action": "take" })).await;
    assert_eq!(taken.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_drive_is_told_so_and_ends() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.drivable("truck").await;
    let watcher = gateway.token_with(|grant| grant.scope = "observe".into());
    let output = drive(&gateway, &watcher, "stop").join_next().await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && why.contains("403") && why.contains("`drive`"), "{why}");
}
