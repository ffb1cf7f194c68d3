//! Learns when a packet leaves.
//!
//! quinn tells nobody when a waiting datagram has been sent, unless its whole buffer was full. But it
//! tells the congestion controller of each packet, so the controller is wrapped: whoever waits for
//! the datagram buffer to empty is woken by the packet that may have emptied it.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// Makes the controller that decides.
pub(super) type Build = Arc<dyn ControllerFactory + Send + Sync>;

/// Makes controllers that also wake whoever waits for a packet to leave.
pub(super) struct Watch(pub(super) Build);

impl ControllerFactory for Watch {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Watched { inner: self.0.clone().build(now, current_mtu), sent: Arc::default() })
    }
}

/// A controller and who waits for its next packet. A clone, as quinn makes for a migrated path,
/// wakes the same waiter.
pub(super) struct Watched {
    inner: Box<dyn Controller>,
    sent: Arc<AtomicWaker>,
}

impl Watched {
    /// The waiter's place in the controller that `connection` uses at present.
    pub(super) fn waiter(connection: &quinn::Connection) -> Option<Arc<AtomicWaker>> {
        let watched = connection.congestion_state().into_any().downcast::<Self>().ok()?;
        Some(watched.sent)
    }
}

impl Controller for Watched {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
        self.sent.wake();
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), sent: self.sent.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
