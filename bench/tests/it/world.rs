//! A gateway, a relay before it and vehicles behind that, each a process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use carriageway_gateway::auth::{Grant, mint, unix_now};
use carriageway_gateway::certs::Folder;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use carriageway_bench::daemon::agent_arguments;
use carriageway_bench::journal::{self, Entry};

use crate::evidence;
use crate::process::{Process, free_port};
use crate::wait::{PATIENCE, pass, until};

pub(crate) const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";
pub(crate) const CHARGE_LIMIT: &str = "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit";
pub(crate) const TEMPERATURE: &str = "Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature";

/// Lines of each log that a failed test shows.
const SHOWN: usize = 60;

/// Everything of one test.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) folder: Folder,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    gateway: Option<Process>,
    relay: Process,
    /// Where the relay listens, for UDP and TCP alike.
    pub(crate) relayed: SocketAddr,
    vehicles: BTreeMap<String, Vehicle>,
    dir: TempDir,
}

struct Vehicle {
    process: Option<Process>,
    transport: String,
}

impl World {
    /// A gateway with its relay; `more` is added to the gateway's configuration.
    pub(crate) async fn start(more: &str) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        let dir = TempDir::new().unwrap();
        let folder = Folder::new(dir.path().join("certs"));
        folder.init(&[], unix_now()).unwrap();
        let [public, internal, relayed] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let config = format!(
            "listen = {{ udp = ['{public}'], tcp = '{public}', internal = '{internal}' }}\n\
             log = {{ filter = 'info,carriageway_gateway=debug,carriageway_transport=debug' }}\n{more}"
        );
        fs::write(dir.path().join("gateway.toml"), config).unwrap();
        let forward = format!("{relayed}={public}");
        let arguments =
            ["relay", "--udp", &forward, "--tcp", &forward, "--delay", "5ms", "--control", "./relay.ctl"];
        let relay = start(&dir, "carriageway-netem", "relay", &arguments);
        let client = Client::new(&folder, public, internal);
        let vehicles = BTreeMap::new();
        let mut world =
            Self { client, folder, public, internal, gateway: None, relay, relayed, vehicles, dir };
        world.start_gateway().await;
        let control = world.dir.path().join("relay.ctl");
        until("the relay takes orders", async || UnixStream::connect(&control).is_ok()).await;
        world
    }

    /// Starts the gateway, on the same ports each time, and waits until it is ready.
    pub(crate) async fn start_gateway(&mut self) {
        let arguments = ["serve", "--config", "gateway.toml"];
        self.gateway = Some(start(&self.dir, "carriageway-gateway", "gateway", &arguments));
        let client = self.client.clone();
        until("the gateway is ready", async || {
            client.internal("/readyz").await == Some((200, "ready\n".into()))
        })
        .await;
    }

    pub(crate) fn gateway(&mut self) -> &mut Process {
        self.gateway.as_mut().unwrap()
    }

    pub(crate) fn kill_gateway(&mut self) {
        self.gateway.take().unwrap().kill();
    }

    /// What a gateway that does not run had kept is gone.
    pub(crate) fn lose_gateways_disk(&self) {
        assert!(self.gateway.is_none(), "its store is its own while it runs");
        fs::remove_dir_all(self.dir.path().join("state")).unwrap();
    }

    pub(crate) fn vehicle_log(&self, id: &str) -> String {
        fs::read_to_string(self.log(id)).unwrap()
    }

    /// Gives the relay an order.
    pub(crate) fn link(&self, order: &str) {
        let mut stream = UnixStream::connect(self.dir.path().join("relay.ctl")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{order}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "ok", "the relay is told: {order}");
    }

    /// A vehicle that reaches the gateway through the relay, over `auto`, `quic` or `websocket`, and is
    /// within reach when this returns.
    pub(crate) async fn vehicle(&mut self, id: &str, transport: &str) {
        self.folder.vehicles([id.parse().unwrap()], unix_now()).unwrap();
        self.vehicles.insert(id.into(), Vehicle { process: None, transport: transport.into() });
        self.start_vehicle(id);
        self.client.until_presence(id, "online").await;
        self.client.until_carried(id).await;
    }

    /// Starts a vehicle (again), on the journal that it has.
    pub(crate) fn start_vehicle(&mut self, id: &str) {
        let process = self.agent(id, id);
        self.vehicles.get_mut(id).unwrap().process = Some(process);
    }

    /// An agent with the certificate of `id`, whose journal and log are called `name`.
    pub(crate) fn agent(&self, id: &str, name: &str) -> Process {
        let filter = "info,carriageway_agent=debug,carriageway_transport=debug";
        let mut arguments = agent_arguments(id, name, self.relayed.port(), filter);
        arguments.extend(["--set".into(), format!("transport={}", self.vehicles[id].transport)]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        start(&self.dir, "carriageway-agent", name, &arguments)
    }

    /// The terminal client, driving by a script. Its log is called `name`.
    pub(crate) fn drive(&self, vehicle: &str, name: &str, script: &str) -> Process {
        let token = self.client.grant(|grant| grant.scope = "observe drive command:safety".into());
        fs::write(self.dir.path().join("operator.token"), token).unwrap();
        let url = format!("https://{}", self.public);
        start(&self.dir, "carriageway-gateway", name, &["drive", vehicle, "--url", &url, "--script", script])
    }

    pub(crate) fn kill_vehicle(&mut self, id: &str) {
        self.vehicles.get_mut(id).unwrap().process.take().unwrap().kill();
    }

    /// The end that a vehicle's agent comes to by itself.
    pub(crate) async fn vehicle_ended(&mut self, id: &str) -> ExitStatus {
        self.vehicles.get_mut(id).unwrap().process.take().unwrap().ended().await
    }

    /// SIGTERM, and the end that follows.
    pub(crate) async fn stop_vehicle(&mut self, id: &str) -> ExitStatus {
        let mut process = self.vehicles.get_mut(id).unwrap().process.take().unwrap();
        process.terminate();
        process.ended().await
    }

    /// What the vehicle handed to its actuators, over all its runs.
    pub(crate) fn effects(&self, id: &str) -> Vec<(String, f64)> {
        evidence::effects(&self.log(id))
    }

    /// How often the vehicle handed this value of this path to its actuators.
    pub(crate) fn executed(&self, id: &str, path: &str, value: f64) -> usize {
        self.effects(id).iter().filter(|(p, v)| p == path && (v - value).abs() < 1e-9).count()
    }

    /// The journal of a vehicle that does not run.
    pub(crate) fn journal(&self, id: &str) -> BTreeMap<String, Entry> {
        assert!(self.vehicles[id].process.is_none(), "its journal is its own while it runs");
        journal::read(&self.dir.path().join(format!("{id}.db")), id).unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut shown = format!("relay {} runs: {}\n", self.relay.id(), self.relay.is_running());
        for name in ["relay", "gateway"].into_iter().chain(self.vehicles.keys().map(String::as_str)) {
            let text = fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            let _infallible = writeln!(shown, "--- the end of {name}'s log\n{tail}");
        }
        eprintln!("{shown}");
    }
}

fn start(dir: &TempDir, program: &str, name: &str, arguments: &[&str]) -> Process {
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Process::start(program, dir.path(), &dir.path().join(format!("{name}.log")), &arguments)
}

/// A command to send.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) class: &'static str,
    pub(crate) path: String,
    pub(crate) value: Json,
    pub(crate) ttl_ms: u64,
}

impl Order {
    /// Moves the driver's window.
    pub(crate) fn window(percent: f64, ttl_ms: u64) -> Self {
        Self { class: "body", path: WINDOW.into(), value: json!(percent), ttl_ms }
    }

    /// Sets the charge limit: reached at once, 20 to 100.
    pub(crate) fn charge_limit(percent: u32, ttl_ms: u64) -> Self {
        Self { class: "config", path: CHARGE_LIMIT.into(), value: json!(percent), ttl_ms }
    }

    fn body(&self) -> Json {
        json!({ "class": self.class, "path": self.path, "value": self.value, "ttl_ms": self.ttl_ms })
    }
}

/// An operator's program.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    public: SocketAddr,
    internal: SocketAddr,
    key: String,
    token: String,
}

impl Client {
    fn new(folder: &Folder, public: SocketAddr, internal: SocketAddr) -> Self {
        let ca = fs::read(folder.path("ca.pem")).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .no_proxy()
            // Well before the gateway lets go of a connection without requests.
            .pool_idle_timeout(Duration::from_millis(500))
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let key = fs::read_to_string(folder.path("operator.key")).unwrap();
        let mut client = Self { http, public, internal, key, token: String::new() };
        client.token = client.grant(|_| {});
        client
    }

    /// A token that may do everything but for the changes.
    pub(crate) fn grant(&self, change: impl FnOnce(&mut Grant)) -> String {
        let mut grant = Grant {
            sub: "ada".into(),
            aud: "carriageway".into(),
            iss: None,
            iat: unix_now(),
            exp: unix_now() + 600,
            scope: "observe command:*".into(),
            vehicles: vec!["*".into()],
        };
        change(&mut grant);
        mint(&self.key, &grant).unwrap()
    }

    /// A request without a token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("https://{}{path}", self.public))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.bare(Method::GET, path).bearer_auth(&self.token).send().await.unwrap()).await
    }

    /// The internal port's answer, if anybody answers.
    pub(crate) async fn internal(&self, path: &str) -> Option<(u16, String)> {
        let response = self.http.get(format!("http://{}{path}", self.internal)).send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    /// The value of a metric with exactly these labels, as they stand in the text; 0 where there is none.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.internal("/metrics").await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Sends a command and waits up to so many seconds for its outcome.
    pub(crate) async fn send(
        &self,
        vehicle: &str,
        key: &str,
        order: &Order,
        wait: u32,
    ) -> Result<Answer, reqwest::Error> {
        let request = self.bare(Method::POST, &format!("/v1/vehicles/{vehicle}/commands"));
        let request = request.bearer_auth(&self.token).header("Idempotency-Key", key);
        let request = request.header("Prefer", format!("wait={wait}")).json(&order.body());
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Json::String(text)) })
    }

    /// Sends a command to a gateway that must answer with its outcome.
    pub(crate) async fn order(&self, vehicle: &str, key: &str, order: &Order) -> Answer {
        self.send(vehicle, key, order, 20).await.unwrap()
    }

    /// Sends a command with the same key until its outcome is known, whatever comes between.
    pub(crate) async fn insist(&self, vehicle: &str, key: &str, order: &Order) -> Answer {
        let insisting = async {
            loop {
                match self.send(vehicle, key, order, 10).await {
                    Ok(answer) if answer.status == 200 => return answer,
                    Ok(_) | Err(_) => pass(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, insisting).await.unwrap_or_else(|_| panic!("no outcome of {key}"))
    }

    /// Waits until the vehicle carries out commands: after a restart it lets a moment pass, as if its
    /// rate had been used up.
    pub(crate) async fn until_obeys(&self, vehicle: &str) {
        // Never the same twice: a key that was used is answered from its record.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        until(&format!("{vehicle} obeys"), async || {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            // Of a class that is not tested: each class has a rate of its own.
            let order = Order { class: "comfort", path: TEMPERATURE.into(), value: json!(21), ttl_ms: 5_000 };
            let key = format!("does-it-obey-{number}");
            self.send(vehicle, &key, &order, 10).await.is_ok_and(|answer| answer.body["phase"] == "SUCCEEDED")
        })
        .await;
    }

    pub(crate) async fn until_presence(&self, vehicle: &str, presence: &str) {
        let path = format!("/v1/vehicles/{vehicle}");
        let what = format!("{vehicle} is {presence}");
        until(&what, async || self.get(&path).await.body["presence"] == *presence).await;
    }

    /// Waits until something carries the vehicle's lanes: a moment after it is online, since its first
    /// word after the welcome has to come in.
    pub(crate) async fn until_carried(&self, vehicle: &str) {
        let what = format!("something carries {vehicle}'s lanes");
        until(&what, async || self.link(vehicle).await["transport"].is_string()).await;
    }

    pub(crate) async fn link(&self, vehicle: &str) -> Json {
        self.get(&format!("/v1/vehicles/{vehicle}/link")).await.body
    }

    /// The newest value of a signal.
    pub(crate) async fn signal(&self, vehicle: &str, path: &str) -> Json {
        let body = self.get(&format!("/v1/vehicles/{vehicle}/signals")).await.body;
        let signals = body["signals"].as_array().cloned().unwrap_or_default();
        signals
            .into_iter()
            .find(|signal| signal["path"] == *path)
            .map_or(Json::Null, |one| one["value"].clone())
    }
}

/// A response, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Json,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Json::String(text)) }
    }

    pub(crate) fn phase(&self) -> &str {
        self.body["phase"].as_str().unwrap_or_else(|| panic!("no phase in {self:?}"))
    }

    /// The status and the slug of a problem, which must say it is one.
    pub(crate) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.body["type"].as_str().unwrap())
    }
}
