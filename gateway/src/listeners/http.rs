//! HTTP/1.1 on one stream: every limit set, and upgrades handed on.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use carriageway_transport::identity::{Identity, IdentityError};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use crate::closing::Closing;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 8 * 1024;

/// Most header lines.
const MAX_HEADERS: usize = 64;

/// After the farewell, a request under way gets this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a handler may know of the connection that its request came on.
#[derive(Clone)]
pub struct Peer {
    /// Who the client's certificate says it is; operators have none.
    pub identity: Result<Identity, IdentityError>,
    /// Where it came from.
    pub remote: SocketAddr,
    /// Where a handler leaves the upgrade that it promises in its response.
    promise: Arc<Mutex<Option<Promise>>>,
}

/// A stream that speaks another protocol from now on.
pub type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// What speaks it, until the stream ends.
pub type Speaker = Box<dyn FnOnce(Stream) -> BoxFuture<'static, ()> + Send>;

struct Promise {
    upgrade: OnUpgrade,
    speaker: Speaker,
}

impl Peer {
    /// A connection from `remote`.
    pub fn new(identity: Result<Identity, IdentityError>, remote: SocketAddr) -> Self {
        Self { identity, remote, promise: Arc::default() }
    }

    /// Promises that the connection of `request` is handed to `speaker` once the handler's response,
    /// 101 Switching Protocols, is sent.
    pub fn upgrade(&self, request: &mut Request, speaker: Speaker) {
        let upgrade = hyper::upgrade::on(request);
        *self.promise.lock().unwrap_or_else(PoisonError::into_inner) = Some(Promise { upgrade, speaker });
    }

    fn promised(&self) -> Option<Promise> {
        self.promise.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves one connection until it ends, or `closing` turns true and its request is done. `patience` is
/// the longest time for a request's head to arrive and for a connection to be idle. Where a handler
/// has promised an upgrade, serves what follows it too.
pub async fn serve<S>(stream: S, peer: Peer, router: Router, patience: Duration, mut closing: Closing)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let within = peer.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(within.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.wait() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(remote = %peer.remote, %error, "an HTTP connection ended badly");
    }
    let Some(Promise { upgrade, speaker }) = peer.promised() else { return };
    match upgrade.await {
        Ok(upgraded) => speaker(TokioIo::new(upgraded)).await,
        Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
    }
}
