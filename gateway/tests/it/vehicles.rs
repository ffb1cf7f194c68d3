//! Vehicles: presence, takeover, signals, link, certificates, and the internal port.

use carriageway_gateway::auth::unix_now;
use carriageway_proto::{Chunk, CloseCode, Message, Value};
use reqwest::Method;
use serde_json::json;

use crate::support::{Act, Answer, Gateway, Habit, Vehicle, until};

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_shown_with_their_age() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    vehicle.act(Act::Signal("Vehicle.Speed", Value::Float(13.5))).await;
    let path = "/v1/vehicles/truck/signals";
    until(async || gateway.get(path).await.body["signals"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    let shown = gateway.get(path).await.body;
    let speed = &shown["signals"][0];
    assert_eq!((&speed["path"], &speed["value"]), (&json!("Vehicle.Speed"), &json!(13.5)));
    assert!(speed["age_ms"].as_u64().unwrap() < 20_000);
    assert!(speed["sampled_at"].as_str().unwrap().ends_with('Z'));
    let link = gateway.get("/v1/vehicles/truck/link").await.body;
    assert_eq!(link["signals"]["count"], 1);
    assert_eq!((&link["transport"], &link["why"]), (&json!("quic"), &json!("the test says so")));
    assert_eq!(link["lanes"].as_array().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_session_takes_over_and_the_older_is_told_to_stop() {
    let gateway = Gateway::start().await;
    let older = gateway.vehicle("truck", Habit::Obey).await;
    let newer = Vehicle::over(gateway.websocket("truck").await, Habit::Obey);
    until(async || older.seen.lock().unwrap().closed_by.is_some()).await;
    assert_eq!(older.seen.lock().unwrap().closed_by, Some(CloseCode::TakenOver));
    until(async || !newer.seen.lock().unwrap().established.is_empty()).await;
    let (first, second) =
        (older.seen.lock().unwrap().established[0].0, newer.seen.lock().unwrap().established[0].0);
    assert!(second > first, "OWNER");
    gateway.until_presence("truck", "online").await;
    let answer = gateway.order("truck", "k", &json!({ "class": "body", "path": "A.B", "value": 1 })).await;
    assert_eq!(answer.body["phase"], "SUCCEEDED");
    assert_eq!((older.executed(), newer.executed()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_listed_as_far_as_the_token_reaches() {
    let gateway = Gateway::start().await;
    let _one = gateway.vehicle("one", Habit::Obey).await;
    let _two = gateway.vehicle("two", Habit::Obey).await;
    let token = gateway.token_with(|grant| grant.vehicles = vec!["two".into()]);
    let list = gateway.bare(Method::GET, "/v1/vehicles").bearer_auth(&token);
    let list = Answer::of(list.send().await.unwrap()).await.body;
    assert_eq!(list["vehicles"].as_array().unwrap().len(), 1);
    assert_eq!(list["vehicles"][0]["id"], "two");
    let hidden = gateway.bare(Method::GET, "/v1/vehicles/one").bearer_auth(&token);
    let hidden = Answer::of(hidden.send().await.unwrap()).await;
    assert_eq!(hidden.problem(), (403, "forbidden"));
    let ghost = gateway.bare(Method::GET, "/v1/vehicles/ghost").bearer_auth(&token);
    assert_eq!(Answer::of(ghost.send().await.unwrap()).await.problem(), (403, "forbidden"), "tells nothing");
    assert_eq!(gateway.get("/v1/vehicles/ghost").await.problem(), (404, "vehicle-unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_counted_and_let_go() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let data = vec![7; 1_000].into();
    vehicle.act(Act::Say(Message::Chunk(Chunk { name: "log".into(), offset: 0, data, last: true }))).await;
    until(async || gateway.internal("/metrics").await.1.contains("carriageway_bulk_bytes_total 1000")).await;
    assert!(gateway.internal("/metrics").await.1.contains("carriageway_bulk_files_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_port_tells_health_and_figures_without_naming_anyone() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.vehicle("truck-4711", Habit::Obey).await;
    assert_eq!(gateway.internal("/livez").await, (200, "ok\n".into()));
    assert_eq!(gateway.internal("/readyz").await, (200, "ready\n".into()));
    until(async || gateway.internal("/metrics").await.1.contains("carriageway_sessions 1")).await;
    let (_, metrics) = gateway.internal("/metrics").await;
    for line in [
        r#"carriageway_vehicles{presence="online"} 1"#,
        r#"carriageway_connections{transport="quic"} 1"#,
        r#"carriageway_hellos_total{result="opened"} 1"#,
        r#"carriageway_http_requests_total{route="/v1/vehicles/{id}",status="200"}"#,
        r#"carriageway_handshakes{transport="quic",result="accepted"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("truck-4711") && !metrics.contains("ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself_without_the_internet() {
    let gateway = Gateway::start().await;
    let document = Answer::of(gateway.bare(Method::GET, "/v1/openapi.json").send().await.unwrap()).await.body;
    for path in [
        "/v1/vehicles",
        "/v1/vehicles/{id}",
        "/v1/vehicles/{id}/link",
        "/v1/vehicles/{id}/signals",
        "/v1/vehicles/{id}/commands",
        "/v1/vehicles/{id}/control-lease",
        "/v1/vehicles/{id}/rearm",
        "/v1/vehicles/{id}/drive",
        "/v1/vehicles/{id}/control",
        "/v1/vehicles/{id}/state",
        "/v1/vehicles/{id}/state/desired",
        "/v1/commands/{id}",
        "/v1/events",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    let docs = gateway.bare(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(docs.status(), 200);
    assert!(docs.text().await.unwrap().contains("swagger"));
    let page = gateway.bare(Method::GET, "/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let nowhere = Answer::of(gateway.bare(Method::GET, "/nowhere").send().await.unwrap()).await;
    assert_eq!(nowhere.problem(), (404, "not-found"));
    let wrong = Answer::of(gateway.request(Method::DELETE, "/v1/vehicles").send().await.unwrap()).await;
    assert_eq!(wrong.problem(), (405, "method-not-allowed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_vehicles_own_certificate_opens_the_link() {
    let gateway = Gateway::start().await;
    let nobody = Answer::of(gateway.bare(Method::GET, "/link").send().await.unwrap()).await;
    assert_eq!(nobody.problem(), (401, "certificate-required"));
    let authority = gateway.folder.authority().unwrap();
    let urn = |id: &str| format!("urn:carriageway:vehicle:{id}");
    for uris in [vec![], vec![urn("a"), urn("b")], vec!["urn:other:a".into()]] {
        let pair = authority.client("a", &uris, unix_now()).unwrap();
        let (trusted, own) = gateway.credentials_of(&pair.public, &pair.private);
        if let Ok(connection) = gateway.quic_as(&trusted, own).await {
            let vehicle = Vehicle::over(Box::new(connection), Habit::Obey);
            until(async || vehicle.seen.lock().unwrap().closed_by.is_some()).await;
            assert_eq!(vehicle.seen.lock().unwrap().closed_by, Some(CloseCode::Unauthorized), "{uris:?}");
        }
    }
    assert_eq!(gateway.get("/v1/vehicles").await.body["vehicles"], json!([]));
}
