//! SIGTERM: the gateway finishes what it has begun, says goodbye and ends.

use std::time::Duration;

use carriageway_proto::CloseCode;
use tokio::task::JoinSet;

use crate::raw::{Raw, Way};
use crate::wait::{Stopwatch, until};
use crate::world::{CHARGE_LIMIT, Order, WINDOW, World};

/// With the configured deadline of 8 s and room for a busy machine.
const LATEST: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way_and_vehicles_come_back() {
    let mut world = World::start("drain = { deadline_ms = 8000, retry_after_ms = 300 }").await;
    for (vehicle, transport) in [("by-quic", "quic"), ("by-websocket", "websocket"), ("idle", "auto")] {
        world.vehicle(vehicle, transport).await;
    }
    let mut moving = JoinSet::new();
    for vehicle in ["by-quic", "by-websocket"] {
        let client = world.client.clone();
        moving.spawn(async move { client.order(vehicle, "open", &Order::window(60.0, 20_000)).await });
        until("the window moves", async || world.executed(vehicle, WINDOW, 60.0) == 1).await;
    }
    let mut listening = JoinSet::new();
    for (vehicle, way) in [("listens-by-quic", Way::Quic), ("listens-by-websocket", Way::WebSocket)] {
        let mut raw = Raw::vehicle(&world, vehicle, way).await;
        raw.greet().await.unwrap();
        listening.spawn(async move { raw.listen_to_the_end().await.0 });
    }
    let begun = Stopwatch::start();
    world.gateway().terminate();
    let client = world.client.clone();
    until("it is not ready", async || client.internal("/readyz").await == Some((503, "draining\n".into())))
        .await;
    let refused = client.order("by-quic", "too-late", &Order::charge_limit(80, 20_000)).await;
    assert_eq!(refused.problem(), (503, "draining"));
    assert!(refused.headers.contains_key("retry-after"));
    while let Some(finished) = moving.join_next().await {
        let answer = finished.unwrap();
        assert_eq!((answer.status, answer.phase()), (200, "SUCCEEDED"), "DRAIN: no UNKNOWN: {answer:?}");
    }
    let ended = world.gateway().ended().await;
    eprintln!("the drain took {:?}", begun.elapsed());
    assert!(ended.success(), "{ended}");
    assert!(begun.elapsed() < LATEST, "{:?}", begun.elapsed());
    while let Some(goodbye) = listening.join_next().await {
        let goodbye = goodbye.unwrap().expect("a goodbye comes before the end");
        assert_eq!(goodbye.code, CloseCode::Restarting, "{goodbye:?}");
        assert!(goodbye.retry_after_ms >= 300, "a hint when to come back: {goodbye:?}");
    }

    world.start_gateway().await;
    for vehicle in ["by-quic", "by-websocket", "idle"] {
        world.client.until_presence(vehicle, "online").await;
        world.client.until_obeys(vehicle).await;
        let order = world.client.insist(vehicle, "afterwards", &Order::charge_limit(90, 20_000)).await;
        assert_eq!(order.phase(), "SUCCEEDED", "{order:?}");
        assert_eq!(world.executed(vehicle, CHARGE_LIMIT, 80.0), 0);
        assert_eq!(world.executed(vehicle, CHARGE_LIMIT, 90.0), 1);
    }
}
