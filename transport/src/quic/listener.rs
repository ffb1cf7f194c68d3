//! The gateway's side: accepts handshakes in bounded number and hands on vehicles.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use carriageway_proto::class::ClassMap;
use carriageway_proto::{CloseCode, PolicyTable};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connecting, ConnectionError, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::{QuicConnection, Shared};
use super::ended::wire;
use super::limits::{self, Congestion, Limits, Secret};
use super::socket::{self, Ground};
use crate::arrival::Arrival;
use crate::clock::BootClock;
use crate::identity::{Identity, IdentityError};

/// What a listener needs.
pub struct Config {
    /// Where to listen: one endpoint for each, of its own address family alone.
    pub addresses: Vec<SocketAddr>,
    /// TLS, from [`crate::tls::quic_server`].
    pub tls: rustls::ServerConfig,
    /// Keeps connection ids and reset tokens recognisable across restarts.
    pub secret: Secret,
    /// Usually [`Limits::VEHICLE`].
    pub limits: Limits,
    /// Decides how fast the gateway sends.
    pub congestion: Congestion,
    /// Whose priorities the streams get.
    pub policies: PolicyTable,
}

/// Why a listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No address was given.
    #[error("no address to listen on")]
    NoAddress,
    /// An address that cannot be bound.
    #[error("cannot listen on UDP {address}: {source}; is another gateway running?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// A socket that does not know its own address.
    #[error("cannot listen on a socket: {0}")]
    Socket(#[source] io::Error),
    /// A TLS configuration that QUIC cannot use.
    #[error("the TLS configuration cannot serve QUIC: {0}")]
    Tls(String),
}

/// What became of handshakes, counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    retried: AtomicU64,
    overload: AtomicU64,
    timeout: AtomicU64,
    failed: AtomicU64,
    unauthorized: AtomicU64,
}

impl Counters {
    /// Each count with its name, as in metrics: `accepted`; `retried`, asked to prove the address first;
    /// refused for `overload`; `timeout`; `failed` in TLS or below; `unauthorized` by identity.
    pub fn read(&self) -> [(&'static str, u64); 6] {
        [
            ("accepted", &self.accepted),
            ("retried", &self.retried),
            ("overload", &self.overload),
            ("timeout", &self.timeout),
            ("failed", &self.failed),
            ("unauthorized", &self.unauthorized),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Accepts vehicles over QUIC. Handshakes go on in the background; none holds up another.
pub struct QuicListener {
    endpoints: Vec<Endpoint>,
    handshakes: JoinSet<Result<Arrival, NoArrival>>,
    shared: Shared,
    counters: Arc<Counters>,
    /// The endpoint that is asked first.
    turn: usize,
}

/// Why a handshake led to nothing.
#[derive(Debug, thiserror::Error)]
enum NoArrival {
    #[error("the handshake took too long")]
    Timeout,
    #[error("the handshake failed: {0}")]
    Failed(#[from] ConnectionError),
    #[error("refused: {0}")]
    Unauthorized(#[from] IdentityError),
}

impl QuicListener {
    /// Binds every address and listens. Must be called within a tokio runtime.
    pub fn bind(config: Config, clock: BootClock) -> Result<Self, ListenError> {
        let open = |address: &SocketAddr| {
            open(*address, &config.limits).map_err(|source| ListenError::Bind { address: *address, source })
        };
        let grounds = config.addresses.iter().map(open).collect::<Result<_, _>>()?;
        Self::over(grounds, config, clock)
    }

    /// Like [`Self::bind`], over sockets that are there already, such as those of an emulated network;
    /// [`Config::addresses`] says nothing to it.
    pub fn over(grounds: Vec<Ground>, config: Config, clock: BootClock) -> Result<Self, ListenError> {
        let crypto = QuicServerConfig::try_from(config.tls).map_err(|e| ListenError::Tls(e.to_string()))?;
        let crypto = Arc::new(crypto);
        let listen = |ground: Ground| {
            let server = limits::server(crypto.clone(), &config.limits, config.congestion, &config.secret);
            ground.endpoint(limits::endpoint(&config.secret), Some(server)).map_err(ListenError::Socket)
        };
        let endpoints: Vec<_> = grounds.into_iter().map(listen).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ListenError::NoAddress);
        }
        let priorities = ClassMap::from_fn(|class| config.policies[class].priority);
        Ok(Self {
            endpoints,
            handshakes: JoinSet::new(),
            shared: Shared { limits: config.limits, clock, priorities },
            counters: Arc::default(),
            turn: 0,
        })
    }

    /// The addresses listened on, in the order given; with the port that the system chose for 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.local_addr().ok()).collect()
    }

    /// Counts of what became of handshakes; to be kept and read at any time.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The next vehicle that has proven its identity. `None` once the listener was closed. Handshakes
    /// are admitted only while this is being awaited; cancel safe.
    pub async fn accept(&mut self) -> Option<Arrival> {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    // A handshake panics only for a broken invariant of ours, which must be seen.
                    let done = done.expect("a handshake neither panics nor is aborted");
                    if let Some(arrival) = self.settle(done) {
                        return Some(arrival);
                    }
                }
                incoming = incoming(&self.endpoints, &mut self.turn) => self.admit(incoming?),
            }
        }
    }

    /// Takes no more connections; those that are, stay.
    pub fn stop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.set_server_config(None);
        }
    }

    /// Closes every connection at once and waits until the peers were told.
    pub async fn close(self, code: CloseCode, reason: &str) {
        for endpoint in &self.endpoints {
            endpoint.close(wire(code), reason.as_bytes());
        }
        for endpoint in &self.endpoints {
            endpoint.wait_idle().await;
        }
    }

    /// Starts a handshake, or sends it away while there are too many.
    fn admit(&mut self, incoming: Incoming) {
        let under_way = self.handshakes.len();
        if under_way >= self.shared.limits.handshakes {
            incoming.refuse();
            count(&self.counters.overload);
        } else if under_way >= self.shared.limits.retry_above && incoming.may_retry() {
            incoming.retry().expect("it may be retried");
            count(&self.counters.retried);
        } else {
            match incoming.accept() {
                Ok(connecting) => {
                    self.handshakes.spawn(handshake(connecting, self.shared.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "a first packet led to no handshake");
                    count(&self.counters.failed);
                }
            }
        }
    }

    fn settle(&self, done: Result<Arrival, NoArrival>) -> Option<Arrival> {
        let counter = match &done {
            Ok(_) => &self.counters.accepted,
            Err(NoArrival::Timeout) => &self.counters.timeout,
            Err(NoArrival::Failed(_)) => &self.counters.failed,
            Err(NoArrival::Unauthorized(_)) => &self.counters.unauthorized,
        };
        count(counter);
        done.inspect_err(|why| tracing::debug!(%why, "no arrival")).ok()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn open(address: SocketAddr, limits: &Limits) -> io::Result<Ground> {
    let bound = socket::bind(address, limits.socket_buffer)?;
    bound.granted.warn_if_below(limits.socket_buffer, address);
    Ground::kernel(bound.socket)
}

/// The next first packet on any of the endpoints, each in turn; `None` once all are closed.
async fn incoming(endpoints: &[Endpoint], turn: &mut usize) -> Option<Incoming> {
    let mut accepts: Vec<_> = endpoints.iter().map(|endpoint| Box::pin(endpoint.accept())).collect();
    let count = accepts.len();
    poll_fn(|context| {
        let mut open = false;
        for index in (0..count).map(|step| (*turn + step) % count) {
            match accepts[index].as_mut().poll(context) {
                Poll::Ready(Some(incoming)) => {
                    *turn = (index + 1) % count;
                    return Poll::Ready(Some(incoming));
                }
                // Closed: quinn says so again each time it is asked, so a new future is not needed.
                Poll::Ready(None) => {}
                Poll::Pending => open = true,
            }
        }
        if open { Poll::Pending } else { Poll::Ready(None) }
    })
    .await
}

/// One handshake, from the first packet to the identity.
async fn handshake(connecting: Connecting, shared: Shared) -> Result<Arrival, NoArrival> {
    let deadline = shared.limits.handshake;
    let connection = timeout(deadline, connecting).await.map_err(|_| NoArrival::Timeout)??;
    let identity = match Identity::from_chain(&chain(&connection)) {
        Ok(identity) => identity,
        Err(why) => {
            connection.close(wire(CloseCode::Unauthorized), why.to_string().as_bytes());
            return Err(why.into());
        }
    };
    let remote = connection.remote_address();
    let connection = Box::new(QuicConnection::accepting(connection, shared));
    Ok(Arrival { connection, identity, remote })
}

/// The peer's certificates, its own first.
fn chain(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity().and_then(|identity| identity.downcast().ok());
    identity.map_or_else(Vec::new, |chain| *chain)
}
