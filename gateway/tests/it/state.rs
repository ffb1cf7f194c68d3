//! Desired and reported state: changed, told to the vehicle, reported back and shown.

use std::time::Duration;

use carriageway_proto::{Message, PathState, StateReport, SyncStatus, Value};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::events::Events;
use crate::support::{Act, Answer, Gateway, Habit, Vehicle, until};

const STATE: &str = "/v1/vehicles/truck/state";
const DESIRED: &str = "/v1/vehicles/truck/state/desired";
const LIMIT: &str = "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit";

async fn patch(gateway: &Gateway, version: &str, body: &Json) -> Answer {
    let request = gateway.request(Method::PATCH, DESIRED).header("If-Match", version);
    Answer::of(request.json(body).send().await.unwrap()).await
}

async fn reports(vehicle: &Vehicle, version: u64, status: SyncStatus, value: i64) {
    let (path, reported) = (LIMIT.parse().unwrap(), Some(Value::Int(value)));
    let state = PathState { path, status, version, reported, reason: None, detail: "done".into() };
    vehicle.act(Act::Say(Message::StateReport(StateReport { version, paths: vec![state] }))).await;
}

fn told(vehicle: &Vehicle) -> Vec<u64> {
    vehicle.seen.lock().unwrap().desired.iter().map(|desired| desired.version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_state_is_told_reported_and_shown() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let mut events = Events::open(&gateway, "?events=state", None).await;
    let first = gateway.get(STATE).await;
    assert_eq!((&first.headers["etag"], &first.body["version"]), (&"\"0\"".parse().unwrap(), &json!(0)));
    let changed = patch(&gateway, "\"0\"", &json!({ LIMIT: 80 })).await;
    assert_eq!((changed.status, &changed.headers["etag"]), (200, &"\"1\"".parse().unwrap()));
    assert_eq!(changed.body["delta"], json!({ LIMIT: 80 }));
    assert_eq!(changed.body["paths"][LIMIT]["status"], "PENDING");
    until(async || told(&vehicle) == [1]).await;
    let wish = vehicle.seen.lock().unwrap().desired[0].values[0].clone();
    assert_eq!((wish.path.as_str(), wish.value, wish.version, wish.ttl), (LIMIT, Value::Int(80), 1, None));
    reports(&vehicle, 1, SyncStatus::InSync, 80).await;
    until(async || gateway.get(STATE).await.body["in_sync"] == true).await;
    let state = gateway.get(STATE).await.body;
    assert_eq!((&state["delta"], &state["reported"]), (&json!({}), &json!({ LIMIT: 80 })));
    assert_eq!(state["paths"][LIMIT]["status"], "IN_SYNC");
    while events.next_of("state").await.data["in_sync"] != true {}
    vehicle.act(Act::Signal(LIMIT, Value::Int(70))).await;
    until(async || gateway.get(STATE).await.body["reported"] == json!({ LIMIT: 70 })).await;
    assert_eq!(gateway.get(STATE).await.body["delta"], json!({ LIMIT: 80 }), "its signal is newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_names_the_version_that_it_was_made_to() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let bare =
        Answer::of(gateway.request(Method::PATCH, DESIRED).json(&json!({})).send().await.unwrap()).await;
    assert_eq!(bare.problem(), (428, "missing-if-match"));
    assert_eq!(patch(&gateway, "\"0\"", &json!({ LIMIT: 80 })).await.status, 200);
    let late = patch(&gateway, "\"0\"", &json!({ LIMIT: 10 })).await;
    assert_eq!(late.problem(), (412, "state-changed"));
    assert!(late.detail().contains('1'), "{}", late.detail());
    assert_eq!(patch(&gateway, "*", &json!({ LIMIT: null })).await.body["desired"], json!({}));
    assert_eq!(patch(&gateway, "7", &json!({})).await.problem(), (400, "invalid-if-match"));
    let wrong = patch(&gateway, "*", &json!({ LIMIT: { "value": 1, "valid_for_ms": 0 } })).await;
    assert_eq!(wrong.problem(), (422, "invalid-validity"));
    assert!(wrong.detail().contains(LIMIT), "{}", wrong.detail());
    let watcher = gateway.token_with(|grant| grant.scope = "observe".into());
    let request = gateway.bare(Method::PATCH, DESIRED).bearer_auth(&watcher).header("If-Match", "*");
    let refused = Answer::of(request.json(&json!({})).send().await.unwrap()).await;
    assert_eq!(refused.problem(), (403, "forbidden"));
    let ghost = gateway.request(Method::PATCH, "/v1/vehicles/ghost/state/desired").header("If-Match", "*");
    let ghost = Answer::of(ghost.json(&json!({ LIMIT: 1 })).send().await.unwrap()).await;
    assert_eq!(ghost.problem(), (404, "vehicle-unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_was_away_is_told_the_newest_alone() {
    let gateway = Gateway::start().await;
    let away = gateway.vehicle("truck", Habit::Obey).await;
    away.act(Act::Cut).await;
    gateway.until_presence("truck", "offline").await;
    assert_eq!(patch(&gateway, "*", &json!({ LIMIT: 70 })).await.status, 200);
    let bounded = json!({ LIMIT: { "value": 80, "valid_for_ms": 600_000 } });
    let changed = patch(&gateway, "*", &bounded).await.body;
    assert!(changed["paths"][LIMIT]["valid_until"].as_str().unwrap().ends_with('Z'));
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    // Told again where the busy machine made it resume: the newest alone, all the same.
    until(async || !told(&vehicle).is_empty()).await;
    assert!(told(&vehicle).iter().all(|version| *version == 2), "{:?}", told(&vehicle));
    let wish = vehicle.seen.lock().unwrap().desired[0].values[0].clone();
    assert!(wish.ttl.unwrap().as_millis() <= 600_000, "what is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_is_valid_from_when_it_began_to_come_in() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let bounded = json!({ LIMIT: { "value": 80, "valid_for_ms": 600_000 } });
    let pause = Duration::from_millis(300);
    assert_eq!(gateway.slow(("PATCH", DESIRED), "If-Match: *\r\n", &bounded, pause).await.status, 200);
    until(async || told(&vehicle) == [1]).await;
    let wish = vehicle.seen.lock().unwrap().desired[0].values[0].clone();
    assert!(wish.ttl.unwrap().as_millis() <= 599_700, "{:?}", wish.ttl);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_state_outlives_the_gateway() {
    let mut gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let bounded = json!({ LIMIT: { "value": 80, "valid_for_ms": 600_000 } });
    assert_eq!(patch(&gateway, "\"0\"", &bounded).await.status, 200);
    drop(vehicle);
    gateway.crash_and_restart().await;
    let state = gateway.get(STATE).await.body;
    assert_eq!((&state["version"], &state["delta"]), (&json!(1), &json!({ LIMIT: 80 })), "same boot");
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    until(async || told(&vehicle) == [1]).await;
    assert_eq!(patch(&gateway, "\"1\"", &json!({ LIMIT: 70 })).await.body["version"], 2);
}
