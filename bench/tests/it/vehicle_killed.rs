//! The vehicle's agent dies between receiving a command and its end: nothing executes twice.

use std::time::Duration;

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg32;
use tokio::task::JoinSet;

use crate::wait::{pass, until};
use crate::world::{Answer, CHARGE_LIMIT, Order, WINDOW, World};

const SEED: u64 = 20_261_121;
const KILLS: u32 = 15;

/// Where the vehicle had taken a command over but not recorded it, the end of this settles it.
const TTL_MS: u64 = 5_000;

/// Outlives a restart of everything.
const LONG_TTL_MS: u64 = 40_000;

/// A command is received, recorded and carried out within this on an idle machine: kills fall before,
/// in and behind it.
const SPAN_MICROS: u32 = 40_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_point_never_executes_twice() {
    let mut chance = Pcg32::seed_from_u64(SEED);
    let mut world = World::start("").await;
    world.vehicle("truck", "quic").await;
    let mut seen = Vec::new();
    for number in 0..KILLS {
        world.client.until_obeys("truck").await;
        let epoch = world.client.link("truck").await["epoch"].as_u64();
        let (key, order) = (format!("key-{number}"), order(number));
        let mut sending = JoinSet::new();
        let client = world.client.clone();
        let first = (key.clone(), order.clone());
        sending.spawn(async move { client.insist("truck", &first.0, &first.1).await });
        pass(Duration::from_micros(u64::from(chance.next_u32() % SPAN_MICROS))).await;
        world.kill_vehicle("truck");
        let before = world.executed("truck", &order.path, order.value.as_f64().unwrap());
        let intended = world.journal("truck").contains_key(&key);
        world.start_vehicle("truck");
        let client = &world.client;
        until("it is back", async || client.link("truck").await["epoch"].as_u64() > epoch).await;
        let told = sending.join_next().await.unwrap().unwrap();
        let retried = world.client.insist("truck", &key, &order).await;
        let effects = world.executed("truck", &order.path, order.value.as_f64().unwrap());
        assert!(effects == 0 || intended || before == 0, "an effect without a durable intent: {key}");
        for answer in [&told, &retried] {
            truthful(answer, effects);
        }
        seen.push((intended, effects, retried.phase().to_owned()));
    }
    eprintln!("with seed {SEED}: (intent, effects, outcome) {seen:?}");
    assert!(seen.iter().any(|(_, effects, _)| *effects == 1), "some had begun");
    assert!(seen.iter().any(|(.., phase)| phase == "UNKNOWN"), "some were cut off: {seen:?}");
    the_journal_alone_answers(&mut world).await;
}

/// By turns a target that holds at once, and one that the vehicle is on its way to when it dies.
fn order(number: u32) -> Order {
    if number.is_multiple_of(2) {
        Order::charge_limit(30 + number, TTL_MS)
    } else {
        Order::window(f64::from(20 + number), TTL_MS)
    }
}

fn truthful(answer: &Answer, effects: usize) {
    let fits = match answer.phase() {
        "SUCCEEDED" => effects == 1,
        "UNKNOWN" => effects <= 1,
        "EXPIRED" | "REJECTED" => effects == 0,
        other => panic!("{other} is no end here: {answer:?}"),
    };
    assert!(fits, "ONCE, ACK-TRUTH: {effects} effects of {answer:?}");
}

/// A restarted gateway has forgotten everything: what it says of a key comes from the vehicle.
async fn the_journal_alone_answers(world: &mut World) {
    world.client.until_obeys("truck").await;
    let known = world.client.insist("truck", "known", &Order::charge_limit(77, LONG_TTL_MS)).await;
    assert_eq!(known.phase(), "SUCCEEDED", "{known:?}");
    let mut sending = JoinSet::new();
    let client = world.client.clone();
    sending.spawn(async move { client.send("truck", "cut", &Order::window(100.0, LONG_TTL_MS), 10).await });
    until("the window moves", async || world.executed("truck", WINDOW, 100.0) == 1).await;
    world.kill_vehicle("truck");
    world.kill_gateway();
    world.start_gateway().await;
    world.start_vehicle("truck");
    world.client.until_presence("truck", "online").await;
    let known = world.client.insist("truck", "known", &Order::charge_limit(77, LONG_TTL_MS)).await;
    assert_eq!(known.phase(), "SUCCEEDED", "{known:?}");
    let cut = world.client.insist("truck", "cut", &Order::window(100.0, LONG_TTL_MS)).await;
    assert_eq!(cut.phase(), "UNKNOWN", "{cut:?}");
    assert!(cut.body["detail"].as_str().unwrap().contains("restarted"), "{cut:?}");
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 77.0), 1);
    assert_eq!(world.executed("truck", WINDOW, 100.0), 1);
}
