//! The role of the fleet: real agents around simulated vehicles, until its input ends.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use carriageway_agent::agent::{self, Agent};
use carriageway_agent::core::sim::{Simulated, road::Road};
use carriageway_agent::journal::{Journal, Loaded};
use carriageway_proto::{Epoch, Moment};
use carriageway_transport::client;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::keeper::{self, Allowed};
use carriageway_transport::dialer::Network;
use carriageway_transport::link::Link;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::gateway::until_input_ends;
use crate::local::network;

/// The vehicles of a fleet; started by `fleet`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Certificates and keys
    #[arg(long)]
    folder: PathBuf,
    /// How many
    #[arg(long)]
    vehicles: u16,
    /// Looks at the signals per second
    #[arg(long)]
    signal_hz: f64,
    /// The gateway's UDP port
    #[arg(long)]
    udp: u16,
    /// The gateway's TCP port
    #[arg(long)]
    tcp: u16,
    /// Seconds until whoever is not connected is given up
    #[arg(long)]
    patience: u64,
}

/// How connecting went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Connected {
    /// Of each vehicle that got its session: from the start of all to that.
    pub(super) times_ms: Vec<f64>,
    /// Vehicles that did not.
    pub(super) missing: usize,
    /// Connections that ended before they carried anything, over all vehicles.
    pub(super) turned_away: u64,
}

/// Runs them.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(drive(options, out))
}

async fn drive(options: &Options, out: &mut dyn Write) -> Result<()> {
    let clock = BootClock::system()?;
    let networks = (1..=options.vehicles)
        .map(|number| network(&options.folder, number, options.udp, options.tcp, &clock));
    let networks: Vec<_> = networks.collect::<Result<_>>()?;
    let (stop, stopped) = watch::channel(false);
    let (mut agents, mut connecting) = (JoinSet::new(), JoinSet::new());
    let road = Arc::new(Road::tiergarten());
    let deadline = clock.now() + Duration::from_secs(options.patience);
    let started = clock.now();
    for (network, seed) in networks.into_iter().zip(1..) {
        let link = start(options, network, &road, seed, &stopped, &mut agents);
        connecting.spawn(connected(link, clock.clone(), started, deadline));
    }
    let all = connecting.join_all().await;
    let mut times_ms: Vec<_> = all.iter().filter_map(|(time, _)| *time).collect();
    times_ms.sort_by(f64::total_cmp);
    let missing = all.len() - times_ms.len();
    let turned_away = all.iter().map(|(_, turned_away)| turned_away).sum();
    writeln!(out, "{}", serde_json::to_string(&Connected { times_ms, missing, turned_away })?)?;
    out.flush()?;
    until_input_ends().await;
    stop.send_replace(true);
    while agents.join_next().await.is_some() {}
    Ok(())
}

/// Starts one agent.
fn start(
    options: &Options,
    network: Network,
    road: &Arc<Road>,
    seed: u64,
    stopped: &watch::Receiver<bool>,
    agents: &mut JoinSet<()>,
) -> Link {
    let clock = network.clock.clone();
    let keeper = keeper::Config { allowed: Allowed::QuicOnly, ..keeper::Config::default() };
    let config = client::Config { keeper, ..client::Config::default() };
    let (link, happenings, session) =
        client::start(config, clock.clone(), Box::new(network), Epoch::NONE, seed);
    let simulated = Simulated::new(Arc::clone(road), seed, clock.now());
    let config = agent::Config {
        signal_interval: Duration::from_secs_f64(1.0 / options.signal_hz.clamp(0.01, 100.0)),
        ..agent::Config::default()
    };
    let journal = (Journal::volatile(), Loaded::default());
    let (agent, _handle) = Agent::new(config, clock, simulated, journal, (link.clone(), happenings));
    let mut stopped = stopped.clone();
    agents.spawn(async move {
        let told = async move {
            // An error means that nobody is left who could say it: as good as said.
            let _said = stopped.wait_for(|stop| *stop).await;
        };
        tokio::join!(agent.run(told), session);
    });
    link
}

/// Milliseconds until the session is carried, and connections that ended before they carried it.
async fn connected(link: Link, clock: BootClock, started: Moment, deadline: Moment) -> (Option<f64>, u64) {
    let mut connectivity = link.connectivity();
    let carried = connectivity.wait_for(|now| now.carrier.is_some());
    let time = tokio::select! {
        carried = carried => carried.is_ok().then(|| clock.now().since(started).as_secs_f64() * 1_000.0),
        () = clock.sleep_until(deadline) => None,
    };
    let turned_away = link.connectivity().borrow().turned_away;
    (time, turned_away)
}
