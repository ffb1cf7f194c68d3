//! The vehicle's side: one endpoint for each connection, so that a change of path concerns it alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Once;

use carriageway_proto::PolicyTable;
use carriageway_proto::class::ClassMap;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, EndpointConfig};
use tokio::time::timeout;

use super::connection::{QuicConnection, Shared};
use super::ended::ended;
use super::limits::{self, Congestion, Limits};
use super::socket::{self, Ground};
use crate::clock::BootClock;

/// What to dial, and how.
#[derive(Clone)]
pub struct Target {
    /// The gateway.
    pub remote: SocketAddr,
    /// The name its certificate must be for.
    pub server_name: String,
    /// The local address to leave from; `None`: any.
    pub bind: Option<IpAddr>,
    /// TLS, from [`crate::tls::quic_client`].
    pub tls: Arc<rustls::ClientConfig>,
    /// Usually [`Limits::VEHICLE`].
    pub limits: Limits,
    /// Decides how fast the vehicle sends.
    pub congestion: Congestion,
    /// Whose priorities the streams get.
    pub policies: PolicyTable,
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The local address cannot be used.
    #[error("cannot send from {address}: {source}")]
    Bind {
        /// The local address.
        address: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// A target or a TLS configuration that cannot be dialed, whatever the network does.
    #[error("cannot be dialed: {0}")]
    Unusable(String),
    /// The peer or the network refused.
    #[error("{0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

/// Dials, and returns once the handshake is complete here and the lanes are open. The gateway may
/// refuse our certificate even after that: the connection is good once the session's welcome came.
pub async fn dial(target: &Target, clock: BootClock) -> Result<QuicConnection, DialError> {
    dial_from(bind(target)?, target, clock).await
}

/// Like [`dial`], from a socket that is there already, such as one of an emulated network; [`Target::bind`] says
/// nothing to it.
pub async fn dial_from(
    ground: Ground,
    target: &Target,
    clock: BootClock,
) -> Result<QuicConnection, DialError> {
    let endpoint = ground.endpoint(EndpointConfig::default(), None).map_err(|e| unusable(&e))?;
    let crypto =
        QuicClientConfig::try_from(target.tls.clone()).map_err(|e| DialError::Unusable(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(limits::transport(&target.limits, target.congestion));
    let connecting =
        endpoint.connect_with(config, target.remote, &target.server_name).map_err(|e| unusable(&e))?;
    let priorities = ClassMap::from_fn(|class| target.policies[class].priority);
    let shared = Shared { limits: target.limits, clock, priorities };
    let connected = async {
        let connection = connecting.await?;
        QuicConnection::connecting(endpoint, connection, shared).await
    };
    match timeout(target.limits.handshake, connected).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(DialError::Refused(ended(&error).to_string())),
        Err(_) => Err(DialError::Timeout(target.limits.handshake)),
    }
}

/// A vehicle dials again and again: that buffers are small is said once.
static WARNED: Once = Once::new();

fn bind(target: &Target) -> Result<Ground, DialError> {
    let any = if target.remote.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let address = SocketAddr::new(target.bind.unwrap_or(any), 0);
    let failed = |source| DialError::Bind { address, source };
    let bound = socket::bind(address, target.limits.socket_buffer).map_err(failed)?;
    WARNED.call_once(|| bound.granted.warn_if_below(target.limits.socket_buffer, address));
    Ground::kernel(bound.socket).map_err(failed)
}

fn unusable(error: &impl std::error::Error) -> DialError {
    DialError::Unusable(error.to_string())
}
