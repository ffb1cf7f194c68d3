//! Events over HTTP, as server-sent events.
//!
//! A stream reads from the hub's ring at its own pace, and only when its connection takes more. It
//! holds no more than one batch; one that falls behind the ring is told by a `reset`. Signals are not
//! in the ring: a stream fetches, at most five times a second, what changed since it last looked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use carriageway_proto::{Moment, VehicleId};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Api;
use super::caller::{Caller, vehicle_id};
use super::problem::Problem;
use super::types::{
    CommandView, DrainEvent, DriveEvent, EventData, LeaseEvent, SignalList, StateEvent, millis,
};
use super::wall::Wall;
use crate::auth::{Operator, Permission};
use crate::closing::Closing;
use crate::core::ring::{Entry, EventId, Read};
use crate::hub::{Event, SessionChange};

/// Least time between two looks at the signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);

/// Events fetched at once.
const BATCH: usize = 64;

/// A comment is sent after this much silence, so that whoever is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a stream is to hold.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Only these vehicles, as a list with commas. Absent: all that the token may observe.
    vehicle: Option<String>,
    /// Only events of these names, as a list with commas: `presence`, `session`, `link`, `command`,
    /// `lease`, `drive`, `drain`, `state`, `signals`.
    events: Option<String>,
    /// For clients that cannot send the `Last-Event-ID` header.
    last_event_id: Option<String>,
}

/// What happens, as it happens: `presence`, `session`, `link`, `command`, `lease`, `drive`, `drain`, `state`,
/// `signals`.
///
/// A new stream begins with `vehicles`, the fleet as it is. Each event has an id; a client that comes
/// back with `Last-Event-ID` gets what it missed, or, where that is too long ago or its connection was
/// too slow, a `reset` and then `vehicles` again. Signals are the newest values, at most five times a
/// second per vehicle. The stream ends with its token.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event received")),
    responses(
        (status = 200, description = "A stream without end", body = EventData, content_type = "text/event-stream"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-query`, `invalid-vehicle`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too-many-streams`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::invalid("invalid-query", error.body_text()))?;
    let filter = Filter::read(&wanted)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok().map(str::to_owned));
    let permit = api.stream_permit().ok_or_else(|| {
        Problem::unavailable("too-many-streams", "too many event streams are open", Duration::from_secs(5))
    })?;
    let start =
        last.or(wanted.last_event_id).map_or(Start::Fresh, |id| id.parse().map_or(Start::Lost, Start::After));
    let stream = Stream::new(api, caller.0, filter, start, permit);
    let events = futures_util::stream::unfold(stream, |mut stream| async move {
        stream.next().await.map(|event| (Ok::<_, Infallible>(event), stream))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

#[derive(Debug, Default)]
struct Filter {
    vehicles: Option<BTreeSet<VehicleId>>,
    names: Option<BTreeSet<&'static str>>,
}

const NAMES: [&str; 9] =
    ["presence", "session", "link", "command", "lease", "drive", "drain", "state", "signals"];

impl Filter {
    fn read(wanted: &Wanted) -> Result<Self, Problem> {
        let list = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
        let vehicles =
            wanted.vehicle.as_deref().map(|text| list(text).iter().map(|id| vehicle_id(id)).collect());
        let name = |name: String| {
            NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
                Problem::invalid(
                    "invalid-query",
                    format!("no event is named {name:?}; there are {}", NAMES.join(", ")),
                )
            })
        };
        let names = wanted.events.as_deref().map(|text| list(text).into_iter().map(name).collect());
        Ok(Self { vehicles: vehicles.transpose()?, names: names.transpose()? })
    }

    fn vehicle(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.as_ref().is_none_or(|vehicles| vehicles.contains(vehicle))
    }

    fn name(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

/// Where a stream begins.
#[derive(Clone, Copy)]
enum Start {
    /// With the fleet as it is.
    Fresh,
    /// Behind the last event that the client has.
    After(EventId),
    /// The client's last event is none of this gateway's, which is as good as too long ago.
    Lost,
}

struct Stream {
    api: Api,
    operator: Operator,
    filter: Filter,
    place: EventId,
    newest: watch::Receiver<EventId>,
    closing: Closing,
    /// Per vehicle, the version of its signals that was sent.
    seen: BTreeMap<VehicleId, u64>,
    signals_at: Moment,
    queue: VecDeque<sse::Event>,
    _permit: OwnedSemaphorePermit,
    _gauge: Gauge,
}

/// Counts open streams.
struct Gauge(Api);

impl Gauge {
    fn new(api: Api) -> Self {
        api.hub().metrics().event_streams.inc();
        Self(api)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.hub().metrics().event_streams.dec();
    }
}

impl Stream {
    fn new(api: Api, operator: Operator, filter: Filter, start: Start, permit: OwnedSemaphorePermit) -> Self {
        let newest = api.hub().newest();
        let now_at = *newest.borrow();
        let mut stream = Self {
            place: now_at,
            closing: api.closing(),
            seen: BTreeMap::new(),
            signals_at: Moment::ZERO,
            queue: VecDeque::new(),
            _permit: permit,
            _gauge: Gauge::new(api.clone()),
            newest,
            api,
            operator,
            filter,
        };
        match start {
            Start::Fresh => stream.begin(),
            Start::Lost => stream.reset("the last event's id is none of this gateway's"),
            Start::After(place) => stream.place = place,
        }
        stream
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            let wall = self.api.wall();
            if self.closing.is_closed() || wall.unix() >= self.operator.expires_unix {
                return None;
            }
            self.newest.mark_unchanged();
            self.fill(&wall);
            if self.queue.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let clock = self.api.hub().clock().clone();
        tokio::select! {
            _ = self.newest.changed() => {}
            () = self.closing.wait() => {}
            () = clock.sleep_until(self.signals_at) => {}
        }
    }

    fn fill(&mut self, wall: &Wall) {
        let (filter, operator) = (&self.filter, &self.operator);
        let wanted = |event: &Event| {
            let vehicle = event.vehicle();
            filter.name(name_of(event))
                && filter.vehicle(vehicle)
                && operator.may(Permission::Observe, vehicle)
        };
        match self.api.hub().events(self.place, BATCH, wanted) {
            Read::Events(entries, place) => {
                for entry in entries {
                    let (id, name) = (entry.id, name_of(&entry.event));
                    self.push(id, name, data_of(entry, wall));
                }
                self.place = place;
            }
            Read::Reset(place) => {
                self.place = place;
                self.reset(
                    "events were missed: the last one is too long ago, or the connection was too slow",
                );
            }
        }
        if wall.now() >= self.signals_at {
            self.signals_at = wall.now() + SIGNAL_INTERVAL;
            self.fetch_signals(wall);
        }
    }

    fn fetch_signals(&mut self, wall: &Wall) {
        if !self.filter.name("signals") {
            return;
        }
        let (filter, operator) = (&self.filter, &self.operator);
        let is_visible =
            |vehicle: &VehicleId| filter.vehicle(vehicle) && operator.may(Permission::Observe, vehicle);
        let versions = self.api.hub().versions(is_visible);
        self.seen.retain(|vehicle, _| versions.binary_search_by(|(known, _)| known.cmp(vehicle)).is_ok());
        for (vehicle, version) in versions {
            let seen = self.seen.get(&vehicle).copied().unwrap_or(0);
            if version == seen {
                continue;
            }
            let Some((shown, version)) = self.api.hub().signals(&vehicle, seen) else { continue };
            let list = SignalList::of(vehicle.as_str(), shown, wall);
            self.seen.insert(vehicle, version);
            self.push(self.place, "signals", EventData::Signals(list));
        }
    }

    fn begin(&mut self) {
        let vehicles = super::vehicles::visible(&self.api, &self.operator);
        self.push(self.place, "vehicles", EventData::Vehicles(vehicles));
    }

    fn reset(&mut self, detail: &'static str) {
        self.api.hub().metrics().dropped("events", "reset", 1);
        self.seen.clear();
        self.push(self.place, "reset", EventData::Reset { detail });
        self.begin();
    }

    fn push(&mut self, id: EventId, name: &'static str, data: EventData) {
        let event = sse::Event::default().id(id.to_string()).event(name);
        self.queue.push_back(event.json_data(data).expect("strings and finite numbers are always JSON"));
    }
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Presence { .. } => "presence",
        Event::Session { .. } => "session",
        Event::Link { .. } => "link",
        Event::Command(_) => "command",
        Event::Lease(_) => "lease",
        Event::Drive { .. } => "drive",
        Event::Drain { .. } => "drain",
        Event::State { .. } => "state",
    }
}

fn data_of(entry: Entry<Event>, wall: &Wall) -> EventData {
    let at = wall.date(entry.at);
    match entry.event {
        Event::Presence { vehicle, presence } => {
            EventData::Presence { vehicle: vehicle.to_string(), presence: presence.name(), at }
        }
        Event::Session { vehicle, session, epoch, change } => {
            let (change, detail) = match change {
                SessionChange::Opened => ("opened", String::new()),
                SessionChange::Resumed => ("resumed", String::new()),
                SessionChange::Ended(why) => ("ended", why),
            };
            let (vehicle, session) = (vehicle.to_string(), session.to_string());
            EventData::Session { vehicle, session, epoch: epoch.number(), change, detail, at }
        }
        Event::Link { vehicle, transport, why } => {
            EventData::Link { vehicle: vehicle.to_string(), transport: transport.name(), why, at }
        }
        Event::Command(record) => EventData::Command(Box::new(CommandView::of(&record, wall))),
        Event::Lease(audit) => EventData::Lease(LeaseEvent::of(&audit, at)),
        Event::Drive { vehicle, state } => {
            EventData::Drive(DriveEvent { vehicle: vehicle.to_string(), state: (&state).into(), at })
        }
        Event::Drain { vehicle, by } => {
            let ends_in_ms = millis(by.since(entry.at));
            EventData::Drain(DrainEvent { vehicle: vehicle.to_string(), ends_in_ms, at })
        }
        Event::State { vehicle, version, answered, is_in_sync: in_sync } => {
            EventData::State(StateEvent { vehicle: vehicle.to_string(), version, answered, in_sync, at })
        }
    }
}
