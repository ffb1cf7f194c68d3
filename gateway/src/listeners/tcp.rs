//! TCP ports: the public one with TLS, the internal one without.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use carriageway_transport::identity::{Identity, IdentityError};
use carriageway_transport::tls::peer_chain;
use carriageway_transport::websocket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::http::{self, Peer};
use super::stream::{Guarded, Place};
use crate::closing::Closing;
use crate::metrics::Metrics;

/// After an accept that failed, which is for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections at once on the internal port.
const INTERNAL_CONNECTIONS: usize = 64;

/// How many and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head, and for a connection without a request.
    pub request: Duration,
}

/// What the public port needs.
pub struct Public {
    /// TLS that asks for a client certificate but does not insist.
    pub tls: TlsAcceptor,
    /// What is served.
    pub router: Router,
    /// How many and how long.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Accepts connections on the public port until `closing` turns true and the last request is
/// answered.
pub async fn public(listener: TcpListener, public: Public, closing: Closing) {
    let public = Arc::new(public);
    let places = Arc::new(Semaphore::new(public.limits.connections));
    let serve = |stream, remote, place| secured(Arc::clone(&public), stream, remote, place, closing.clone());
    accept(&listener, &places, &public.metrics, closing.clone(), serve).await;
}

/// Accepts connections on the internal port likewise.
pub async fn internal(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    metrics: Arc<Metrics>,
    closing: Closing,
) {
    let places = Arc::new(Semaphore::new(INTERNAL_CONNECTIONS));
    let serve = |stream, remote, place| {
        let peer = Peer::new(Err(IdentityError::NoCertificate), remote);
        http::serve(Guarded::new(stream, place), peer, router.clone(), patience, closing.clone())
    };
    accept(&listener, &places, &metrics, closing.clone(), serve).await;
}

async fn accept<F>(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    metrics: &Arc<Metrics>,
    mut closing: Closing,
    serve: impl Fn(TcpStream, SocketAddr, Place) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.wait() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => match Arc::clone(places).try_acquire_owned() {
                    Ok(permit) => {
                        let place = Place::new(Arc::clone(metrics), permit);
                        connections.spawn(serve(stream, remote, place));
                    }
                    Err(_) => metrics.dropped("tcp", "too_many_connections", 1),
                },
                Err(error) => pause(&error, metrics).await,
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn pause(error: &io::Error, metrics: &Metrics) {
    metrics.dropped("tcp", "accept_failed", 1);
    tracing::warn!(%error, "a TCP connection could not be accepted; are there enough file descriptors?");
    sleep(PAUSE).await;
}

async fn secured(public: Arc<Public>, stream: TcpStream, remote: SocketAddr, place: Place, closing: Closing) {
    if let Err(error) = websocket::tune(&stream) {
        tracing::debug!(%remote, %error, "a TCP connection was gone at once");
        return;
    }
    let handshake = public.tls.accept(Guarded::new(stream, place));
    let stream = match timeout(public.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "a TLS handshake failed");
            return public.metrics.dropped("tcp", "tls_failed", 1);
        }
        Err(_) => return public.metrics.dropped("tcp", "tls_timeout", 1),
    };
    let peer = Peer::new(Identity::from_chain(&peer_chain(stream.get_ref().1)), remote);
    http::serve(stream, peer, public.router.clone(), public.limits.request, closing).await;
}
