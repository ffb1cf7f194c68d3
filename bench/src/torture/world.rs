//! The processes: a gateway, a relay, vehicles; killed, started again, and cut off from each other.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use carriageway_gateway::auth::{Grant, mint, unix_now};
use carriageway_gateway::certs::Folder;
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::between;
use super::operators::Client;
use crate::daemon::agent_arguments;

/// Longer than any start or end takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// All processes of one run, and where they live.
pub(super) struct World {
    place: PathBuf,
    client: Client,
    relayed: SocketAddr,
    relay: Child,
    gateway: Option<Child>,
    vehicles: BTreeMap<String, Option<Child>>,
    /// What happened to processes, in order: when (microseconds since 1970), which, whether it began.
    pub(super) lives: Vec<(u64, String, bool)>,
}

impl World {
    /// Everything runs and every vehicle is online when this returns.
    pub(super) async fn start(place: &Path, vehicles: &[String]) -> Result<Self> {
        let folder = Folder::new(place.join("certs"));
        folder.init(&[], unix_now())?;
        let ids = vehicles.iter().map(|id| id.parse()).collect::<Result<Vec<_>, _>>()?;
        folder.vehicles(ids, unix_now())?;
        let [public, internal, relayed] =
            free_ports()?.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let config = format!(
            "listen = {{ udp = ['{public}'], tcp = '{public}', internal = '{internal}' }}\n\
             log = {{ format = 'json' }}\n\
             store = {{ path = 'gateway.db' }}\n"
        );
        std::fs::write(place.join("gateway.toml"), config)?;
        let token = token(&folder)?;
        let ca = std::fs::read(folder.path("ca.pem"))?;
        let client = Client::new(&ca, public, internal, token)?;
        let forward = format!("{relayed}={public}");
        let arguments =
            ["relay", "--udp", &forward, "--tcp", &forward, "--delay", "10ms", "--control", "./relay.ctl"];
        let relay = start(place, "carriageway-netem", "relay", &arguments)?;
        let vehicles = vehicles.iter().map(|id| (id.clone(), None)).collect();
        let mut world =
            Self { place: place.into(), client, relayed, relay, gateway: None, vehicles, lives: Vec::new() };
        world.start_gateway().await?;
        for id in world.vehicles.keys().cloned().collect::<Vec<_>>() {
            world.start_vehicle(&id)?;
        }
        world.until_online().await?;
        Ok(world)
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn vehicles(&self) -> impl Iterator<Item = &str> {
        self.vehicles.keys().map(String::as_str)
    }

    /// Where a vehicle's journal is.
    pub(super) fn journal(&self, vehicle: &str) -> PathBuf {
        self.place.join(format!("{vehicle}.db"))
    }

    /// Where a process's log is.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.place.join(format!("{name}.log"))
    }

    async fn start_gateway(&mut self) -> Result<()> {
        self.gateway = Some(start(
            &self.place,
            "carriageway-gateway",
            "gateway",
            &["serve", "--config", "gateway.toml"],
        )?);
        self.note("gateway", true);
        let client = self.client.clone();
        until("the gateway is ready", async || client.is_ready().await).await
    }

    fn start_vehicle(&mut self, id: &str) -> Result<()> {
        let arguments = agent_arguments(id, id, self.relayed.port(), "info,carriageway_agent=debug");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = start(&self.place, "carriageway-agent", id, &arguments)?;
        self.vehicles.insert(id.into(), Some(process));
        self.note(id, true);
        Ok(())
    }

    /// Kills the gateway and starts it again after `dead`.
    pub(super) async fn restart_gateway(&mut self, dead: Duration) -> Result<()> {
        kill(self.gateway.take().context("the gateway runs")?).await?;
        self.note("gateway", false);
        tokio::time::sleep(dead).await;
        self.start_gateway().await
    }

    /// Kills a vehicle's agent and starts it again after `dead`.
    pub(super) async fn restart_vehicle(&mut self, id: &str, dead: Duration) -> Result<()> {
        let process = self.vehicles.get_mut(id).and_then(Option::take).context("the vehicle runs")?;
        kill(process).await?;
        self.note(id, false);
        tokio::time::sleep(dead).await;
        self.start_vehicle(id)
    }

    /// Does something to the link that ends by itself or with the next disturbance.
    pub(super) fn disturb(&self, chance: &mut Pcg64Mcg) -> Result<()> {
        let length = between(chance, 100, 3_000).as_millis();
        match chance.next_u32() % 5 {
            0 => self.order(&format!("outage {length}ms")),
            1 => self.order(&format!("hold {length}ms")),
            2 => self.order("udp drop"),
            3 => self.order("nat-rebind"),
            _ => self.order("udp pass"),
        }
    }

    /// The faults stop, and every vehicle comes back.
    pub(super) async fn heal(&mut self) -> Result<()> {
        self.order("outage end")?;
        self.order("udp pass")?;
        self.until_online().await
    }

    /// Ends everything in good order, so that the journals are whole.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for process in self.vehicles.values_mut().filter_map(Option::take) {
            terminate(process).await?;
        }
        terminate(self.gateway.take().context("the gateway runs")?).await?;
        self.relay.kill().await.context("cannot end the relay")
    }

    async fn until_online(&self) -> Result<()> {
        for id in self.vehicles.keys() {
            until(&format!("{id} is online"), async || self.client.is_online(id).await).await?;
        }
        Ok(())
    }

    /// Gives the relay an order.
    fn order(&self, order: &str) -> Result<()> {
        let mut stream =
            UnixStream::connect(self.place.join("relay.ctl")).context("the relay takes no orders")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{order}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        if answer.trim() == "ok" { Ok(()) } else { bail!("the relay answers {order:?} with {answer:?}") }
    }

    fn note(&mut self, name: &str, began: bool) {
        self.lives.push((wall_micros(), name.into(), began));
    }
}

/// Microseconds since 1970, the clock of every log here.
#[expect(
    clippy::disallowed_methods,
    reason = "logs of several processes are put in order by it; nothing is decided"
)]
pub(super) fn wall_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A token for everything.
fn token(folder: &Folder) -> Result<String> {
    let grant = Grant {
        sub: "torture".into(),
        aud: "carriageway".into(),
        iss: None,
        iat: unix_now(),
        exp: unix_now() + 24 * 3_600,
        scope: "observe command:*".into(),
        vehicles: vec!["*".into()],
    };
    Ok(mint(&std::fs::read_to_string(folder.path("operator.key"))?, &grant)?)
}

/// A program of the product, beside this one.
fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this binary")?;
    let path = own.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    bail!("{} is missing; build the whole workspace first: cargo build --workspace --bins", path.display())
}

/// Starts a program with nothing of this process's environment; all it says is added to its log.
fn start(place: &Path, binary: &str, name: &str, arguments: &[&str]) -> Result<Child> {
    let log = place.join(format!("{name}.log"));
    let said = OpenOptions::new().create(true).append(true).open(&log)?;
    let also = said.try_clone()?;
    let mut command = Command::new(program(binary)?);
    command.args(arguments).current_dir(place).env_clear().stdin(Stdio::null()).stdout(said).stderr(also);
    command.kill_on_drop(true).spawn().with_context(|| format!("cannot start {binary}"))
}

/// SIGKILL: no goodbye, no last write.
async fn kill(mut process: Child) -> Result<()> {
    process.kill().await.context("cannot kill a process of ours")
}

/// SIGTERM, and the end that follows.
async fn terminate(mut process: Child) -> Result<()> {
    if let Some(pid) = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap_or(0))) {
        kill_process(pid, Signal::TERM)?;
    }
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await.context("a process did not stop")??;
    if ended.success() { Ok(()) } else { bail!("a process ended with {ended}") }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .with_context(|| format!("still waiting after {PATIENCE:?}: {what}"))
}

/// Three ports that are free for TCP and UDP alike, below those that the kernel gives to clients.
fn free_ports() -> Result<[u16; 3]> {
    let begin = 12_000 + u16::try_from(std::process::id() % 400)? * 20;
    let is_free = |port: &u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let free: Vec<u16> = (begin..begin + 1_000).filter(is_free).take(3).collect();
    free.try_into().ok().context("no ports are free")
}
