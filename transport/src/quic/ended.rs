//! How quinn's endings read to people and to the session.

use carriageway_proto::CloseCode;
use quinn::{ApplicationClose, ConnectionError, TransportErrorCode, VarInt};

use crate::core::connection::Ended;

/// The application error code of a connection that was dropped without a word: quinn's own.
pub(super) const DROPPED: VarInt = VarInt::from_u32(0);

/// A close code as quinn carries it.
pub(super) fn wire(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.number())
}

/// What an ending means.
pub(super) fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::ApplicationClosed(close) => by_peer(close),
        ConnectionError::LocallyClosed => Ended::ByUs,
        ConnectionError::ConnectionClosed(close) => {
            let said = String::from_utf8_lossy(&close.reason);
            let what = describe(close.error_code);
            Ended::Failed(if said.is_empty() {
                format!("the peer ended it: {what}")
            } else {
                format!("the peer ended it: {what} ({said})")
            })
        }
        ConnectionError::TransportError(error) if error.reason.is_empty() => {
            Ended::Failed(format!("failed here: {}", describe(error.code)))
        }
        ConnectionError::TransportError(error) => {
            Ended::Failed(format!("failed here: {} ({})", describe(error.code), error.reason))
        }
        ConnectionError::VersionMismatch => {
            Ended::Failed("the peer speaks no version of QUIC that we do".into())
        }
        ConnectionError::Reset => {
            Ended::Failed("the peer no longer knows this connection: it restarted".into())
        }
        ConnectionError::TimedOut => Ended::Failed("timed out: nothing was heard from the peer".into()),
        ConnectionError::CidsExhausted => Ended::Failed("no connection ids left".into()),
    }
}

fn by_peer(close: &ApplicationClose) -> Ended {
    if close.error_code == DROPPED {
        return Ended::Failed("the peer dropped the connection".into());
    }
    // A number beyond 32 bits is none of ours, and none that may reconnect.
    let number = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
    let reason = String::from_utf8_lossy(&close.reason).into_owned();
    Ended::ByPeer { code: CloseCode::from_number(number), reason }
}

/// RFC 9001, 4.8: TLS alerts are the codes from 0x100 on. The ones that a wrong certificate causes are
/// said in words.
fn describe(code: TransportErrorCode) -> String {
    let number = u64::from(code);
    let alert = match number.checked_sub(0x100) {
        Some(42) => "the certificate is not accepted (TLS alert bad_certificate)",
        Some(43) => "the certificate is of an unsupported kind (TLS alert unsupported_certificate)",
        Some(44) => "the certificate was revoked (TLS alert certificate_revoked)",
        Some(45) => "the certificate is expired or not yet valid (TLS alert certificate_expired)",
        Some(46) => "the certificate is not accepted (TLS alert certificate_unknown)",
        Some(48) => "the certificate is from another authority (TLS alert unknown_ca)",
        Some(51) => "the certificate's signature does not verify (TLS alert decrypt_error)",
        Some(70) => "no TLS version in common (TLS alert protocol_version)",
        Some(112) => "no certificate for this server name (TLS alert unrecognized_name)",
        Some(116) => "a client certificate is required (TLS alert certificate_required)",
        Some(120) => "no application protocol in common (TLS alert no_application_protocol)",
        Some(_) | None => return code.to_string(),
    };
    alert.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_said_in_words() {
        assert!(describe(TransportErrorCode::crypto(116)).contains("client certificate is required"));
        assert!(describe(TransportErrorCode::crypto(40)).contains("error 40"));
        assert!(describe(TransportErrorCode::CONNECTION_REFUSED).contains("refused"));
    }

    #[test]
    fn application_codes_are_close_codes_and_zero_is_a_drop() {
        let close = |number: u64| {
            let error_code = VarInt::from_u64(number).unwrap();
            ended(&ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason: "why".into() }))
        };
        assert_eq!(close(4_502), Ended::ByPeer { code: CloseCode::TakenOver, reason: "why".into() });
        assert!(matches!(close(0), Ended::Failed(_)));
        assert!(matches!(close(1 << 40), Ended::ByPeer { code, .. } if !code.reconnects()));
    }
}
