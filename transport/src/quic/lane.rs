//! One lane's stream: whole frames in, whole frames out.

use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use carriageway_proto::framing::{BadLength, Splitter, prefix};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

/// Most bytes taken from quinn at once, so that one busy lane lets the others have their turn.
const READ: usize = 16 * 1024;

/// A bidirectional stream that carries one lane.
pub(super) struct Lane {
    send: SendStream,
    outbox: Outbox,
    receive: RecvStream,
    inbox: Inbox,
    splitter: Splitter,
}

/// Where the one frame is that a lane sends at a time.
enum Outbox {
    /// Room has been announced.
    Free,
    /// Prefix and frame, as far as quinn has not taken them.
    Writing([Bytes; 2]),
    /// The connection is over or the stream finished: nothing goes out any more.
    Shut,
}

enum Inbox {
    Open,
    /// The peer said it sends no more, or the connection is over and all it sent has been read.
    Drained,
}

/// How a peer broke a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Length(#[from] BadLength),
    #[error("a lane ended in the middle of a frame")]
    MidFrame,
    #[error("a lane was reset")]
    Reset,
    #[error("a lane was stopped")]
    Stopped,
}

impl Lane {
    /// A lane that announces room at once.
    pub(super) fn new((send, receive): (SendStream, RecvStream)) -> Self {
        Self {
            send,
            outbox: Outbox::Writing(Default::default()),
            receive,
            inbox: Inbox::Open,
            splitter: Splitter::default(),
        }
    }

    /// Higher goes first among the streams of a connection.
    pub(super) fn prioritise(&self, priority: i32) {
        // Fails only on a stream that is over, where it no longer matters.
        let _over = self.send.set_priority(priority);
    }

    /// Takes the next frame to send, and gives quinn what it will take of it at once. There must be
    /// room.
    pub(super) fn start_send(&mut self, frame: Bytes) {
        match self.outbox {
            Outbox::Free | Outbox::Writing(_) => self.outbox = Outbox::Writing([prefix(frame.len()), frame]),
            Outbox::Shut => {}
        }
        // Whoever is to be woken for the rest, and told of room, says so by the poll that follows.
        let _rest = self.poll_written(&mut Context::from_waker(Waker::noop()));
    }

    /// Ready once for each frame that quinn has taken whole: the lane has room again.
    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.poll_written(context))?;
        self.outbox = Outbox::Free;
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing is left of the frame; pending where there was none.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Outbox::Writing(bytes) = &mut self.outbox else { return Poll::Pending };
        while bytes.iter().any(|part| !part.is_empty()) {
            let written = ready!(pin!(self.send.write_chunks(bytes)).poll(context));
            match written {
                Ok(_) => {}
                // Said by the next poll, which meets it again.
                Err(WriteError::Stopped(_)) => return Poll::Ready(Err(Broken::Stopped)),
                Err(
                    WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected,
                ) => {
                    self.outbox = Outbox::Shut;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; pending for ever once the peer sends no more.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        loop {
            if let Some(frame) = self.splitter.next_frame()? {
                return Poll::Ready(Ok(frame));
            }
            let Inbox::Open = self.inbox else { return Poll::Pending };
            match ready!(pin!(self.receive.read_chunk(READ, true)).poll(context)) {
                Ok(Some(chunk)) => self.splitter.push(&chunk.bytes),
                Ok(None) if self.splitter.held() > 0 => return Poll::Ready(Err(Broken::MidFrame)),
                Err(ReadError::Reset(_)) => return Poll::Ready(Err(Broken::Reset)),
                Ok(None)
                | Err(
                    ReadError::ConnectionLost(_)
                    | ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected,
                ) => self.inbox = Inbox::Drained,
            }
        }
    }

    /// Sends nothing more.
    pub(super) fn shut(&mut self) {
        self.outbox = Outbox::Shut;
    }

    /// True while a frame has not wholly been taken by quinn.
    pub(super) fn is_writing(&self) -> bool {
        matches!(self.outbox, Outbox::Writing(_))
    }

    /// Ends our side of the stream and returns what resolves when the peer has all of it.
    pub(super) fn finish(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.outbox = Outbox::Shut;
        // Fails only on a stream that is over, and then `stopped` resolves at once.
        let _over = self.send.finish();
        let stopped = self.send.stopped();
        async move {
            let _how = stopped.await;
        }
    }
}
