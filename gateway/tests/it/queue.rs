//! Commands that are held, queued on disk, withdrawn, and what of them survives.

use reqwest::Method;
use serde_json::{Value as Json, json};

use carriageway_proto::Phase;

use crate::support::{Act, Answer, Gateway, Habit, WINDOW, until};

fn window(position: i64) -> Json {
    json!({ "class": "body", "path": WINDOW, "value": position })
}

fn queued(position: i64) -> Json {
    json!({ "class": "body", "path": WINDOW, "value": position, "ttl_ms": 40_000, "on_offline": "queue" })
}

async fn send(gateway: &Gateway, key: &str, body: &Json) -> Answer {
    Answer::of(gateway.command("truck", key, body).send().await.unwrap()).await
}

async fn shown(gateway: &Gateway, answer: &Answer) -> Json {
    gateway.get(&format!("/v1/commands/{}", answer.body["id"].as_str().unwrap())).await.body
}

async fn cancel(gateway: &Gateway, answer: &Answer) -> Answer {
    let path = format!("/v1/vehicles/truck/commands/{}", answer.body["id"].as_str().unwrap());
    Answer::of(gateway.request(Method::DELETE, &path).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_clicks_in_a_tunnel_open_one_window_once_and_say_why() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.away("truck", Habit::Obey).await;
    let mut clicks = Vec::new();
    for n in 0..5 {
        let click = send(&gateway, &format!("click-{n}"), &queued(50)).await;
        assert_eq!((click.status, &click.body["phase"]), (202, &json!("QUEUED")), "{click:?}");
        assert_eq!(click.body["durable"], true, "on disk before the answer");
        clicks.push(click);
    }
    vehicle.act(Act::Move(gateway.quic("truck").await)).await;
    until(async || shown(&gateway, &clicks[4]).await["phase"] == "SUCCEEDED").await;
    assert_eq!(vehicle.executed(), 1);
    for (n, click) in clicks[..4].iter().enumerate() {
        let ended = shown(&gateway, click).await;
        assert_eq!(ended["phase"], "SUPERSEDED");
        let why = ended["timeline"].as_array().unwrap().last().unwrap()["why"].as_str().unwrap().to_owned();
        assert!(why.contains(clicks[n + 1].body["id"].as_str().unwrap()), "{why}");
    }
    let epoch = vehicle.seen.lock().unwrap().established[0].0.number();
    let order = vehicle.seen.lock().unwrap().commands[0].order;
    assert_eq!(order, epoch << 32 | 1, "ORDER");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_the_gateway_and_is_executed_once() {
    let mut gateway = Gateway::start().await;
    let before = gateway.away("truck", Habit::Obey).await;
    let waits = send(&gateway, "k", &queued(50)).await;
    assert_eq!(waits.status, 202, "{waits:?}");
    drop(before);
    gateway.crash_and_restart().await;
    assert_eq!(shown(&gateway, &waits).await["phase"], "QUEUED");
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    until(async || shown(&gateway, &waits).await["phase"] == "SUCCEEDED").await;
    assert_eq!(vehicle.executed(), 1);
    drop(vehicle);
    gateway.crash_and_restart().await;
    let after = shown(&gateway, &waits).await;
    assert!(after["phase"] == "SUCCEEDED" || after["phase"] == "UNKNOWN", "{after}");
    let again = gateway.vehicle("truck", Habit::Obey).await;
    let repeated = send(&gateway, "k", &queued(50)).await;
    assert_eq!((repeated.status, &repeated.body["id"]), (200, &waits.body["id"]), "{repeated:?}");
    assert_eq!(again.executed(), 0, "ONCE");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_left_before_a_crash_is_the_vehicles_to_tell() {
    let mut gateway = Gateway::start().await;
    let before = gateway.vehicle("truck", Habit::Dawdle).await;
    let body = json!({ "class": "comfort", "path": WINDOW, "value": 1 });
    let sent = send(&gateway, "k", &body).await;
    assert_eq!((sent.status, &sent.body["durable"]), (202, &json!(true)));
    until(async || before.executed() == 1).await;
    drop(before);
    gateway.crash_and_restart().await;
    assert_eq!(shown(&gateway, &sent).await["terminal"], false, "its timer goes on");
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    vehicle.says("k", Phase::Succeeded).await;
    until(async || shown(&gateway, &sent).await["phase"] == "SUCCEEDED").await;
    assert_eq!(vehicle.executed(), 0, "it is not sent a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_withdrawn_here_or_at_the_vehicle() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.away("truck", Habit::Dawdle).await;
    let waits = send(&gateway, "queued", &queued(50)).await;
    let canceled = cancel(&gateway, &waits).await;
    assert_eq!((canceled.status, &canceled.body["phase"]), (200, &json!("CANCELED")), "{canceled:?}");
    assert_eq!(cancel(&gateway, &waits).await.problem(), (409, "command-ended"));
    vehicle.act(Act::Move(gateway.quic("truck").await)).await;
    gateway.until_presence("truck", "online").await;

    let flies = send(&gateway, "sent", &window(1)).await;
    let held = send(&gateway, "held", &window(2)).await;
    assert_eq!((&held.body["phase"], held.status), (&json!("QUEUED"), 202));
    assert_eq!(cancel(&gateway, &held).await.body["phase"], "CANCELED");
    assert_eq!(cancel(&gateway, &flies).await.status, 202, "the vehicle decides");
    until(async || vehicle.seen.lock().unwrap().cancels.len() == 1).await;
    assert_eq!(vehicle.seen.lock().unwrap().cancels[0].key.as_str(), "sent");
    vehicle.says("sent", Phase::Canceled).await;
    until(async || shown(&gateway, &flies).await["phase"] == "CANCELED").await;
    assert_eq!(vehicle.executed(), 1);

    let stop = json!({ "class": "safety", "path": "Vehicle.EmergencyStop", "value": true });
    let stop = send(&gateway, "stop", &stop).await;
    assert_eq!(cancel(&gateway, &stop).await.problem(), (409, "stop-stays"));
    let path = "/v1/vehicles/truck/commands/00000000000000000000000000000000";
    let nothing = Answer::of(gateway.request(Method::DELETE, path).send().await.unwrap()).await;
    assert_eq!(nothing.problem(), (404, "command-unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_was_here_before_a_restart_can_be_waited_for() {
    let mut gateway = Gateway::start().await;
    drop(gateway.vehicle("truck", Habit::Obey).await);
    gateway.crash_and_restart().await;
    let stranger = Answer::of(gateway.command("ghost", "k", &queued(50)).send().await.unwrap()).await;
    assert_eq!(stranger.problem(), (404, "vehicle-unknown"));
    assert_eq!(send(&gateway, "now", &window(50)).await.problem(), (404, "vehicle-offline"));
    let waits = send(&gateway, "k", &queued(50)).await;
    assert_eq!((waits.status, &waits.body["phase"]), (202, &json!("QUEUED")), "{waits:?}");
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    until(async || shown(&gateway, &waits).await["phase"] == "SUCCEEDED").await;
    assert_eq!(vehicle.executed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_shown_outlives_the_gateway() {
    let mut gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let ended = gateway.order("truck", "k", &window(50)).await;
    let steps = ended.body["timeline"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["durable"] == true), "{ended:?}");
    drop(vehicle);
    gateway.crash_and_restart().await;
    assert_eq!(shown(&gateway, &ended).await["phase"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_goes_when_its_targets_window_ends() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    assert_eq!(gateway.order("truck", "first", &window(50)).await.body["phase"], "SUCCEEDED");
    let second = gateway.order("truck", "second", &window(60)).await;
    assert_eq!((second.status, &second.body["phase"]), (200, &json!("SUCCEEDED")), "{second:?}");
    assert_eq!(vehicle.executed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_wait_is_refused_and_so_is_an_unknown_vehicle() {
    let gateway = Gateway::start().await;
    assert_eq!(send(&gateway, "k", &queued(1)).await.problem(), (404, "vehicle-unknown"));
    let _vehicle = gateway.away("truck", Habit::Obey).await;
    let gear = json!({ "class": "drive", "path": "Vehicle.Gear", "value": 1, "on_offline": "queue" });
    assert_eq!(send(&gateway, "k", &gear).await.problem(), (422, "not-queueable"));
    let odd = json!({ "class": "body", "path": WINDOW, "value": 1, "on_offline": "maybe" });
    assert_eq!(send(&gateway, "k", &odd).await.problem(), (422, "invalid-on-offline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_seen_and_stops_nothing_but_the_queue() {
    let gateway = Gateway::start_with(|config| config.store.max_bytes = 40 << 10).await;
    assert!(gateway.internal("/health").await.1.contains(r#""status":"ok""#));
    let vehicle = gateway.away("truck", Habit::Obey).await;
    let mut refused = None;
    for n in 0..20 {
        let value = "x".repeat(512);
        let path = format!("Vehicle.Body.Note{n}");
        let note = json!({ "class": "config", "path": path, "value": value, "on_offline": "queue" });
        let answer = send(&gateway, &format!("note-{n}"), &note).await;
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full at last");
    assert_eq!(refused.problem(), (503, "store-broken"));
    assert!(refused.detail().contains("taken back") && refused.headers.contains_key("retry-after"));
    let (status, health) = gateway.internal("/health").await;
    assert!(
        status == 200 && health.contains(r#""store":"broken""#) && health.contains("has room"),
        "{health}"
    );
    until(async || gateway.internal("/metrics").await.1.contains("carriageway_store_broken 1")).await;
    let wishes: serde_json::Map<_, _> =
        (0..40).map(|n| (format!("Vehicle.Body.Wish{n}"), json!("x".repeat(512)))).collect();
    let patch = gateway.request(Method::PATCH, "/v1/vehicles/truck/state/desired").header("If-Match", "*");
    let patched = Answer::of(patch.json(&wishes).send().await.unwrap()).await;
    assert_eq!(patched.problem().0, 503, "{patched:?}");
    until(async || gateway.internal("/health").await.1.contains(r#""desired":"failed""#)).await;
    let (_, metrics) = gateway.internal("/metrics").await;
    assert!(metrics.contains(r#"carriageway_drops_total{stage="store",reason="desired"} 1"#), "{metrics}");
    vehicle.act(Act::Move(gateway.quic("truck").await)).await;
    gateway.until_presence("truck", "online").await;
    let goes = gateway.order("truck", "goes", &window(1)).await;
    assert_eq!((goes.status, &goes.body["phase"]), (200, &json!("SUCCEEDED")), "{goes:?}");
    assert_eq!(goes.body["durable"], false, "and it says what it is not");
}
