//! A WebSocket connection of ours: one ordered stream for everything.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::CloseCode;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{self, Message};

use super::limits;
use crate::connection::Connection;
use crate::core::connection::{Capabilities, Channel, Ended, Event, Lanes, Measured, Transport};

/// How long a close waits for what was handed over to leave, and for the peer's answer.
const CLOSE: Duration = Duration::from_secs(1);

/// RFC 6455, 5.5.1: a control frame carries 125 bytes, two of which are the code.
const MAX_REASON: usize = 123;

/// One WebSocket connection, in either role, on any byte stream. After [`Connection::start_send`] and
/// [`Connection::close`] it must be polled, as after any wake.
pub struct WebSocketConnection<S> {
    stream: WebSocketStream<S>,
    remote: Option<SocketAddr>,
    outbox: Outbox,
    life: Life,
}

/// Where the one frame is that is sent at a time.
enum Outbox {
    /// Room has been announced.
    Free,
    /// On its way into the socket.
    Flushing,
    /// The socket takes no more.
    Broken(String),
}

enum Life {
    Open,
    /// A close frame was sent, or waits to be; the peer's answer is to come.
    Closing {
        deadline: Pin<Box<Sleep>>,
    },
    /// The peer closed; our answer is on its way.
    Left {
        ended: Ended,
        deadline: Pin<Box<Sleep>>,
    },
    /// The end has been announced.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> WebSocketConnection<S> {
    /// The accepting side, on a stream whose upgrade is complete. `remote` is for people.
    pub async fn accepted(stream: S, remote: Option<SocketAddr>) -> Self {
        Self::new(WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await, remote)
    }

    pub(super) fn new(stream: WebSocketStream<S>, remote: Option<SocketAddr>) -> Self {
        Self { stream, remote, outbox: Outbox::Flushing, life: Life::Open }
    }

    /// Ready once for each frame that the socket has taken whole.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Outbox::Flushing = self.outbox else { return Poll::Pending };
        match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
            Ok(()) => {
                self.outbox = Outbox::Free;
                Poll::Ready(())
            }
            Err(error) => {
                self.outbox = Outbox::Broken(describe(&error));
                Poll::Pending
            }
        }
    }

    fn send(&mut self, message: Message) {
        match Pin::new(&mut self.stream).start_send(message) {
            Ok(()) => self.outbox = Outbox::Flushing,
            Err(error) => self.outbox = Outbox::Broken(describe(&error)),
        }
    }

    fn send_close(&mut self, code: CloseCode, reason: &str) {
        // A number that a close frame cannot carry is one that no build of ours makes.
        let code = WireCode::from(u16::try_from(code.number()).unwrap_or(4_999));
        self.send(Message::Close(Some(CloseFrame { code, reason: cut(reason).into() })));
    }

    fn over(&mut self, ended: Ended) -> Event {
        self.life = Life::Over;
        Event::Ended(ended)
    }

    /// Ends a connection whose peer broke the protocol: tells it, as far as the socket takes it.
    fn violated(&mut self, why: &str, context: &mut Context<'_>) -> Event {
        self.send_close(CloseCode::ProtocolViolation, why);
        // One attempt: a peer that breaks the protocol is not waited for.
        let _flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.over(Ended::Failed(format!("the peer broke the protocol: {why}")))
    }

    /// The next frame or the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let message = match ready!(Pin::new(&mut self.stream).poll_next(context)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(self.failed(&error, context)),
                None => return Poll::Ready(self.lost("the connection is closed".into())),
            };
            match message {
                Message::Binary(frame) if frame.is_empty() => {
                    return Poll::Ready(self.violated("an empty message", context));
                }
                Message::Binary(frame) => return Poll::Ready(Event::Frame(Channel::Shared, frame)),
                Message::Text(_) => return Poll::Ready(self.violated("a text message", context)),
                Message::Close(frame) => {
                    if let Some(event) = self.closed(frame) {
                        return Poll::Ready(event);
                    }
                    return self.poll_left(context);
                }
                // tungstenite answers pings while it is read from.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The peer's close frame: its wish, or its answer to ours.
    fn closed(&mut self, frame: Option<CloseFrame>) -> Option<Event> {
        match self.life {
            Life::Open => {
                let ended = by_peer(frame);
                self.life = Life::Left { ended, deadline: Box::pin(sleep(CLOSE)) };
                None
            }
            Life::Closing { .. } | Life::Left { .. } | Life::Over => Some(self.over(Ended::ByUs)),
        }
    }

    /// The connection failed below.
    fn lost(&mut self, why: String) -> Event {
        match self.life {
            Life::Closing { .. } => self.over(Ended::ByUs),
            Life::Open | Life::Left { .. } | Life::Over => self.over(Ended::Failed(why)),
        }
    }

    fn failed(&mut self, error: &tungstenite::Error, context: &mut Context<'_>) -> Event {
        match error {
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                self.lost("the peer's TCP connection ended without a close".into())
            }
            tungstenite::Error::Protocol(_)
            | tungstenite::Error::Capacity(_)
            | tungstenite::Error::Utf8(_)
            | tungstenite::Error::AttackAttempt => self.violated(&error.to_string(), context),
            other => self.lost(describe(other)),
        }
    }

    /// Waits until our answer to the peer's close has left.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let Life::Left { ended, deadline } = &mut self.life else { return Poll::Pending };
        // Sent or failed: either way nothing more can be done.
        if Pin::new(&mut self.stream).poll_flush(context).is_pending() {
            ready!(deadline.as_mut().poll(context));
        }
        let ended = ended.clone();
        Poll::Ready(self.over(ended))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for WebSocketConnection<S> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transport: Transport::WebSocket,
            lanes: Lanes::Shared,
            datagram: None,
            migrates: false,
        }
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        match &mut self.life {
            Life::Over => return Poll::Pending,
            Life::Left { .. } => return self.poll_left(context),
            Life::Closing { deadline } => {
                if deadline.as_mut().poll(context).is_ready() {
                    return Poll::Ready(self.over(Ended::ByUs));
                }
                // Its room is not announced any more.
                let _moved = self.poll_room(context);
            }
            Life::Open => {
                if self.poll_room(context).is_ready() {
                    return Poll::Ready(Event::Room(Channel::Shared));
                }
            }
        }
        if let Poll::Ready(event) = self.poll_read(context) {
            return Poll::Ready(event);
        }
        // What had arrived has been read: a socket that cannot be written to is of no more use.
        match &self.outbox {
            Outbox::Broken(why) => {
                let why = why.clone();
                Poll::Ready(self.lost(why))
            }
            Outbox::Free | Outbox::Flushing => Poll::Pending,
        }
    }

    fn start_send(&mut self, channel: Channel, frame: Bytes) {
        debug_assert_eq!(channel, Channel::Shared, "the only channel there is");
        if let Life::Open = self.life {
            self.send(Message::Binary(frame));
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if let Life::Open = self.life {
            self.send_close(code, reason);
            self.life = Life::Closing { deadline: Box::pin(sleep(CLOSE)) };
        }
    }

    fn measured(&self) -> Measured {
        Measured::default()
    }
}

fn by_peer(frame: Option<CloseFrame>) -> Ended {
    // RFC 6455, 7.4.1: 1005 stands for a close frame without a code.
    let (code, reason) =
        frame.map_or((1_005, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
    Ended::ByPeer { code: CloseCode::from_number(u32::from(code)), reason }
}

fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => format!("the network failed: {error}"),
        other => other.to_string(),
    }
}

/// As much of `reason` as a close frame carries.
fn cut(reason: &str) -> String {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason[..end.unwrap_or(0)].into()
}
