//! Leases over HTTP: who drives a vehicle, and how it leaves its safe state.

use std::num::NonZeroU64;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use carriageway_proto::{Token, VehicleId};

use super::body::{json, json_content, read, too_late};
use super::caller::{Caller, vehicle_id};
use super::commands::{operator_rate, unknown_vehicle};
use super::problem::Problem;
use super::types::{DriveView, LeaseAction, LeaseRequest, LeaseView, RearmRequest};
use super::{Api, Arrival};
use crate::auth::Permission;
use crate::core::lease::TakeRefusal;
use crate::hub::LeaseError;

/// Takes, renews or releases the lease to drive a vehicle.
///
/// One operator at a time holds it, for `lease.ttl_ms` of the gateway's configuration (two seconds by default) unless
/// it is renewed: the answer's `ends_in_ms` says for how long; renew it four times as often.
/// Its `token` rises with every grant, is on this gateway's disk before it is granted, and is kept by
/// the vehicle, which obeys the newest alone. `force` takes the lease from whoever holds it; that goes
/// on record, as every grant and end does (`lease` events). It needs the scope `drive`.
#[utoipa::path(
    post,
    path = "/v1/vehicles/{id}/control-lease",
    tag = "drive",
    params(("id" = String, Path, description = "The vehicle")),
    request_body = LeaseRequest,
    responses(
        (status = 200, description = "Taken or renewed", body = LeaseView),
        (status = 204, description = "Released"),
        (status = 400, description = "`invalid-json`, `body-broken-off`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-offline`, `vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-too-slow`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`lease-held`, `lease-taken-over`, `no-lease`, `drive-state-unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`, `invalid-token`, `invalid-vehicle`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`operator-rate-limited`: takes count as commands do, renewals and releases do not; see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-failed`, `leases-full`, `draining`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn lease(
    State(api): State<Api>,
    Arrival(arrived): Arrival,
    caller: Caller,
    Path(vehicle): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    caller.require(Permission::Drive, &vehicle)?;
    json_content(request.headers())?;
    let request: LeaseRequest = json(&read(request, api.body_limits()).await?)?;
    let operator = &caller.0.name;
    let refused = |error| refusal(&error, &vehicle);
    let lease = match request.action {
        LeaseAction::Take => api.hub().take_lease(arrived, &vehicle, operator, request.force).await,
        LeaseAction::Renew => api.hub().renew_lease(arrived, &vehicle, operator, token(request.token)?),
        LeaseAction::Release => {
            api.hub().release_lease(&vehicle, operator, token(request.token)?).map_err(refused)?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    };
    let lease = lease.map_err(refused)?;
    Ok(Json(LeaseView::of(&lease, &api.wall())).into_response())
}

/// Asks a vehicle to leave its safe state.
///
/// `nonce` names the safe state that is to end, so that no wish can end a later stop. The wish lives for half a
/// second from when the gateway had read the request's head: time that the body takes comes off it. The vehicle then
/// waits (`ARMING`) for neutral control under the same lease, and says what comes of it: see `state`.
#[utoipa::path(
    post,
    path = "/v1/vehicles/{id}/rearm",
    tag = "drive",
    params(("id" = String, Path, description = "The vehicle")),
    request_body = RearmRequest,
    responses(
        (status = 202, description = "On its way to the vehicle", body = DriveView),
        (status = 400, description = "`invalid-json`, `body-broken-off`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-offline`, `vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-too-slow`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`no-lease`, `other-safe-state`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`, `invalid-nonce`, `invalid-token`, `invalid-vehicle`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`lane-full`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rearm(
    State(api): State<Api>,
    Arrival(arrived): Arrival,
    caller: Caller,
    Path(vehicle): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    caller.require(Permission::Drive, &vehicle)?;
    json_content(request.headers())?;
    let request: RearmRequest = json(&read(request, api.body_limits()).await?)?;
    let (token, nonce) = (token(Some(request.token))?, nonce(&request.nonce)?);
    let asked = api.hub().rearm(arrived, &vehicle, &caller.0.name, token, nonce);
    asked.map_err(|error| refusal(&error, &vehicle))?;
    Ok((StatusCode::ACCEPTED, Json(view(&api, &vehicle)?)).into_response())
}

/// Who drives a vehicle, and whether it can be driven.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}/drive",
    tag = "drive",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 200, description = "As it is now", body = DriveView),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(vehicle): Path<String>,
) -> Result<Json<DriveView>, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    caller.require(Permission::Observe, &vehicle)?;
    Ok(Json(view(&api, &vehicle)?))
}

fn view(api: &Api, vehicle: &VehicleId) -> Result<DriveView, Problem> {
    let glance = api.hub().drive(vehicle).ok_or_else(|| unknown_vehicle(vehicle))?;
    Ok(DriveView::of(&glance, &api.wall()))
}

fn token(number: Option<u64>) -> Result<Token, Problem> {
    number.and_then(Token::granted).ok_or_else(|| {
        Problem::invalid(
            "invalid-token",
            "`token` must be the number that came with the lease when it was taken",
        )
    })
}

fn nonce(text: &str) -> Result<NonZeroU64, Problem> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex).and_then(NonZeroU64::new);
    number.ok_or_else(|| {
        let detail = "`nonce` must be the 16 hexadecimal digits of `state.nonce` in the drive view";
        Problem::invalid("invalid-nonce", detail)
    })
}

fn refusal(error: &LeaseError, vehicle: &VehicleId) -> Problem {
    let conflict = |slug, title, detail: String| Problem::new(StatusCode::CONFLICT, slug, title, detail);
    match error {
        LeaseError::UnknownVehicle => unknown_vehicle(vehicle),
        LeaseError::Draining => Problem::unavailable(
            "draining",
            "this gateway is on its way out: it grants and renews no lease; bring the vehicle to a stop, and try again elsewhere or later",
            Duration::from_secs(1),
        ),
        LeaseError::TooLate => too_late(),
        LeaseError::Rate(wait) => operator_rate(*wait),
        LeaseError::Take(why) => no_grant(why, vehicle),
        LeaseError::NoLease => conflict(
            "no-lease",
            "The lease is not held",
            format!("no lease of {vehicle} with this token is yours now: it ended, or was taken over; take it again"),
        ),
        LeaseError::OtherNonce => conflict(
            "other-safe-state",
            "The vehicle is not in that safe state",
            "it is in another one, or in none; look at `state` of the drive view again, and at why it stopped".into(),
        ),
        LeaseError::Offline => offline(vehicle),
        LeaseError::LaneFull => Problem::unavailable(
            "lane-full",
            format!("too much waits in the drive lane to {vehicle}; nothing was sent"),
            Duration::from_secs(1),
        ),
    }
}

/// `certain` is what is certain nevertheless.
pub(super) fn drive_state_unknown(vehicle: &VehicleId, certain: &str) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "drive-state-unknown",
        "Whether the vehicle can be driven is unknown",
        format!(
            "{vehicle} has not said in its present session whether it can be driven; it does so as it connects, if it can be driven at all{certain}"
        ),
    )
}

fn no_grant(why: &TakeRefusal, vehicle: &VehicleId) -> Problem {
    let conflict = |slug, title, detail: String| Problem::new(StatusCode::CONFLICT, slug, title, detail);
    match why {
        TakeRefusal::Offline => offline(vehicle),
        TakeRefusal::Unheard => drive_state_unknown(vehicle, ""),
        TakeRefusal::Held { by } => conflict(
            "lease-held",
            "Somebody drives the vehicle",
            format!(
                "{by} holds the lease of {vehicle}; wait until it is released, or take it over with `force`"
            ),
        ),
        TakeRefusal::TakenOver { by } => conflict(
            "lease-taken-over",
            "Somebody else took it over",
            format!("{by} took over the lease of {vehicle} at the same time"),
        ),
        TakeRefusal::Fenced => conflict(
            "lease-taken-over",
            "Somebody else took it over",
            format!(
                "{vehicle} has just seen a newer lease, of another gateway; look who drives it, or try again"
            ),
        ),
        TakeRefusal::NotKept => Problem::unavailable(
            "store-failed",
            "the lease's token could not be written to the gateway's disk; without that none is granted",
            Duration::from_secs(1),
        ),
        TakeRefusal::Full => Problem::unavailable(
            "leases-full",
            format!(
                "no token can be given out for {vehicle}: this gateway remembers as many vehicles as it may"
            ),
            Duration::from_mins(1),
        ),
    }
}

fn offline(vehicle: &VehicleId) -> Problem {
    let detail = format!("{vehicle} has no connection now; nobody can drive it");
    Problem::not_found("vehicle-offline", "The vehicle is not connected", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_sixteen_digits_and_not_nothing() {
        assert_eq!(nonce("00000000000000ff").unwrap().get(), 255);
        for bad in ["", "ff", "0000000000000000", "+000000000000001", "00000000000000gg"] {
            assert_eq!(nonce(bad).unwrap_err().slug, "invalid-nonce", "{bad:?}");
        }
    }
}
