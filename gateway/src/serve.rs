//! Puts the gateway together, runs it within any process, and takes it down in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::{Moment, VehicleId};
use carriageway_transport::clock::{BootClock, ClockError};
use carriageway_transport::tls::{self, Authority, Credentials, Pem, TlsError};
use carriageway_transport::{link, quic};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::api::{self, Api, BodyLimits};
use crate::auth::{KeyError, Verifier};
use crate::certs::{self, CertError};
use crate::closing::{self, Closer, Closing};
use crate::config::Config;
use crate::core::{commands, lease, registry, shadow};
use crate::hub::{self, Held, Hub, desired_in};
use crate::listeners::{link_router, tcp, udp};
use crate::metrics::Metrics;
use crate::sessions;
use crate::store::{Sqlite, Store, StoreError};

/// Of the drain's deadline, this much is kept for the goodbyes themselves.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// The shortest deadline of a drain: the goodbyes, and half a second in which something can finish.
pub const SHORTEST_DRAIN: Duration = Duration::from_secs(2);

/// How often a drain looks whether commands have finished.
const LOOK: Duration = Duration::from_millis(25);

/// Why the gateway cannot start: the operator of the gateway must act.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host's clock.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key that verifies tokens.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The QUIC secret.
    #[error(transparent)]
    Secret(#[from] CertError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record in the store.
    #[error(transparent)]
    Record(#[from] hub::BadRecord),
    /// A UDP port.
    #[error(transparent)]
    Udp(#[from] quic::ListenError),
    /// A TCP port.
    #[error("cannot listen on TCP {address}: {source}; is another gateway running?")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
}

/// A gateway that runs. Dropping it ends it abruptly.
pub struct Running {
    /// Where vehicles come in over QUIC, in the order configured.
    pub udp: Vec<SocketAddr>,
    /// Where HTTPS and WebSocket are served.
    pub tcp: SocketAddr,
    /// Where health and metrics are served.
    pub internal: SocketAddr,
    hub: Hub,
    deadline: Duration,
    closing: Closer,
    tasks: JoinSet<()>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// How long it took.
    pub took: Duration,
    /// Commands that had no terminal phase when their time was over.
    pub unfinished: usize,
    /// Vehicles that were still being driven then.
    pub driven: usize,
}

/// Starts a gateway; it serves when this returns.
pub async fn serve(config: &Config) -> Result<Running, ServeError> {
    let clock = BootClock::system()?;
    let (ca, cert, key) =
        (Pem::read(&config.tls.ca)?, Pem::read(&config.tls.cert)?, Pem::read(&config.tls.key)?);
    let authority = Authority::new(&ca)?;
    let verifier = Verifier::from_config(&config.auth)?;
    let udp_listener = quic_listener(config, &authority, Credentials::new(&cert, &key)?, clock.clone())?;
    let tls = tls::tcp_server(&authority, Credentials::new(&cert, &key)?)?;
    let tcp_listener = bind(config.listen.tcp).await?;
    let internal_listener = bind(config.listen.internal).await?;
    let address = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let (tcp, internal) =
        (address(&tcp_listener, config.listen.tcp), address(&internal_listener, config.listen.internal));

    let metrics = Arc::new(Metrics::new());
    let (store, held) = open_store(config)?;
    let hub = Hub::new(settings(config), clock, Arc::clone(&metrics), store, held)?;
    let (closing, closed) = closing::pair();
    let (arrivals, supervisor) = sessions::supervise(hub.clone(), session_limits(config));
    let api = Api::new(hub.clone(), verifier, api_limits(config), closed.clone());
    let public = tcp::Public {
        tls: TlsAcceptor::from(Arc::new(tls)),
        router: api::router(api).merge(link_router(hub.clone(), arrivals.clone())),
        limits: tcp_limits(config),
        metrics: Arc::clone(&metrics),
    };
    let udp = udp_listener.addresses();
    let mut tasks = JoinSet::new();
    tasks.spawn(supervisor);
    tasks.spawn(keep_time(hub.clone(), closed.clone()));
    tasks.spawn(udp::vehicles(udp_listener, arrivals, Arc::clone(&metrics), closed.clone()));
    tasks.spawn(tcp::public(tcp_listener, public, closed.clone()));
    let health = api::internal::router(hub.clone());
    tasks.spawn(tcp::internal(internal_listener, health, config.limits.request(), metrics, closed));
    tracing::info!(?udp, %tcp, %internal, "the gateway serves");
    Ok(Running { udp, tcp, internal, hub, deadline: config.drain.deadline(), closing, tasks })
}

impl Running {
    /// Where everything meets, for tests and embedders.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns when a part of the gateway has ended by itself, which is a fault.
    pub async fn broken(&mut self) {
        if let Some(ended) = self.tasks.join_next().await {
            tracing::error!(?ended, "a part of the gateway has ended");
        }
    }

    /// Takes the gateway down, within the configured deadline: takes nothing new; lets each vehicle's
    /// commands finish, and the lease of whoever drives it end, and then sends the vehicle away with a wait
    /// of its own; at the end answers the requests that are open and closes the ports.
    pub async fn drain(mut self) -> Drained {
        let clock = self.hub.clock().clone();
        let begun = clock.now();
        let patience = self.deadline.saturating_sub(FAREWELL);
        self.hub.start_draining(patience);
        while self.hub.send_away(false) > 0 && clock.now().since(begun) < patience {
            clock.sleep_until(clock.now() + LOOK).await;
        }
        let (unfinished, driven) = (self.hub.unfinished(), self.hub.driven());
        if driven > 0 {
            tracing::warn!(driven, "the drain's time is over; vehicles that are being driven are sent away");
        }
        self.hub.send_away(true);
        let deadline = begun + self.deadline;
        let goodbyes_end = goodbyes_end(clock.now(), deadline);
        while self.hub.sessions_open() > 0 && clock.now() < goodbyes_end {
            clock.sleep_until(clock.now() + LOOK).await;
        }
        let written_by = written_by(clock.now(), deadline);
        while !self.hub.is_settled() && clock.now() < written_by {
            clock.sleep_until(clock.now() + LOOK).await;
        }
        self.closing.close();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = clock.sleep_until(deadline) => {}
        }
        let drained = Drained { took: clock.now().since(begun), unfinished, driven };
        tracing::info!(?drained, "the gateway has drained");
        drained
    }
}

/// When a drain stops waiting for goodbyes that are said at `now`. One that is cut off leaves a vehicle waiting for its
/// idle timeout: they get half the farewell, and on a busy machine more of it, but never what lies behind the deadline.
fn goodbyes_end(now: Moment, deadline: Moment) -> Moment {
    (deadline - FAREWELL / 2).max(now + FAREWELL / 2).min(deadline - FAREWELL / 4)
}

/// When a drain stops waiting for the disk, which is asked at `now`: what is left is for the open requests' answers.
fn written_by(now: Moment, deadline: Moment) -> Moment {
    (now + FAREWELL / 4).min(deadline - FAREWELL / 8)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Tcp { address, source })
}

fn open_store(config: &Config) -> Result<(Store, Held), ServeError> {
    let path = &config.store.path;
    if let Some(directory) = path.parent() {
        // Where it cannot be made, opening the file says what is wrong.
        drop(std::fs::create_dir_all(directory));
    }
    let (disk, loaded) = Sqlite::open(path)?;
    disk.limit(config.store.max_bytes)?;
    tracing::info!(path = %path.display(), commands = loaded.commands.len(), "the store is open");
    let damaged = |vehicle: &VehicleId| StoreError::Damaged {
        path: path.clone(),
        why: format!("the desired state of {vehicle} cannot be read"),
    };
    let desired = loaded.desired.into_iter().map(|(vehicle, document)| {
        let desired = desired_in(document).ok_or_else(|| damaged(&vehicle))?;
        Ok((vehicle, desired))
    });
    let desired = desired.collect::<Result<_, StoreError>>()?;
    let (commands, tokens, vehicles) = (loaded.commands, loaded.tokens, loaded.vehicles);
    let held = Held { commands, tokens, desired, vehicles };
    Ok((Store::start(disk)?, held))
}

async fn keep_time(hub: Hub, mut closing: Closing) {
    tokio::select! {
        () = hub.clone().keep_time() => {}
        () = hub.keep_disk() => {}
        () = closing.wait() => {}
    }
}

fn quic_listener(
    config: &Config,
    authority: &Authority,
    own: Credentials,
    clock: BootClock,
) -> Result<quic::QuicListener, ServeError> {
    let secret = config.quic.secret.as_deref().map_or_else(|| Ok(chance()), certs::read_quic_secret)?;
    let pending = config.limits.pending_handshakes as usize;
    let limits = quic::Limits {
        handshakes: pending,
        retry_above: quic::Limits::VEHICLE.retry_above.min(pending),
        handshake: config.limits.handshake(),
        ..quic::Limits::VEHICLE
    };
    let listener = quic::Config {
        addresses: config.listen.udp.clone(),
        tls: tls::quic_server(authority, own)?,
        secret: quic::Secret::new(secret),
        limits,
        congestion: config.quic.congestion,
        policies: config.policies(),
    };
    Ok(quic::QuicListener::bind(listener, clock)?)
}

fn chance() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

fn settings(config: &Config) -> hub::Settings {
    let (sessions, records) = (config.limits.vehicles as usize, config.limits.command_records as usize);
    hub::Settings {
        registry: registry::Limits {
            sessions,
            // As many again are remembered after they have gone.
            vehicles: sessions.saturating_mul(2),
            ..registry::Limits::default()
        },
        commands: commands::Limits {
            records,
            // One vehicle's operators must not use up everybody's.
            per_vehicle: (records / 10).max(1_000),
            operator_rate: config.commands.operator_rate,
            operator_burst: config.commands.operator_burst,
            ..commands::Limits::default()
        },
        leases: lease::Limits { ttl: config.lease.ttl(), ..lease::Limits::default() },
        // Of as many vehicles as are remembered.
        shadows: shadow::Limits { vehicles: sessions.saturating_mul(2) },
        policies: config.policies(),
        session: link::Config {
            policies: config.policies(),
            software: concat!("carriageway-gateway/", env!("CARGO_PKG_VERSION")).into(),
            ..link::Config::default()
        },
        event_backlog: config.limits.event_backlog as usize,
        retry_after: config.drain.retry_after(),
    }
}

fn session_limits(config: &Config) -> sessions::Limits {
    let greeting = config.limits.pending_handshakes as usize;
    sessions::Limits { greeting, hello: config.limits.handshake() }
}

fn api_limits(config: &Config) -> api::Limits {
    let body = BodyLimits { bytes: config.limits.body_bytes as usize, time: config.limits.request() };
    api::Limits { body, event_streams: config.limits.event_streams as usize }
}

fn tcp_limits(config: &Config) -> tcp::Limits {
    tcp::Limits {
        connections: config.limits.tcp_connections as usize,
        handshake: config.limits.handshake(),
        request: config.limits.request(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_drain_reaches_beyond_its_deadline() {
        let begun = Moment::from_micros(60_000_000);
        for deadline in [SHORTEST_DRAIN, Duration::from_secs(10)] {
            let (farewell_at, deadline) = (begun + deadline.saturating_sub(FAREWELL), begun + deadline);
            for late in [0, 500, 1_200, 5_000].map(Duration::from_millis) {
                let now = farewell_at + late;
                let (goodbyes, disk) = (goodbyes_end(now, deadline), written_by(now, deadline));
                assert!(goodbyes < deadline && disk < deadline, "{late:?}");
            }
            assert_eq!(goodbyes_end(farewell_at, deadline), farewell_at + FAREWELL / 2);
        }
        let busy = begun + Duration::from_millis(900);
        assert_eq!(goodbyes_end(busy, begun + SHORTEST_DRAIN), begun + SHORTEST_DRAIN - FAREWELL / 4);
    }
}
