//! Commands over HTTP, to a vehicle and back.

use std::time::Duration;

use carriageway_gateway::config::ClassOverride;
use carriageway_proto::{CloseCode, Message, Outcome, Phase, Reason};
use reqwest::Method;
use serde_json::json;

use crate::support::{Act, Answer, Gateway, Habit, Vehicle, WINDOW, until};

fn window(position: i64) -> serde_json::Value {
    json!({ "class": "body", "path": WINDOW, "value": position })
}

fn stop() -> serde_json::Value {
    json!({ "class": "safety", "path": "Vehicle.EmergencyStop", "value": true })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_opened_once_and_the_outcome_stays() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let first = gateway.order("truck", "k-1", &window(50)).await;
    assert_eq!((first.status, &first.body["phase"]), (200, &json!("SUCCEEDED")), "{first:?}");
    assert_eq!(first.headers["preference-applied"], "wait=15");
    let again = gateway.order("truck", "k-1", &window(50)).await;
    assert_eq!((again.status, &again.body["id"]), (200, &first.body["id"]));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(vehicle.executed(), 1, "ONCE");

    let shown = gateway.get(first.headers["location"].to_str().unwrap()).await;
    let phases: Vec<_> =
        shown.body["timeline"].as_array().unwrap().iter().map(|step| step["phase"].clone()).collect();
    assert_eq!(phases.first(), Some(&json!("CREATED")));
    assert_eq!(phases.last(), Some(&json!("SUCCEEDED")));
    assert!(phases.contains(&json!("RECEIVED")), "{phases:?}");

    let other = gateway.order("truck", "k-1", &window(60)).await;
    assert_eq!(other.problem(), (409, "key-conflict"));
    assert_eq!(other.body["command"], first.body["id"]);
    assert_eq!(vehicle.executed(), 1, "KEY");
    let command = &vehicle.seen.lock().unwrap().commands[0];
    assert_eq!(command.operator, "ada");
    assert!(!command.stamp.clock.as_micros() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_is_told_where_to_look() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Dawdle).await;
    let accepted = Answer::of(gateway.command("truck", "k", &window(1)).send().await.unwrap()).await;
    assert_eq!((accepted.status, &accepted.body["terminal"]), (202, &json!(false)));
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    until(async || gateway.get(&location).await.body["phase"] == "RECEIVED").await;
    let outcome = Outcome {
        key: "k".parse().unwrap(),
        phase: Phase::Rejected,
        reason: Some(Reason::OutOfRange),
        detail: "0 to 100".into(),
        fingerprint: None,
    };
    vehicle.act(Act::Say(Message::Outcome(outcome))).await;
    until(async || gateway.get(&location).await.body["terminal"] == true).await;
    let shown = gateway.get(&location).await;
    assert_eq!(shown.body["reason"], "OUT_OF_RANGE");
    assert_eq!(shown.body["detail"], "0 to 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_the_body_takes_comes_off_the_ttl() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let pause = Duration::from_millis(300);
    let late = json!({ "class": "body", "path": WINDOW, "value": 1, "ttl_ms": 250 });
    let late = gateway.slow_order("truck", "late", &late, pause).await;
    assert_eq!((late.status, &late.body["phase"]), (200, &json!("EXPIRED")), "{late:?}");
    assert!(late.detail().contains("certainly not executed"), "{late:?}");
    assert_eq!(vehicle.executed(), 0, "a command that outlived its ttl is never sent");

    let patient = json!({ "class": "body", "path": WINDOW, "value": 2, "ttl_ms": 20_000 });
    let patient = gateway.slow_order("truck", "patient", &patient, pause).await;
    assert_eq!((patient.status, &patient.body["phase"]), (200, &json!("SUCCEEDED")), "{patient:?}");
    let left = vehicle.seen.lock().unwrap().commands[0].ttl;
    assert!(left + pause <= Duration::from_secs(20), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_or_unknown_vehicle_gets_nothing_ever() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.order("ghost", "k", &window(1)).await.problem(), (404, "vehicle-unknown"));
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    vehicle.act(Act::Cut).await;
    gateway.until_presence("truck", "offline").await;
    let refused = gateway.order("truck", "k", &window(1)).await;
    assert_eq!(refused.problem(), (404, "vehicle-offline"));
    vehicle.act(Act::Move(gateway.quic("truck").await)).await;
    gateway.until_presence("truck", "online").await;
    let later = gateway.order("truck", "k-2", &window(2)).await;
    assert_eq!(later.status, 200, "{later:?}");
    assert_eq!(vehicle.executed(), 1, "OFFLINE: only what was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_name() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    for (body, slug, field) in [
        (json!({ "class": "body", "path": WINDOW, "value": 1, "valeu": 2 }), "invalid-field", "valeu"),
        (json!({ "class": "body", "path": WINDOW }), "invalid-field", "value"),
        (json!({ "class": "session", "path": WINDOW, "value": 1 }), "invalid-class", "class"),
        (json!({ "class": "body", "path": "a b", "value": 1 }), "invalid-path", "path"),
        (json!({ "class": "body", "path": WINDOW, "value": [1] }), "invalid-value", "value"),
        (json!({ "class": "body", "path": WINDOW, "value": 1, "ttl_ms": 0 }), "invalid-ttl", "ttl_ms"),
        (json!({ "class": "drive", "path": WINDOW, "value": 1, "ttl_ms": 60_000 }), "invalid-ttl", "5000"),
    ] {
        let refused = gateway.order("truck", "k", &body).await;
        assert_eq!(refused.problem(), (422, slug), "{body}");
        assert!(refused.detail().contains(field), "{}", refused.detail());
    }
    let keyless = gateway.request(Method::POST, "/v1/vehicles/truck/commands").json(&window(1));
    let keyless = Answer::of(keyless.send().await.unwrap()).await;
    assert_eq!(keyless.problem(), (400, "missing-idempotency-key"));
    assert!(keyless.detail().contains("Idempotency-Key"));
    let texted = gateway.request(Method::POST, "/v1/vehicles/truck/commands").header("Idempotency-Key", "k");
    let texted = Answer::of(texted.body("{}").send().await.unwrap()).await;
    assert_eq!(texted.status, 415);
    assert_eq!(vehicle.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_is_told_to_come_back_but_not_an_emergency_stop() {
    // Slower than any machine asks.
    let gateway = Gateway::start_with(|config| {
        let slow = ClassOverride { rate_per_second: Some(1), ..ClassOverride::default() };
        config.classes.insert("body".into(), slow);
    })
    .await;
    let _vehicle = gateway.vehicle("truck", Habit::Dawdle).await;
    let mut refused = None;
    for n in 0..40 {
        let request = gateway.command("truck", &format!("k-{n}"), &window(n));
        let answer = Answer::of(request.send().await.unwrap()).await;
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("there is a limit");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    for n in 0..100 {
        let request = gateway.command("truck", &format!("stop-{n}"), &stop());
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_survives_the_loss_of_its_connection() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Dawdle).await;
    let order = gateway.command("truck", "k", &json!({ "class": "comfort", "path": WINDOW, "value": 1 }));
    let accepted = Answer::of(order.send().await.unwrap()).await;
    assert_eq!(accepted.status, 202);
    until(async || vehicle.executed() == 1).await;
    vehicle.act(Act::Move(gateway.websocket("truck").await)).await;
    vehicle.says("k", Phase::Succeeded).await;
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    until(async || gateway.get(&location).await.body["phase"] == "SUCCEEDED").await;
    assert_eq!(vehicle.executed(), 1);
    assert_eq!(vehicle.seen.lock().unwrap().established.len(), 2);
    until(async || gateway.get("/v1/vehicles/truck").await.body["transport"] == "websocket").await;
    let link = gateway.get("/v1/vehicles/truck/link").await;
    assert_eq!(link.body["why"], "the test says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_vehicle_speaks_for_what_its_journal_holds() {
    let gateway = Gateway::start().await;
    let before = gateway.vehicle("truck", Habit::Dawdle).await;
    let order = gateway.command("truck", "k", &json!({ "class": "comfort", "path": WINDOW, "value": 1 }));
    let accepted = Answer::of(order.send().await.unwrap()).await;
    until(async || before.executed() == 1).await;
    drop(before);
    let after = gateway.vehicle("truck", Habit::Obey).await;
    until(async || !after.seen.lock().unwrap().established.is_empty()).await;
    after.says("k", Phase::Succeeded).await;
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    until(async || gateway.get(&location).await.body["phase"] == "SUCCEEDED").await;
    assert_eq!(after.executed(), 0, "the gateway never sends a command a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_commands_finish_and_sends_vehicles_away() {
    let mut gateway = Gateway::start().await;
    let busy = gateway.vehicle("busy", Habit::Dawdle).await;
    let idle = gateway.vehicle("idle", Habit::Obey).await;
    let accepted = gateway.command("busy", "k", &window(1)).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    until(async || busy.executed() == 1).await;
    let running = gateway.running.take().unwrap();
    let waiting = gateway.command("busy", "k", &window(1)).header("Prefer", "wait=15").send();
    let story = async {
        until(async || {
            idle.seen.lock().unwrap().ended.is_some() || gateway.internal("/readyz").await.0 == 503
        })
        .await;
        assert_eq!(gateway.internal("/readyz").await, (503, "draining\n".into()));
        let refused = gateway.order("busy", "k-2", &window(2)).await;
        assert_eq!(refused.problem(), (503, "draining"));
        let stop = gateway.command("busy", "stop", &stop()).send().await.unwrap();
        assert_eq!(stop.status(), 202, "a drain sheds no emergency stop while there is a connection");
        until(async || busy.executed() == 2).await;
        busy.says("stop", Phase::Succeeded).await;
        busy.says("k", Phase::Succeeded).await;
    };
    let (drained, (), outcome) = tokio::join!(running.drain(), story, waiting);
    assert_eq!(drained.unfinished, 0);
    let outcome = Answer::of(outcome.unwrap()).await;
    assert_eq!((outcome.status, &outcome.body["phase"]), (200, &json!("SUCCEEDED")));
    for vehicle in [&busy, &idle] {
        until(async || closed_by(vehicle).is_some()).await;
        assert_eq!(closed_by(vehicle), Some(CloseCode::Restarting));
    }
}

fn closed_by(vehicle: &Vehicle) -> Option<CloseCode> {
    vehicle.seen.lock().unwrap().closed_by
}
