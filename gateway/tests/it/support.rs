//! A gateway, its vehicles and its operators, for tests.

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use carriageway_gateway::auth::{Grant, mint, unix_now};
use carriageway_gateway::certs::Folder;
use carriageway_gateway::config::Config;
use carriageway_gateway::serve::{Running, ServeError, serve};
use carriageway_gateway::store::StoreError;
use carriageway_transport::clock::BootClock;
use carriageway_transport::tls::{self, Authority, Credentials, Pem};
use carriageway_transport::{Connection, quic, websocket};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use crate::car::{Act, Habit, Vehicle, standing};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";

/// A gateway on loopback, with an authority of its own.
pub(crate) struct Gateway {
    pub(crate) running: Option<Running>,
    pub(crate) folder: Folder,
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) internal: SocketAddr,
    http: reqwest::Client,
    config: Config,
    _dir: TempDir,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        install_provider();
        let dir = TempDir::new().unwrap();
        let folder = Folder::new(dir.path());
        folder.init(&["127.0.0.1".into()], unix_now()).unwrap();
        let mut config = Config::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        config.listen.udp = vec![loopback];
        config.listen.tcp = loopback;
        config.listen.internal = loopback;
        config.tls.ca = folder.path("ca.pem");
        config.tls.cert = folder.path("server.pem");
        config.tls.key = folder.path("server.key");
        config.auth.public_key = folder.path("operator.pub");
        config.quic.secret = Some(folder.path("quic.secret"));
        config.store.path = dir.path().join("state/gateway.db");
        change(&mut config);
        let running = serve(&config).await.unwrap();
        let ca = std::fs::read(folder.path("ca.pem")).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let (tcp, udp, internal) = (running.tcp, running.udp[0], running.internal);
        Self { running: Some(running), folder, tcp, udp, internal, http, config, _dir: dir }
    }

    /// Ends it abruptly, without a drain, and starts another one on the same store.
    pub(crate) async fn crash_and_restart(&mut self) {
        drop(self.running.take());
        // The file is free once the last task of the first has gone.
        let again = async {
            loop {
                match serve(&self.config).await {
                    Ok(running) => return running,
                    Err(ServeError::Store(StoreError::InUse { .. })) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let running = tokio::time::timeout(PATIENCE, again).await.expect("it starts again in time");
        (self.tcp, self.udp, self.internal) = (running.tcp, running.udp[0], running.internal);
        self.running = Some(running);
    }

    /// A vehicle that was here and has no connection now.
    pub(crate) async fn away(&self, id: &str, habit: Habit) -> Vehicle {
        let vehicle = self.vehicle(id, habit).await;
        vehicle.act(Act::Cut).await;
        self.until_presence(id, "offline").await;
        vehicle
    }

    /// A token that may do everything.
    pub(crate) fn token(&self) -> String {
        self.token_with(|_| {})
    }

    pub(crate) fn token_with(&self, change: impl FnOnce(&mut Grant)) -> String {
        let mut grant = Grant {
            sub: "ada".into(),
            aud: "carriageway".into(),
            iss: None,
            iat: unix_now(),
            exp: unix_now() + 600,
            scope: "observe command:* drive".into(),
            vehicles: vec!["*".into()],
        };
        change(&mut grant);
        mint(&std::fs::read_to_string(self.folder.path("operator.key")).unwrap(), &grant).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(self.token())
    }

    /// Without a token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("https://{}{path}", self.tcp)).timeout(PATIENCE)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) fn command(&self, vehicle: &str, key: &str, body: &Json) -> RequestBuilder {
        let path = format!("/v1/vehicles/{vehicle}/commands");
        self.request(Method::POST, &path).header("Idempotency-Key", key).json(body)
    }

    /// Sends a command and waits for its outcome.
    pub(crate) async fn order(&self, vehicle: &str, key: &str, body: &Json) -> Answer {
        let request = self.command(vehicle, key, body).header("Prefer", "wait=15");
        Answer::of(request.send().await.unwrap()).await
    }

    /// Likewise, but `pause` passes between the request's head and the second half of its body.
    pub(crate) async fn slow_order(&self, vehicle: &str, key: &str, body: &Json, pause: Duration) -> Answer {
        let path = format!("/v1/vehicles/{vehicle}/commands");
        let headers = format!("Idempotency-Key: {key}\r\nPrefer: wait=15\r\n");
        self.slow(("POST", &path), &headers, body, pause).await
    }

    /// A request of this method and path, and these headers beside the usual, that pauses likewise.
    pub(crate) async fn slow(
        &self,
        (method, path): (&str, &str),
        headers: &str,
        body: &Json,
        pause: Duration,
    ) -> Answer {
        let body = body.to_string();
        let (token, length) = (self.token(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
             {headers}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        let mut stream = self.tls().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // What it says when it reads on: the head is there.
        let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut go_on).await.unwrap();
        let clock = BootClock::system().unwrap();
        let (first, second) = body.split_at(length / 2);
        stream.write_all(first.as_bytes()).await.unwrap();
        clock.sleep_until(clock.now() + pause).await;
        stream.write_all(second.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers: HeaderMap::new(), body: serde_json::from_str(body).unwrap() }
    }

    /// A TLS connection to the HTTP API.
    pub(crate) async fn tls(&self) -> TlsStream<TcpStream> {
        let (authority, own) = self.credentials("slow");
        let tls = TlsConnector::from(Arc::new(tls::tcp_client(&authority, own).unwrap()));
        let stream = TcpStream::connect(self.tcp).await.unwrap();
        tls.connect("127.0.0.1".try_into().unwrap(), stream).await.unwrap()
    }

    pub(crate) async fn internal(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("http://{}{path}", self.internal)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn credentials(&self, vehicle: &str) -> (Authority, Credentials) {
        let id = vehicle.parse().unwrap();
        let pair = self.folder.authority().unwrap().vehicle(&id, unix_now()).unwrap();
        self.credentials_of(&pair.public, &pair.private)
    }

    pub(crate) fn credentials_of(&self, certificate: &str, key: &str) -> (Authority, Credentials) {
        let authority = Authority::new(&Pem::read(&self.folder.path("ca.pem")).unwrap()).unwrap();
        let own = Credentials::new(&Pem::from_text("cert", certificate), &Pem::from_text("key", key));
        (authority, own.unwrap())
    }

    pub(crate) async fn quic(&self, vehicle: &str) -> Box<dyn Connection> {
        let (authority, own) = self.credentials(vehicle);
        Box::new(self.quic_as(&authority, own).await.unwrap())
    }

    /// Connections of one vehicle that say nothing.
    pub(crate) async fn silent(
        &self,
        vehicle: &str,
        count: usize,
    ) -> Vec<Result<quic::QuicConnection, quic::DialError>> {
        let mut dialed = Vec::new();
        for _ in 0..count {
            let (authority, own) = self.credentials(vehicle);
            dialed.push(self.quic_as(&authority, own).await);
        }
        dialed
    }

    pub(crate) async fn quic_as(
        &self,
        authority: &Authority,
        own: Credentials,
    ) -> Result<quic::QuicConnection, quic::DialError> {
        let target = quic::Target {
            remote: self.udp,
            server_name: "127.0.0.1".into(),
            bind: None,
            tls: Arc::new(tls::quic_client(authority, own).unwrap()),
            limits: quic::Limits::VEHICLE,
            congestion: quic::Congestion::Cubic,
            policies: carriageway_proto::PolicyTable::defaults(),
        };
        quic::dial(&target, BootClock::system().unwrap()).await
    }

    pub(crate) async fn websocket(&self, vehicle: &str) -> Box<dyn Connection> {
        let (authority, own) = self.credentials(vehicle);
        let target = websocket::Target {
            remote: self.tcp,
            server_name: "127.0.0.1".into(),
            bind: None,
            tls: Arc::new(tls::tcp_client(&authority, own).unwrap()),
            deadline: PATIENCE,
        };
        Box::new(websocket::dial(&target).await.unwrap())
    }

    /// A vehicle over QUIC that is online.
    pub(crate) async fn vehicle(&self, id: &str, habit: Habit) -> Vehicle {
        let vehicle = Vehicle::over(self.quic(id).await, habit);
        self.until_presence(id, "online").await;
        vehicle
    }

    /// A vehicle over QUIC that is online, stands, and can be driven.
    pub(crate) async fn drivable(&self, id: &str) -> Vehicle {
        let vehicle = self.vehicle(id, Habit::Obey).await;
        vehicle.act(Act::Say(standing(0, 7))).await;
        let path = format!("/v1/vehicles/{id}/drive");
        until(async || self.get(&path).await.body["state_current"] == true).await;
        vehicle
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Json) -> Answer {
        let request = self.bare(Method::POST, path).bearer_auth(token).json(body);
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn until_presence(&self, id: &str, presence: &str) {
        let path = format!("/v1/vehicles/{id}");
        until(async || self.get(&path).await.body["presence"] == *presence).await;
    }
}

/// Waits for a condition, within [`PATIENCE`].
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the condition holds in time");
}

pub(crate) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

/// A response, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Json,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        Self::whole(response).await.expect("the connection holds until the answer is read")
    }

    /// The answer; `None` where the connection ended within it.
    pub(crate) async fn whole(response: Response) -> Option<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Json::String(text));
        Some(Self { status, headers, body })
    }

    /// The status and slug of a problem, which must say it is one.
    pub(crate) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.body["type"].as_str().unwrap())
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap()
    }
}
