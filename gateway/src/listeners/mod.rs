//! Where the gateway is reached: QUIC for vehicles, TCP with TLS for operators and for vehicles whose
//! network blocks UDP, and a plain port for health and metrics.

pub mod http;
mod stream;
pub mod tcp;
pub mod udp;
mod upgrade;

pub(crate) use upgrade::no_websocket;
pub use upgrade::router as link_router;
