//! Where an end of ours gets its clock and its sockets: from the kernel, or from virtual time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};
use carriageway_netem::core::Direction;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::keeper::Choice;
use carriageway_transport::dialer::{self, Dial, Dialing};
use carriageway_transport::quic::{self, Ground, QuicListener};
use carriageway_transport::websocket::{self, DialError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::network::Network;
use super::socket::Socket;
use super::tcp;

/// The first port that is given to who asks for none: the first of the dynamic ones (RFC 6335).
const FIRST_PORT: u16 = 49_152;

/// Where an end is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a network namespace, on the kernel's clock.
    Kernel,
    /// At one end of an emulated link without a clock.
    Virtual(Host),
}

/// One end of an emulated link.
#[derive(Clone, Debug)]
pub struct Host {
    network: Network,
    clock: BootClock,
    address: Ipv4Addr,
    /// Draws what its sockets' users leave to chance.
    seed: u64,
    /// Which way it sends.
    direction: Direction,
    /// Shared by its clones, so that no two sockets have one port.
    next_port: Arc<AtomicU16>,
}

impl Place {
    /// The clock of the end.
    pub fn clock(&self) -> Result<BootClock> {
        match self {
            Self::Kernel => Ok(BootClock::system()?),
            Self::Virtual(host) => Ok(host.clock.clone()),
        }
    }

    /// Listens for QUIC as `config` says; in virtual time on the one address of the end.
    pub fn listen(&self, config: quic::Config) -> Result<QuicListener> {
        let clock = self.clock()?;
        match self {
            Self::Kernel => Ok(QuicListener::bind(config, clock)?),
            Self::Virtual(host) => Ok(QuicListener::over(vec![host.udp()], config, clock)?),
        }
    }

    /// Listens on TCP, on any port of this address; in virtual time on the one address of the end.
    pub async fn listen_tcp(&self, address: Ipv4Addr) -> Result<TcpPort> {
        match self {
            Self::Kernel => {
                let listener = TcpListener::bind((address, 0)).await.context("cannot listen on TCP")?;
                Ok(TcpPort::Kernel(listener))
            }
            Self::Virtual(host) => {
                let listener = tcp::Listener::open(&host.network, host.fresh(), host.direction);
                Ok(TcpPort::Virtual(listener, host.clone()))
            }
        }
    }

    /// Dials what `network` names.
    pub fn dialer(&self, network: dialer::Network) -> Box<dyn Dial> {
        match self {
            Self::Kernel => Box::new(network),
            Self::Virtual(host) => Box::new(Dialer { host: host.clone(), network }),
        }
    }
}

/// Waits for TCP connections of the fallback.
pub enum TcpPort {
    /// The kernel's.
    Kernel(TcpListener),
    /// Of an emulated link without a clock.
    Virtual(tcp::Listener, Host),
}

/// The byte stream of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A TCP connection that has come.
pub struct Arrival {
    /// Tuned as the gateway tunes them.
    pub stream: Box<dyn ByteStream>,
    /// Whose it is.
    pub remote: SocketAddr,
    /// Its congestion control, as read back.
    pub congestion: String,
}

impl TcpPort {
    /// Its number.
    pub fn number(&self) -> Result<u16> {
        match self {
            Self::Kernel(listener) => Ok(listener.local_addr().context("the TCP port")?.port()),
            Self::Virtual(listener, _) => Ok(listener.address().port()),
        }
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&mut self) -> Result<Arrival> {
        match self {
            Self::Kernel(listener) => {
                let (stream, remote) = listener.accept().await.context("cannot accept")?;
                let congestion = websocket::tune(&stream)?.congestion;
                Ok(Arrival { stream: Box::new(stream), remote, congestion })
            }
            Self::Virtual(listener, host) => {
                let (stream, remote) = listener.accept(|| host.fresh()).await;
                Ok(Arrival { stream: Box::new(stream), remote, congestion: MODEL.into() })
            }
        }
    }
}

/// What virtual time has for the kernel's.
const MODEL: &str = "cubic (a model)";

impl Host {
    pub(super) fn new(
        network: Network,
        clock: BootClock,
        seed: u64,
        address: Ipv4Addr,
        direction: Direction,
    ) -> Self {
        let next_port = Arc::new(AtomicU16::new(FIRST_PORT));
        Self { network, clock, address, seed, direction, next_port }
    }

    /// An address that no socket of this end has.
    fn fresh(&self) -> SocketAddr {
        (self.address, self.next_port.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// A new socket, and what quinn draws its chance from on it: not the same on any two.
    fn udp(&self) -> Ground {
        let address = self.fresh();
        let mut seed = [0; 32];
        let numbers = [self.seed, u64::from(address.port()), u64::from(self.address.to_bits())];
        for (place, number) in seed.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let socket = Arc::new(Socket::open(self.network.clone(), address, self.direction));
        Ground { socket, seed: Some(seed) }
    }
}

/// What the production dialer does for an address, from a socket of virtual time.
struct Dialer {
    host: Host,
    network: dialer::Network,
}

impl Dial for Dialer {
    fn dial(&mut self, choice: Choice) -> Dialing {
        let (host, network) = (self.host.clone(), self.network.clone());
        Box::pin(async move {
            let ip: Ipv4Addr =
                network.host.parse().map_err(|_| format!("virtual time has no names: {}", network.host))?;
            match choice {
                Choice::Quic => {
                    let target = network.quic_target((ip, network.udp_port).into());
                    let dialing = quic::dial_from(host.udp(), &target, network.clock);
                    match tokio::time::timeout(network.deadline, dialing).await {
                        Ok(Ok(connection)) => Ok(Box::new(connection) as Box<_>),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err(format!("no answer within {} ms", network.deadline.as_millis())),
                    }
                }
                Choice::WebSocket => {
                    let target = network.websocket_target((ip, network.tcp_port).into());
                    let connected =
                        tcp::Stream::connect(&host.network, host.fresh(), host.direction, target.remote);
                    let connected = async { connected.await.map_err(DialError::Tcp) };
                    let connection =
                        websocket::dial_over(connected, &target).await.map_err(|e| e.to_string())?;
                    Ok(Box::new(connection) as Box<_>)
                }
            }
        })
    }
}
