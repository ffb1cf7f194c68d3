//! The internal port: health and metrics, plain HTTP, never to be reached from outside.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::hub::Hub;

/// `/livez`: the process answers. `/readyz`: it takes vehicles and commands; 503 once it drains.
/// `/metrics`: OpenMetrics text.
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
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

async fn metrics(State(hub): State<Hub>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], hub.metrics().text())
}
