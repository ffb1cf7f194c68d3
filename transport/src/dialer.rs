//! Turns a choice of transport into a connection.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::PolicyTable;
use tokio::task::JoinSet;

use crate::Connection;
use crate::clock::BootClock;
use crate::core::keeper::Choice;
use crate::quic::{self, Congestion, Limits};
use crate::websocket;

/// A dial under way; an error is a sentence for people.
pub type Dialing = Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, String>> + Send>>;

/// Dials. Production has [`Network`]; tests dial what they like.
pub trait Dial: Send {
    /// Starts one dial. The future ends within a deadline of its own.
    fn dial(&mut self, choice: Choice) -> Dialing;
}

/// A gateway on the network.
#[derive(Clone)]
pub struct Network {
    /// Host name or address.
    pub host: String,
    /// QUIC.
    pub udp_port: u16,
    /// WebSocket over TLS.
    pub tcp_port: u16,
    /// The name in the gateway's certificate.
    pub server_name: String,
    /// The local address to leave from; `None`: any.
    pub bind: Option<IpAddr>,
    /// From [`crate::tls::quic_client`].
    pub quic_tls: Arc<rustls::ClientConfig>,
    /// From [`crate::tls::tcp_client`].
    pub tcp_tls: Arc<rustls::ClientConfig>,
    /// Of the QUIC connection.
    pub limits: Limits,
    /// Of the QUIC connection.
    pub congestion: Congestion,
    /// Priorities of the lanes.
    pub policies: PolicyTable,
    /// Time for one dial, name resolution included.
    pub deadline: Duration,
    /// The clock of this host.
    pub clock: BootClock,
}

impl Dial for Network {
    fn dial(&mut self, choice: Choice) -> Dialing {
        let network = self.clone();
        Box::pin(async move {
            let deadline = network.deadline;
            match tokio::time::timeout(deadline, network.connect(choice)).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("no answer within {} ms", deadline.as_millis())),
            }
        })
    }
}

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// An address gets this long before the next one joins (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

impl Network {
    /// Dials the addresses of the host, each a little after the one before; the first that answers is
    /// taken.
    async fn connect(self, choice: Choice) -> Result<Box<dyn Connection>, String> {
        let port = match choice {
            Choice::Quic => self.udp_port,
            Choice::WebSocket => self.tcp_port,
        };
        let addresses = tokio::net::lookup_host((self.host.as_str(), port))
            .await
            .map_err(|e| format!("cannot resolve {}: {e}", self.host))?;
        let fits = |address: &SocketAddr| self.bind.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4());
        let mut dials = JoinSet::new();
        for (wait, remote) in (0..).map(|n| STAGGER * n).zip(addresses.filter(fits).take(MAX_ADDRESSES)) {
            let network = self.clone();
            dials.spawn(async move {
                tokio::time::sleep(wait).await;
                network.connect_to(choice, remote).await
            });
        }
        let mut why = format!("{} has no usable address", self.host);
        while let Some(dialed) = dials.join_next().await {
            // Nobody cancels them but this set.
            match dialed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
                Ok(connection) => return Ok(connection),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// What is dialed over QUIC at this address of the host.
    pub fn quic_target(&self, remote: SocketAddr) -> quic::Target {
        quic::Target {
            remote,
            server_name: self.server_name.clone(),
            bind: self.bind,
            tls: self.quic_tls.clone(),
            limits: self.limits,
            congestion: self.congestion,
            policies: self.policies,
        }
    }

    /// What is dialed over WebSocket at this address of the host.
    pub fn websocket_target(&self, remote: SocketAddr) -> websocket::Target {
        websocket::Target {
            remote,
            server_name: self.server_name.clone(),
            bind: self.bind,
            tls: self.tcp_tls.clone(),
            deadline: self.deadline,
        }
    }

    async fn connect_to(self, choice: Choice, remote: SocketAddr) -> Result<Box<dyn Connection>, String> {
        match choice {
            Choice::Quic => {
                let target = self.quic_target(remote);
                let connection = quic::dial(&target, self.clock).await.map_err(|e| e.to_string())?;
                Ok(Box::new(connection))
            }
            Choice::WebSocket => {
                let connection =
                    websocket::dial(&self.websocket_target(remote)).await.map_err(|e| e.to_string())?;
                Ok(Box::new(connection))
            }
        }
    }
}
