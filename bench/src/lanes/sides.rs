//! The gateway on one side of the link, the vehicle on the other, each on a thread with a runtime of its own.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use carriageway_agent::agent::{self, Agent, Handle};
use carriageway_agent::core::sim::{Simulated, road::Road};
use carriageway_agent::core::vehicle::{Actuation, Applied, Drivable, Progress, Target, Vehicle};
use carriageway_agent::journal::{Journal, Loaded};
use carriageway_gateway::auth::{Grant, mint, unix_now};
use carriageway_gateway::certs::Folder;
use carriageway_gateway::config::{self, ClassOverride};
use carriageway_gateway::hub::Hub;
use carriageway_gateway::serve::serve;
use carriageway_proto::{Class, Epoch, Moment, PolicyTable, SignalPath, Value, VehicleId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::keeper::{self, Allowed};
use carriageway_transport::dialer::Network;
use carriageway_transport::link::Link;
use carriageway_transport::quic::{Congestion, Limits};
use carriageway_transport::tls::{self, Authority, Credentials, Pem};
use carriageway_transport::{client, websocket};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::bed::{Bed, Side};
use super::{Load, Point, Transport};

/// The vehicle.
pub(super) const VEHICLE: &str = "bench-1";

/// Carries the moment of each look at the vehicle's signals.
pub(super) static PROBE: LazyLock<SignalPath> =
    LazyLock::new(|| "Vehicle.Carriageway.Bench.LookedAt".parse().expect("it is a VSS path"));

/// The targets of the measured commands begin like this.
const LAMP: &str = "Vehicle.Carriageway.Bench.Lamp";

/// The target of the measured command of this number: one of its own, so that none waits for another or repeats it.
pub(super) fn lamp(number: usize) -> String {
    format!("{LAMP}{number}")
}

/// A side that does not get ready within this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than any run uploads.
const ENDLESS: u64 = 1 << 40;

/// Certificates and keys of one run, in a directory that goes with it.
pub(super) struct Papers {
    folder: Folder,
    _place: TempDir,
}

impl Papers {
    pub(super) fn new() -> Result<Self> {
        let place = TempDir::new().context("cannot make a temporary directory")?;
        let folder = Folder::new(place.path());
        let hosts = [carriageway_netem::testbed::SERVER.to_string(), Ipv4Addr::LOCALHOST.to_string()];
        folder.init(&hosts, unix_now())?;
        folder.vehicles([VEHICLE.parse::<VehicleId>()?], unix_now())?;
        Ok(Self { folder, _place: place })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    fn vehicle(&self) -> Result<Credentials> {
        let read = |kind: &str| Pem::read(&self.path(&format!("vehicles/{VEHICLE}.{kind}")));
        Ok(Credentials::new(&read("pem")?, &read("key")?)?)
    }

    /// The authority's certificate, in PEM.
    pub(super) fn authority(&self) -> Result<Vec<u8>> {
        std::fs::read(self.path("ca.pem")).context("cannot read the authority's certificate")
    }

    /// A token that may do everything for an hour.
    pub(super) fn token(&self) -> Result<String> {
        let grant = Grant {
            sub: "bench".into(),
            aud: "carriageway".into(),
            iss: None,
            iat: unix_now(),
            exp: unix_now() + 3_600,
            scope: "observe command:*".into(),
            vehicles: vec!["*".into()],
        };
        let key =
            std::fs::read_to_string(self.path("operator.key")).context("cannot read the operators' key")?;
        Ok(mint(&key, &grant)?)
    }
}

/// A side that runs; it ends when it is told to, or with this.
pub(super) struct Running<T> {
    pub(super) facts: T,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl<T> Running<T> {
    /// Waits until the side has ended in good order.
    pub(super) fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let thread = self.thread.take().expect("only stopping takes it");
        thread.join().map_err(|_| anyhow!("a side of the link panicked"))?
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Whoever drops it unasked is on the way out with an error of its own.
            let _ended = thread.join();
        }
    }
}

fn running<T>(
    thread: JoinHandle<Result<()>>,
    ready: &Receiver<T>,
    stop: watch::Sender<bool>,
) -> Result<Running<T>> {
    match ready.recv_timeout(PATIENCE) {
        Ok(facts) => Ok(Running { facts, stop, thread: Some(thread) }),
        Err(_) if thread.is_finished() => match thread.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => bail!("a side of the link ended before it was ready"),
        },
        Err(_) => bail!("a side of the link was not ready within {} s", PATIENCE.as_secs()),
    }
}

/// A runtime for one side.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

async fn told(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it: as good as said.
    let _said = stop.wait_for(|stop| *stop).await;
}

/// What is known of a gateway.
pub(super) struct GatewayFacts {
    pub(super) hub: Hub,
    pub(super) udp: u16,
    pub(super) tcp: u16,
}

/// Starts the real gateway on the network's side. Of its limits only those that would refuse the load
/// itself are raised: rate, burst and number in flight of class body.
pub(super) fn gateway(bed: &Bed, papers: &Papers, congestion: Congestion) -> Result<Running<GatewayFacts>> {
    let config = gateway_config(bed, papers, congestion);
    let (stop, stopped) = watch::channel(false);
    let (tell, ready) = sync_channel(1);
    let thread = bed.spawn(Side::Net, "bench-gateway", move || {
        runtime()?.block_on(async move {
            let running = serve(&config).await?;
            let facts = GatewayFacts {
                hub: running.hub().clone(),
                udp: running.udp.first().context("the gateway has no UDP port")?.port(),
                tcp: running.tcp.port(),
            };
            tell.send(facts).context("nobody waits for the gateway")?;
            told(stopped).await;
            running.drain().await;
            Ok(())
        })
    })?;
    running(thread, &ready, stop)
}

fn gateway_config(bed: &Bed, papers: &Papers, congestion: Congestion) -> config::Config {
    let mut config = config::Config::default();
    config.listen.udp = vec![bed.listen()];
    config.listen.tcp = bed.listen();
    config.listen.internal = (Ipv4Addr::LOCALHOST, 0).into();
    config.tls.ca = papers.path("ca.pem");
    config.tls.cert = papers.path("server.pem");
    config.tls.key = papers.path("server.key");
    config.auth.public_key = papers.path("operator.pub");
    config.quic.secret = None;
    config.store.path = papers.path("gateway.db");
    config.quic.congestion = congestion;
    config.drain.deadline_ms = 3_000;
    let raised = ClassOverride {
        rate_per_second: Some(10_000),
        burst: Some(10_000),
        in_flight: Some(1_000),
        ..ClassOverride::default()
    };
    config.classes.insert(Class::Body.name().into(), raised);
    config
}

/// What is known of a vehicle.
pub(super) struct VehicleFacts {
    pub(super) link: Link,
    /// The kernel's congestion control for a TCP connection made and tuned as the fallback's.
    pub(super) tcp_congestion: String,
}

/// How to start a vehicle.
pub(super) struct Vehicles<'a> {
    pub(super) bed: &'a Bed,
    pub(super) papers: &'a Papers,
    pub(super) point: &'a Point,
    pub(super) congestion: Congestion,
    /// Host, UDP port, TCP port.
    pub(super) gateway: (String, u16, u16),
}

/// Starts the real agent with a simulated vehicle; under [`Load::Bulk`] it uploads from the first moment on.
pub(super) fn vehicle(start: &Vehicles<'_>) -> Result<Running<VehicleFacts>> {
    let network = network(start)?;
    let allowed = match start.point.transport {
        Transport::Quic => Allowed::QuicOnly,
        Transport::WebSocket => Allowed::WebSocketOnly,
    };
    let (load, seed) = (start.point.load, start.point.seed);
    let (stop, stopped) = watch::channel(false);
    let (tell, ready) = sync_channel(1);
    let thread = start.bed.spawn(Side::Vehicle, "bench-vehicle", move || {
        runtime()?.block_on(async move {
            let tcp_congestion =
                tcp_congestion(&network).await.unwrap_or_else(|error| format!("unknown: {error:#}"));
            let clock = network.clock.clone();
            let keeper = keeper::Config { allowed, ..keeper::Config::default() };
            let config = client::Config { keeper, ..client::Config::default() };
            let (link, happenings, session) =
                client::start(config, clock.clone(), Box::new(network), Epoch::NONE, seed);
            let simulated = Simulated::new(Arc::new(Road::tiergarten()), seed, clock.now());
            let journal = (Journal::volatile(), Loaded::default());
            let (agent, handle) =
                Agent::new(agent_config(), clock, Probed(simulated), journal, (link.clone(), happenings));
            tell.send(VehicleFacts { link, tcp_congestion }).context("nobody waits for the vehicle")?;
            let both = async { tokio::join!(agent.run(told(stopped.clone())), session) };
            tokio::select! {
                _ended = both => Ok(()),
                failed = upload(handle, load, &stopped) => failed,
            }
        })
    })?;
    running(thread, &ready, stop)
}

/// Returns only if the upload ends although nobody has told the vehicle to stop.
async fn upload(handle: Handle, load: Load, stopped: &watch::Receiver<bool>) -> Result<()> {
    if load == Load::Bulk {
        let endless = tokio::io::repeat(0x55).take(ENDLESS);
        let ended = handle.upload("bench.log", endless, |_| ()).await;
        if !*stopped.borrow() {
            return Err(anyhow!("the upload ended: {ended:?}"));
        }
    }
    std::future::pending().await
}

fn agent_config() -> agent::Config {
    let mut policies = PolicyTable::defaults();
    let body = &mut policies[Class::Body];
    (body.rate_per_second, body.burst, body.in_flight) = (Some(10_000), 10_000, 1_000);
    agent::Config { policies, ..agent::Config::default() }
}

fn network(start: &Vehicles<'_>) -> Result<Network> {
    let authority = Authority::new(&Pem::from_text("the authority", start.papers.authority()?))?;
    let credentials = start.papers.vehicle()?;
    let (host, udp_port, tcp_port) = start.gateway.clone();
    Ok(Network {
        server_name: host.clone(),
        host,
        udp_port,
        tcp_port,
        bind: None,
        quic_tls: Arc::new(tls::quic_client(&authority, credentials.clone())?),
        tcp_tls: Arc::new(tls::tcp_client(&authority, credentials)?),
        limits: Limits::VEHICLE,
        congestion: start.congestion,
        policies: PolicyTable::defaults(),
        deadline: Duration::from_secs(5),
        clock: BootClock::system()?,
    })
}

/// Asks the kernel what it really uses: the system's default differs between machines and namespaces.
async fn tcp_congestion(network: &Network) -> Result<String> {
    let stream = tokio::net::TcpStream::connect((network.host.as_str(), network.tcp_port)).await?;
    Ok(websocket::tune(&stream)?.congestion)
}

/// A vehicle that says when it was looked at, last of all signals: those wait for the ones before them. It has
/// any number of lamps, which are on at once: a command's time is the link's and not an actuator's.
struct Probed(Simulated);

impl Vehicle for Probed {
    fn observe(&mut self, now: Moment, changed: &mut Vec<(SignalPath, Value)>) {
        self.0.observe(now, changed);
        changed.push((PROBE.clone(), Value::Int(now.as_micros().cast_signed())));
    }

    fn apply(&mut self, now: Moment, actuation: Actuation, target: &Target) -> Applied {
        if target.class == Class::Body && target.path.as_str().starts_with(LAMP) {
            return Applied::Done;
        }
        self.0.apply(now, actuation, target)
    }

    fn stop(&mut self, now: Moment, actuation: Actuation) {
        self.0.stop(now, actuation);
    }

    fn progress(&mut self, now: Moment) -> Option<Progress> {
        self.0.progress(now)
    }

    fn class_of(&self, path: &SignalPath) -> Option<Class> {
        self.0.class_of(path)
    }

    fn drivable(&mut self) -> Option<&mut dyn Drivable> {
        self.0.drivable()
    }
}
