//! What a listener hands on.

use std::net::SocketAddr;

use crate::connection::Connection;
use crate::identity::Identity;

/// A connection whose peer has proven who it is. It has not said hello yet.
pub struct Arrival {
    /// The connection, on its accepting side.
    pub connection: Box<dyn Connection>,
    /// Who the certificate says it is.
    pub identity: Identity,
    /// Where it came from.
    pub remote: SocketAddr,
}
