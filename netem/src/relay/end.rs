//! One socket of a relayed TCP connection.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::socket;
use super::stream::Body;
use crate::poller::EventFlags;

/// What is asked of epoll for a TCP socket: every change, once.
pub(super) fn edges() -> EventFlags {
    EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
}

/// The connection is dead; both ends are to be reset.
#[derive(Debug)]
pub(super) struct Dead;

/// A socket, what is known of its readiness, and what waits to be written.
pub(super) struct End {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    reading: Reading,
    outbox: VecDeque<Body>,
    /// Bytes of the first entry that are written.
    written: usize,
    writing: Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    More,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    More,
    Finished,
}

impl End {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            reading: Reading::More,
            outbox: VecDeque::new(),
            written: 0,
            writing: Writing::More,
        }
    }

    /// Notes what epoll said. Errors show as both, so that the next call meets them.
    pub(super) fn note(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        self.readable |= broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= broken || flags.contains(EventFlags::OUT);
    }

    /// Whether reading could give something.
    pub(super) fn may_read(&self) -> bool {
        self.readable && self.reading == Reading::More
    }

    /// Reads at most one segment into `buffer`; the peer's end comes as [`Body::Fin`], once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Body>, Dead> {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.reading = Reading::Ended;
                Ok(Some(Body::Fin))
            }
            Ok(length) => Ok(Some(Body::Data(buffer[..length].into()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(_) => Err(Dead),
        }
    }

    /// Queues what arrived for this socket.
    pub(super) fn queue(&mut self, body: Body) {
        self.outbox.push_back(body);
    }

    /// Writes what the socket takes; gives the number of bytes.
    pub(super) fn write_out(&mut self) -> Result<usize, Dead> {
        let mut total = 0;
        while self.writable {
            match self.outbox.front() {
                Some(Body::Data(bytes)) if self.written < bytes.len() => {
                    match self.socket.write(&bytes[self.written..]) {
                        Ok(count) => {
                            self.written += count;
                            total += count;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => return Err(Dead),
                    }
                }
                Some(Body::Data(_) | Body::Hello) => {
                    self.outbox.pop_front();
                    self.written = 0;
                }
                Some(Body::Fin) => {
                    self.outbox.pop_front();
                    self.writing = Writing::Finished;
                    self.socket.shutdown(Shutdown::Write).map_err(|_| Dead)?;
                }
                None => break,
            }
        }
        Ok(total)
    }

    /// Nothing more will be read or written.
    pub(super) fn is_over(&self) -> bool {
        self.reading == Reading::Ended && self.writing == Writing::Finished
    }

    /// The bare socket; what waited to be written is gone.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        socket::reset_on_close(&self.socket);
    }
}
