//! UDP sockets: one per address family, with buffers that survive a reconnect storm.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

/// What an endpoint stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Packets go and come through it.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// What the endpoint's chance follows from, but for that of TLS. `None` in production: the operating system's.
    pub seed: Option<[u8; 32]>,
}

impl Ground {
    /// A socket of the kernel's.
    pub(super) fn kernel(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self { socket: TokioRuntime.wrap_udp_socket(socket)?, seed: None })
    }

    /// The endpoint on it.
    pub(super) fn endpoint(
        self,
        mut config: EndpointConfig,
        server: Option<ServerConfig>,
    ) -> io::Result<Endpoint> {
        config.rng_seed(self.seed);
        Endpoint::new_with_abstract_socket(config, server, self.socket, Arc::new(TokioRuntime))
    }
}

/// A bound UDP socket and the buffers that the kernel gave it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: UdpSocket,
    pub(super) granted: Granted,
}

/// Bytes of a socket's buffers as the kernel granted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) receive: usize,
    pub(super) send: usize,
}

/// Binds `address` for its own family alone. A dual-stack socket shows IPv4 peers under mapped
/// addresses, and quinn then takes each new port of theirs for a new path and forgets its round trip.
pub(super) fn bind(address: SocketAddr, buffer: usize) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    let granted = enlarge(&socket, buffer);
    socket.bind(&address.into())?;
    Ok(Bound { socket: socket.into(), granted })
}

/// Asks for large buffers and returns what the kernel gave: a small buffer is no reason to fail.
fn enlarge(socket: &Socket, buffer: usize) -> Granted {
    // Errors show in what is read back.
    let _asked = socket.set_recv_buffer_size(buffer).and_then(|()| socket.set_send_buffer_size(buffer));
    // Linux keeps, and reports, twice what is usable.
    let usable = |reported: io::Result<usize>| reported.map_or(0, |bytes| bytes / 2);
    Granted { receive: usable(socket.recv_buffer_size()), send: usable(socket.send_buffer_size()) }
}

impl Granted {
    /// Tells the operator what to change, where the kernel gave less than `wanted`.
    pub(super) fn warn_if_below(self, wanted: usize, address: SocketAddr) {
        if self.receive < wanted || self.send < wanted {
            tracing::warn!(
                %address, wanted, receive = self.receive, send = self.send,
                "the kernel gave smaller UDP buffers than asked for; \
                 a burst may overrun them: raise net.core.rmem_max and net.core.wmem_max to {wanted}"
            );
        }
    }
}
