//! The control socket: an operator steers a vehicle over a WebSocket.
//!
//! Binary messages are the link's own frames. The gateway begins with a `Welcome` that holds its clock
//! and boot; the operator sends `Control`, stamped by a floor under the gateway's clock, and
//! `Heartbeat`, which the gateway answers at once, so that the floor stays close. Text messages, from
//! the gateway only, are [`ControlReport`]s. The lease is another matter: the socket neither takes nor
//! ends it, but passes on nothing without it.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use carriageway_proto::frame::{Echo, Heartbeat, Welcome};
use carriageway_proto::{
    CloseCode, ControlFrame, Epoch, Frame, MAX_FRAME, Moment, SessionId, VERSION, VehicleId,
};
use carriageway_transport::websocket;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Api;
use super::caller::{Upgrader, vehicle_id};
use super::commands::unknown_vehicle;
use super::problem::Problem;
use super::types::{ControlReport, DriveView};
use crate::auth::{Operator, Permission};
use crate::core::control::Tally;
use crate::listeners::http::{Peer, Stream};
use crate::listeners::no_websocket;

/// Control sockets at once: more operators than drive at one gateway, and each costs a buffer.
pub const MAX_SEATS: usize = 256;

/// Bytes read from the socket at once: a dozen control frames.
const READ_BUFFER: usize = 4 * 1024;

/// Bytes that may wait to be written to an operator who reads slowly.
const WRITE_BUFFER: usize = 512 * 1024;

/// A socket that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// A report goes out this often when nothing changes, and the socket's ends are looked at.
const REPORT: Duration = Duration::from_secs(1);

/// Least time between two reports, whatever the vehicle says.
const PACE: Duration = Duration::from_millis(50);

/// How long a close waits for the operator's answer.
const CLOSE: Duration = Duration::from_secs(1);

/// Every limit of an operator's WebSocket, set explicitly.
pub fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

/// Steers a vehicle: a WebSocket of the subprotocol `carriageway.v1`.
///
/// Send `Control` and `Heartbeat` envelopes as binary messages; the gateway sends `Welcome`, then
/// `Heartbeat`s, and reports as text (`ControlReport`) at every change and every second. Control is
/// passed on while you hold the lease that it names and the vehicle knows whose that is, at most 250 ms after it was taken and at most 200
/// times a second; the rest is dropped and counted in the report. Where no `Authorization` can be sent,
/// as from a browser, offer the subprotocol `carriageway.bearer.<token>` beside `carriageway.v1`. The
/// end of the socket does not end the lease. It needs the scope `drive`.
#[utoipa::path(
    get,
    path = "/v1/vehicles/{id}/control",
    tag = "drive",
    params(("id" = String, Path, description = "The vehicle")),
    responses(
        (status = 101, description = "The socket is open; its text messages look like this", body = ControlReport),
        (status = 400, description = "`not-a-websocket`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthorized`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`vehicle-unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "`not-a-websocket`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too-many-sockets`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    State(api): State<Api>,
    Upgrader(caller): Upgrader,
    Extension(peer): Extension<Peer>,
    Path(vehicle): Path<String>,
    mut request: Request,
) -> Result<Response, Response> {
    let vehicle = vehicle_id(&vehicle).map_err(IntoResponse::into_response)?;
    caller.require(Permission::Drive, &vehicle).map_err(IntoResponse::into_response)?;
    if api.hub().drive(&vehicle).is_none() {
        return Err(unknown_vehicle(&vehicle).into_response());
    }
    let headers = websocket::accept_headers(request.headers()).map_err(no_websocket)?;
    let permit = api.seat_permit().ok_or_else(|| {
        let detail = "too many control sockets are open";
        Problem::unavailable("too-many-sockets", detail, Duration::from_secs(5)).into_response()
    })?;
    let seat = Seat::new(api, vehicle, caller.0, permit);
    peer.upgrade(&mut request, Box::new(move |stream| Box::pin(seat.serve(stream))));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// One operator at one vehicle's controls.
struct Seat {
    api: Api,
    vehicle: VehicleId,
    operator: Operator,
    tally: Tally,
    /// Of our heartbeats.
    sequence: u64,
    heard: Moment,
    /// When the last report went out, and what it was made of.
    reported: (Moment, u64),
    _permit: OwnedSemaphorePermit,
}

/// Why a socket ends: what its peer is told, if it is still there.
type Ending = Option<(CloseCode, &'static str)>;

type Socket = WebSocketStream<Stream>;

impl Seat {
    fn new(api: Api, vehicle: VehicleId, operator: Operator, permit: OwnedSemaphorePermit) -> Self {
        let now = api.hub().clock().now();
        let (tally, reported) = (Tally::new(now), (Moment::ZERO, 0));
        Self { api, vehicle, operator, tally, sequence: 0, heard: now, reported, _permit: permit }
    }

    async fn serve(mut self, stream: Stream) {
        let gauge = Gauge::new(self.api.clone());
        tracing::info!(vehicle = %self.vehicle, operator = self.operator.name, "control socket opened");
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await;
        let ending = self.talk(&mut socket).await.unwrap_or_else(|error| ending_of(&error));
        tracing::info!(vehicle = %self.vehicle, operator = self.operator.name, ?ending, "control socket ended");
        if let Some((code, reason)) = ending {
            let code = WireCode::from(u16::try_from(code.number()).unwrap_or(4_999));
            let goodbye = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let farewell = async {
                if socket.send(goodbye).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            };
            // Whoever does not answer is not waited for.
            let _answered = timeout(CLOSE, farewell).await;
        }
        drop(gauge);
    }

    async fn talk(&mut self, socket: &mut Socket) -> Result<Ending, Error> {
        let (clock, mut driving) = (self.api.hub().clock().clone(), self.api.hub().driving());
        let mut closing = self.api.closing();
        socket.send(self.welcome()).await?;
        loop {
            let now = clock.now();
            if let Some(ending) = self.over(now) {
                return Ok(Some(ending));
            }
            let (told_at, told) = self.reported;
            let has_news = self.api.hub().drive_version(&self.vehicle) != told;
            let report_at = told_at + if has_news { PACE } else { REPORT };
            if now >= report_at {
                let report = self.report(now);
                socket.send(report).await?;
                continue;
            }
            tokio::select! {
                message = socket.next() => {
                    let Some(message) = message else { return Ok(None) };
                    match self.take_in(message?) {
                        Heard::Nothing => {}
                        Heard::Answer(answer) => socket.send(answer).await?,
                        Heard::End(ending) => return Ok(ending),
                    }
                }
                Ok(()) = driving.changed() => {}
                () = clock.sleep_until(report_at) => {}
                () = closing.wait() => {}
            }
        }
    }

    /// Why this socket is to end now.
    fn over(&self, now: Moment) -> Option<(CloseCode, &'static str)> {
        if self.api.closing().is_closed() {
            return Some((CloseCode::Restarting, "the gateway restarts"));
        }
        if self.api.wall().unix() >= self.operator.expires_unix {
            return Some((CloseCode::Unauthorized, "the token has ended"));
        }
        (now.since(self.heard) > IDLE).then_some((CloseCode::Dead, "nothing was heard for 30 s"))
    }

    fn welcome(&self) -> Message {
        let hub = self.api.hub();
        let stamp = hub.clock().stamp();
        let (session, epoch) = (SessionId::from_bytes(hub.fresh_id()), Epoch::NONE);
        let (version, received) = (VERSION, Vec::new());
        let welcome = Welcome { version, session, epoch, resumed: false, received, stamp };
        Message::Binary(Frame::Welcome(welcome).encode(stamp.clock))
    }

    fn report(&mut self, now: Moment) -> Message {
        let hub = self.api.hub();
        let version = hub.drive_version(&self.vehicle);
        self.reported = (now, version);
        let link = hub.link(&self.vehicle);
        let carrier = link.as_ref().and_then(|link| link.connections().find(|one| one.carries_lanes));
        let text = hub.drive(&self.vehicle).map(|glance| {
            let drive = DriveView::of(&glance, &self.api.wall());
            let report = ControlReport::of(drive, carrier.and_then(|one| one.rtt_ms), &self.tally);
            serde_json::to_string(&report).expect("strings and finite numbers are always JSON")
        });
        // A vehicle that was forgotten meanwhile has nothing to be reported.
        Message::Text(text.unwrap_or_else(|| "{}".into()).into())
    }

    fn take_in(&mut self, message: Message) -> Heard {
        self.heard = self.api.hub().clock().now();
        match message {
            Message::Binary(bytes) => self.frame(bytes),
            Message::Text(_) => violation("text is for the gateway to send"),
            Message::Close(_) => Heard::End(None),
            // tungstenite answers pings while it is read from.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Heard::Nothing,
        }
    }

    fn frame(&mut self, bytes: Bytes) -> Heard {
        let now = self.heard;
        let Ok((_, frame)) = Frame::decode(bytes) else { return violation("a message that is no frame") };
        let within = self.tally.admit(now);
        match frame {
            Frame::Control(frame) => {
                let fate = within.and_then(|()| self.control(frame));
                if let Err(why) = fate {
                    self.api.hub().metrics().dropped("control", why.name(), 1);
                }
                self.tally.count(fate);
                Heard::Nothing
            }
            Frame::Heartbeat(Heartbeat { sequence, .. }) if within.is_ok() => {
                self.sequence += 1;
                let echo = Some(Echo { sequence, held_us: 0 });
                let answer = Frame::Heartbeat(Heartbeat { sequence: self.sequence, echo });
                Heard::Answer(Message::Binary(answer.encode(self.api.hub().clock().now())))
            }
            Frame::Heartbeat(_) => {
                self.api.hub().metrics().dropped("control", "heartbeat", 1);
                Heard::Nothing
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Ack(_)
            | Frame::Open(_)
            | Frame::Lane { .. }
            | Frame::Gap { .. }
            | Frame::Signals(_)
            | Frame::Goodbye(_) => violation("operators send control and heartbeats only"),
        }
    }

    fn control(&self, frame: ControlFrame) -> Result<(), crate::core::control::Dropped> {
        self.api.hub().control(&self.vehicle, &self.operator.name, frame)
    }
}

/// What comes of a message.
enum Heard {
    Nothing,
    Answer(Message),
    End(Ending),
}

fn violation(why: &'static str) -> Heard {
    Heard::End(Some((CloseCode::ProtocolViolation, why)))
}

/// What a socket's failure is worth telling its peer.
fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Protocol(_) | Error::Utf8(_) => Some((CloseCode::ProtocolViolation, "not WebSocket")),
        Error::Capacity(_) => Some((CloseCode::ProtocolViolation, "a message beyond 64 KiB")),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_)
        | Error::Tls(_) => None,
    }
}

/// Counts open control sockets.
struct Gauge(Api);

impl Gauge {
    fn new(api: Api) -> Self {
        api.hub().metrics().control_sockets.inc();
        Self(api)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.hub().metrics().control_sockets.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_of_the_socket_is_set() {
        let limits = limits();
        assert_eq!((limits.read_buffer_size, limits.write_buffer_size), (4_096, 0));
        assert_eq!(limits.max_write_buffer_size, 524_288);
        assert_eq!((limits.max_message_size, limits.max_frame_size), (Some(65_536), Some(65_536)));
    }
}
