//! `/link`: a vehicle whose network blocks UDP turns its TLS connection into a WebSocket.

use axum::extract::{Request, State};
use axum::http::header::SEC_WEBSOCKET_VERSION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use carriageway_transport::websocket;

use super::http::Peer;
use crate::api::problem::Problem;
use crate::hub::Hub;

/// The route, with the same rule of identity as over QUIC.
pub fn router(hub: Hub) -> Router {
    Router::new().route(websocket::PATH, get(upgrade)).with_state(hub)
}

async fn upgrade(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Response> {
    if let Err(why) = &peer.identity {
        hub.metrics().dropped("link", "certificate", 1);
        return Err(no_certificate(&why.to_string()).into_response());
    }
    let headers = websocket::accept_headers(request.headers()).map_err(|why| {
        let problem = Problem::new(why.status(), "not-a-websocket", "This is a WebSocket", why.to_string());
        let mut response = problem.into_response();
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response
    })?;
    let promised = hyper::upgrade::on(&mut request);
    *peer.upgrade.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(promised);
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn no_certificate(why: &str) -> Problem {
    let title = "Only vehicles come in here";
    Problem::new(StatusCode::UNAUTHORIZED, "certificate-required", title, why)
}
