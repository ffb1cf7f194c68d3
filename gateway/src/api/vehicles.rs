//! Vehicles over HTTP.

use axum::Json;
use axum::extract::{Path, State};

use super::Api;
use super::caller::{Caller, vehicle_id};
use super::commands::unknown_vehicle;
use super::problem::Problem;
use super::types::{LinkReport, SignalList, VehicleList, VehicleView};
use crate::auth::{Operator, Permission};

/// Every vehicle that the token may observe.
#[utoipa::path(
    get,
    path = "/v1/vehicles",
    tag = "vehicles",
    responses(
        (status = 200, description = "By id", body = VehicleList),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Json<VehicleList> {
    Json(visible(&api, &caller.0))
}

/// What an operator may see of the fleet.
pub(super) fn visible(api: &Api, operator: &Operator) -> VehicleList {
    let wall = api.wall();
    let vehicles = api.hub().vehicles().into_iter();
    let seen = vehicles.filter(|glance| operator.may(Permission::Observe, &glance.vehicle));
    VehicleList { vehicles: seen.map(|glance| VehicleView::of(&glance, &wall)).collect() }
}

/// One vehicle.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}",
    tag = "vehicles",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 200, description = "As it is now", body = VehicleView),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<VehicleView>, Problem> {
    let vehicle = vehicle_id(&id)?;
    caller.require(Permission::Observe, &vehicle)?;
    let glance = api.hub().vehicle(&vehicle).ok_or_else(|| unknown_vehicle(&vehicle))?;
    Ok(Json(VehicleView::of(&glance, &api.wall())))
}

/// How a vehicle is connected: transport and why, round trip, loss, queues, drops, ages.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}/link",
    tag = "vehicles",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 200, description = "As it is now", body = LinkReport),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn link(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<LinkReport>, Problem> {
    let vehicle = vehicle_id(&id)?;
    caller.require(Permission::Observe, &vehicle)?;
    let view = api.hub().link(&vehicle).ok_or_else(|| unknown_vehicle(&vehicle))?;
    Ok(Json(LinkReport::of(&view, &api.wall())))
}

/// The newest value of each of a vehicle's signals.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}/signals",
    tag = "vehicles",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 200, description = "By path; they stay, ageing, when the vehicle goes offline", body = SignalList),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn signals(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<SignalList>, Problem> {
    let vehicle = vehicle_id(&id)?;
    caller.require(Permission::Observe, &vehicle)?;
    let (shown, _) = api.hub().signals(&vehicle, 0).ok_or_else(|| unknown_vehicle(&vehicle))?;
    Ok(Json(SignalList::of(vehicle.as_str(), shown, &api.wall())))
}
