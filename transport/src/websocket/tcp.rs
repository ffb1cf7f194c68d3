//! TCP sockets that keep little to themselves.

use std::io;

use socket2::SockRef;
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes not yet sent that the kernel keeps for one socket before it takes no more. They can no
/// longer be overtaken: 2 KiB, and the piece that goes over it, take 14 ms at 2 Mbit/s. A piece of a file
/// is at hand while one is on its way; less would starve faster links.
pub const NOTSENT_LOWAT: u32 = 2 * 1024;

/// The congestion control that is asked for. The session bounds bulk by its delay, so cubic does not fill
/// the link's queue with it. BBR would hold more of a lossy link, but every ten seconds it lets only four
/// packets be under way for 200 ms, small ones included, and what is urgent waits: signals under bulk
/// had three times their idle age at p99, against one and a half with cubic (`carriageway-bench lanes`).
const CONGESTION: &[u8] = b"cubic";

/// After this long without an acknowledgement the kernel gives a connection up, as QUIC's idle
/// timeout does.
const GIVE_UP: Duration = Duration::from_secs(15);

/// What a socket was tuned to, as read back from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// The congestion control in use; the system's own where cubic is not available.
    pub congestion: String,
    /// Bytes not yet sent that the kernel keeps.
    pub notsent_lowat: u32,
    /// Small segments leave at once.
    pub nodelay: bool,
}

/// Tunes a TCP socket, before TLS is put on it. Fails only where the socket is already gone; what
/// the kernel refuses shows in the result.
pub fn tune(stream: &TcpStream) -> io::Result<Tuned> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_user_timeout(Some(GIVE_UP))?;
    // Where the module is missing or not allowed, the system's own goes on.
    let _asked = socket.set_tcp_congestion(CONGESTION);
    let congestion = socket.tcp_congestion()?;
    let name = congestion.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Tuned {
        congestion: String::from_utf8_lossy(name).into_owned(),
        notsent_lowat: socket.tcp_notsent_lowat()?,
        nodelay: socket.tcp_nodelay()?,
    })
}
