//! Bad input on every port and stream: clear refusals, a gateway unharmed, other vehicles unaffected.

mod frames;
mod identities;
mod ports;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::task::JoinSet;

use crate::wait::until;
use crate::world::{CHARGE_LIMIT, Client, Order, World};

/// The gateway's resident memory stays below this, in KiB: several times what it has at rest.
const MOST_RESIDENT_KIB: u64 = 128 * 1024;

/// A gateway under attack, and two vehicles that go on obeying all the while.
struct Siege {
    world: World,
    stop: Arc<AtomicBool>,
    obeyed: Arc<AtomicU32>,
    operators: JoinSet<()>,
}

const HONEST: [(&str, &str); 2] = [("honest-quic", "quic"), ("honest-websocket", "websocket")];

impl Siege {
    /// Short deadlines, so that silence is refused soon.
    async fn begin() -> Self {
        let mut world = World::start("limits = { handshake_ms = 1500, request_ms = 1500 }").await;
        let (stop, obeyed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut operators = JoinSet::new();
        for (vehicle, transport) in HONEST {
            world.vehicle(vehicle, transport).await;
            let work = operate(world.client.clone(), vehicle, Arc::clone(&stop), Arc::clone(&obeyed));
            operators.spawn(work);
        }
        Self { world, stop, obeyed, operators }
    }

    /// Ends the siege: everybody obeyed, before and now, and the gateway is as it was.
    async fn end(mut self) {
        let so_far = self.obeyed.load(Ordering::Relaxed);
        until("commands still succeed", async || self.obeyed.load(Ordering::Relaxed) >= so_far + 4).await;
        self.stop.store(true, Ordering::Relaxed);
        while let Some(operated) = self.operators.join_next().await {
            operated.unwrap();
        }
        let resident = self.world.gateway().resident_kib();
        eprintln!(
            "{} commands obeyed; the gateway holds {resident} KiB",
            self.obeyed.load(Ordering::Relaxed)
        );
        assert!(resident < MOST_RESIDENT_KIB, "{resident} KiB");
        assert!(self.world.gateway().is_running());
        assert_eq!(self.world.client.internal("/livez").await.unwrap().0, 200);
        for (vehicle, _) in HONEST {
            let link = self.world.client.link(vehicle).await;
            assert_eq!((&link["presence"], link["epoch"].as_u64()), (&"online".into(), Some(1)), "{link}");
            assert!(!self.world.effects(vehicle).is_empty());
        }
    }

    /// Waits until a counter has risen this far.
    async fn counted(&self, metric: &str, least: u64) {
        let what = format!("{metric} counts {least}");
        until(&what, async || self.world.client.metric(metric).await >= least).await;
    }
}

/// Sends one command after the other; every one succeeds.
async fn operate(client: Client, vehicle: &'static str, stop: Arc<AtomicBool>, obeyed: Arc<AtomicU32>) {
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let order = Order::charge_limit(20 + number % 80, 20_000);
        assert_eq!(order.path, CHARGE_LIMIT);
        let answer = client.order(vehicle, &format!("steady-{number}"), &order).await;
        assert_eq!((answer.status, answer.phase()), (200, "SUCCEEDED"), "{answer:?}");
        obeyed.fetch_add(1, Ordering::Relaxed);
        // Ten a second are allowed.
        crate::wait::pass(std::time::Duration::from_millis(150)).await;
    }
}

/// Bytes that are nothing, the same in every run.
fn garbage(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
