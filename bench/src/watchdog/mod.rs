//! WATCHDOG on real clocks: how soon a driven vehicle is in its safe state once its link is cut, and that a bad link
//! alone does not stop it.
//!
//! Everything is the product's own: the gateway, the agent on its session over QUIC, the simulated vehicle, and the
//! terminal client's pilot as the operator. They share this process, so that a moment is a moment for all of them.
//! Between gateway and vehicle is netem's relay, which cuts.

mod cuts;
mod endure;
mod late;
mod operator;
mod vehicle;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_gateway::serve;
use carriageway_netem::core::{Jitter, Law, Loss, Order, Probability, Shape};
use carriageway_netem::profile::Profile;
use carriageway_netem::relay::{Config, Relay};
use carriageway_transport::clock::BootClock;
use clap::Args;
use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::local::{gateway_config, papers, vehicle_id};
use crate::stage::Stage;
use late::Busy;
use operator::{Desk, Operator};
use vehicle::Vehicles;

/// What WATCHDOG allows beyond its limit.
const ALLOWED: Duration = Duration::from_millis(20);

/// From one control frame to the next, as the terminal client keeps it.
const PERIOD: Duration = carriageway_gateway::cli::drive::pilot::PERIOD;

/// A vehicle that is not connected within this will not be.
const READY: Duration = Duration::from_secs(20);

/// Cuts the link under driven vehicles and measures how soon each is in its safe state; or drives on a bad link
///
/// With --cuts: vehicles are driven at 50 Hz, each through a relay of its own. At a random moment the relay lets
/// nothing through any more. From the last control that the vehicle followed it must be halted within the
/// watchdog's limit, 500 ms, and 20 ms. Then the link comes back, the vehicle is re-armed, and so on. Beside each
/// watchdog a thread that only sleeps, the canary, sleeps to the same moment: what it is late by is the machine's.
/// Ends with 1 if after any cut there was no safe state at all.
///
/// With --minutes: one vehicle is driven that long without a cut, over a link that loses and delays. It must not be
/// stopped. Ends with 1 if it was.
///
///   carriageway-bench watchdog --cuts 1000 --busy 1
///   carriageway-bench watchdog --minutes 30 --loss 5 --delay 100 --jitter 30
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// How often the link is cut, over all vehicles
    #[arg(long, value_name = "N", default_value_t = 1_000, conflicts_with = "minutes",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cuts: u32,
    /// Vehicles that are driven and cut at the same time
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "minutes",
        value_parser = clap::value_parser!(u16).range(1..=50))]
    vehicles: u16,
    /// Threads that never rest meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64))]
    busy: u16,
    /// Drives so many minutes without a cut
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=300))]
    minutes: Option<u32>,
    /// Packets lost each way, in percent, independent of each other
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Delay each way in milliseconds, in the middle
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u32,
    /// The delay is up to so many milliseconds less or more, uniformly; packets overtake each other
    #[arg(long, value_name = "MS", default_value_t = 0)]
    jitter: u32,
    /// Of the moments of the cuts and of the link's chances; the machine's own timing is not reproducible
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Writes everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it and writes what came of it.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let stage = Stage::now();
    let link = options.link()?;
    let place = TempDir::new().context("cannot make a temporary directory")?;
    let vehicles = if options.minutes.is_some() { 1 } else { options.vehicles };
    let token = papers(place.path(), vehicles, "observe drive command:*")?;
    // As the daemon's: the vehicles share theirs, and nothing of ours runs on it.
    let theirs = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ours = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let busy = Busy::start(options.busy)?;
    let scene = Scene { options, link, folder: place.path(), token: &token, theirs: theirs.handle() };
    let done = match options.minutes {
        Some(minutes) => {
            let endured = ours.block_on(endure::run(&scene, minutes));
            endured.and_then(|endured| tell(options, &stage, &endured, out))
        }
        None => ours.block_on(cuts::run(&scene)).and_then(|cuts| tell(options, &stage, &cuts, out)),
    };
    drop(busy);
    done
}

/// What came of a run.
trait Outcome: Serialize {
    /// For people.
    fn table(&self) -> String;

    /// Why the run has failed, if it has.
    fn failure(&self) -> Option<String>;
}

fn tell(options: &Options, stage: &Stage, came: &impl Outcome, out: &mut dyn Write) -> Result<()> {
    if let Some(file) = &options.json {
        let all =
            serde_json::json!({ "stage": stage, "seed": options.seed, "busy": options.busy, "result": came });
        let json = serde_json::to_string_pretty(&all).context("the report is plain data")?;
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    write!(out, "{}\nseed {}\n\n{}", stage.lines(), options.seed, came.table())
        .context("cannot write the table")?;
    came.failure().map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
}

impl Options {
    fn link(&self) -> Result<Profile> {
        let share = Probability::new(self.loss / 100.0).context("--loss is a percentage, 0 to 100")?;
        let least = self.delay.checked_sub(self.jitter).context("--jitter cannot be more than --delay")?;
        let law = Law {
            delay: Duration::from_millis(least.into()),
            jitter: Jitter {
                spread: Duration::from_millis(self.jitter.into()) * 2,
                shape: Shape::Uniform,
                order: Order::Free,
            },
            loss: if share == Probability::ZERO { Loss::None } else { Loss::Bernoulli(share) },
            ..Law::default()
        };
        let name = format!("{} +- {} ms each way, {} % lost", self.delay, self.jitter, self.loss);
        let mut link = Profile::perfect(&name);
        (link.up, link.down) = (law.clone(), law);
        link.check()?;
        Ok(link)
    }
}

/// All that a run needs.
struct Scene<'a> {
    options: &'a Options,
    link: Profile,
    folder: &'a Path,
    token: &'a str,
    /// Where the vehicles run.
    theirs: &'a tokio::runtime::Handle,
}

/// A gateway and vehicles that are connected to it, each through a relay of its own.
struct Stand {
    clock: BootClock,
    gateway: serve::Running,
    places: Vec<(Operator, Relay)>,
    agents: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Scene<'_> {
    async fn set_up(&self, vehicles: u16) -> Result<Stand> {
        let clock = BootClock::system()?;
        let gateway = serve::serve(&gateway_config(self.folder)).await?;
        let upstream = *gateway.udp.first().context("the gateway has no UDP port")?;
        let (stop, stopped) = watch::channel(false);
        let starting = Vehicles { folder: self.folder, clock: &clock, stopped };
        let (mut places, mut agents) = (Vec::new(), JoinSet::new());
        let desk = Desk { folder: self.folder, token: self.token, port: gateway.tcp.port(), clock: &clock };
        for number in 1..=vehicles {
            let seed = self.options.seed.wrapping_mul(1_000).wrapping_add(number.into());
            let here = "127.0.0.1:0".parse()?;
            let relay = Relay::start(Config::new(self.link.clone()).seed(seed).udp(here, upstream))?;
            let port = relay.udp_addresses().first().context("the relay has no port")?.port();
            let running = {
                let _theirs = self.theirs.enter();
                starting.start(number, port, &mut agents)?
            };
            let id = vehicle_id(number);
            connected(&gateway, &id, &clock).await?;
            places.push((Operator::sit(desk, &id, running).await?, relay));
        }
        Ok(Stand { clock, gateway, places, agents, stop })
    }
}

/// Waits until the gateway has the vehicle's session.
async fn connected(gateway: &serve::Running, id: &str, clock: &BootClock) -> Result<()> {
    let (id, late) = (id.parse()?, clock.now() + READY);
    while !gateway.hub().drive(&id).is_some_and(|glance| glance.is_connected) {
        if clock.now() >= late {
            anyhow::bail!("vehicle {id} did not connect within {READY:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

impl Stand {
    /// Ends everything in good order.
    async fn take_down(mut self) {
        for (operator, _relay) in std::mem::take(&mut self.places) {
            operator.leave().await;
        }
        self.stop.send_replace(true);
        while self.agents.join_next().await.is_some() {}
        self.gateway.drain().await;
    }
}
