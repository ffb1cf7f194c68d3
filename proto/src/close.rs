//! Why a session's peer ends a connection: one table for QUIC, WebTransport and WebSocket.

use std::fmt;

/// A close code. The number is the QUIC and WebTransport application error code and the WebSocket
/// close code alike (RFC 6455, 7.4: 1000 to 2999 the protocol's own, 4000 to 4999 ours). Below 4500
/// the connecting side may connect again; from 4500 on it must stop, for the same refusal would
/// come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// Ended because it was no longer wanted.
    Normal,
    /// The gateway drains: it is going away.
    GoingAway,
    /// The gateway restarts: come back.
    Restarting,
    /// Too many connections or too much work just now.
    Overloaded,
    /// No hello in time.
    HandshakeTimeout,
    /// The peer was silent for too long.
    Dead,
    /// This connection is no longer needed: another one carries the session.
    Replaced,
    /// The peer did not read what it was sent within the write deadline.
    TooSlow,
    /// The peer broke the protocol.
    ProtocolViolation,
    /// No protocol version in common.
    VersionMismatch,
    /// No identity, or more than one.
    Unauthorized,
    /// Another connection with the same identity opened a newer session.
    TakenOver,
    /// A newer code than this build knows.
    Other(u32),
}

impl CloseCode {
    /// Every code with a name of its own.
    pub const ALL: [Self; 12] = [
        Self::Normal,
        Self::GoingAway,
        Self::Restarting,
        Self::Overloaded,
        Self::HandshakeTimeout,
        Self::Dead,
        Self::Replaced,
        Self::TooSlow,
        Self::ProtocolViolation,
        Self::VersionMismatch,
        Self::Unauthorized,
        Self::TakenOver,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Restarting => 1012,
            Self::Overloaded => 1013,
            Self::HandshakeTimeout => 4400,
            Self::Dead => 4401,
            Self::Replaced => 4402,
            Self::TooSlow => 4403,
            Self::ProtocolViolation => 4404,
            Self::VersionMismatch => 4500,
            Self::Unauthorized => 4501,
            Self::TakenOver => 4502,
            Self::Other(number) => number,
        }
    }

    /// The code of a number from the wire.
    pub fn from_number(number: u32) -> Self {
        Self::ALL.into_iter().find(|code| code.number() == number).unwrap_or(Self::Other(number))
    }

    /// May the connecting side try again?
    pub const fn reconnects(self) -> bool {
        self.number() < 4500
    }

    /// The name, as in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Restarting => "restarting",
            Self::Overloaded => "overloaded",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Dead => "dead",
            Self::Replaced => "replaced",
            Self::TooSlow => "too_slow",
            Self::ProtocolViolation => "protocol_violation",
            Self::VersionMismatch => "version_mismatch",
            Self::Unauthorized => "unauthorized",
            Self::TakenOver => "taken_over",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_never_changes() {
        let numbers: Vec<u32> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [1000, 1001, 1012, 1013, 4400, 4401, 4402, 4403, 4404, 4500, 4501, 4502]);
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number()), code);
        }
        assert_eq!(CloseCode::from_number(4999), CloseCode::Other(4999));
    }

    #[test]
    fn from_4500_on_a_peer_stops() {
        let stops: Vec<_> = CloseCode::ALL.into_iter().filter(|code| !code.reconnects()).collect();
        assert_eq!(stops, [CloseCode::VersionMismatch, CloseCode::Unauthorized, CloseCode::TakenOver]);
        assert!(!CloseCode::Other(4777).reconnects());
    }
}
