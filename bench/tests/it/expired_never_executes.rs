//! Commands whose time runs out while the link is down: they never execute, and nobody claims they did.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::wait::{pass, until};
use crate::world::{Client, Order, WINDOW, World};

const TTL_MS: u64 = 500;

/// How a click in a tunnel may end: a newer one took its place, or its time ran out.
const ENDS: [&str; 3] = ["EXPIRED", "UNKNOWN", "SUPERSEDED"];

/// Positions that no other command of these tests asks for.
const CLICKS: [f64; 5] = [11.0, 22.0, 33.0, 44.0, 55.0];

#[tokio::test(flavor = "multi_thread")]
async fn clicks_in_a_tunnel_that_holds_what_was_sent_never_open_the_window() {
    clicks_in_a_tunnel("hold 4s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clicks_in_a_tunnel_that_loses_what_was_sent_never_open_the_window() {
    clicks_in_a_tunnel("outage 4s").await;
}

async fn clicks_in_a_tunnel(tunnel: &str) {
    let mut world = World::start("").await;
    let vehicles = [("by-quic", "quic"), ("by-websocket", "websocket"), ("by-any", "auto")];
    for (vehicle, transport) in vehicles {
        world.vehicle(vehicle, transport).await;
    }
    world.link(tunnel);
    let mut clicks = JoinSet::new();
    for (number, position) in CLICKS.into_iter().enumerate() {
        for (vehicle, _) in vehicles {
            let client = world.client.clone();
            clicks.spawn(async move { click(&client, vehicle, &format!("click-{number}"), position).await });
        }
        pass(Duration::from_millis(300)).await;
    }
    while let Some(clicked) = clicks.join_next().await {
        let phase = clicked.unwrap();
        assert!(ENDS.contains(&phase.as_str()), "{phase}");
    }
    world.link("outage end");
    for (vehicle, _) in vehicles {
        // Behind everything that was held or is sent again, the link is good for commands.
        let order = world.client.insist(vehicle, "afterwards", &Order::window(5.0, 20_000)).await;
        assert_eq!(order.phase(), "SUCCEEDED", "{order:?}");
        for (number, position) in CLICKS.into_iter().enumerate() {
            assert_eq!(world.executed(vehicle, WINDOW, position), 0, "FRESH: {vehicle}, click {number}");
            settled_truthfully(&world.client, vehicle, number).await;
        }
        assert!(world.stop_vehicle(vehicle).await.success());
        let journal = world.journal(vehicle);
        for (key, entry) in journal.iter().filter(|(key, _)| key.starts_with("click")) {
            assert_eq!(entry.phase.as_deref(), Some("EXPIRED"), "{key}: the journal holds no effect");
        }
    }
}

async fn click(client: &Client, vehicle: &str, key: &str, position: f64) -> String {
    let answer = client.order(vehicle, key, &Order::window(position, TTL_MS)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.phase().to_owned()
}

/// What was said while the link was down still holds, or was UNKNOWN and is now what the vehicle says.
async fn settled_truthfully(client: &Client, vehicle: &str, number: usize) {
    let order = Order::window(CLICKS[number], TTL_MS);
    let answer = client.order(vehicle, &format!("click-{number}"), &order).await;
    assert!(ENDS.contains(&answer.phase()), "ACK-TRUTH: {answer:?}");
    let timeline = answer.body["timeline"].as_array().unwrap();
    let terminal = timeline.iter().filter(|step| ENDS.iter().any(|end| step["phase"] == **end));
    assert!((1..=2).contains(&terminal.count()), "UNKNOWN is resolved at most once: {answer:?}");
}

/// A vehicle that comes back from a tunnel answers for what it refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_unknown_in_the_tunnel_is_known_behind_it() {
    let mut world = World::start("").await;
    world.vehicle("truck", "websocket").await;
    world.link("hold 4s");
    let answer = world.client.order("truck", "late", &Order::window(50.0, TTL_MS)).await;
    assert_eq!(answer.phase(), "UNKNOWN", "it has left, and the vehicle is silent: {answer:?}");
    let path = format!("/v1/commands/{}", answer.body["id"].as_str().unwrap());
    until("the vehicle's word resolves it", async || {
        world.client.get(&path).await.body["phase"] == "EXPIRED"
    })
    .await;
    assert_eq!(world.executed("truck", WINDOW, 50.0), 0);
}
