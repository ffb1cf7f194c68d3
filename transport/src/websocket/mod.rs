//! Connections over WebSocket, RFC 6455, on TLS on TCP: the fallback where UDP does not pass.
//!
//! One binary message is one frame; lanes and signals share the byte stream and the session's core
//! multiplexes them. What a socket has taken can no longer be overtaken, so the kernel is kept from
//! taking much.

mod connection;
mod dial;
mod handshake;
mod tcp;

use carriageway_proto::MAX_FRAME;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use connection::WebSocketConnection;
pub use dial::{DialError, Target, dial, dial_over};
pub use handshake::{HandshakeError, Refusal, WhyNot, accept, accept_headers};
pub use tcp::{NOTSENT_LOWAT, Tuned, tune};

/// Where a vehicle asks for the upgrade.
pub const PATH: &str = "/link";

/// Bytes read from the socket at once. tungstenite allocates them for each connection.
pub const READ_BUFFER: usize = 4 * 1024;

/// Bytes that may wait to be written: one frame and its control messages fit several times over.
pub const WRITE_BUFFER: usize = 256 * 1024;

/// Every limit of a vehicle's WebSocket, set explicitly.
pub fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Nothing is held back: a message goes to the socket when it is sent.
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}
