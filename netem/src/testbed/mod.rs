//! Vehicles and a network in namespaces of their own, with TUN devices between them: real kernels' TCP and UDP over the model.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use carriageway_netem::profile::Profile;
//! use carriageway_netem::testbed::{Config, SERVER, Testbed};
//!
//! let bed = Testbed::start(Config::new(Profile::find("lte-edge")?).seed(7))?;
//! // A socket belongs to the namespace in which it was opened, and can be used from any thread.
//! let listener = bed.net().within(|| TcpListener::bind((SERVER, 4433)))?;
//! let stream = bed.vehicle(0).within(|| std::net::TcpStream::connect((SERVER, 4433)))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`: root, or a user namespace where `/dev/net/tun` is open to the user. Namespaces have
//! no names and TUN devices no persistence, so nothing stays when the process ends, however it ends. End the endpoints first: a
//! TCP connection whose link has vanished hangs for minutes.

mod director;
mod engine;
mod excuse;
mod log;
mod namespace;
mod nat;
mod netlink;
mod packet;
mod plan;
pub mod report;
mod setup;
mod tun;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

pub use namespace::Namespace;
pub use plan::{MOST_PATHS, MOST_VEHICLES, SERVER, net_address, vehicle_address};

use crate::core::{Capacity, Moment, OutageMode, Seed, UdpPolicy};
pub use crate::orders::Gone;
use crate::orders::Orders;
use crate::profile::{Path, Profile, Rebinding, Scenario};
use crate::{clock, realtime};
use director::Director;
use engine::{Answer, Command, Engine, Which, Wire};
use excuse::Excuse;
use report::{Canary, Report, Stage};
use tun::Tun;

/// What a testbed is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The paths of every vehicle, best first, and what happens on them. The first has the preferred default route.
    pub scenario: Scenario,
    /// How many vehicles, each with all paths.
    pub vehicles: usize,
    /// The weather. Wire number n (vehicle by vehicle, path by path) has seed + n.
    pub seed: Seed,
    /// Where the fate of every packet goes, as CSV.
    pub log: Option<PathBuf>,
    /// Whether the emulator's thread runs under `SCHED_FIFO`, ahead of everything that does not.
    pub realtime: bool,
}

impl Config {
    /// One vehicle with one path `lte0` on which nothing happens.
    pub fn new(profile: Profile) -> Self {
        Self::scenario(Scenario::new(profile))
    }

    /// One vehicle in `scenario`.
    pub const fn scenario(scenario: Scenario) -> Self {
        Self { scenario, vehicles: 1, seed: Seed(0), log: None, realtime: false }
    }

    /// Adds a path, worse than those before it.
    #[must_use]
    pub fn path(mut self, name: &str, profile: Profile) -> Self {
        self.scenario.paths.push(Path { name: name.into(), profile });
        self
    }

    /// Sets the number of vehicles.
    #[must_use]
    pub const fn vehicles(mut self, vehicles: usize) -> Self {
        self.vehicles = vehicles;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed(seed);
        self
    }
}

/// The testbed did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// More than there is room for.
    #[error("{why}")]
    Plan {
        /// What and what instead.
        why: String,
    },
    /// No right to make namespaces or interfaces.
    #[error("{what}: {why}; run as root, or where {tun} is open to you, or use `carriageway-netem relay`", tun = tun::DEVICE)]
    Permission {
        /// What was tried.
        what: String,
        /// What the kernel said.
        why: io::Error,
    },
    /// No TUN driver.
    #[error("{tun} does not exist: load it with `modprobe tun`, or use `carriageway-netem relay`", tun = tun::DEVICE)]
    NoTun,
    /// The packet log.
    #[error("{path}: the packet log cannot be written: {why}", path = .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("{what}: {why}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the kernel said.
        why: io::Error,
    },
}

/// An order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The emulator is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Refused(#[source] io::Error),
}

/// The testbed ended, but not as it should.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The emulator's thread had failed.
    #[error("the emulator failed: {0}")]
    Emulator(#[source] io::Error),
    /// An event did not happen, so the run was not what the scenario says.
    #[error("{0}")]
    Event(String),
    /// Somebody else still uses it.
    #[error("the testbed is still in use")]
    Shared,
}

/// A running testbed. It ends when this is dropped.
pub struct Testbed {
    // In this order: the director gives orders, so it ends first.
    director: Director,
    inner: Arc<Inner>,
    canary: Canary,
    stage: Stage,
}

/// Why the lock on excuses is never poisoned.
const EXCUSE: &str = "nobody panics while counting drops";

/// What the director shares with the owner.
struct Inner {
    config: Config,
    start: Moment,
    orders: Orders<Command, Answer>,
    net: Namespace,
    vehicles: Vec<Namespace>,
    excuse: Mutex<Excuse>,
}

impl Testbed {
    /// Makes the namespaces and devices, starts the emulator and lets the scenario begin.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let inner = Arc::new(Inner::start(config)?);
        let events = inner.config.scenario.events.clone();
        let director =
            Director::start(Arc::clone(&inner), events).map_err(refused("starting the director".into()))?;
        let canary = Canary::start().map_err(refused("starting the canary".into()))?;
        Ok(Self { director, inner, canary, stage: Stage::now() })
    }

    /// The network's side. Servers bind to [`SERVER`] or to any address.
    pub fn net(&self) -> &Namespace {
        &self.inner.net
    }

    /// A vehicle, counted from zero.
    pub fn vehicle(&self, number: usize) -> &Namespace {
        &self.inner.vehicles[number]
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Drops all UDP on every wire from now on, or lets all pass, whatever the profiles say.
    pub fn block_udp(&self, blocked: bool) -> Result<(), OrderError> {
        self.inner.set_udp(None, if blocked { UdpPolicy::Block } else { UdpPolicy::Pass })
    }

    /// Lets nothing through on path `path` (counted from zero; `None`: on all) for `length`; zero ends an outage.
    pub fn outage(&self, path: Option<usize>, length: Duration, mode: OutageMode) -> Result<(), OrderError> {
        self.inner.order(Command::Outage { which: on(path), length, mode })
    }

    /// Puts another profile in place on path `path` (`None`: on all).
    pub fn set_profile(&self, path: Option<usize>, profile: Profile) -> Result<(), OrderError> {
        self.inner.order(Command::Laws(on(path), Box::new([profile.up, profile.down])))
    }

    /// Changes the capacity (up, down; `None`: stays) of path `path` (`None`: of all).
    pub fn set_capacity(
        &self,
        path: Option<usize>,
        capacities: [Option<Capacity>; 2],
    ) -> Result<(), OrderError> {
        self.inner.set_capacity(path, capacities)
    }

    /// Gives all flows of path `path` (`None`: of all) new ports on the network's side.
    pub fn rebind_nat(&self, path: Option<usize>, how: Rebinding) -> Result<(), OrderError> {
        self.inner.rebind_nat(path, how)
    }

    /// Pulls the cable of path `path` out of every vehicle (carrier loss; the address stays), or plugs it in.
    pub fn set_carrier(&self, path: usize, on: bool) -> Result<(), OrderError> {
        self.inner.set_carrier(path, on)
    }

    /// Brings the interface of path `path` down in every vehicle, or up again.
    pub fn set_link(&self, path: usize, up: bool) -> Result<(), OrderError> {
        self.inner.set_link(path, up)
    }

    /// Takes the address of path `path` from every vehicle, or gives it back.
    pub fn set_address(&self, path: usize, present: bool) -> Result<(), OrderError> {
        self.inner.set_address(path, present)
    }

    /// Makes path `path` every vehicle's preferred way out.
    pub fn prefer(&self, path: usize) -> Result<(), OrderError> {
        self.inner.prefer(path)
    }

    /// What happened so far, and whether it can be trusted.
    pub fn report(&self) -> Result<Report, Gone> {
        let snapshot = match self.inner.orders.ask(Command::Stats)? {
            Answer::Stats(snapshot) => *snapshot,
            Answer::Done | Answer::Failed(_) => return Err(Gone),
        };
        let drops = self.inner.excuse.lock().expect(EXCUSE).inexcusable(self.inner.device_drops());
        let took = clock::now().since(self.inner.start);
        Ok(Report::new(&self.inner.config, took, &snapshot, &self.canary.lateness(), drops, &self.stage))
    }

    /// Ends the scenario, the emulator, then the namespaces. End the endpoints first.
    pub fn stop(mut self) -> Result<(), StopError> {
        let failures = self.director.stop();
        // The director had the only other share.
        let inner = Arc::into_inner(self.inner).ok_or(StopError::Shared)?;
        let Inner { mut orders, .. } = inner;
        orders.end().map_err(StopError::Emulator)?;
        match failures.into_iter().next() {
            Some(failure) => Err(StopError::Event(failure)),
            None => Ok(()),
        }
    }
}

impl Inner {
    fn start(config: Config) -> Result<Self, StartError> {
        let names: Vec<_> = config.scenario.paths.iter().map(|path| path.name.as_str()).collect();
        plan::check(config.vehicles, &names)?;
        let net = namespace("net", Some(SERVER))?;
        let vehicles = (1..=config.vehicles)
            .map(|number| namespace(&format!("vehicle-{number}"), None))
            .collect::<Result<Vec<_>, _>>()?;
        let start = clock::now();
        let wires = wires(&config, &net, &vehicles, start)?;
        let paths = config.scenario.paths.iter().map(|path| path.name.clone()).collect();
        let log = log::create(config.log.as_ref(), start, paths)
            .map_err(|why| StartError::Log { path: config.log.clone().unwrap_or_default(), why })?;
        let refused = |what: &str| refused(what.into());
        let engine = Engine::new(wires, log).map_err(refused("watching the devices"))?;
        let waker = engine.waker().map_err(refused("watching the devices"))?;
        let realtime = config.realtime;
        let (started, starting) = mpsc::sync_channel(1);
        let orders = Orders::start("netem-testbed", waker, move |inbox| {
            let entered = if realtime { realtime::enter() } else { Ok(()) };
            let failed = entered.is_err();
            // The starter waits for this.
            let _ = started.send(entered);
            if failed { Ok(()) } else { engine.run(&inbox) }
        });
        let orders = orders.map_err(refused("starting the emulator's thread"))?;
        let entered = starting.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        entered.map_err(refused("running the emulator under SCHED_FIFO"))?;
        Ok(Self { config, start, orders, net, vehicles, excuse: Mutex::default() })
    }

    fn set_udp(&self, path: Option<usize>, policy: UdpPolicy) -> Result<(), OrderError> {
        self.order(Command::Udp(on(path), policy))
    }

    fn set_capacity(&self, path: Option<usize>, capacities: [Option<Capacity>; 2]) -> Result<(), OrderError> {
        self.order(Command::Capacity(on(path), capacities))
    }

    fn rebind_nat(&self, path: Option<usize>, how: Rebinding) -> Result<(), OrderError> {
        self.order(Command::Rebind(on(path), how))
    }

    fn set_carrier(&self, path: usize, carrier: bool) -> Result<(), OrderError> {
        self.excused(path, carrier, || self.order(Command::Carrier(on(Some(path)), carrier)))
    }

    fn set_link(&self, path: usize, up: bool) -> Result<(), OrderError> {
        self.excused(path, up, || {
            self.in_vehicles(path, move |name, vehicle| setup::set_up(name, vehicle, path, up))
        })
    }

    /// Cuts a path or brings it back, and notes that its device may drop packets meanwhile.
    fn excused(
        &self,
        path: usize,
        present: bool,
        act: impl FnOnce() -> Result<(), OrderError>,
    ) -> Result<(), OrderError> {
        let note = || self.excuse.lock().expect(EXCUSE).change(path, present, self.device_drops());
        if present {
            act().inspect(|()| note())
        } else {
            note();
            act()
        }
    }

    /// Packets that the devices have dropped so far, for whatever reason.
    fn device_drops(&self) -> u64 {
        let sides = self.vehicles.iter().chain([&self.net]);
        sides.map(|side| side.within(setup::device_drops).unwrap_or(0)).sum()
    }

    fn set_address(&self, path: usize, present: bool) -> Result<(), OrderError> {
        self.in_vehicles(path, move |name, vehicle| setup::set_address(name, vehicle, path, present))
    }

    fn prefer(&self, path: usize) -> Result<(), OrderError> {
        let names: Vec<_> = self.config.scenario.paths.iter().map(|path| path.name.clone()).collect();
        self.in_vehicles(path, move |_, vehicle| setup::prefer(&names, vehicle, path))
    }

    fn order(&self, command: Command) -> Result<(), OrderError> {
        match self.orders.ask(command)? {
            Answer::Done | Answer::Stats(_) => Ok(()),
            Answer::Failed(why) => Err(OrderError::Refused(why)),
        }
    }

    /// Does the same to path `path` in every vehicle's namespace.
    fn in_vehicles(
        &self,
        path: usize,
        act: impl Fn(&str, usize) -> io::Result<()> + Clone + Send + 'static,
    ) -> Result<(), OrderError> {
        for (vehicle, namespace) in self.vehicles.iter().enumerate() {
            let (act, name) = (act.clone(), self.config.scenario.paths[path].name.clone());
            namespace.within(move || act(&name, vehicle)).map_err(OrderError::Refused)?;
        }
        Ok(())
    }
}

const fn on(path: Option<usize>) -> Which {
    Which { vehicle: None, path }
}

fn namespace(name: &str, server: Option<std::net::Ipv4Addr>) -> Result<Namespace, StartError> {
    let namespace = Namespace::make(name).map_err(refused("making a network namespace".into()))?;
    namespace
        .within(move || setup::prepare(server))
        .map_err(refused("preparing a network namespace".into()))?;
    Ok(namespace)
}

fn wires(
    config: &Config,
    net: &Namespace,
    vehicles: &[Namespace],
    start: Moment,
) -> Result<Vec<Wire>, StartError> {
    let mut wires = Vec::new();
    for (vehicle, namespace) in vehicles.iter().enumerate() {
        for (path, Path { name, profile }) in config.scenario.paths.iter().enumerate() {
            let ends = ends(namespace, net, (vehicle, path), name, profile)?;
            let laws = [profile.up.clone(), profile.down.clone()];
            let seed = config.seed.of_link(wires.len() as u64);
            wires.push(Wire::new(vehicle, path, ends, laws, seed, start));
        }
    }
    Ok(wires)
}

fn ends(
    vehicle_side: &Namespace,
    net: &Namespace,
    (vehicle, path): (usize, usize),
    name: &str,
    profile: &Profile,
) -> Result<[Tun; 2], StartError> {
    let (near, far) = (name.to_owned(), name.to_owned());
    let (up, down) = (profile.up.mtu, profile.down.mtu);
    let refused = |end: &str| refused(format!("making the {end} of {name}"));
    Ok([
        vehicle_side
            .within(move || setup::vehicle_end(vehicle, path, &near, up))
            .map_err(refused("vehicle's end"))?,
        net.within(move || setup::net_end(vehicle, path, &far, down)).map_err(refused("far end"))?,
    ])
}

/// Sorts what the kernel said by what can be done about it.
fn refused(what: String) -> impl FnOnce(io::Error) -> StartError {
    |why| match why.kind() {
        io::ErrorKind::PermissionDenied => StartError::Permission { what, why },
        io::ErrorKind::NotFound => StartError::NoTun,
        _ => StartError::Refused { what, why },
    }
}
