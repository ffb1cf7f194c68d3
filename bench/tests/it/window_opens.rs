//! An operator opens a window, over QUIC and over WebSocket alike.

use serde_json::{Value as Json, json};

use crate::wait::until;
use crate::world::{Client, Order, TEMPERATURE, WINDOW, World};

/// Long enough for the journal to be read before it may forget.
const TTL_MS: u64 = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_window_opens_once_over_quic_and_websocket_alike() {
    let mut world = World::start("").await;
    world.vehicle("by-quic", "quic").await;
    world.vehicle("by-websocket", "websocket").await;
    for (vehicle, transport) in [("by-quic", "quic"), ("by-websocket", "websocket")] {
        assert_eq!(world.client.link(vehicle).await["transport"], transport);
    }
    let client = &world.client;
    let (one, other) = tokio::join!(operate(client, "by-quic"), operate(client, "by-websocket"));
    assert_eq!(one, other, "PARITY: the same outcomes");
    for vehicle in ["by-quic", "by-websocket"] {
        assert!(world.stop_vehicle(vehicle).await.success());
        assert_eq!(world.executed(vehicle, WINDOW, 100.0), 1, "ONCE: the repeat was not executed");
        assert_eq!(world.executed(vehicle, WINDOW, 40.0), 0, "KEY: the conflict was not executed");
        assert_eq!(world.effects(vehicle).len(), 5, "{:?}", world.effects(vehicle));
        let journal = world.journal(vehicle);
        assert_eq!(journal["open"].phase.as_deref(), Some("SUCCEEDED"), "ACK-TRUTH");
    }
    assert_eq!(world.effects("by-quic"), world.effects("by-websocket"), "PARITY: the same effects");
    assert_eq!(world.journal("by-quic"), world.journal("by-websocket"), "PARITY: the same journals");
}

/// The same wishes to each vehicle; what was answered, without what differs by nature.
async fn operate(client: &Client, vehicle: &str) -> Vec<Json> {
    let open = Order::window(100.0, TTL_MS);
    let mut answers = Vec::new();
    let first = client.order(vehicle, "open", &open).await;
    assert_eq!((first.status, first.phase()), (200, "SUCCEEDED"), "{first:?}");
    until("the signal shows the open window", async || {
        client.signal(vehicle, WINDOW).await.as_f64() == Some(100.0)
    })
    .await;
    let again = client.order(vehicle, "open", &open).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.body["id"], first.body["id"], "the same key is the same command");
    let conflict = client.order(vehicle, "open", &Order::window(40.0, TTL_MS)).await;
    assert_eq!(conflict.problem(), (409, "key-conflict"));
    answers.extend([first.body, again.body, conflict.body]);
    let order = |class, path: &str, value| Order { class, path: path.into(), value, ttl_ms: TTL_MS };
    for (key, order) in [
        ("climate", order("comfort", TEMPERATURE, json!(19))),
        ("too-far", Order::window(101.0, TTL_MS)),
        ("no-such-thing", order("body", "Vehicle.Wings.Span", json!(3))),
        ("wrong-class", order("comfort", WINDOW, json!(3))),
    ] {
        let answer = client.order(vehicle, key, &order).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answers.push(answer.body);
    }
    let phases: Vec<_> = answers.iter().filter_map(|answer| answer["phase"].as_str()).collect();
    assert_eq!(phases, ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "REJECTED", "REJECTED", "REJECTED"]);
    answers.into_iter().map(comparable).collect()
}

/// Without ids, dates, durations and the vehicle's name.
fn comparable(mut answer: Json) -> Json {
    let fields = answer.as_object_mut().unwrap();
    for differs in ["id", "command", "vehicle", "accepted_at", "age_ms", "duration_ms", "timeline"] {
        fields.remove(differs);
    }
    answer
}
