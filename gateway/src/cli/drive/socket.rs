//! The operator's end of a control socket.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use bytes::Bytes;
use carriageway_proto::control::STATES;
use carriageway_proto::frame::Heartbeat;
use carriageway_proto::{ControlFrame, ControlState, Frame, Moment, SUBPROTOCOL, Stamp, Token};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::floor::Floor;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::place::Place;
use crate::api::control::limits;

/// Time for the connection and the gateway's first word.
const DEADLINE: Duration = Duration::from_secs(5);

/// A gateway that takes or says nothing for this long has been lost: it reports every second and answers two
/// heartbeats in each, and the lease has ended by then.
const SILENCE: Duration = Duration::from_secs(3);

type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// A control socket that is open.
pub struct Socket {
    stream: Stream,
    clock: BootClock,
    /// Since when something waits for the connection to take it.
    unsent: Option<Moment>,
    /// When the gateway last said anything.
    heard: Moment,
    floor: Floor,
    /// The last heartbeat sent, and when.
    beat: (u64, Moment),
    /// The control frame before, whose newest state goes along with the next.
    before: Option<(Token, ControlState)>,
}

/// Something that the gateway said.
#[derive(Debug)]
pub enum Word {
    /// How things stand: a `ControlReport`.
    Report(Json),
    /// A heartbeat came back after this long.
    RoundTrip(Duration),
    /// It has ended the socket for this reason, or has been lost.
    Over(String),
}

impl Socket {
    /// Opens the control socket of a vehicle.
    pub async fn open(place: &Place, clock: BootClock) -> Result<Self> {
        let dialed = timeout(DEADLINE, Self::dial(place, clock)).await;
        dialed.map_err(|_| anyhow!("{} did not answer within {DEADLINE:?}", place.authority))?
    }

    async fn dial(place: &Place, clock: BootClock) -> Result<Self> {
        let url = format!("wss://{}/v1/vehicles/{}/control", place.authority, place.vehicle);
        let mut request = url.into_client_request()?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", place.token)).context("the token is none")?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let opened = client_async_with_config(request, place.dial().await?, Some(limits())).await;
        let (mut stream, _) = opened.map_err(|error| refused(&error))?;
        let welcome = stream.next().await.ok_or_else(|| anyhow!("the gateway hung up"))??;
        let Message::Binary(bytes) = welcome else { bail!("the gateway's first word is no welcome") };
        let (_, Frame::Welcome(welcome)) = Frame::decode(bytes)? else {
            bail!("the gateway's first word is no welcome");
        };
        let now = clock.now();
        let floor = Floor::new(welcome.stamp, now);
        Ok(Self { stream, clock, unsent: None, heard: now, floor, beat: (0, now), before: None })
    }

    /// A floor under the gateway's clock now: what control that is taken now is stamped with.
    pub fn stamp(&self) -> Stamp {
        self.floor.at(self.clock.now())
    }

    /// Sends the newest controls, with the ones before, without delay. False where the connection has not taken
    /// what went before: newer ones are worth more than these by the time that it has.
    pub fn control(&mut self, token: Token, state: ControlState) -> Result<bool> {
        let before = self.before.replace((token, state)).filter(|(under, _)| *under == token);
        let states = std::iter::once(state).chain(before.map(|(_, state)| state)).take(STATES).collect();
        self.give(&Frame::Control(ControlFrame { token, stamp: self.stamp(), states }))
    }

    /// Asks for the gateway's clock, where the connection takes that now.
    pub fn heartbeat(&mut self) -> Result<bool> {
        let beat = (self.beat.0 + 1, self.clock.now());
        let is_sent = self.give(&Frame::Heartbeat(Heartbeat { sequence: beat.0, echo: None }))?;
        if is_sent {
            self.beat = beat;
        }
        Ok(is_sent)
    }

    /// Hands over a frame without waiting for room; what of it the connection does not take at once
    /// [`next`](Self::next) sends on.
    fn give(&mut self, frame: &Frame) -> Result<bool> {
        if self.unsent.is_some() {
            return Ok(false);
        }
        let now = self.clock.now();
        match self.stream.send(Message::Binary(frame.encode(now))).now_or_never() {
            Some(sent) => sent?,
            None => self.unsent = Some(now),
        }
        Ok(true)
    }

    /// Sends a frame and waits until the connection has taken it: for whoever has nothing else to do meanwhile.
    pub async fn send(&mut self, frame: &Frame) -> Result<()> {
        self.send_bytes(frame.encode(self.clock.now())).await
    }

    /// Sends a binary message, and waits likewise.
    pub async fn send_bytes(&mut self, bytes: Bytes) -> Result<()> {
        let sent = timeout(SILENCE, self.stream.send(Message::Binary(bytes))).await;
        Ok(sent.map_err(|_| anyhow!("{}", lost()))??)
    }

    /// What the gateway says next. Cancel safe.
    pub async fn next(&mut self) -> Result<Word> {
        loop {
            let lost_at = self.unsent.map_or(self.heard, |since| since.min(self.heard)) + SILENCE;
            if self.clock.now() >= lost_at {
                return Ok(Word::Over(lost()));
            }
            let Self { stream, unsent, clock, .. } = self;
            let message = tokio::select! {
                message = poll_fn(|context| talk(stream, unsent, context)) => message,
                () = clock.sleep_until(lost_at) => continue,
            };
            self.heard = self.clock.now();
            match message {
                None => return Ok(Word::Over("the connection ended".into())),
                Some(Ok(Message::Text(text))) => return Ok(Word::Report(serde_json::from_str(&text)?)),
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(round_trip) = self.heard(bytes)? {
                        return Ok(Word::RoundTrip(round_trip));
                    }
                }
                Some(Ok(Message::Close(why))) => {
                    let why = why.map_or_else(String::new, |why| why.reason.to_string());
                    return Ok(Word::Over(why));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Ok(Word::Over(error.to_string())),
            }
        }
    }

    fn heard(&mut self, bytes: Bytes) -> Result<Option<Duration>> {
        let (clock, frame) = Frame::decode(bytes)?;
        let now = self.clock.now();
        self.floor.observe(clock, now);
        let Frame::Heartbeat(Heartbeat { echo: Some(echo), .. }) = frame else { return Ok(None) };
        let (sequence, sent) = self.beat;
        Ok((echo.sequence == sequence).then(|| now.since(sent)))
    }
}

/// Sends on what waits, and reads.
fn talk(
    stream: &mut Stream,
    unsent: &mut Option<Moment>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Message, Error>>> {
    if unsent.is_some() {
        match stream.poll_flush_unpin(context) {
            Poll::Ready(Ok(())) => *unsent = None,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Pending => {}
        }
    }
    stream.poll_next_unpin(context)
}

fn lost() -> String {
    format!("it has taken or said nothing for {SILENCE:?}; the connection to it is lost")
}

/// What the gateway said instead of opening the socket.
fn refused(error: &Error) -> anyhow::Error {
    let Error::Http(response) = error else { return anyhow!("the control socket did not open: {error}") };
    let body = response.body().as_deref().unwrap_or_default();
    let problem: Json = serde_json::from_slice(body).unwrap_or_default();
    anyhow!("{}: {}", response.status(), problem["detail"].as_str().unwrap_or("the gateway refused"))
}
