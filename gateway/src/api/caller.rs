//! Who calls: the operator behind the bearer token.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use carriageway_proto::VehicleId;

use super::Api;
use super::problem::Problem;
use crate::auth::{self, Operator, Permission};

/// An operator whose token was accepted.
pub(crate) struct Caller(pub(crate) Operator);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let header = headers.next().and_then(|header| header.to_str().ok());
        let verified = match headers.next() {
            None => auth::bearer(header).and_then(|token| api.verifier().verify(token, api.wall().unix())),
            Some(_) => Err(auth::AuthError::Malformed("there are two Authorization headers")),
        };
        verified.map(Self).map_err(|error| {
            api.hub().metrics().dropped("auth", error.name(), 1);
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The token is not accepted",
                error.to_string(),
            )
        })
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
