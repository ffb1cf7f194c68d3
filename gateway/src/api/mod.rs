//! The HTTP API: what operators and their programs see.

mod body;
mod caller;
mod commands;
pub mod control;
mod events;
pub mod internal;
mod lease;
pub mod openapi;
pub mod problem;
mod state;
pub mod types;
mod unread;
mod vehicles;
pub mod wall;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, patch, post};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Verifier;
use crate::closing::Closing;
use crate::hub::Hub;
use crate::page;
pub use body::Limits as BodyLimits;
use problem::Problem;
use wall::Wall;

/// How much the API takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A request's body.
    pub body: BodyLimits,
    /// Event streams open at once.
    pub event_streams: usize,
}

/// What every handler has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    hub: Hub,
    verifier: Verifier,
    body: BodyLimits,
    streams: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    closing: Closing,
}

impl Api {
    /// The API of a hub, for tokens that `verifier` accepts. Event streams end when `closing` turns
    /// true.
    pub fn new(hub: Hub, verifier: Verifier, limits: Limits, closing: Closing) -> Self {
        let streams = Arc::new(Semaphore::new(limits.event_streams));
        let seats = Arc::new(Semaphore::new(control::MAX_SEATS));
        Self(Arc::new(Inner { hub, verifier, body: limits.body, streams, seats, closing }))
    }

    fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    fn wall(&self) -> Wall {
        Wall::read(self.0.hub.clock())
    }

    fn body_limits(&self) -> BodyLimits {
        self.0.body
    }

    fn stream_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.streams).try_acquire_owned().ok()
    }

    fn seat_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.seats).try_acquire_owned().ok()
    }

    fn closing(&self) -> Closing {
        self.0.closing.clone()
    }
}

/// Every route of the public port but `/link`, which belongs to the listener.
pub fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/v1/vehicles", get(vehicles::list))
        .route("/v1/vehicles/{id}", get(vehicles::show))
        .route("/v1/vehicles/{id}/link", get(vehicles::link))
        .route("/v1/vehicles/{id}/signals", get(vehicles::signals))
        .route("/v1/vehicles/{id}/commands", post(commands::submit))
        .route("/v1/vehicles/{id}/control-lease", post(lease::lease))
        .route("/v1/vehicles/{id}/rearm", post(lease::rearm))
        .route("/v1/vehicles/{id}/drive", get(lease::show))
        .route("/v1/vehicles/{id}/control", get(control::open))
        .route("/v1/vehicles/{id}/state", get(state::show))
        .route("/v1/vehicles/{id}/state/desired", patch(state::patch))
        .route("/v1/vehicles/{id}/commands/{command}", delete(commands::cancel))
        .route("/v1/commands/{id}", get(commands::show))
        .route("/v1/events", get(events::stream))
        .layer(middleware::map_response(uncached))
        .merge(openapi::router())
        .method_not_allowed_fallback(wrong_method)
        .with_state(api.clone());
    let all = v1.merge(page::router()).fallback(nowhere).layer(middleware::from_fn(unread::said));
    all.layer(middleware::from_fn_with_state(api, measured))
}

async fn nowhere() -> Problem {
    Problem::not_found("not-found", "There is nothing here", "see /docs for what there is")
}

async fn wrong_method() -> Problem {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Problem::new(status, "method-not-allowed", "Not with this method", "see /docs for what there is")
}

/// What is true now is not to be kept.
async fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// When the gateway had read a request's head: what the request asks for is at least this old.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival(pub(crate) crate::core::commands::Arrival);

impl FromRequestParts<Api> for Arrival {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        let noted = parts.extensions.get().copied();
        Ok(noted.unwrap_or_else(|| Self(api.hub().arrival())))
    }
}

/// Notes when each request arrived; counts and times it by the pattern of its route.
async fn measured(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let clock = api.hub().clock().clone();
    let arrival = api.hub().arrival();
    request.extensions_mut().insert(Arrival(arrival));
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    api.hub().metrics().http(route, response.status().as_u16(), clock.now().since(arrival.at()));
    response
}
