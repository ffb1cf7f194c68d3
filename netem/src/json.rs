//! How counters and histograms look in reports.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::{Cause, Counts};
use crate::lateness::Lateness;

/// Counters of one direction as reports have them.
pub fn counts_json(counts: &Counts) -> Value {
    let dropped: serde_json::Map<_, _> =
        Cause::ALL.into_iter().map(|cause| (cause.name().into(), counts.dropped_by(cause).into())).collect();
    json!({
        "offered": counts.offered,
        "offered_bytes": counts.offered_bytes,
        "delivered": counts.delivered,
        "delivered_bytes": counts.delivered_bytes,
        "duplicated": counts.duplicated,
        "corrupted": counts.corrupted,
        "mean_wait_us": counts.waited.as_secs_f64() * 1e6 / counts.delivered.max(1) as f64,
        "dropped": dropped,
    })
}

/// A histogram of lateness as JSON, in microseconds.
pub(crate) fn lateness_json(lateness: &Lateness) -> Value {
    let buckets: Vec<_> = lateness.buckets().map(|(upper, count)| json!([micros(upper), count])).collect();
    json!({
        "count": lateness.count(),
        "p50_us": micros(lateness.quantile(0.5)),
        "p99_us": micros(lateness.quantile(0.99)),
        "worst_us": micros(lateness.worst()),
        "buckets_us": buckets,
    })
}

/// Whole microseconds.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
