//! Commands to vehicles that are not there: answered at once, executed never.

use std::time::Duration;

use crate::wait::Stopwatch;
use crate::world::{CHARGE_LIMIT, Order, WINDOW, World};

/// Far beyond a busy machine's milliseconds, far below any timeout.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_is_said_at_once_and_nothing_happens_later() {
    let mut world = World::start("").await;
    let before = world.client.order("nobody", "k", &Order::window(50.0, 5_000)).await;
    assert_eq!(before.problem(), (404, "vehicle-unknown"));

    world.vehicle("truck", "auto").await;
    let order = world.client.order("truck", "first", &Order::charge_limit(61, 60_000)).await;
    assert_eq!(order.phase(), "SUCCEEDED");
    assert!(world.stop_vehicle("truck").await.success());
    world.client.until_presence("truck", "offline").await;
    for number in 0..5 {
        let begun = Stopwatch::start();
        let key = format!("while-away-{number}");
        let refused = world.client.order("truck", &key, &Order::window(70.0, 50_000)).await;
        assert_eq!(refused.problem(), (404, "vehicle-offline"));
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    // What was executed before is still answered for: the record knows.
    let known = world.client.order("truck", "first", &Order::charge_limit(61, 60_000)).await;
    assert_eq!((known.status, known.phase()), (200, "SUCCEEDED"));

    world.start_vehicle("truck");
    world.client.until_obeys("truck").await;
    assert_eq!(world.executed("truck", WINDOW, 70.0), 0, "nothing was kept for later");
    // A refusal leaves no trace: the key is free for who still wants it.
    let again = world.client.order("truck", "while-away-0", &Order::window(70.0, 50_000)).await;
    assert_eq!((again.status, again.phase()), (200, "SUCCEEDED"), "{again:?}");
    assert_eq!(world.executed("truck", WINDOW, 70.0), 1);
    assert_eq!(world.executed("truck", CHARGE_LIMIT, 61.0), 1);
}
