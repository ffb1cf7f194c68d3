//! UDP is blocked and comes back: the same session goes on, and no command is lost or doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::wait::{Stopwatch, pass, until};
use crate::world::{CHARGE_LIMIT, Client, Order, WINDOW, World};

/// Outlives both moves.
const TTL_MS: u64 = 25_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_session_moves_to_websocket_and_back_without_losing_or_doubling_a_command() {
    let mut world = World::start("").await;
    world.vehicle("truck", "auto").await;
    let client = world.client.clone();
    let before = client.link("truck").await;
    assert_eq!(before["transport"], "quic");

    let stop = Arc::new(AtomicBool::new(false));
    let mut commanding = JoinSet::new();
    commanding.spawn(command_all_the_time(client.clone(), Arc::clone(&stop)));
    let below = |link: &Json, transport: &str| link["transport"] == *transport;

    world.link("udp drop");
    let blocked = Stopwatch::start();
    until("it is on WebSocket", async || below(&client.link("truck").await, "websocket")).await;
    let took = blocked.elapsed();
    let link = client.link("truck").await;
    assert!(link["why"].as_str().unwrap().contains("fallback"), "{}", link["why"]);
    until("signals go on", async || fresh_signals(&client.link("truck").await)).await;
    // Long enough that QUIC has been given up and must be looked for again.
    until("QUIC has failed", async || {
        world
            .vehicle_log("truck")
            .lines()
            .any(|line| line.contains("could not connect") && line.contains("QUIC"))
    })
    .await;

    world.link("udp pass");
    let passed = Stopwatch::start();
    until("it is back on QUIC", async || below(&client.link("truck").await, "quic")).await;
    let back = passed.elapsed();
    let why = client.link("truck").await["why"].clone();
    // A new connection, or the first one if it has come to life before it was given up.
    assert!(
        ["QUIC works again", "QUIC answered after the fallback", "first choice"]
            .contains(&why.as_str().unwrap()),
        "{why}"
    );
    until("signals go on", async || fresh_signals(&client.link("truck").await)).await;
    stop.store(true, Ordering::Relaxed);
    let outcomes = commanding.join_next().await.unwrap().unwrap();

    let after = client.link("truck").await;
    assert_eq!((&after["session"], &after["epoch"]), (&before["session"], &before["epoch"]), "one session");
    assert!(after["resumes"].as_u64() >= Some(2), "{}", after["resumes"]);
    eprintln!("on WebSocket after {took:?}, back on QUIC after {back:?}, {} commands", outcomes.len());
    assert!(took < Duration::from_secs(10) && outcomes.len() >= 20, "{took:?}, {}", outcomes.len());
    check(&world, &outcomes);
}

/// The way back changes under a connection that does not notice: QUIC goes on, and so does the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebinding_nat_costs_neither_session_nor_command() {
    let mut world = World::start("").await;
    world.vehicle("truck", "quic").await;
    let client = world.client.clone();
    let before = client.link("truck").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut commanding = JoinSet::new();
    commanding.spawn(command_all_the_time(client.clone(), Arc::clone(&stop)));
    for rebound in 1..=2 {
        world.link("nat-rebind");
        until("the gateway sees the new address", async || {
            let link = client.link("truck").await;
            let migrations = |one: &Json| one["migrations"].as_u64().unwrap_or(0);
            link["connections"].as_array().unwrap().iter().map(migrations).sum::<u64>() >= rebound
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let outcomes = commanding.join_next().await.unwrap().unwrap();
    let after = client.link("truck").await;
    assert_eq!((&after["session"], &after["resumes"]), (&before["session"], &before["resumes"]));
    check(&world, &outcomes);
}

/// Sends a command every 200 ms, in two lanes by turns, without waiting for the last; until told to
/// stop. Each one's value and outcome.
async fn command_all_the_time(client: Client, stop: Arc<AtomicBool>) -> BTreeMap<(bool, u32), String> {
    let mut sending = JoinSet::new();
    for number in 0..80 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for (is_body, order) in [
            (false, Order::charge_limit(20 + number, TTL_MS)),
            // Small steps: each is there before the next is asked for.
            (true, Order::window(f64::from(number + 1), TTL_MS)),
        ] {
            let client = client.clone();
            sending.spawn(async move {
                let key = format!("{}-{number}", order.class);
                let answer = client.order("truck", &key, &order).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                ((is_body, number), answer.phase().to_owned())
            });
            pass(Duration::from_millis(150)).await;
        }
    }
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = sending.join_next().await {
        outcomes.extend([outcome.unwrap()]);
    }
    outcomes
}

fn fresh_signals(link: &Json) -> bool {
    link["signals"]["newest_age_ms"].as_u64().is_some_and(|age| age < 500)
}

fn check(world: &World, outcomes: &BTreeMap<(bool, u32), String>) {
    for ((is_body, number), phase) in outcomes {
        // What comes within the duplicate window, or while another is under way to the same target, gives way
        // to the newer wish.
        let fits = phase == "SUCCEEDED" || phase == "SUPERSEDED";
        assert!(fits, "not lost: command {number}, body {is_body}, is {phase}");
        let (path, value) = if *is_body { (WINDOW, number + 1) } else { (CHARGE_LIMIT, 20 + number) };
        let executed = world.executed("truck", path, value.into());
        let truthful = if phase == "SUCCEEDED" { executed == 1 } else { executed <= 1 };
        assert!(truthful, "ONCE: {path} to {value} executed {executed} times and is {phase}");
    }
    for lane in [false, true] {
        let of_lane = || outcomes.iter().filter(|((is_body, _), _)| *is_body == lane);
        let (_, newest) = of_lane().next_back().expect("commands were sent");
        assert_eq!(newest, "SUCCEEDED", "the newest wish wins");
        let succeeded = of_lane().filter(|(_, phase)| *phase == "SUCCEEDED").count();
        assert!(succeeded * 4 >= of_lane().count(), "{succeeded} went all the way");
    }
    for path in [WINDOW, CHARGE_LIMIT] {
        let effects: Vec<_> = world.effects("truck").into_iter().filter(|(p, _)| p == path).collect();
        assert!(effects.is_sorted_by(|(_, one), (_, next)| one < next), "LANE: in order: {effects:?}");
    }
}
