//! Commands over HTTP.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use carriageway_proto::{CommandKey, VehicleId};

use super::caller::{Caller, vehicle_id};
use super::lease::drive_state_unknown;
use super::problem::Problem;
use super::types::{CommandRequest, CommandView};
use super::{Api, Arrival, body};
use crate::auth::Permission;
use crate::core::commands::{self, Canceling, CommandId, Record, Refusal};
use crate::core::lease::NotDriving;
use crate::hub::{DISK_PATIENCE, Kept, Submission};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Longest that a request may wait for an outcome.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// Sends a command to a vehicle.
///
/// The same key with the same body is the same command: it is executed once and answered from its
/// record for at least ten minutes after its end. `Prefer: wait=10` waits up to so many seconds for
/// the outcome: 200 with it, else 202. A vehicle that is not connected answers 404 at once, and the
/// command is never executed; with `"on_offline": "queue"` the command waits for it instead. What was
/// accepted is on disk before the answer (`durable`), and outlives a restart of the gateway; an
/// emergency stop waits for no disk.
///
/// Of one target one command is in flight at a time, and one more is held; a newer one supersedes the
/// held one. So of many clicks the newest counts, and each is told why it ended as it did.
///
/// The ttl counts from when the gateway had read the request's head: time that the body takes comes
/// off it, and a command whose ttl is over before its body is here ends in EXPIRED, certainly not
/// executed. What the request spent before that is not known to the gateway: on the network, or
/// behind another request on the same connection. Do not pipeline commands, and choose the ttl
/// accordingly.
#[utoipa::path(
    post,
    path = "/v1/vehicles/{id}/commands",
    tag = "commands",
    params(
        ("id" = String, Path, description = "The vehicle"),
        ("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters; a new one for each new wish"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 60, for the outcome"),
    ),
    request_body = CommandRequest,
    responses(
        (status = 200, description = "The command has ended; see `phase`", body = CommandView),
        (status = 202, description = "On its way; `Location` names where to look", body = CommandView),
        (status = 400, description = "`missing-idempotency-key`, `invalid-json`, `body-broken-off`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-offline`, `vehicle-unknown`: certainly not executed, now or later", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-too-slow`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`key-conflict`: the key belongs to another command. `no-lease`: a drive command needs the lease; certainly not executed. `drive-state-unknown`: the vehicle has not said in its present session whose its newest grant is; certainly not executed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`, `invalid-class`, `invalid-path`, `invalid-value`, `invalid-ttl`, `invalid-on-offline`, `not-queueable`, `invalid-key`, `invalid-vehicle`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate-limited`, `operator-rate-limited`, `too-many-in-flight`, `queue-full`; see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`lane-full`, `records-full`, `draining`, `store-broken`; see `Retry-After`. `store-slow`: not known yet whether it is kept; repeat it with the same key. See `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn submit(
    State(api): State<Api>,
    Arrival(arrived): Arrival,
    caller: Caller,
    Path(vehicle): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    let key = key(request.headers())?;
    let wait = wait(request.headers());
    let body = body::command(request, api.body_limits()).await?;
    caller.require(Permission::Command(body.class), &vehicle)?;
    let request = commands::Request {
        vehicle,
        key,
        class: body.class,
        path: body.path,
        value: body.value,
        ttl: body.ttl,
        operator: caller.0.name,
        on_offline: body.on_offline,
        // The hub knows who holds the lease.
        drives: Err(NotDriving::NoLease),
    };
    let vehicle = request.vehicle.clone();
    let (id, replayed) = match api.hub().submit(arrived, request) {
        Submission::Accepted(id) => (id, false),
        Submission::Repeated(id) => (id, true),
        refused => return Err(refusal(&refused, &vehicle)),
    };
    match api.hub().kept(id).await {
        Kept::OnDisk | Kept::InMemory => {}
        Kept::Refused => return Err(taken_back(id)),
        Kept::Pending => return Err(pending(id)),
    }
    let record = outcome(&api, id, wait).await.ok_or_else(|| unknown(&id.to_string()))?;
    Ok(answer(&api, &record, wait, replayed))
}

/// What became of a command.
#[utoipa::path(
    get,
    path = "/v1/commands/{id}",
    tag = "commands",
    params(("id" = String, Path, description = "From `Location`, or a command's `id`")),
    responses(
        (status = 200, description = "The command with its timeline", body = CommandView),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`command-unknown`: never here, forgotten, or not for this token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<CommandView>, Problem> {
    let record = id.parse::<CommandId>().ok().and_then(|id| api.hub().command(id));
    let visible = record.filter(|record| {
        let (class, vehicle) = (record.request.class, &record.request.vehicle);
        caller.0.may(Permission::Observe, vehicle) || caller.0.may(Permission::Command(class), vehicle)
    });
    let record = visible.ok_or_else(|| unknown(&id))?;
    Ok(Json(CommandView::of(&record, &api.wall())))
}

/// Withdraws a command.
///
/// One that has not left is CANCELED at once (200). One that has is the vehicle's to decide (202): it
/// ends in CANCELED where it had not acted, else as it would have. `Prefer: wait=10` waits for that.
#[utoipa::path(
    delete,
    path = "/v1/vehicles/{id}/commands/{command}",
    tag = "commands",
    params(
        ("id" = String, Path, description = "The vehicle"),
        ("command" = String, Path, description = "The command's `id`"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 60, for the outcome"),
    ),
    responses(
        (status = 200, description = "The command has ended; see `phase`", body = CommandView),
        (status = 202, description = "The vehicle is asked", body = CommandView),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`command-unknown`: never here, forgotten, or of another vehicle", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`command-ended`: it had ended before. `stop-stays`: an emergency stop is not withdrawn", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Path((vehicle, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let vehicle = vehicle_id(&vehicle)?;
    let record = id.parse::<CommandId>().ok().and_then(|id| api.hub().command(id));
    let record = record.filter(|record| record.request.vehicle == vehicle && !record.is_pending());
    let Some(record) = record else {
        caller.require(Permission::Observe, &vehicle)?;
        return Err(unknown(&id));
    };
    caller.require(Permission::Command(record.request.class), &vehicle)?;
    let asked = wait(&headers);
    let conflict =
        |slug, title, detail| Err(Problem::new(StatusCode::CONFLICT, slug, title, detail).about(&id));
    let patience = match api.hub().cancel(record.id) {
        Canceling::Asked => asked,
        // The disk takes milliseconds, or the answer says that it is not over yet.
        Canceling::Canceled | Canceling::Noted => Some(asked.unwrap_or(DISK_PATIENCE)),
        Canceling::Ended => {
            let record = outcome(&api, record.id, Some(DISK_PATIENCE)).await.unwrap_or(record);
            let detail = format!("it ended as {} before; see its timeline", record.phase());
            return conflict("command-ended", "The command has ended", detail);
        }
        Canceling::Stop => {
            let detail = "an emergency stop is not withdrawn; it is left by re-arming under a lease";
            return conflict("stop-stays", "The stop stays", detail.to_owned());
        }
        Canceling::Unknown => return Err(unknown(&id)),
    };
    let record = outcome(&api, record.id, patience).await.ok_or_else(|| unknown(&id))?;
    Ok(answer(&api, &record, asked, false))
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    let detail = format!(
        "no command {id:?} is on record that this token may see; records stay ten minutes after a command's end"
    );
    Problem::not_found("command-unknown", "There is no such command", detail)
}

/// The record once it is terminal, or as it is when the wait is over.
async fn outcome(api: &Api, id: CommandId, wait: Option<Duration>) -> Option<Record> {
    let Some(wait) = wait else { return api.hub().command(id) };
    let (_, mut changed) = api.hub().watch(id)?;
    let clock = api.hub().clock().clone();
    let deadline = clock.now() + wait;
    let mut closing = api.closing();
    loop {
        let record = api.hub().command(id)?;
        if record.phase().is_terminal() {
            return Some(record);
        }
        tokio::select! {
            change = changed.changed() => {
                if change.is_err() {
                    return api.hub().command(id);
                }
            }
            () = clock.sleep_until(deadline) => return api.hub().command(id),
            () = closing.wait() => return api.hub().command(id),
        }
    }
}

fn answer(api: &Api, record: &Record, wait: Option<Duration>, replayed: bool) -> Response {
    let status = if record.phase().is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, Json(CommandView::of(record, &api.wall()))).into_response();
    let headers = response.headers_mut();
    let value = |text: String| HeaderValue::try_from(text).expect("digits and letters fit a header");
    headers.insert(LOCATION, value(format!("/v1/commands/{}", record.id)));
    if let Some(wait) = wait {
        headers.insert(PREFERENCE_APPLIED, value(format!("wait={}", wait.as_secs())));
    }
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn pending(id: CommandId) -> Problem {
    let detail = "the gateway's disk is slow, and whether it keeps the command is not known yet; repeat the request with the same key to learn";
    Problem::unavailable("store-slow", detail, Duration::from_secs(2)).about(&id.to_string())
}

/// Nobody knows what a failed write left on the disk before the next one has gone well.
fn taken_back(id: CommandId) -> Problem {
    let detail = "the gateway's disk failed while it was to keep the command, which is taken back: it executes only if the gateway itself fails before its disk works again. Repeating the request with the same key is safe";
    Problem::unavailable("store-broken", detail, Duration::from_secs(5)).about(&id.to_string())
}

fn key(headers: &HeaderMap) -> Result<CommandKey, Problem> {
    let mut sent = headers.get_all(IDEMPOTENCY_KEY).iter();
    let header = sent.next().ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "missing-idempotency-key",
            "The request has no key",
            "send `Idempotency-Key: <1 to 128 visible characters>`, a new one for each new wish and the same one when you repeat it",
        )
    })?;
    if sent.next().is_some() {
        return Err(Problem::invalid("invalid-key", "send one Idempotency-Key, not several"));
    }
    let text = header.to_str().unwrap_or_default().trim();
    // The IETF draft writes the key as a quoted string, many clients without quotes.
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    bare.parse().map_err(|error| Problem::invalid("invalid-key", format!("an Idempotency-Key {error}")))
}

/// `wait` of RFC 7240, section 4.3; what cannot be read is not preferred.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|header| header.to_str().ok());
    let seconds = preferences
        .flat_map(|header| header.split([',', ';']))
        .filter_map(|preference| preference.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

fn refusal(refused: &Submission, vehicle: &VehicleId) -> Problem {
    let soon = Duration::from_secs(1);
    match refused {
        Submission::Refused(refusal) => command_refusal(*refusal, vehicle),
        Submission::UnknownVehicle => unknown_vehicle(vehicle),
        Submission::LaneFull => Problem::unavailable(
            "lane-full",
            format!("too much of this class waits for {vehicle}; certainly not executed"),
            soon,
        ),
        Submission::Draining => Problem::unavailable(
            "draining",
            "this gateway is on its way out; try again, elsewhere or later; certainly not executed",
            soon,
        ),
        Submission::Accepted(_) | Submission::Repeated(_) => unreachable!("no refusal"),
    }
}

/// A vehicle that has never been here.
pub(super) fn unknown_vehicle(vehicle: &VehicleId) -> Problem {
    let detail = format!("no vehicle {vehicle} has connected to this gateway");
    Problem::not_found("vehicle-unknown", "There is no such vehicle", detail)
}

/// An operator who asks more often than `commands.operator_rate` allows.
pub(super) fn operator_rate(wait: Duration) -> Problem {
    let detail = "you send too many commands, wishes for leases and changes of state; this one was not sent";
    let status = StatusCode::TOO_MANY_REQUESTS;
    Problem::new(status, "operator-rate-limited", "Too many commands", detail).retry_after(wait)
}

fn command_refusal(refusal: Refusal, vehicle: &VehicleId) -> Problem {
    let too_many = |slug, detail: String, wait| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, slug, "Too many commands", detail).retry_after(wait)
    };
    match refusal {
        Refusal::Offline => Problem::not_found(
            "vehicle-offline",
            "The vehicle is not connected",
            format!("{vehicle} has no connection now; the command will not be executed, now or later"),
        ),
        Refusal::KeyConflict(other) => Problem::new(
            StatusCode::CONFLICT,
            "key-conflict",
            "The key belongs to another command",
            "this Idempotency-Key was used for this vehicle with another class, path, value or ttl_ms; take a new key for a new wish",
        )
        .about(&other.to_string()),
        Refusal::NoCommandClass => Problem::invalid("invalid-class", "commands of this class cannot be sent"),
        Refusal::Ttl { longest } => Problem::invalid(
            "invalid-ttl",
            format!("`ttl_ms` must be 1 to {} for this class", longest.as_millis()),
        ),
        Refusal::TtlMissing => {
            Problem::invalid("invalid-ttl", "this class has no ttl of its own: send `ttl_ms`")
        }
        Refusal::RateLimited(wait) => {
            let detail = format!("too many commands of this class for {vehicle}; none was sent");
            too_many("rate-limited", detail, wait)
        }
        Refusal::OperatorRate(wait) => operator_rate(wait),
        Refusal::NoLease => Problem::new(
            StatusCode::CONFLICT,
            "no-lease",
            "The lease is not held",
            format!("a drive command needs the lease of {vehicle}; take it first; certainly not executed"),
        ),
        Refusal::DriveStateUnknown => drive_state_unknown(vehicle, "; certainly not executed"),
        Refusal::NotQueueable => Problem::invalid(
            "not-queueable",
            "commands of this class are never kept for later; send it without `on_offline` while the vehicle is connected",
        ),
        Refusal::QueueFull { limit } => {
            let detail = format!("{limit} commands of this class wait for {vehicle}; certainly not executed");
            too_many("queue-full", detail, Duration::from_secs(10))
        }
        Refusal::DiskBroken => Problem::unavailable(
            "store-broken",
            "the gateway's disk takes nothing just now, so the command cannot wait for the vehicle; certainly not executed",
            Duration::from_secs(5),
        ),
        Refusal::InFlight { limit } => {
            let detail =
                format!("{limit} commands of this class are under way to {vehicle}; wait for an outcome");
            too_many("too-many-in-flight", detail, Duration::from_secs(1))
        }
        Refusal::Full => Problem::unavailable(
            "records-full",
            "no room for another command's record; certainly not executed",
            Duration::from_secs(10),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_preference_to_wait_is_found_and_bounded() {
        let waits = |value| wait(&headers(PREFER, value)).map(|wait| wait.as_secs());
        assert_eq!(waits("wait=5"), Some(5));
        assert_eq!(waits("respond-async, Wait = \"7\""), Some(7));
        assert_eq!(waits("wait=86400"), Some(60));
        assert_eq!(waits("wait=soon"), None);
        assert_eq!(wait(&HeaderMap::new()), None);
    }

    #[test]
    fn a_key_comes_with_or_without_quotes_but_comes() {
        let read = |value| key(&headers(IDEMPOTENCY_KEY, value)).map(|key| key.to_string());
        assert_eq!(read("\"a-1\"").unwrap(), "a-1");
        assert_eq!(read("a-1").unwrap(), "a-1");
        assert_eq!(read("").unwrap_err().slug, "invalid-key");
        assert_eq!(key(&HeaderMap::new()).unwrap_err().slug, "missing-idempotency-key");
    }
}
