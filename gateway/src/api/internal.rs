//! The internal port: health and metrics, plain HTTP, never to be reached from outside.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use crate::hub::{Hub, StoreHealth};

/// `/livez`: the process answers. `/readyz`: it takes vehicles and commands; 503 once it drains.
/// `/health`: as `/livez`, and in JSON what works only in part; 200 all the same, for a gateway whose disk
/// is broken still drives its vehicles. `/metrics`: OpenMetrics text.
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(hub)
}

async fn ready(State(hub): State<Hub>) -> impl IntoResponse {
    if hub.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// How the gateway is.
#[derive(serde::Serialize)]
struct Health {
    /// `ok` or `degraded`.
    status: &'static str,
    /// `ok`; `broken`: commands live in memory only, and none is queued for an offline vehicle; or `slow`:
    /// ends of commands were told before the disk had them.
    store: &'static str,
    /// `ok`, or `failed`: the last lease's token could not be written, and the lease was refused.
    leases: &'static str,
    /// `ok`, or `failed`: the last change of a desired state could not be written, and was refused.
    desired: &'static str,
    /// Commands whose end was told and is not on disk: after a crash it may be told otherwise.
    ends_not_durable: usize,
    /// Why, for people.
    detail: String,
}

async fn health(State(hub): State<Hub>) -> impl IntoResponse {
    let StoreHealth { commands, tokens, desired, ends_not_durable } = hub.store_health();
    let store = match (&commands, ends_not_durable) {
        (Some(_), _) => "broken",
        (None, 0) => "ok",
        (None, _) => "slow",
    };
    let word = |failure: &Option<String>| if failure.is_some() { "failed" } else { "ok" };
    let (leases, desired_word) = (word(&tokens), word(&desired));
    let is_ok = [store, leases, desired_word].iter().all(|word| *word == "ok");
    let status = if is_ok { "ok" } else { "degraded" };
    let why: BTreeSet<_> = [commands, tokens, desired].into_iter().flatten().collect();
    let detail = why.into_iter().collect::<Vec<_>>().join("; ");
    Json(Health { status, store, leases, desired: desired_word, ends_not_durable, detail })
}

async fn metrics(State(hub): State<Hub>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], hub.metrics().text())
}
