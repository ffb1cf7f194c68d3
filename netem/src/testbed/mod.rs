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

mod canary;
mod description;
mod director;
mod engine;
mod excuse;
mod inner;
mod log;
mod namespace;
mod nat;
mod netlink;
mod packet;
mod plan;
mod pulse;
pub mod report;
mod setup;
mod sides;
mod tun;
mod wire;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use namespace::Namespace;
pub use plan::{MOST_PATHS, MOST_VEHICLES, SERVER, net_address, vehicle_address};

use crate::clock;
use crate::core::{Capacity, Moment, OutageMode, Seed, UdpPolicy};
pub use crate::orders::Gone;
use crate::orders::Orders;
use crate::profile::{Path, Profile, Rebinding, Scenario};
use crate::realtime::{self, Awake};
use canary::Canary;
use director::Director;
use engine::{Answer, Command, Rig};
use inner::{Inner, SOUND, on};
use log::Log;
use report::{Account, LATENESS_WORST_LIMIT, Report, Stage};
use sides::Sides;

/// What a testbed is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The paths of every vehicle, best first, and what happens on them. The first has the preferred default route.
    pub scenario: Scenario,
    /// How many vehicles, each with all paths.
    pub vehicles: usize,
    /// The weather. Wires are numbered vehicle by vehicle, path by path; see [`Seed::of_link`].
    pub seed: Seed,
    /// Where the fate of every packet goes, as CSV.
    pub log: Option<PathBuf>,
    /// Whether the emulator's thread runs under `SCHED_FIFO`, ahead of everything that does not, and on processors that do not sleep
    /// where the kernel allows that.
    pub realtime: bool,
    /// How late anything may be once before the run is not valid.
    pub late_once: Duration,
}

impl Config {
    /// One vehicle with one path `lte0` on which nothing happens.
    pub fn new(profile: Profile) -> Self {
        Self::scenario(Scenario::new(profile))
    }

    /// One vehicle in `scenario`.
    pub const fn scenario(scenario: Scenario) -> Self {
        Self {
            scenario,
            vehicles: 1,
            seed: Seed(0),
            log: None,
            realtime: false,
            late_once: LATENESS_WORST_LIMIT,
        }
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

/// A testbed whose time stands still: everything is made, nothing passes yet. It ends when this is dropped.
pub struct Prepared {
    config: Config,
    // In this order: the thread that the orders go to waits for the beginning.
    /// Tells the thread when time begins.
    whistle: SyncSender<Moment>,
    orders: Orders<Command, Answer>,
    begun: Receiver<io::Result<()>>,
    sides: Sides,
    awake: Option<Awake>,
}

/// A running testbed. It ends when this is dropped.
pub struct Testbed {
    // In this order: the director gives orders, so it ends first.
    director: Director,
    inner: Arc<Inner>,
    canary: Canary,
    stage: Stage,
}

impl Prepared {
    /// The network's side. Servers bind to [`SERVER`] or to any address.
    pub const fn net(&self) -> &Namespace {
        &self.sides.net
    }

    /// A vehicle, counted from zero.
    pub fn vehicle(&self, number: usize) -> &Namespace {
        &self.sides.vehicles[number]
    }

    /// What it is made of.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the clock of the links and of the scenario. What is due at zero has happened when this returns; packets that were
    /// sent before are thrown away and counted.
    pub fn begin(self) -> Result<Testbed, StartError> {
        let Self { config, whistle, orders, begun, sides, awake } = self;
        let canary = Canary::start().map_err(refused("starting the canary".into()))?;
        let stage = Stage::now();
        let start = stage.start();
        // Fails only if the thread is gone, and then there is no answer either.
        let _ = whistle.send(start);
        let answer = begun.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        answer.map_err(refused("starting the emulator".into()))?;
        let (excuse, preferred) = (Mutex::default(), Mutex::default());
        let description = description::describe(&config, &sides.unset);
        let inner = Arc::new(Inner { config, description, start, orders, sides, awake, excuse, preferred });
        let events = inner.config.scenario.events.clone();
        let director =
            Director::start(Arc::clone(&inner), events).map_err(refused("starting the director".into()))?;
        Ok(Testbed { director, inner, canary, stage })
    }
}

impl Testbed {
    /// Makes the namespaces and devices and the emulator's thread, and leaves time standing: for callers who first start servers.
    pub fn prepare(config: Config) -> Result<Prepared, StartError> {
        let names: Vec<_> = config.scenario.paths.iter().map(|path| path.name.as_str()).collect();
        plan::check(config.vehicles, &names)?;
        let sides = Sides::make(config.vehicles)?;
        let plans = sides::plans(&config, &sides)?;
        let paths = config.scenario.paths.iter().map(|path| path.name.clone()).collect();
        let log = config
            .log
            .as_ref()
            .map(|path| log::create(path).map_err(|why| StartError::Log { path: path.clone(), why }));
        let log = log.transpose()?;
        let rig = Rig::new(plans).map_err(refused("watching the devices".into()))?;
        let waker = rig.waker().map_err(refused("watching the devices".into()))?;
        let realtime = config.realtime;
        let (started, starting) = mpsc::sync_channel(1);
        let (whistle, signal) = mpsc::sync_channel(1);
        let (ready, begun) = mpsc::sync_channel(1);
        let orders = Orders::start("netem-testbed", waker, move |inbox| {
            // The starter waits for this.
            let _ = started.send(if realtime { realtime::enter() } else { Ok(()) });
            // Nobody begins: the starter has given up.
            let Ok(start) = signal.recv() else { return Ok(()) };
            let log = log.map(|file| Log::start(file, start, paths)).transpose();
            match log.and_then(|log| rig.begin(start, log)) {
                Ok(engine) => {
                    let _ = ready.send(Ok(()));
                    engine.run(&inbox)
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Ok(())
                }
            }
        });
        let orders = orders.map_err(refused("starting the emulator's thread".into()))?;
        let entered = starting.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        entered.map_err(|why| no_priority(&why))?;
        // Where it may not be, the report says so, and lateness is judged all the same.
        let awake = realtime.then(|| Awake::stay().ok()).flatten();
        Ok(Prepared { config, whistle, orders, begun, sides, awake })
    }

    /// Makes everything and lets the scenario begin.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::prepare(config)?.begin()
    }

    /// The network's side. Servers bind to [`SERVER`] or to any address.
    pub fn net(&self) -> &Namespace {
        &self.inner.sides.net
    }

    /// A vehicle, counted from zero.
    pub fn vehicle(&self, number: usize) -> &Namespace {
        &self.inner.sides.vehicles[number]
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

    /// Writes the packet log to its end: what happens later is not in it. A report from before cannot know whether the disk took it.
    pub fn close_log(&self) -> Result<(), OrderError> {
        self.inner.order(Command::CloseLog)
    }

    /// What happened so far, and whether it can be trusted.
    pub fn report(&self) -> Result<Report, Gone> {
        let snapshot = match self.inner.orders.ask(Command::Stats)? {
            Answer::Stats(snapshot) => *snapshot,
            Answer::Done | Answer::Failed(_) => return Err(Gone),
        };
        let drops = self.inner.excuse.lock().expect(SOUND).inexcusable(&self.inner.sides.device_drops());
        let account = Account {
            config: &self.inner.config,
            is_awake: self.inner.awake.is_some(),
            description: &self.inner.description,
            took: clock::now().since(self.inner.start),
            snapshot: &snapshot,
            canary: &self.canary.lateness(),
            device_drops: drops,
            stage: &self.stage,
            events: &self.director.happened(),
        };
        Ok(Report::new(&account))
    }

    /// When the clock of the links and of the scenario started, by `CLOCK_MONOTONIC`.
    pub fn started(&self) -> Moment {
        self.inner.start
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

/// The right to a TUN device has nothing to do with it.
fn no_priority(why: &io::Error) -> StartError {
    let advice =
        "run as root, or with `ulimit -r 1` or CAP_SYS_NICE on the host, or without real-time priority";
    let why = io::Error::new(why.kind(), format!("{why}; {advice}"));
    StartError::Refused { what: "running the emulator under SCHED_FIFO".into(), why }
}

/// What a testbed of this configuration is, as `experiment` in its report shows it: laws, events, machine.
pub fn describe(config: &Config) -> serde_json::Value {
    description::describe(config, &[])
}

/// Sorts what the kernel said by what can be done about it.
fn refused(what: String) -> impl FnOnce(io::Error) -> StartError {
    |why| match why.kind() {
        io::ErrorKind::PermissionDenied => StartError::Permission { what, why },
        io::ErrorKind::NotFound => StartError::NoTun,
        _ => StartError::Refused { what, why },
    }
}
