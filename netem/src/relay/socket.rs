//! Sockets with every option set on purpose.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Kernel buffer of a UDP socket: a burst must not be lost outside the model.
const UDP_BUFFER: usize = 4 << 20;
/// Kernel buffer of a TCP socket in each direction (the kernel doubles it): small, so that backlog stays in the model and the
/// sender feels it.
const TCP_BUFFER: usize = 16 << 10;
/// Segment size of the relay's own connections, so that small buffers hold several segments even where the loopback's MTU is 64 KiB.
const TCP_SEGMENT: u32 = 1448;
/// Connections that the kernel may accept ahead of the relay.
const BACKLOG: i32 = 256;

/// A UDP socket that takes packets for `address`.
pub(super) fn udp_listener(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A UDP socket on a fresh port that talks to `upstream` only.
pub(super) fn udp_to(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(upstream)?;
    socket.connect(&upstream.into())?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The kernel silently caps both at its own limit.
    socket.set_recv_buffer_size(UDP_BUFFER)?;
    socket.set_send_buffer_size(UDP_BUFFER)?;
    Ok(socket)
}

/// A TCP listener whose connections have small buffers.
pub(super) fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A TCP connection to `upstream`, begun but not yet established.
pub(super) fn tcp_to(upstream: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp(upstream)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&upstream.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Before listen and connect: the window scale is fixed in the handshake.
    socket.set_recv_buffer_size(TCP_BUFFER)?;
    socket.set_send_buffer_size(TCP_BUFFER)?;
    socket.set_tcp_mss(TCP_SEGMENT)?;
    Ok(socket)
}

/// Makes an accepted connection ready for use.
pub(super) fn accepted(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

/// Makes closing `stream` send a reset.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // Best effort: a connection that is already dead needs no reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
