//! The internal port: health and metrics, plain HTTP, never to be reached from outside.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use crate::hub::Hub;

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
    /// `ok` or `broken`: commands live in memory only, and none is queued for an offline vehicle.
    store: &'static str,
    /// Why, for people.
    detail: String,
}

async fn health(State(hub): State<Hub>) -> impl IntoResponse {
    Json(match hub.store_fault() {
        None => Health { status: "ok", store: "ok", detail: String::new() },
        Some(detail) => Health { status: "degraded", store: "broken", detail },
    })
}

async fn metrics(State(hub): State<Hub>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], hub.metrics().text())
}
