//! Turns a choice of transport into a connection.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::PolicyTable;

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

impl Network {
    async fn connect(self, choice: Choice) -> Result<Box<dyn Connection>, String> {
        let port = match choice {
            Choice::Quic => self.udp_port,
            Choice::WebSocket => self.tcp_port,
        };
        let mut addresses = tokio::net::lookup_host((self.host.as_str(), port))
            .await
            .map_err(|e| format!("cannot resolve {}: {e}", self.host))?;
        let fits =
            |address: &std::net::SocketAddr| self.bind.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4());
        let remote = addresses.find(fits).ok_or_else(|| format!("{} has no usable address", self.host))?;
        match choice {
            Choice::Quic => {
                let target = quic::Target {
                    remote,
                    server_name: self.server_name,
                    bind: self.bind,
                    tls: self.quic_tls,
                    limits: self.limits,
                    congestion: self.congestion,
                    policies: self.policies,
                };
                let connection = quic::dial(&target, self.clock).await.map_err(|e| e.to_string())?;
                Ok(Box::new(connection))
            }
            Choice::WebSocket => {
                let target = websocket::Target {
                    remote,
                    server_name: self.server_name,
                    bind: self.bind,
                    tls: self.tcp_tls,
                    deadline: self.deadline,
                };
                let connection = websocket::dial(&target).await.map_err(|e| e.to_string())?;
                Ok(Box::new(connection))
            }
        }
    }
}
