//! Who calls: the operator behind the bearer token.

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use carriageway_proto::VehicleId;

use super::Api;
use super::problem::Problem;
use crate::auth::{self, AuthError, Operator, Permission};

/// An operator whose token was accepted.
pub(crate) struct Caller(pub(crate) Operator);

/// Before a token in `Sec-WebSocket-Protocol`: browsers can send no `Authorization` with an upgrade.
const IN_PROTOCOL: &str = "carriageway.bearer.";

/// Likewise of an upgrade, whose token may also stand among the subprotocols that it offers.
pub(crate) struct Upgrader(pub(crate) Caller);

impl FromRequestParts<Api> for Upgrader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        if !parts.headers.contains_key(AUTHORIZATION)
            && let Some(token) = in_protocol(&parts.headers)
        {
            return verified(api, Ok(token)).map(Self);
        }
        Caller::from_request_parts(parts, api).await.map(Self)
    }
}

fn in_protocol(headers: &HeaderMap) -> Option<&str> {
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|offer| offer.to_str().ok());
    offers.flat_map(|offer| offer.split(',')).find_map(|offer| offer.trim().strip_prefix(IN_PROTOCOL))
}

fn verified(api: &Api, token: Result<&str, AuthError>) -> Result<Caller, Problem> {
    let verified = token.and_then(|token| api.verifier().verify(token, api.wall().unix()));
    verified.map(Caller).map_err(|error| {
        api.hub().metrics().dropped("auth", error.name(), 1);
        let title = "The token is not accepted";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title, error.to_string())
    })
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let header = headers.next().and_then(|header| header.to_str().ok());
        let token = match headers.next() {
            None => auth::bearer(header),
            Some(_) => Err(AuthError::Malformed("there are two Authorization headers")),
        };
        verified(api, token)
    }
}

impl Caller {
    /// Fails unless the operator holds the permission. It says nothing about whether the vehicle
    /// exists.
    pub(crate) fn require(&self, permission: Permission, vehicle: &VehicleId) -> Result<(), Problem> {
        if self.0.may(permission, vehicle) {
            return Ok(());
        }
        let detail = format!("it needs the scope `{permission}`, and `{vehicle}` or `*` among its vehicles");
        Err(Problem::forbidden(detail))
    }
}

/// A vehicle id from a path.
pub(super) fn vehicle_id(text: &str) -> Result<VehicleId, Problem> {
    text.parse().map_err(|error| Problem::invalid("invalid-vehicle", format!("a vehicle's id {error}")))
}
