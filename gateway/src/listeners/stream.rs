//! A byte stream that gives up on a peer who does not read, and gives its place back when it goes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use crate::metrics::Metrics;

/// A peer that takes nothing for this long is let go. Longer than a vehicle's tunnel that TCP itself
/// survives, for it gives up after 15 s.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// A place among the bounded number of connections.
pub(super) struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn new(metrics: Arc<Metrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.tcp_connections.inc();
        Self { metrics, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.tcp_connections.dec();
    }
}

/// The stream with its place and its deadline.
pub(super) struct Guarded<S> {
    stream: S,
    place: Place,
    /// Runs while the peer takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, place: Place) -> Self {
        Self { stream, place, stuck: None }
    }

    /// Lets a write pass, or fails it once it has been pending for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stuck = None;
            return write;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(WRITE_DEADLINE)));
        if stuck.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.place.metrics.dropped("tcp", "slow_reader", 1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shutdown)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;

    fn guarded<S>(stream: S) -> (Guarded<S>, Arc<Metrics>, Arc<Semaphore>) {
        let (metrics, places) = (Arc::new(Metrics::new()), Arc::new(Semaphore::new(1)));
        let permit = Arc::clone(&places).try_acquire_owned().unwrap();
        (Guarded::new(stream, Place::new(Arc::clone(&metrics), permit)), metrics, places)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_let_go_and_its_place_is_free() {
        let (near, _far) = tokio::io::duplex(16);
        let (mut stream, metrics, places) = guarded(near);
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!((metrics.tcp_connections.get(), places.available_permits()), (1, 0));
        drop(stream);
        assert_eq!((metrics.tcp_connections.get(), places.available_permits()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_steady_reader_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut stream, ..) = guarded(near);
        let reader = async {
            let mut byte = [0; 16];
            for _ in 0..4 {
                sleep(WRITE_DEADLINE / 2).await;
                far.read_exact(&mut byte).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 64]), reader);
        written.unwrap();
    }
}
