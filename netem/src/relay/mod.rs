//! A relay in user space: UDP and TCP through an emulated link, without privileges, on any address of this host.
//!
//! ```no_run
//! use carriageway_netem::profile::Profile;
//! use carriageway_netem::relay::{Config, Relay};
//!
//! let upstream = "127.0.0.1:4433".parse()?;
//! let local = "127.0.0.1:0".parse()?;
//! let relay = Relay::start(Config::new(Profile::find("lte-edge")?).udp(local, upstream).tcp(local, upstream))?;
//! println!("QUIC to {}, WebSocket to {}", relay.udp_addresses()[0], relay.tcp_addresses()[0]);
//! relay.block_udp(true)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One thread does everything; it arms its timer early and spins the rest, so that a delivery is some tens of microseconds late
//! on an idle machine. [`Stats::lateness`] says how late it really was.
//!
//! # What it cannot do
//!
//! UDP is exact: what the link drops is dropped, ECN marks aside, which are lost. TCP ends at the relay twice, and so
//! - no segment is lost to the endpoints' TCP: a loss is a delay in order (fast retransmit or a doubling timeout), and their
//!   congestion control sees neither loss nor round trip, only back-pressure. The choice of congestion control does not show;
//! - the sender's backlog is split between its own socket, at most 64 KiB in the relay's two kernel buffers, and the emulated queue;
//! - acknowledgements take no capacity, and a full queue stops the sender instead of dropping;
//! - where a NAT rebinds silently, the relay's kernel still acknowledges what fits into its buffers (64 KiB): nothing arrives, nobody is
//!   reset, and an endpoint notices by the missing answer, not by TCP's own timeout;
//! - a reset passes at once, and the handshake takes one round trip after the client believes that it is connected.
//!
//! To compare transports, use real TCP through `carriageway-netem run`.

pub mod control;
mod end;
mod engine;
mod link;
mod socket;
mod stats;
mod stream;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use crate::orders::Gone;
pub use crate::profile::Rebinding;
pub use stats::Stats;

use crate::core::{OutageMode, Seed};
use crate::orders::Orders;
use crate::profile::{Event, Profile, Scenario};
use engine::{Answer, Command, Engine};

/// Bytes that a relay holds at most, over all flows and links: half of it inside the links (UDP beyond is dropped and counted as
/// `over_memory`), half of it between the sockets of TCP connections, inside the links or not (senders beyond wait). Packets of a few bytes
/// take some times their size in memory; the kernel's buffers, 64 KiB per TCP socket, come on top.
pub const MOST_BYTES: usize = 512 << 20;

/// Flows of each protocol that a relay takes unless told otherwise.
const MOST_FLOWS: usize = 1024;

/// Where to listen and where to forward to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Local address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the server.
    pub upstream: SocketAddr,
}

/// Who shares capacity, queue and fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All flows share one link: one vehicle.
    #[default]
    Shared,
    /// Each UDP flow and each TCP connection has a link of its own, with a seed of its own: many vehicles.
    PerFlow,
}

/// What a relay is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The link.
    pub profile: Profile,
    /// What happens on it.
    pub events: Vec<Event>,
    /// Its weather.
    pub seed: Seed,
    /// UDP forwards.
    pub udp: Vec<Forward>,
    /// TCP forwards.
    pub tcp: Vec<Forward>,
    /// Who shares a link.
    pub sharing: Sharing,
    /// Most UDP flows, and most TCP connections. What comes on top is refused and counted.
    pub most_flows: usize,
}

impl Config {
    /// A relay with nothing to forward yet, seed 0, one link for all flows.
    pub const fn new(profile: Profile) -> Self {
        Self {
            profile,
            events: Vec::new(),
            seed: Seed(0),
            udp: Vec::new(),
            tcp: Vec::new(),
            sharing: Sharing::Shared,
            most_flows: MOST_FLOWS,
        }
    }

    /// A relay over the first path of `scenario`, with what happens on it.
    pub fn scenario(scenario: Scenario) -> Self {
        let first =
            scenario.paths.into_iter().next().map_or_else(|| Profile::perfect("none"), |path| path.profile);
        let here = |event: &Event| event.path.is_none_or(|path| path == 0);
        Self { events: scenario.events.into_iter().filter(here).collect(), ..Self::new(first) }
    }

    /// Forwards UDP, too.
    #[must_use]
    pub fn udp(mut self, listen: SocketAddr, upstream: SocketAddr) -> Self {
        self.udp.push(Forward { listen, upstream });
        self
    }

    /// Forwards TCP, too.
    #[must_use]
    pub fn tcp(mut self, listen: SocketAddr, upstream: SocketAddr) -> Self {
        self.tcp.push(Forward { listen, upstream });
        self
    }

    /// Sets the seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed(seed);
        self
    }

    /// Sets who shares a link.
    #[must_use]
    pub const fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }
}

/// The relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket, an address that is taken, say.
    #[error("the relay cannot listen; choose another address, or port 0 for a free one")]
    Listen(#[source] io::Error),
    /// An event that needs what a relay does not have.
    #[error("a relay has no interfaces, so `{event}` cannot happen; use `carriageway-netem run`")]
    NoInterfaces {
        /// As files spell it.
        event: &'static str,
    },
    /// The thread.
    #[error("the relay cannot start its thread")]
    Thread(#[source] io::Error),
}

/// A running relay. It stops when this is dropped.
pub struct Relay {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    orders: Orders<Command, Answer>,
}

impl Relay {
    /// Binds the sockets and starts the thread. Works inside and outside an async runtime; the calls below
    /// return once they are carried out, which takes microseconds.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if let Some(event) = config.events.iter().find(|event| event.what.needs_interfaces()) {
            return Err(StartError::NoInterfaces { event: event.what.name() });
        }
        let engine = Engine::new(config).map_err(StartError::Listen)?;
        let (udp, tcp) = engine.addresses().map_err(StartError::Listen)?;
        let waker = engine.waker().map_err(StartError::Thread)?;
        let orders = Orders::start("netem-relay", waker, move |inbox| engine.run(&inbox));
        Ok(Self { udp, tcp, orders: orders.map_err(StartError::Thread)? })
    }

    /// Where it listens for UDP, in the order of the configuration.
    pub fn udp_addresses(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// Where it listens for TCP, in the order of the configuration.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// Drops all UDP at the link's entry from now on, or lets all pass, whatever the profile says.
    pub fn block_udp(&self, blocked: bool) -> Result<(), Gone> {
        self.order(Command::BlockUdp(blocked))
    }

    /// Lets nothing through for `length`: what leaves is lost. Replaces an outage that was declared before; zero ends it.
    pub fn outage(&self, length: Duration) -> Result<(), Gone> {
        self.order(Command::Outage { length, mode: OutageMode::Drop })
    }

    /// Stops the link for `length`: packets wait in its queue and leave at its rate afterwards.
    pub fn hold(&self, length: Duration) -> Result<(), Gone> {
        self.order(Command::Outage { length, mode: OutageMode::Hold })
    }

    /// Gives every UDP flow a new port upstream. TCP connections are reset, or where it is silent, lead nowhere from now on.
    pub fn rebind_nat(&self, how: Rebinding) -> Result<(), Gone> {
        self.order(Command::Rebind(how))
    }

    /// Puts another profile in place; what waits or flies keeps its place, and a word about UDP from before no longer holds.
    pub fn set_profile(&self, profile: Profile) -> Result<(), Gone> {
        self.order(Command::SetProfile(Box::new(profile)))
    }

    /// Counters and the relay's own lateness.
    pub fn stats(&self) -> Result<Stats, Gone> {
        match self.orders.ask(Command::Stats)? {
            Answer::Stats(stats) => Ok(*stats),
            Answer::Done => Err(Gone),
        }
    }

    /// Closes all sockets and waits for the thread. What was under way is lost.
    pub fn stop(mut self) -> io::Result<()> {
        self.orders.end()
    }

    fn order(&self, command: Command) -> Result<(), Gone> {
        match self.orders.ask(command)? {
            Answer::Done | Answer::Stats(_) => Ok(()),
        }
    }
}
