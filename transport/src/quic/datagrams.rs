//! Datagrams: one at a time waits in quinn, so that the newest value is picked as late as can be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::MAX_DATAGRAM;
use futures_util::{Stream, stream};
use quinn::{Connection, ConnectionError, SendDatagramError};
use tokio::time::{Sleep, sleep};

use super::watched::Watched;

/// A packet wakes us within microseconds. Should a path change have replaced the controller that
/// wakes, this does.
const LATEST_LOOK: Duration = Duration::from_millis(20);

/// The sending half.
pub(super) struct Outgoing {
    state: State,
    /// Space of quinn's buffer when nothing waits in it.
    empty: usize,
    look: Pin<Box<Sleep>>,
    /// Datagrams that no longer fitted the path.
    pub(super) dropped: u64,
}

enum State {
    /// Room has been announced.
    Free,
    /// A datagram was handed to quinn, or nothing was yet.
    Waiting,
    /// The connection is over, or the peer takes none.
    Shut,
}

impl Outgoing {
    /// Must be made before any datagram was sent, within a tokio runtime.
    pub(super) fn new(connection: &Connection) -> Self {
        let state = if connection.max_datagram_size().is_some() { State::Waiting } else { State::Shut };
        Self {
            state,
            empty: connection.datagram_send_buffer_space(),
            look: Box::pin(sleep(LATEST_LOOK)),
            dropped: 0,
        }
    }

    pub(super) fn start_send(&mut self, connection: &Connection, datagram: Bytes) {
        match connection.send_datagram(datagram) {
            Ok(()) => {
                self.state = State::Waiting;
                self.look.set(sleep(LATEST_LOOK));
            }
            Err(SendDatagramError::TooLarge) => {
                self.state = State::Waiting;
                self.dropped += 1;
            }
            Err(
                SendDatagramError::ConnectionLost(_)
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled,
            ) => self.state = State::Shut,
        }
    }

    /// Ready once for each datagram that has left quinn.
    pub(super) fn poll_room(&mut self, connection: &Connection, context: &mut Context<'_>) -> Poll<()> {
        let State::Waiting = self.state else { return Poll::Pending };
        while connection.datagram_send_buffer_space() < self.empty {
            if let Some(waiter) = Watched::waiter(connection) {
                waiter.register(context.waker());
            }
            // It may have left between the look and the registration.
            if connection.datagram_send_buffer_space() >= self.empty {
                break;
            }
            ready!(self.look.as_mut().poll(context));
            self.look.set(sleep(LATEST_LOOK));
        }
        self.state = State::Free;
        Poll::Ready(())
    }
}

/// The receiving half.
pub(super) struct Incoming {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, ConnectionError>> + Send>>,
    state: Inbox,
    /// Datagrams larger than any of ours.
    pub(super) dropped: u64,
}

enum Inbox {
    Open,
    Drained,
}

impl Incoming {
    pub(super) fn new(connection: &Connection) -> Self {
        let stream = stream::unfold(connection.clone(), |connection| async move {
            let datagram = connection.read_datagram().await;
            Some((datagram, connection))
        });
        Self { stream: Box::pin(stream), state: Inbox::Open, dropped: 0 }
    }

    /// The next datagram; pending for ever once the connection is over and all have been read.
    pub(super) fn poll_datagram(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            let Inbox::Open = self.state else { return Poll::Pending };
            match ready!(self.stream.as_mut().poll_next(context)) {
                Some(Ok(datagram)) if datagram.len() <= MAX_DATAGRAM => return Poll::Ready(datagram),
                Some(Ok(_)) => self.dropped += 1,
                Some(Err(_)) | None => self.state = Inbox::Drained,
            }
        }
    }
}
