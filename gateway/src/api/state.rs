//! Desired and reported state over HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use carriageway_proto::{Class, SignalPath, VehicleId};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value as JsonAny;

use super::body::{json, json_content, read, too_late, value};
use super::caller::{Caller, vehicle_id};
use super::commands::{operator_rate, unknown_vehicle};
use super::problem::Problem;
use super::types::StateView;
use super::{Api, Arrival};
use crate::auth::Permission;
use crate::core::shadow::{Condition, Edit, PatchRefusal};
use crate::hub::StateError;

/// The longest that a wish may be valid and still have an end: as the longest ttl of any command.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// What is to hold on a vehicle, what holds, and where they differ.
///
/// `ETag` is the version of what is desired: name it in `If-Match` to change that. What is reported
/// comes from the vehicle's reports and from its signals, whichever is newer.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}/state",
    tag = "state",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 200, description = "As it is now", body = StateView),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(vehicle): Path<String>,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    caller.require(Permission::Observe, &vehicle)?;
    answer(&api, &vehicle)
}

/// Changes what is to hold on a vehicle.
///
/// The body names paths: a value (or `{"value": v, "valid_for_ms": n}`) is to hold, `null` is no longer
/// desired, what is not named stays. `If-Match` names the version that the change is made to. It is
/// answered once it is on the gateway's disk; the vehicle is told when it is connected, and acts at most
/// once on each change of a path. A wish that is valid for a while counts by the clock of the gateway's
/// host, from when the gateway had read the request's head, and is over when that host reboots. It needs the scope `command:config`.
#[utoipa::path(
    patch,
    path = "/v1/vehicles/{id}/state/desired",
    tag = "state",
    params(
        ("id" = String, Path, description = "The vehicle"),
        ("If-Match" = String, Header, description = "The `ETag` of the state that the change is made to, or `*`"),
    ),
    request_body(content = Object, content_type = "application/merge-patch+json", example = json!({
        "Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature": 21,
        "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit": { "value": 80, "valid_for_ms": 3_600_000 },
        "Vehicle.Cabin.Lights.AmbientLight.Row1.DriverSide.IsLightOn": null
    })),
    responses(
        (status = 200, description = "Changed; the new `ETag` names the version", body = StateView),
        (status = 400, description = "`invalid-json`, `invalid-if-match`, `body-broken-off`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-too-slow`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`state-changed`: it was made to another version than the present one", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`, `invalid-path`, `invalid-value`, `invalid-validity`, `too-many-paths`, `too-much-desired`, `invalid-vehicle`", body = Problem, content_type = "application/problem+json"),
        (status = 428, description = "`missing-if-match`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`operator-rate-limited`; see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-failed`, `states-full`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn patch(
    State(api): State<Api>,
    Arrival(arrived): Arrival,
    caller: Caller,
    Path(vehicle): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    caller.require(Permission::Command(Class::Config), &vehicle)?;
    merge_content(request.headers())?;
    let condition = condition(request.headers())?;
    let edits = edits(json(&read(request, api.body_limits()).await?)?)?;
    let patched = api.hub().patch_state(arrived, (&vehicle, &caller.0.name), &condition, &edits).await;
    patched.map_err(|error| refusal(error, &vehicle))?;
    tracing::info!(%vehicle, operator = caller.0.name, paths = edits.len(), "desired state changed");
    answer(&api, &vehicle)
}

fn answer(api: &Api, vehicle: &VehicleId) -> Result<Response, Problem> {
    let glance = api.hub().vehicle_state(vehicle).ok_or_else(|| unknown_vehicle(vehicle))?;
    let mut response = Json(StateView::of(&glance, &api.wall())).into_response();
    let tag = HeaderValue::try_from(format!("\"{}\"", glance.view.version)).expect("digits fit a header");
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

/// RFC 7396's own media type, or plain JSON.
fn merge_content(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/merge-patch+json") { Ok(()) } else { json_content(headers) }
}

/// RFC 9110, 13.1.1: a list of strong entity tags, or `*`. A version that cannot be read matches none.
fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let mut lists = headers.get_all(IF_MATCH).iter().peekable();
    if lists.peek().is_none() {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "missing-if-match",
            "The request names no version",
            "send `If-Match` with the `ETag` of the state that you have seen, so that no change by somebody else is lost",
        ));
    }
    let mut versions = Vec::new();
    for tag in lists.flat_map(|list| list.to_str().unwrap_or_default().split(',')).map(str::trim) {
        if tag == "*" {
            return Ok(Condition::Any);
        }
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let is_tag = opaque.len() >= 2 && opaque.starts_with('"') && opaque.ends_with('"');
        if !is_tag {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-if-match",
                "The version cannot be read",
                "`If-Match` must be `*` or entity tags in quotes, such as `\"7\"`",
            ));
        }
        // Weak tags never match here.
        versions.extend(tag.trim_matches('"').parse::<u64>().ok());
    }
    Ok(Condition::Versions(versions))
}

/// A body's paths in order, each once.
struct Body(BTreeMap<String, JsonAny>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Paths;
        impl<'de> Visitor<'de> for Paths {
            type Value = Body;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose names are paths")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                let mut paths = BTreeMap::new();
                while let Some((path, value)) = map.next_entry::<String, JsonAny>()? {
                    if paths.contains_key(&path) {
                        let path: String = path.chars().take(SignalPath::MAX).collect();
                        return Err(A::Error::custom(format!("`{path}` stands there twice")));
                    }
                    paths.insert(path, value);
                }
                Ok(Body(paths))
            }
        }
        deserializer.deserialize_map(Paths)
    }
}

fn edits(Body(paths): Body) -> Result<BTreeMap<SignalPath, Edit>, Problem> {
    let edit = |(path, wish): (String, JsonAny)| {
        let path: SignalPath =
            path.parse().map_err(|error| Problem::invalid("invalid-path", format!("{error}")))?;
        let edit = edit(wish)
            .map_err(|problem| Problem { detail: format!("`{path}`: {}", problem.detail), ..problem })?;
        Ok((path, edit))
    };
    paths.into_iter().map(edit).collect()
}

fn edit(wish: JsonAny) -> Result<Edit, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bounded {
        value: JsonAny,
        valid_for_ms: Option<JsonAny>,
    }
    match wish {
        JsonAny::Null => Ok(Edit::Remove),
        JsonAny::Object(_) => {
            let bounded: Bounded = serde_json::from_value(wish)
                .map_err(|error| Problem::invalid("invalid-field", error.to_string()))?;
            let valid_for = bounded.valid_for_ms.as_ref().map(validity).transpose()?;
            Ok(Edit::Set { value: value(bounded.value)?, valid_for })
        }
        JsonAny::Bool(_) | JsonAny::Number(_) | JsonAny::String(_) | JsonAny::Array(_) => {
            Ok(Edit::Set { value: value(wish)?, valid_for: None })
        }
    }
}

fn validity(millis: &JsonAny) -> Result<Duration, Problem> {
    let duration = millis.as_u64().map(Duration::from_millis);
    duration.filter(|duration| !duration.is_zero() && *duration <= LONGEST).ok_or_else(|| {
        let detail = format!("`valid_for_ms` must be 1 to {}, or absent for no end", LONGEST.as_millis());
        Problem::invalid("invalid-validity", detail)
    })
}

fn refusal(error: StateError, vehicle: &VehicleId) -> Problem {
    let changed = |detail: String| {
        let title = "The state is not the one you have seen";
        Problem::new(StatusCode::PRECONDITION_FAILED, "state-changed", title, detail)
    };
    match error {
        StateError::UnknownVehicle => unknown_vehicle(vehicle),
        StateError::TooLate => too_late(),
        StateError::Rate(wait) => operator_rate(wait),
        StateError::NotKept => Problem::unavailable(
            "store-failed",
            "the change could not be written to the gateway's disk and is taken back: it holds only if the gateway itself fails before its disk works again; look at the state before you repeat it",
            Duration::from_secs(1),
        ),
        StateError::Refused(PatchRefusal::Precondition { version }) => changed(format!(
            "its version is {version} now; look at it again and repeat the change if it still makes sense"
        )),
        StateError::Refused(PatchRefusal::Busy) => {
            changed("somebody else's change is just being written; look at the state again".into())
        }
        StateError::Refused(PatchRefusal::TooManyPaths) => {
            Problem::invalid("too-many-paths", "at most 128 paths can be desired of one vehicle")
        }
        StateError::Refused(PatchRefusal::TooLarge) => {
            Problem::invalid("too-much-desired", "at most 48 KiB can be desired of one vehicle in all")
        }
        StateError::Refused(PatchRefusal::Full) => Problem::unavailable(
            "states-full",
            "this gateway keeps as many vehicles' states as it may",
            Duration::from_mins(1),
        ),
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::Value;

    use super::*;

    fn read(body: &str) -> Result<BTreeMap<SignalPath, Edit>, Problem> {
        edits(json(body.as_bytes())?)
    }

    #[test]
    fn a_patch_sets_bounds_and_removes() {
        let edits = read(r#"{"A.B": 1, "C": {"value": true, "valid_for_ms": 50}, "D": null}"#).unwrap();
        let of = |path: &str| edits[&path.parse().unwrap()].clone();
        assert_eq!(of("A.B"), Edit::Set { value: Value::Int(1), valid_for: None });
        let valid_for = Some(Duration::from_millis(50));
        assert_eq!(of("C"), Edit::Set { value: Value::Bool(true), valid_for });
        assert_eq!(of("D"), Edit::Remove);
    }

    #[test]
    fn every_refusal_names_the_path() {
        for (body, slug) in [
            (r#"{"A..B": 1}"#, "invalid-path"),
            (r#"{"A.B": 1, "A.B": 2}"#, "invalid-field"),
            (r#"{"A.B": [1]}"#, "invalid-value"),
            (r#"{"A.B": {"value": null}}"#, "invalid-value"),
            (r#"{"A.B": {"valid_for_ms": 1}}"#, "invalid-field"),
            (r#"{"A.B": {"value": 1, "ttl": 1}}"#, "invalid-field"),
            (r#"{"A.B": {"value": 1, "valid_for_ms": 0}}"#, "invalid-validity"),
            (r#"{"A.B": {"value": 1, "valid_for_ms": 604800001}}"#, "invalid-validity"),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!(problem.slug, slug, "{body}");
            assert!(problem.detail.contains("A.B") || problem.detail.contains("A..B"), "{}", problem.detail);
        }
        assert_eq!(read("[]").unwrap_err().slug, "invalid-field");
        assert_eq!(read("{").unwrap_err().slug, "invalid-json");
    }

    #[test]
    fn the_version_is_asked_for_and_read_strictly() {
        let with = |value| condition(&HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(value))]));
        assert_eq!(with("\"7\""), Ok(Condition::Versions(vec![7])));
        assert_eq!(with("\"7\", \"9\""), Ok(Condition::Versions(vec![7, 9])));
        assert_eq!(with("*"), Ok(Condition::Any));
        assert_eq!(with("W/\"7\""), Ok(Condition::Versions(vec![])), "weak tags match nothing");
        assert_eq!(with("\"x\""), Ok(Condition::Versions(vec![])));
        assert_eq!(with("7").unwrap_err().slug, "invalid-if-match");
        assert_eq!(condition(&HeaderMap::new()).unwrap_err().status, StatusCode::PRECONDITION_REQUIRED);
    }
}
