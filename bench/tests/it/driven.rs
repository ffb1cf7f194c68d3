//! A vehicle is driven from afar with the terminal client: it follows, and what stops it stays in force.

use std::time::Duration;

use carriageway_proto::EMERGENCY_STOP;
use serde_json::{Value as Json, json};

use crate::wait::{pass, until};
use crate::world::{Client, Order, World};

const SPEED: &str = "Vehicle.Speed";
const THROTTLE: &str = "Vehicle.Chassis.Accelerator.PedalPosition";

/// Longer than the test: something else ends it.
const FULL_THROTTLE: &str = "throttle 1 for 300s";

/// Looks that are long enough to see a vehicle creep.
const LOOKS: u32 = 20;

async fn number(client: &Client, path: &str) -> f64 {
    client.signal("truck", path).await.as_f64().unwrap_or(f64::NAN)
}

async fn state(client: &Client) -> Json {
    client.get("/v1/vehicles/truck/drive").await.body["state"].clone()
}

async fn until_it_follows(client: &Client) {
    until("it is armed", async || state(client).await["phase"] == "ARMED").await;
    until("its pedal is down", async || number(client, THROTTLE).await > 99.0).await;
    let slow = number(client, SPEED).await;
    until("it gains speed", async || {
        let speed = number(client, SPEED).await;
        speed > slow + 1.0 || speed > 40.0
    })
    .await;
}

/// It comes to rest, says why, and stays where it is.
async fn until_it_stays(client: &Client, cause: &str) {
    until("it is in its safe state", async || {
        let state = state(client).await;
        state["phase"] == "SAFE" && state["cause"] == *cause
    })
    .await;
    until("it stands", async || number(client, SPEED).await == 0.0).await;
    for _ in 0..LOOKS {
        pass(Duration::from_millis(100)).await;
        assert_eq!((number(client, SPEED).await, state(client).await["phase"].as_str()), (0.0, Some("SAFE")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_until_its_link_is_cut_and_does_not_go_on_by_itself() {
    let mut world = World::start("").await;
    world.vehicle("truck", "quic").await;
    let client = world.client.clone();

    let mut driver = world.drive("truck", "first-drive", FULL_THROTTLE);
    until_it_follows(&client).await;
    world.link("outage 60s");
    until("it stops by its own clock", async || {
        world
            .vehicle_log("truck")
            .lines()
            .any(|line| line.contains("safe state") && line.contains("CONTROL_LOST"))
    })
    .await;
    assert!(driver.is_running(), "nobody has told the driver: they still steer");
    world.link("outage end");
    until_it_stays(&client, "CONTROL_LOST").await;
    assert!(!driver.ended().await.success());
    assert!(world.vehicle_log("first-drive").contains("the vehicle stands, CONTROL_LOST"));

    let mut driver = world.drive("truck", "second-drive", FULL_THROTTLE);
    until_it_follows(&client).await;
    let order = Order { class: "safety", path: EMERGENCY_STOP.into(), value: json!(true), ttl_ms: 2_000 };
    let stopped = client.order("truck", "stop", &order).await;
    assert_eq!(stopped.phase(), "SUCCEEDED", "{stopped:?}");
    until_it_stays(&client, "EMERGENCY_STOP").await;
    assert!(!driver.ended().await.success());
    assert_eq!(client.signal("truck", EMERGENCY_STOP).await, json!(true), "latched");

    let mut driver = world.drive("truck", "third-drive", "throttle 1 for 4s; stop");
    until_it_follows(&client).await;
    assert_eq!(client.signal("truck", EMERGENCY_STOP).await, json!(false), "re-armed");
    assert!(driver.ended().await.success(), "{}", world.vehicle_log("third-drive"));
    until_it_stays(&client, "LEASE_ENDED").await;
}
