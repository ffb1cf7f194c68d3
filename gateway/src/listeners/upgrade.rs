//! `/link`: a vehicle whose network blocks UDP turns its TLS connection into a WebSocket.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::SEC_WEBSOCKET_VERSION;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use carriageway_transport::websocket::{self, WebSocketConnection, WhyNot};

use super::http::Peer;
use crate::api::problem::Problem;
use crate::hub::Hub;
use crate::sessions::{Arrivals, Arrived};

/// The route, with the same rule of identity as over QUIC.
pub fn router(hub: Hub, arrivals: Arrivals) -> Router {
    Router::new().route(websocket::PATH, get(upgrade)).with_state((hub, arrivals))
}

async fn upgrade(
    State((hub, arrivals)): State<(Hub, Arrivals)>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Response> {
    let identity = peer.identity.clone().map_err(|why| {
        hub.metrics().dropped("link", "certificate", 1);
        no_certificate(&why.to_string()).into_response()
    })?;
    let headers = websocket::accept_headers(request.headers()).map_err(no_websocket)?;
    let remote = peer.remote;
    let speaker = Box::new(move |stream| {
        let arrive = async move {
            let connection = Box::new(WebSocketConnection::accepted(stream, Some(remote)).await);
            // Where nobody takes it the gateway is on its way out.
            let _taken = arrivals.offer(Arrived { connection, identity });
        };
        Box::pin(arrive) as _
    });
    peer.upgrade(&mut request, speaker);
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The answer to a request that is no upgrade of ours.
pub(crate) fn no_websocket(why: WhyNot) -> Response {
    let problem = Problem::new(why.status(), "not-a-websocket", "This is a WebSocket", why.to_string());
    let mut response = problem.into_response();
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn no_certificate(why: &str) -> Problem {
    let title = "Only vehicles come in here";
    Problem::new(StatusCode::UNAUTHORIZED, "certificate-required", title, why)
}
