//! The vehicle's side: TCP, then TLS, then the upgrade.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::SUBPROTOCOL;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::{self};

use super::{PATH, WebSocketConnection, limits, tune};

/// What to dial, and how.
#[derive(Clone)]
pub struct Target {
    /// The gateway.
    pub remote: SocketAddr,
    /// The name its certificate must be for.
    pub server_name: String,
    /// The local address to leave from; `None`: any.
    pub bind: Option<IpAddr>,
    /// TLS, from [`crate::tls::tcp_client`].
    pub tls: Arc<rustls::ClientConfig>,
    /// Time for TCP, TLS and the upgrade together.
    pub deadline: Duration,
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The local address cannot be used.
    #[error("cannot send from {address}: {source}")]
    Bind {
        /// The local address.
        address: IpAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// A target that cannot be dialed, whatever the network does.
    #[error("cannot be dialed: {0}")]
    Unusable(String),
    /// No TCP connection.
    #[error("no TCP connection: {0}")]
    Tcp(io::Error),
    /// TLS failed: a certificate was refused, by one side or the other.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// The gateway did not upgrade, or not to our subprotocol.
    #[error("the upgrade failed: {0}")]
    Upgrade(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Dials, and returns once the gateway has confirmed the upgrade.
pub async fn dial(target: &Target) -> Result<WebSocketConnection<TlsStream<TcpStream>>, DialError> {
    let connected = async {
        let tcp = tcp(target).await?;
        let tuned = tune(&tcp).map_err(DialError::Tcp)?;
        tracing::debug!(remote = %target.remote, ?tuned, "TCP connected");
        Ok(tcp)
    };
    dial_over(connected, target).await
}

/// Dials over a byte stream that `connected` comes to, in the place of a TCP connection of the kernel's.
pub async fn dial_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    connected: impl Future<Output = Result<S, DialError>>,
    target: &Target,
) -> Result<WebSocketConnection<TlsStream<S>>, DialError> {
    match timeout(target.deadline, connect(connected, target)).await {
        Ok(connected) => connected,
        Err(_) => Err(DialError::Timeout(target.deadline)),
    }
}

async fn connect<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    connected: impl Future<Output = Result<S, DialError>>,
    target: &Target,
) -> Result<WebSocketConnection<TlsStream<S>>, DialError> {
    let name = ServerName::try_from(target.server_name.clone())
        .map_err(|_| DialError::Unusable(format!("{:?} is no server name", target.server_name)))?;
    let request = request(&target.server_name)?;
    let tcp = connected.await?;
    let tls = TlsConnector::from(target.tls.clone()).connect(name, tcp).await.map_err(DialError::Tls)?;
    let (stream, _response) =
        client_async_with_config(request, tls, Some(limits())).await.map_err(|e| upgrade_error(&e))?;
    Ok(WebSocketConnection::new(stream, Some(target.remote)))
}

async fn tcp(target: &Target) -> Result<TcpStream, DialError> {
    let socket = match target.remote {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(DialError::Tcp)?;
    if let Some(address) = target.bind {
        socket.bind(SocketAddr::new(address, 0)).map_err(|source| DialError::Bind { address, source })?;
    }
    socket.connect(target.remote).await.map_err(DialError::Tcp)
}

fn request(server_name: &str) -> Result<Request, DialError> {
    let unusable = |e: tungstenite::Error| DialError::Unusable(e.to_string());
    let mut request = format!("wss://{server_name}{PATH}").into_client_request().map_err(unusable)?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// With TLS 1.3 a refused client certificate shows only in the first answer.
fn upgrade_error(error: &tungstenite::Error) -> DialError {
    match error {
        // What rustls refuses is invalid data, whatever the network does is not.
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            DialError::Tls(io::Error::new(error.kind(), error.to_string()))
        }
        tungstenite::Error::Http(response) => {
            let said = response.body().as_deref().unwrap_or_default();
            let said: String = String::from_utf8_lossy(said).chars().take(200).collect();
            DialError::Upgrade(format!("{} {said}", response.status()).trim_end().into())
        }
        other => DialError::Upgrade(other.to_string()),
    }
}
