//! gRPC with bidirectional streams (tonic), over TLS on both ends.
//!
//! As most have it, one stream of one channel carries everything. In its best practice one stream carries what is live, in
//! the order of its worth, and a second channel, which is a TCP connection of its own, carries files: streams of one
//! channel share its congestion window and its losses. Streams are pulled: HTTP/2's flow control says when more is taken.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, BoxStream, Service, http};
use tonic::server::{self, StreamingService};
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig, Uri,
};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::common::{self, Taking, Tuning};
use super::fleet::apart;
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::{Feed, Manner};

/// Streams that have come and that nobody hears yet.
const WAITING: usize = 8;

/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// A connection attempt that takes longer begins anew.
const CONNECTS: Duration = Duration::from_secs(10);

/// How often a silent connection is asked whether it lives, and how long the answer may take. gRPC sets none of itself; servers
/// are advised to allow no less than ten seconds between.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(5)];

/// gRPC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grpc {
    is_best: bool,
}

impl Grpc {
    /// As it is.
    pub(super) const fn as_it_is() -> Self {
        Self { is_best: false }
    }

    /// As those have it who know it well.
    pub(super) const fn best() -> Self {
        Self { is_best: true }
    }

    /// The streams, each in a channel of its own.
    const fn ways(self) -> &'static [Way] {
        if self.is_best { &[Way::Live, Way::Files] } else { &[Way::All] }
    }
}

impl Subject for Grpc {
    fn facts(&self) -> Facts {
        let (title, setup, manner) = if self.is_best {
            (
                "gRPC streams, best practice",
                "mutual TLS; a channel with one stream for what is live, newest state first, and a second channel for files; \
                 TCP bbr, NOTSENT_LOWAT 16 KiB, TCP_USER_TIMEOUT 4 s; keep-alive 10 s",
                Manner::NewestFirst,
            )
        } else {
            (
                "gRPC stream",
                "mutual TLS; one bidirectional stream for all, TCP cubic, keep-alive 10 s, else as the library has it",
                Manner::AsTheyCome,
            )
        };
        Facts { title: title.into(), version: "tonic 0.14.9".into(), setup: setup.into(), manner }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        apart(ends, |end| Box::pin(serve(*self, end)))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(drive(*self, end, reach))
    }
}

/// Which stream: a method of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    All,
    Live,
    Files,
}

impl Way {
    const EVERY: [Self; 3] = [Self::All, Self::Live, Self::Files];

    const fn path(self) -> &'static str {
        match self {
            Self::All => "/carriageway.bench.v1.Carrier/All",
            Self::Live => "/carriageway.bench.v1.Carrier/Live",
            Self::Files => "/carriageway.bench.v1.Carrier/Files",
        }
    }
}

/// What the streams carry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Packet {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

type Codec = ProstCodec<Packet, Packet>;

/// What is to be sent, for as long as no newer stream of its kind has come.
fn outgoing(feed: Feed, way: Way, turns: &watch::Sender<u64>) -> impl Stream<Item = Packet> + Send + 'static {
    turns.send_modify(|turn| *turn += 1);
    let mut turns = turns.subscribe();
    let own = *turns.borrow();
    let over = async move {
        // An error means that the end is over: so is the stream.
        let _over = turns.wait_for(|turn| *turn != own).await;
    };
    let taking = Taking::from(feed.clone(), common::Way::Everything, Manner::AsTheyCome);
    let messages = stream::unfold((feed, taking), move |(feed, mut taking)| async move {
        let payload = match way {
            Way::All => taking.next().await,
            Way::Live => feed.next().await.encode(),
            Way::Files => feed.piece().await.encode(),
        };
        Some((Packet { payload }, (feed, taking)))
    });
    messages.take_until(Box::pin(over))
}

/// Hears a stream to its end.
async fn hear(end: &End, mut incoming: Streaming<Packet>) -> Result<(), Status> {
    while let Some(packet) = incoming.message().await? {
        if let Err(broken) = end.ear.hear(&packet.payload) {
            end.note(broken.to_string());
        }
    }
    Ok(())
}

/// Sets the socket and notes what the kernel made of it; fails where it is not what is asked for.
fn tune(stream: &TcpStream, is_best: bool, end: &End, who: &str) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    // As the library's own connections.
    socket.set_tcp_nodelay(true)?;
    let congestion = if is_best { common::Congestion::Bbr } else { common::Congestion::Cubic };
    let answer = Tuning { congestion, is_best }.tune(&socket).map_err(std::io::Error::other)?;
    end.note(format!("{who}'s TCP: {answer}"));
    Ok(())
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The gateway's service.
#[derive(Clone)]
struct Carrier {
    feed: Feed,
    arrived: mpsc::Sender<Streaming<Packet>>,
    /// Per way, which stream's turn it is.
    turns: Arc<[watch::Sender<u64>; Way::EVERY.len()]>,
}

impl Service<http::Request<Body>> for Carrier {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let carrier = self.clone();
        Box::pin(async move {
            let way = Way::EVERY.into_iter().find(|way| way.path() == request.uri().path());
            let Some(way) = way else {
                return Ok(Status::unimplemented("there is no such method").into_http());
            };
            Ok(server::Grpc::new(Codec::default()).streaming(Call { carrier, way }, request).await)
        })
    }
}

/// One call of a method.
struct Call {
    carrier: Carrier,
    way: Way,
}

impl StreamingService<Packet> for Call {
    type Response = Packet;
    type ResponseStream = BoxStream<Packet>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let (carrier, way) = (self.carrier.clone(), self.way);
        Box::pin(async move {
            let full = |_| Status::resource_exhausted("too many streams at once; try again");
            carrier.arrived.try_send(request.into_inner()).map_err(full)?;
            let outgoing = outgoing(carrier.feed, way, &carrier.turns[way as usize]);
            Ok(Response::new(Box::pin(outgoing.map(Ok)) as BoxStream<Packet>))
        })
    }
}

async fn serve(grpc: Grpc, end: End) -> Result<()> {
    let [chain, key] = end.papers.gateway();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&chain)?, read(&key)?))
        .client_ca_root(Certificate::from_pem(read(&end.papers.authority())?));
    let listener = TcpListener::bind(end.at(0)).await.context("cannot listen on TCP")?;
    let tcp = listener.local_addr()?.port();
    let (arrived, arrivals) = mpsc::channel(WAITING);
    let carrier = Carrier { feed: end.feed.clone(), arrived, turns: Arc::default() };
    let turns = carrier.turns.clone();
    let own = end.clone();
    let incoming = stream::unfold(listener, move |listener| {
        let end = own.clone();
        async move {
            let accepted = listener.accept().await;
            let tuned = accepted
                .and_then(|(stream, _)| tune(&stream, grpc.is_best, &end, "gateway").map(|()| stream));
            Some((tuned, listener))
        }
    });
    let server = Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(KEEPALIVE[0]))
        .http2_keepalive_timeout(Some(KEEPALIVE[1]))
        .serve_with_incoming(carrier, Box::pin(incoming));
    end.ready(Reach { tcp, ..Reach::default() });
    let done = tokio::select! {
        () = end.stopped() => Ok(()),
        ended = server => Err(anyhow!("the server has ended: {ended:?}")),
        () = hear_all(&end, arrivals) => Err(anyhow!("no more streams come")),
    };
    // The library's connections outlive their server: no stream of theirs may go on taking what is due.
    for turn in turns.iter() {
        turn.send_modify(|turn| *turn += 1);
    }
    done
}

async fn hear_all(end: &End, mut arrivals: mpsc::Receiver<Streaming<Packet>>) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(incoming) = arrival else { return };
                let end = end.clone();
                // How a stream ends is its vehicle's to notice.
                streams.spawn(async move { hear(&end, incoming).await.is_ok() });
            }
            Some(_over) = streams.join_next() => {}
        }
    }
}

async fn drive(grpc: Grpc, end: End, reach: Reach) -> Result<()> {
    let mut ways = JoinSet::new();
    let (up, mut connected) = mpsc::channel(grpc.ways().len());
    for way in grpc.ways() {
        ways.spawn(travel(grpc, *way, end.clone(), end.at(reach.tcp), up.clone()));
    }
    let all = async {
        for _ in grpc.ways() {
            connected.recv().await;
        }
        end.ready(Reach::default());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = end.stopped() => Ok(()),
        Some(ended) = ways.join_next() => ended.context("a stream has panicked")?,
        () = all => bail!("it waits for ever"),
    }
}

/// One stream in a channel of its own, again and again.
async fn travel(grpc: Grpc, way: Way, end: End, to: SocketAddr, up: mpsc::Sender<()>) -> Result<()> {
    let [chain, key] = end.papers.vehicle();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&end.papers.authority())?))
        .identity(Identity::from_pem(read(&chain)?, read(&key)?));
    let endpoint = Endpoint::from_shared(format!("https://{to}"))?
        .tls_config(tls)?
        .connect_timeout(CONNECTS)
        .http2_keep_alive_interval(KEEPALIVE[0])
        .keep_alive_timeout(KEEPALIVE[1]);
    let turns = watch::Sender::new(0);
    loop {
        if let Err(why) = once(grpc, way, &end, &endpoint, &turns, &up).await {
            end.note(format!("a stream has ended: {why:#}"));
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn once(
    grpc: Grpc,
    way: Way,
    end: &End,
    endpoint: &Endpoint,
    turns: &watch::Sender<u64>,
    up: &mpsc::Sender<()>,
) -> Result<()> {
    let mut stub = client::Grpc::new(connect(grpc, end, endpoint).await?);
    stub.ready().await?;
    let request = Request::new(outgoing(end.feed.clone(), way, turns));
    let answer = stub.streaming(request, PathAndQuery::from_static(way.path()), Codec::default()).await?;
    // Nobody listens after the first.
    let _later = up.try_send(());
    Ok(hear(end, answer.into_inner()).await?)
}

async fn connect(grpc: Grpc, end: &End, endpoint: &Endpoint) -> Result<Channel> {
    let own = end.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let end = own.clone();
        async move {
            let stream = TcpStream::connect((end.host, uri.port_u16().unwrap_or_default())).await?;
            tune(&stream, grpc.is_best, &end, "vehicle")?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}
