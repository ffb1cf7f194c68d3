//! The upgrade: what a request must say, and what is answered.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use carriageway_proto::SUBPROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{WebSocketConnection, limits};

/// Bytes that a client may send before the upgrade is complete.
const MAX_BYTES: usize = 8 * 1024;

/// Time that a client has for the upgrade.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a request is no upgrade of ours. Each sentence is fit for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// Not an upgrade to WebSocket.
    #[error("this is a WebSocket: send Connection: Upgrade and Upgrade: websocket")]
    NoUpgrade,
    /// Another version of WebSocket; answer 426 with `Sec-WebSocket-Version: 13`.
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    /// No key, or one that is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// The subprotocol was not offered.
    #[error("offer the subprotocol {SUBPROTOCOL} in Sec-WebSocket-Protocol")]
    Subprotocol,
}

impl WhyNot {
    /// The status to answer with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Subprotocol => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks the headers of a GET request and gives those of the 101 response that completes the
/// upgrade. RFC 6455, 4.2.
pub fn accept_headers(request: &HeaderMap) -> Result<HeaderMap, WhyNot> {
    if !has_token(request, &header::CONNECTION, "upgrade")
        || !has_token(request, &header::UPGRADE, "websocket")
    {
        return Err(WhyNot::NoUpgrade);
    }
    if request.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(WhyNot::Version);
    }
    let key =
        request.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())).ok_or(WhyNot::Key)?;
    if !has_token(request, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(WhyNot::Subprotocol);
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 fits a header");
    Ok(HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)),
    ]))
}

/// Is `token` in one of the comma-separated lists under `name`? Case does not count.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// 16 bytes in base64 are 22 digits and two equals signs.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// Why a client got no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("no complete upgrade request within {DEADLINE:?}")]
    Timeout,
    /// It sent something else, or too much; it was told where it could be.
    #[error("no upgrade: {0}")]
    Failed(String),
}

/// What a refused client is told, as plain text.
pub type Refusal = ErrorResponse;

/// Accepts one client on a stream of its own, where no HTTP server stands before it: reads the
/// request, at most 8 KiB within 5 s, and answers it.
pub async fn accept<S>(
    stream: S,
    remote: Option<SocketAddr>,
) -> Result<WebSocketConnection<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let metered = Metered { stream, left: Some(MAX_BYTES) };
    let upgrade = accept_hdr_async_with_config(metered, respond, Some(limits()));
    let failed = |error: tungstenite::Error| HandshakeError::Failed(error.to_string());
    let mut stream =
        timeout(DEADLINE, upgrade).await.map_err(|_| HandshakeError::Timeout)?.map_err(failed)?;
    stream.get_mut().left = None;
    Ok(WebSocketConnection::new(stream, remote))
}

#[expect(clippy::result_large_err, reason = "tungstenite's callback is made so")]
fn respond(request: &Request, mut response: Response) -> Result<Response, Refusal> {
    match accept_headers(request.headers()) {
        Ok(headers) => {
            *response.headers_mut() = headers;
            Ok(response)
        }
        Err(why) => {
            let mut refusal = Refusal::new(Some(why.to_string()));
            *refusal.status_mut() = why.status();
            refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            Err(refusal)
        }
    }
}

/// A stream that gives only so many bytes until it is trusted.
struct Metered<S> {
    stream: S,
    /// Bytes it may still give; `None`: as many as come.
    left: Option<usize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(left) = &mut self.left {
            let Some(rest) = left.checked_sub(buffer.filled().len() - before) else {
                return Poll::Ready(Err(io::Error::other("the request is larger than 8 KiB")));
            };
            *left = rest;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 6455, 1.3, with our subprotocol among others.
    fn request() -> HeaderMap {
        HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")),
            (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat, carriageway.v1")),
        ])
    }

    #[test]
    fn a_good_request_is_answered_as_the_rfc_says() {
        let response = accept_headers(&request()).unwrap();
        assert_eq!(response[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response[header::SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    }

    #[test]
    fn each_fault_has_its_answer() {
        for (name, value, why) in [
            (header::CONNECTION, "close", WhyNot::NoUpgrade),
            (header::UPGRADE, "h2c", WhyNot::NoUpgrade),
            (header::SEC_WEBSOCKET_VERSION, "8", WhyNot::Version),
            (header::SEC_WEBSOCKET_KEY, "short==", WhyNot::Key),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=?", WhyNot::Key),
            (header::SEC_WEBSOCKET_PROTOCOL, "carriageway.v2", WhyNot::Subprotocol),
        ] {
            let mut headers = request();
            headers.insert(name.clone(), HeaderValue::from_static(value));
            assert_eq!(accept_headers(&headers), Err(why));
            headers.remove(name);
            assert_eq!(accept_headers(&headers), Err(why), "absent");
        }
    }
}
