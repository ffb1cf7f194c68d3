//! Connections within one process, for tests and examples. They lose nothing and take no time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode};

use crate::Connection;
use crate::core::connection::{Capabilities, Channel, Ended, Event, Lanes, Measured, Transport};

/// What an independent-lanes connection in memory can do.
pub const INDEPENDENT: Capabilities = Capabilities {
    transport: Transport::Memory,
    lanes: Lanes::Independent,
    datagram: Some(carriageway_proto::MAX_DATAGRAM),
    migrates: false,
};

/// What a shared-stream connection in memory can do.
pub const SHARED: Capabilities =
    Capabilities { transport: Transport::Memory, lanes: Lanes::Shared, datagram: None, migrates: false };

/// One direction: at most one frame per channel.
#[derive(Debug, Default)]
struct Pipe {
    frames: VecDeque<(Channel, Bytes)>,
    /// Channels to announce room on.
    rooms: VecDeque<Channel>,
    /// What the reader sees after the last frame.
    end: Option<Ended>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn finish(&mut self, ended: Ended) {
        self.end.get_or_insert(ended);
        self.wake();
    }
}

type Shared = Arc<Mutex<Pipe>>;

fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().expect("no holder of a pipe panics")
}

/// One end of a connection in memory.
#[derive(Debug)]
pub struct MemoryConnection {
    capabilities: Capabilities,
    incoming: Shared,
    outgoing: Shared,
    closed_here: bool,
    is_over: bool,
}

/// Cuts a connection in memory as a network would: without a word, frames under way lost.
#[derive(Clone, Debug)]
pub struct Scissors([Shared; 2]);

impl Scissors {
    /// Cuts it.
    pub fn cut(&self) {
        for pipe in &self.0 {
            let mut pipe = lock(pipe);
            pipe.frames.clear();
            pipe.finish(Ended::Failed("cut".into()));
        }
    }
}

/// The two ends of a connection, and the scissors to it.
pub fn pair(capabilities: Capabilities) -> (MemoryConnection, MemoryConnection, Scissors) {
    let rooms: VecDeque<Channel> = match capabilities.lanes {
        Lanes::Independent => Class::ALL.into_iter().map(Channel::Lane).collect(),
        Lanes::Shared => [Channel::Shared].into(),
    };
    let datagram = capabilities.datagram.map(|_| Channel::Datagram);
    let pipe = || {
        let rooms = rooms.iter().copied().chain(datagram).collect();
        Arc::new(Mutex::new(Pipe { rooms, ..Pipe::default() }))
    };
    let (there, back) = (pipe(), pipe());
    let end = |incoming: &Shared, outgoing: &Shared| MemoryConnection {
        capabilities,
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        closed_here: false,
        is_over: false,
    };
    (end(&back, &there), end(&there, &back), Scissors([there, back]))
}

impl Connection for MemoryConnection {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn remote(&self) -> Option<SocketAddr> {
        None
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if self.is_over {
            return Poll::Pending;
        }
        {
            let mut incoming = lock(&self.incoming);
            if let Some((channel, frame)) = incoming.frames.pop_front() {
                incoming.rooms.push_back(channel);
                incoming.wake();
                return Poll::Ready(Event::Frame(channel, frame));
            }
            let end = if self.closed_here { Some(Ended::ByUs) } else { incoming.end.clone() };
            if let Some(ended) = end {
                self.is_over = true;
                return Poll::Ready(Event::Ended(ended));
            }
            incoming.reader = Some(context.waker().clone());
        }
        let mut outgoing = lock(&self.outgoing);
        if let Some(channel) = outgoing.rooms.pop_front() {
            return Poll::Ready(Event::Room(channel));
        }
        outgoing.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn start_send(&mut self, channel: Channel, frame: Bytes) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.frames.push_back((channel, frame));
        outgoing.wake();
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.closed_here = true;
        lock(&self.outgoing).finish(Ended::ByPeer { code, reason: reason.into() });
        lock(&self.incoming).wake();
    }

    fn measured(&self) -> Measured {
        Measured::default()
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        lock(&self.outgoing).finish(Ended::Failed("the peer went away".into()));
    }
}
