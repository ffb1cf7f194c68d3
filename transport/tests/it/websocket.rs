//! WebSocket connections, over TLS on loopback and over plain streams in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{CloseCode, MAX_FRAME};
use carriageway_transport::Connection;
use carriageway_transport::core::connection::{Channel, Ended, Lanes};
use carriageway_transport::identity::{Identity, IdentityError};
use carriageway_transport::tls::{self, Credentials};
use carriageway_transport::websocket::{
    self, DialError, HandshakeError, NOTSENT_LOWAT, Target, Tuned, WebSocketConnection, dial, tune,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::conformance::rig::Making;
use crate::support::{Ca, Held, PATIENCE};

const SHARED: Channel = Channel::Shared;

struct World {
    ca: Ca,
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl World {
    async fn new() -> Self {
        let ca = Ca::new("ca");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls::tcp_server(&ca.authority(), ca.gateway()).unwrap();
        Self { ca, listener, address, acceptor: TlsAcceptor::from(Arc::new(tls)) }
    }

    fn target(&self, own: Credentials) -> Target {
        Target {
            remote: self.address,
            server_name: "localhost".into(),
            bind: None,
            tls: Arc::new(tls::tcp_client(&self.ca.authority(), own).unwrap()),
            deadline: Duration::from_secs(5),
        }
    }

    async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (tcp, _) = self.listener.accept().await?;
        tune(&tcp)?;
        self.acceptor.accept(tcp).await
    }

    /// A vehicle and the gateway's side of its connection.
    async fn pair(&self) -> (Held, Held) {
        let target = self.target(self.ca.vehicle("truck-7"));
        let gateway = async {
            let stream = self.tls().await.unwrap();
            let identity = Identity::from_chain(&tls::peer_chain(stream.get_ref().1));
            assert_eq!(identity, Ok(Identity::Vehicle("truck-7".parse().unwrap())));
            websocket::accept(stream, None).await.unwrap()
        };
        let (vehicle, gateway) = tokio::join!(Box::pin(dial(&target)), Box::pin(gateway));
        (held(vehicle.unwrap()), held(gateway))
    }
}

fn held(connection: impl Connection + 'static) -> Held {
    Held::new(Box::new(connection) as Box<dyn Connection>)
}

/// A connection, and a WebSocket on the other end that need not keep to our protocol.
async fn stranger() -> (Held, WebSocketStream<DuplexStream>) {
    let (here, there) = duplex(4 * 1024);
    let connection = WebSocketConnection::accepted(here, None).await;
    (held(connection), WebSocketStream::from_raw_socket(there, Role::Client, None).await)
}

fn numbered(number: u32, size: usize) -> Bytes {
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(size, 7);
    frame.into()
}

#[tokio::test]
async fn frames_keep_their_order_both_ways() {
    let world = World::new().await;
    let (mut vehicle, mut gateway) = world.pair().await;
    assert_eq!(vehicle.connection.capabilities().lanes, Lanes::Shared);
    assert_eq!(vehicle.connection.capabilities().datagram, None);
    for number in 0..200 {
        let size = if number % 50 == 0 { MAX_FRAME } else { 40 + number as usize };
        let here = async {
            vehicle.send(SHARED, numbered(number, size)).await;
            vehicle.until("room", |held| held.room.contains(&SHARED)).await;
            vehicle.frame().await
        };
        let there = async {
            let frame = gateway.frame().await;
            gateway.send(SHARED, frame.1.clone()).await;
            gateway.until("room", |held| held.room.contains(&SHARED)).await;
            frame
        };
        let (echo, frame) = tokio::join!(here, there);
        assert_eq!(frame, (SHARED, numbered(number, size)));
        assert_eq!(echo, frame);
    }
}

#[tokio::test]
async fn room_comes_once_per_frame_and_stops_when_the_peer_does_not_read() {
    let (here, mut there) = duplex(1_024);
    let mut gateway = held(WebSocketConnection::accepted(here, None).await);
    gateway.send(SHARED, numbered(1, 500)).await;
    gateway.send(SHARED, numbered(2, 500)).await;
    let waited =
        timeout(Duration::from_millis(50), gateway.until("room", |held| held.rooms.len() == 3)).await;
    assert!(waited.is_ok(), "two frames of 500 bytes fit");
    gateway.send(SHARED, numbered(3, 500)).await;
    let waited =
        timeout(Duration::from_millis(50), gateway.until("room", |held| held.rooms.len() == 4)).await;
    assert!(waited.is_err(), "a third does not: its room is not announced");
    let read = async { there.read_exact(&mut [0; 1_000]).await.unwrap() };
    let (_, ()) = tokio::join!(read, gateway.until("room", |held| held.rooms.len() == 4));
}

#[tokio::test]
async fn the_kernel_takes_little_of_a_backlog() {
    let world = World::new().await;
    let (mut vehicle, gateway) = world.pair().await;
    let mut taken = 0;
    while timeout(Duration::from_millis(300), vehicle.send(SHARED, numbered(taken, 4 * 1024))).await.is_ok() {
        taken += 1;
        // The peer's receive buffer, and our few KiB. A socket that is not tuned takes megabytes.
        assert!(taken < 200, "the kernel takes frames without end");
    }
    drop(gateway);
    assert!(matches!(vehicle.end().await, Ended::Failed(_)));
}

#[tokio::test]
async fn a_connection_at_rest_is_left_alone() {
    let world = World::new().await;
    let (mut vehicle, mut gateway) = world.pair().await;
    vehicle.send(SHARED, numbered(1, 30)).await;
    vehicle.until("room", |held| held.room.contains(&SHARED)).await;
    gateway.frame().await;
    gateway.until("room", |held| held.room.contains(&SHARED)).await;
    assert!(vehicle.polls_at_rest().await < 20);
    assert!(gateway.polls_at_rest().await < 20);
}

#[tokio::test]
async fn sockets_are_tuned_and_limits_are_in_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let Tuned { congestion, notsent_lowat, nodelay } = tune(&tcp).unwrap();
    assert!(nodelay && notsent_lowat == NOTSENT_LOWAT && !congestion.is_empty());
    let limits = websocket::limits();
    assert_eq!((limits.read_buffer_size, limits.max_write_buffer_size), (4 * 1024, 256 * 1024));
    assert_eq!((limits.max_message_size, limits.max_frame_size), (Some(64 * 1024), Some(64 * 1024)));
}

#[tokio::test]
async fn closes_carry_their_code_both_ways_and_come_after_the_last_frame() {
    let world = World::new().await;
    let long = "ü".repeat(100);
    for code in [CloseCode::GoingAway, CloseCode::Restarting, CloseCode::TakenOver, CloseCode::Dead] {
        let (mut vehicle, mut gateway) = world.pair().await;
        gateway.send(SHARED, numbered(1, 5_000)).await;
        let (ours, theirs) = tokio::join!(gateway.close(code, "so long"), vehicle.end());
        assert_eq!(ours, Ended::ByUs);
        assert_eq!(theirs, Ended::ByPeer { code, reason: "so long".into() });
        assert_eq!(vehicle.frames, [(SHARED, numbered(1, 5_000))]);

        let (mut vehicle, mut gateway) = world.pair().await;
        vehicle.send(SHARED, numbered(1, 5_000)).await;
        let (ours, theirs) = tokio::join!(vehicle.close(code, &long), gateway.end());
        assert_eq!(ours, Ended::ByUs);
        assert_eq!(theirs, Ended::ByPeer { code, reason: "ü".repeat(61) });
        assert_eq!(gateway.frames.len(), 1);
    }
}

#[tokio::test]
async fn a_close_that_nobody_answers_ends_within_its_second() {
    let (mut gateway, stranger) = stranger().await;
    gateway.send(SHARED, numbered(1, MAX_FRAME)).await;
    let ended = timeout(Duration::from_secs(2), gateway.close(CloseCode::Normal, "")).await;
    assert_eq!(ended, Ok(Ended::ByUs));
    drop(stranger);
}

#[tokio::test]
async fn a_dropped_connection_is_noticed() {
    let world = World::new().await;
    let (vehicle, mut gateway) = world.pair().await;
    drop(vehicle);
    let ended = gateway.end().await;
    assert!(matches!(&ended, Ended::Failed(why) if !why.is_empty()), "{ended:?}");
}

/// What we say and send when a stranger sends this.
async fn answer(message: Message) -> (Ended, tungstenite::Result<Message>) {
    let (mut gateway, mut stranger) = stranger().await;
    let send = async {
        // The connection may be over before all of it is through.
        let _sent = stranger.send(message).await;
        stranger.next().await.unwrap()
    };
    let end = async move { gateway.end().await };
    let (ended, heard) = tokio::join!(end, timeout(PATIENCE, send));
    (ended, heard.unwrap())
}

#[tokio::test]
async fn messages_that_are_no_frames_are_refused() {
    for (what, message) in [
        ("text", Message::text("hello")),
        ("empty", Message::binary(Bytes::new())),
        ("oversize", Message::binary(vec![0; MAX_FRAME + 1])),
    ] {
        let (ended, heard) = answer(message).await;
        assert!(
            matches!(&ended, Ended::Failed(why) if why.contains("broke the protocol")),
            "{what}: {ended:?}"
        );
        if what != "oversize" {
            let Ok(Message::Close(Some(close))) = heard else { panic!("{what}: {heard:?}") };
            assert_eq!(u32::from(u16::from(close.code)), CloseCode::ProtocolViolation.number());
        }
    }
}

#[tokio::test]
async fn garbage_ends_a_connection() {
    let (here, mut there) = duplex(4 * 1024);
    let mut gateway = held(WebSocketConnection::accepted(here, None).await);
    there.write_all(&[0xff; 64]).await.unwrap();
    assert!(matches!(gateway.end().await, Ended::Failed(why) if why.contains("broke the protocol")));
}

#[tokio::test]
async fn pings_are_answered_while_room_is_awaited() {
    let (mut gateway, mut stranger) = stranger().await;
    gateway.until("room", |held| !held.room.is_empty()).await;
    stranger.send(Message::Ping("?".into())).await.unwrap();
    let pong = tokio::select! {
        () = gateway.until("nothing", |_| false) => unreachable!(),
        pong = stranger.next() => pong.unwrap().unwrap(),
    };
    assert_eq!(pong, Message::Pong("?".into()));
}

#[tokio::test]
async fn a_gateway_without_our_subprotocol_is_refused() {
    let world = World::new().await;
    let target = world.target(world.ca.vehicle("truck-7"));
    let gateway = async {
        let mut stream = world.tls().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let (vehicle, _gateway) = tokio::join!(dial(&target), gateway);
    let Err(DialError::Upgrade(why)) = vehicle else { panic!("a link without a subprotocol") };
    assert!(why.to_lowercase().contains("subprotocol"), "{why}");
}

#[tokio::test]
async fn requests_that_are_none_of_ours_are_answered_and_bounded() {
    let (here, mut there) = duplex(64 * 1024);
    let request = "GET /link HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    there.write_all(request.as_bytes()).await.unwrap();
    assert!(matches!(websocket::accept(here, None).await, Err(HandshakeError::Failed(_))));
    let mut answer = String::new();
    there.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("offer the subprotocol carriageway.v1"),
        "{answer}"
    );

    let (here, mut there) = duplex(64 * 1024);
    there.write_all(format!("GET /link HTTP/1.1\r\nX: {}\r\n", "x".repeat(9_000)).as_bytes()).await.unwrap();
    let refused = timeout(PATIENCE, websocket::accept(here, None)).await.unwrap();
    assert!(matches!(refused, Err(HandshakeError::Failed(why)) if why.contains("8 KiB")));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_given_up() {
    let (here, _there) = duplex(64);
    assert!(matches!(websocket::accept(here, None).await, Err(HandshakeError::Timeout)));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_words() {
    let world = World::new().await;
    let target = world.target(Ca::new("other").vehicle("truck-7"));
    let (vehicle, gateway) = tokio::join!(dial(&target), world.tls());
    assert!(gateway.is_err());
    let error = vehicle.err().unwrap();
    assert!(matches!(error, DialError::Tls(_)) && error.to_string().contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn an_operator_needs_no_certificate_but_has_no_vehicle_identity() {
    let world = World::new().await;
    let mut target = world.target(world.ca.vehicle("unused"));
    target.tls = Arc::new(crate::support::without_certificate(&world.ca, tls::HTTP_ALPN));
    let gateway = async {
        let stream = world.tls().await.unwrap();
        let identity = Identity::from_chain(&tls::peer_chain(stream.get_ref().1));
        (identity, websocket::accept(stream, None).await.is_ok())
    };
    let (operator, (identity, accepted)) = tokio::join!(dial(&target), gateway);
    assert!(operator.is_ok() && accepted);
    assert_eq!(identity, Err(IdentityError::NoCertificate));
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let world = World::new().await;
    let mut target = world.target(world.ca.vehicle("truck-7"));
    drop(world.listener);
    assert!(matches!(dial(&target).await, Err(DialError::Tcp(_))));
    target.server_name = "not a name".into();
    assert!(matches!(dial(&target).await, Err(DialError::Unusable(_))));
}

/// Connected pairs over WebSocket and TLS, for the conformance suite: connecting end first.
pub(crate) async fn pairs() -> impl Fn() -> Making + Send + Sync + 'static {
    let world = Arc::new(World::new().await);
    move || {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let (vehicle, gateway) = Box::pin(world.pair()).await;
            (vehicle.connection, gateway.connection)
        })
    }
}
