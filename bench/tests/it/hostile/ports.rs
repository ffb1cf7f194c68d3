//! Whoever can reach a port can send anything to it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{Siege, garbage};
use crate::raw::{Raw, Way};
use crate::wait::PATIENCE;

/// Whether the gateway ends the connection, and what it says before.
async fn said_until_the_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end like any other.
    let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it ends");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_on_every_port_harm_nobody() {
    let siege = Siege::begin().await;
    let (public, internal) = (siege.world.public, siege.world.internal);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for number in 0..2_000_u32 {
        let mut datagram = garbage(number, 1 + (number as usize * 37) % 1_400);
        if number % 3 == 0 && datagram.len() > 8 {
            // A long header of QUIC version 1, or of a version that nobody speaks.
            datagram[0] = 0xc3;
            datagram[1..5].copy_from_slice(&[0, 0, 0, (number % 2) as u8]);
        }
        udp.send_to(&datagram, public).await.unwrap();
    }
    for address in [public, internal] {
        for number in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _refused = stream.write_all(&garbage(number, 4_000)).await;
            said_until_the_end(&mut stream).await;
        }
    }
    for number in 0..10 {
        let mut stream = TcpStream::connect(public).await.unwrap();
        let _refused = stream.write_all(b"GET /v1/vehicles HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let said = said_until_the_end(&mut stream).await;
        assert!(!said.starts_with(b"HTTP"), "{number}: plain HTTP gets no answer but an alert: {said:02x?}");
    }
    siege.counted(r#"carriageway_drops_total{stage="tcp",reason="tls_failed"}"#, 30).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_that_say_nothing_are_let_go() {
    let siege = Siege::begin().await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(siege.world.public).await.unwrap());
    }
    // Vehicles, by their certificates, that never say hello.
    let mut dials = JoinSet::new();
    for number in 0..40 {
        let way = if number % 2 == 0 { Way::Quic } else { Way::WebSocket };
        let mut raw = Raw::vehicle(&siege.world, &format!("mute-{number}"), way).await;
        dials.spawn(async move { raw.listen_to_the_end().await });
    }
    for stream in &mut silent {
        said_until_the_end(stream).await;
    }
    while let Some(ended) = dials.join_next().await {
        ended.unwrap();
    }
    siege.counted(r#"carriageway_drops_total{stage="tcp",reason="tls_timeout"}"#, 400).await;
    siege.counted(r#"carriageway_hellos_total{result="handshake_timeout"}"#, 40).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_drip_in_are_let_go() {
    let siege = Siege::begin().await;
    let mut slow = JoinSet::new();
    for number in 0..30 {
        let mut stream = tls(&siege).await;
        let head = match number % 3 {
            0 => "GET /v1/vehicles HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_owned(),
            1 => String::new(),
            _ => format!(
                "POST /v1/vehicles/honest-quic/commands HTTP/1.1\r\nHost: localhost\r\n\
                 Authorization: Bearer {}\r\nIdempotency-Key: slow\r\nContent-Type: application/json\r\n\
                 Content-Length: 100\r\n\r\n{{",
                siege.world.client.grant(|_| {})
            ),
        };
        slow.spawn(async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            let said = String::from_utf8_lossy(&said_until_the_end(&mut stream).await).into_owned();
            // A body that does not come is answered; a head that does not come is not.
            assert!(number % 3 != 2 || said.starts_with("HTTP/1.1 408"), "{said}");
        });
    }
    while let Some(ended) = slow.join_next().await {
        ended.unwrap();
    }
    siege
        .counted(r#"carriageway_http_requests_total{route="/v1/vehicles/{id}/commands",status="408"}"#, 10)
        .await;
    siege.end().await;
}

/// A TLS connection of an operator.
async fn tls(siege: &Siege) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(super::identities::nobody(&siege.world, b"http/1.1")));
    let tcp = TcpStream::connect(siege.world.public).await.unwrap();
    connector.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await.unwrap()
}
