//! The gateway dies at once and comes back: vehicles return, and a retried command executes once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::wait::{Stopwatch, pass, until};
use crate::world::{Answer, CHARGE_LIMIT, Client, Order, World};

/// Outlives the restart: a retry is the same command to the vehicle's journal.
const TTL_MS: u64 = 40_000;
const COMMANDS: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn commands_retried_across_a_killed_gateway_execute_at_most_once() {
    let mut world = World::start("").await;
    let vehicles = [("by-quic", "quic"), ("by-websocket", "websocket"), ("by-any", "auto")];
    let mut epochs = BTreeMap::new();
    for (vehicle, transport) in vehicles {
        world.vehicle(vehicle, transport).await;
        epochs.insert(vehicle, world.client.link(vehicle).await["epoch"].as_u64().unwrap());
    }
    let mut operators = JoinSet::new();
    for (vehicle, _) in vehicles {
        operators.spawn(operate(world.client.clone(), vehicle));
    }
    for round in 1..=2 {
        let enough = 8 * round;
        until("commands fly", async || vehicles.iter().all(|(id, _)| world.effects(id).len() >= enough))
            .await;
        world.kill_gateway();
        let dead = Stopwatch::start();
        world.start_gateway().await;
        for (vehicle, _) in vehicles {
            world.client.until_presence(vehicle, "online").await;
        }
        eprintln!("all vehicles are back {:?} after the kill", dead.elapsed());
        for (vehicle, _) in vehicles {
            let epoch = world.client.link(vehicle).await["epoch"].as_u64().unwrap();
            let before = epochs.insert(vehicle, epoch).unwrap();
            assert!(epoch > before, "OWNER: {vehicle}'s epoch rises from {before}, not to {epoch}");
        }
    }
    while let Some(outcomes) = operators.join_next().await {
        let (vehicle, outcomes) = outcomes.unwrap();
        check(&world, vehicle, &outcomes);
        // The new gateway has the first one's keys from its disk.
        let conflict = world.client.order(vehicle, "key-1", &Order::charge_limit(99, TTL_MS)).await;
        assert_eq!(
            (conflict.status, &conflict.body["type"]),
            (409, &"key-conflict".into()),
            "KEY: {conflict:?}"
        );
        assert_eq!(world.executed(vehicle, CHARGE_LIMIT, 99.0), 0);
    }
    for (vehicle, _) in vehicles {
        assert!(world.stop_vehicle(vehicle).await.success());
        let journal = world.journal(vehicle);
        let succeeded = journal.values().filter(|entry| entry.phase.as_deref() == Some("SUCCEEDED"));
        assert!(succeeded.count() > 0, "{journal:?}");
    }
}

/// A client that was cut off may come back with its key after the ttl, when the gateway that knew the
/// answer is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_retried_after_its_ttl_at_a_new_gateway_does_not_execute_again() {
    let mut world = World::start("").await;
    world.vehicle("truck", "quic").await;
    let order = Order::charge_limit(44, 500);
    let first = world.client.order("truck", "key", &order).await;
    assert_eq!(first.phase(), "SUCCEEDED", "{first:?}");
    pass(Duration::from_millis(1_500)).await;
    world.kill_gateway();
    world.start_gateway().await;
    world.client.until_presence("truck", "online").await;
    let retried = world.client.insist("truck", "key", &order).await;
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 44.0), 1, "ONCE: {retried:?}");
}

/// The gateway comes back without its disk: now only the vehicle knows what was done, and under which key.
#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_remembers_what_a_gateway_that_lost_its_disk_does_not() {
    let mut world = World::start("").await;
    world.vehicle("truck", "quic").await;
    for (key, percent) in [("done", 44), ("used", 55)] {
        let first = world.client.order("truck", key, &Order::charge_limit(percent, TTL_MS)).await;
        assert_eq!(first.phase(), "SUCCEEDED", "{first:?}");
    }
    // On its way when the gateway dies, and delivered when its time is over.
    world.link("hold 4s");
    let late = world.client.order("truck", "late", &Order::charge_limit(66, 500)).await;
    assert!(["UNKNOWN", "EXPIRED"].contains(&late.phase()), "{late:?}");
    world.kill_gateway();
    world.lose_gateways_disk();
    world.start_gateway().await;
    world.client.until_presence("truck", "online").await;

    let repeated = world.client.insist("truck", "done", &Order::charge_limit(44, TTL_MS)).await;
    assert_eq!(repeated.phase(), "SUCCEEDED", "the vehicle's stored outcome: {repeated:?}");
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 44.0), 1, "ONCE");
    let other = world.client.insist("truck", "used", &Order::charge_limit(77, TTL_MS)).await;
    assert_eq!(
        (other.phase(), &other.body["reason"]),
        ("REJECTED", &"KEY_CONFLICT".into()),
        "KEY: {other:?}"
    );
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 77.0), 0, "KEY");
    world.link("outage end");
    world.client.until_obeys("truck").await;
    assert!(world.stop_vehicle("truck").await.success());
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 66.0), 0, "FRESH");
    let phase = world.journal("truck").get("late").map(|entry| entry.phase.clone());
    assert!(phase.is_none() || phase == Some(Some("EXPIRED".into())), "FRESH: {phase:?}");
}

/// One command after the other, each retried with its key until its outcome is known.
async fn operate(client: Client, vehicle: &'static str) -> (&'static str, Vec<(u32, Answer)>) {
    let mut outcomes = Vec::new();
    for number in 1..=COMMANDS {
        let order = Order::charge_limit(20 + number, TTL_MS);
        outcomes.push((number, client.insist(vehicle, &format!("key-{number}"), &order).await));
    }
    (vehicle, outcomes)
}

fn check(world: &World, vehicle: &str, outcomes: &[(u32, Answer)]) {
    for (number, answer) in outcomes {
        let effects = world.executed(vehicle, CHARGE_LIMIT, f64::from(20 + number));
        let truthful = match answer.phase() {
            "SUCCEEDED" => effects == 1,
            "UNKNOWN" => effects <= 1,
            "EXPIRED" | "REJECTED" => effects == 0,
            other => panic!("{other} is no end: {answer:?}"),
        };
        assert!(truthful, "ONCE, ACK-TRUTH: {effects} effects of {answer:?}");
    }
    let succeeded = outcomes.iter().filter(|(_, answer)| answer.phase() == "SUCCEEDED").count();
    assert!(succeeded * 2 > outcomes.len(), "most commands get through: {succeeded}");
}
