//! What a relay has done so far.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::{Cause, Counts};
use crate::lateness::Lateness;

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Time since the start.
    pub uptime: Duration,
    /// Packets from clients.
    pub up: Counts,
    /// Packets to clients.
    pub down: Counts,
    /// Bytes that wait in the link's queues.
    pub queued_up: u64,
    /// As above, to clients.
    pub queued_down: u64,
    /// UDP flows at the moment.
    pub udp_flows: usize,
    /// TCP connections at the moment.
    pub tcp_flows: usize,
    /// Flows refused because there were too many.
    pub refused_flows: u64,
    /// Datagrams that the kernel did not take: if not zero, the relay dropped what the link had delivered.
    pub unsent_datagrams: u64,
    /// TCP segments sent again.
    pub resent_segments: u64,
    /// Whether UDP is blocked by word of an operator.
    pub udp_blocked: bool,
    /// What is left of a declared outage.
    pub outage_left: Duration,
    /// How late deliveries were.
    pub lateness: Lateness,
}

impl Stats {
    /// As one JSON object; times in microseconds.
    pub fn to_json(&self) -> Value {
        json!({
            "uptime_us": micros(self.uptime),
            "up": counts_json(&self.up, self.queued_up),
            "down": counts_json(&self.down, self.queued_down),
            "udp_flows": self.udp_flows,
            "tcp_flows": self.tcp_flows,
            "refused_flows": self.refused_flows,
            "unsent_datagrams": self.unsent_datagrams,
            "resent_segments": self.resent_segments,
            "udp_blocked": self.udp_blocked,
            "outage_left_us": micros(self.outage_left),
            "lateness": lateness_json(&self.lateness),
        })
    }
}

fn counts_json(counts: &Counts, queued: u64) -> Value {
    let mut dropped = serde_json::Map::new();
    for cause in Cause::ALL {
        dropped.insert(cause.name().into(), counts.dropped_by(cause).into());
    }
    json!({
        "offered": counts.offered,
        "offered_bytes": counts.offered_bytes,
        "delivered": counts.delivered,
        "delivered_bytes": counts.delivered_bytes,
        "duplicated": counts.duplicated,
        "corrupted": counts.corrupted,
        "dropped": dropped,
        "queued_bytes": queued,
    })
}

fn lateness_json(lateness: &Lateness) -> Value {
    json!({
        "count": lateness.count(),
        "p50_us": micros(lateness.quantile(0.5)),
        "p99_us": micros(lateness.quantile(0.99)),
        "worst_us": micros(lateness.worst()),
    })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
