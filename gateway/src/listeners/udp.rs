//! The UDP ports: vehicles over QUIC.

use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::CloseCode;
use carriageway_transport::quic::QuicListener;
use tokio::time::sleep;

use crate::closing::Closing;
use crate::metrics::Metrics;
use crate::sessions::{Arrivals, Arrived};

/// How often the listener's counters are shown.
const FIGURES: Duration = Duration::from_secs(1);

/// Hands on vehicles until `closing` turns true; then closes what connections are left.
pub async fn vehicles(
    mut listener: QuicListener,
    arrivals: Arrivals,
    metrics: Arc<Metrics>,
    mut closing: Closing,
) {
    let counters = listener.counters();
    loop {
        tokio::select! {
            () = closing.wait() => break,
            arrival = listener.accept() => {
                let Some(arrival) = arrival else { return };
                let arrived = Arrived { connection: arrival.connection, identity: arrival.identity };
                if !arrivals.offer(arrived) {
                    break;
                }
            }
            () = sleep(FIGURES) => {}
        }
        for (result, count) in counters.read() {
            metrics.handshakes("quic", result, count);
        }
    }
    listener.close(CloseCode::Restarting, "the gateway restarts").await;
}
