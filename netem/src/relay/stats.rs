//! What a relay has done so far.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::Counts;
use crate::json::{counts_json, lateness_json, micros};
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
    /// Packets that the link never saw, because the relay held as many bytes as it may.
    pub over_memory: u64,
    /// Drops that are counted, but that TCP was never told of: if not zero, connections hang that a link would have let go on.
    pub untold_drops: u64,
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
            "up": counts_json(&self.up),
            "down": counts_json(&self.down),
            "queued_up_bytes": self.queued_up,
            "queued_down_bytes": self.queued_down,
            "udp_flows": self.udp_flows,
            "tcp_flows": self.tcp_flows,
            "refused_flows": self.refused_flows,
            "unsent_datagrams": self.unsent_datagrams,
            "over_memory": self.over_memory,
            "untold_drops": self.untold_drops,
            "resent_segments": self.resent_segments,
            "udp_blocked": self.udp_blocked,
            "outage_left_us": micros(self.outage_left),
            "lateness": lateness_json(&self.lateness),
        })
    }
}
