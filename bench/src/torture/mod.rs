//! Kills and cuts real processes at random while operators command, and puts what is left behind through the
//! checker of the invariants: the one that judges the simulator's worlds, too.
//!
//! A gateway, a relay before it and vehicles behind that are processes of their own, the product's binaries
//! beside this one. Nothing in them knows that it is tested. What happened is read afterwards where nobody
//! can embellish it: from the vehicles' journals, from the lines in which they say what they hand to their
//! actuators, and from what the operators were answered.

mod evidence;
mod operators;
mod records;
mod report;
#[cfg(test)]
mod tests;
mod world;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;
use tempfile::TempDir;

use crate::stage::Stage;
use operators::{Asked, Operators};
use report::Report;
use world::{World, wall_micros};

/// Kills gateway and vehicles at random, and checks that no command was lost, doubled or lied about
///
/// Starts the product's own binaries (build the whole workspace first), lets operators send commands by HTTP,
/// kills the gateway or a vehicle with SIGKILL at random moments and starts it again, and cuts, holds and
/// throttles the link meanwhile. Then everything heals, every record is asked for its end, and journals,
/// logs and answers go through the checker of the invariants. Any violation fails the run and is printed
/// with the events that prove it; so does a record that was answered with and is gone, has not ended, or
/// lacks a step that was shown as being on disk. --keep leaves logs and journals in a folder.
///
/// What happens here is judged by FRESH, ONCE, ACK-TRUTH, OFFLINE, RATE and LIVENESS of commands. Nobody drives,
/// desires, stops, queues or gives a key two wishes here, and logs do not tell of lanes and signals: for KEY, ORDER,
/// FENCE, ESTOP, WATCHDOG, LATEST, LANE, OWNER, DURABLE, DEBOUNCE and the rest see carriageway-simulate.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How often something is killed
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// How many vehicles
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    vehicles: u8,
    /// Commands per second to each vehicle
    #[arg(long, value_name = "HZ", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// Of the kills, the cuts and the commands; the processes' own timing is not reproducible
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leaves logs, journals and the events in this folder, which must not exist yet
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Writes everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The longest ttl that the operators use, the ten seconds within which every command ends after it, and
/// something for a busy machine.
const SETTLE: Duration = Duration::from_secs(45);

/// Runs it and writes what came of it.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let stage = Stage::now();
    let place = Place::make(options.keep.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Played { world, asked, until } = runtime.block_on(play(options, place.path()))?;
    let evidence = evidence::gather(&world, &asked, until)?;
    fs::write(place.path().join("events.jsonl"), evidence.lines()).context("cannot write the events")?;
    let report = Report::of(options, stage, &asked, &evidence);
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report).context("the report is plain data")?;
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    write!(out, "{}", report.table()).context("cannot write the table")?;
    if !report.is_clean() {
        bail!("the invariants do not hold; see above, and run again with --keep FOLDER for the logs");
    }
    Ok(())
}

/// The folder of one run: kept where asked for.
enum Place {
    Kept(PathBuf),
    Gone(TempDir),
}

impl Place {
    fn make(keep: Option<&std::path::Path>) -> Result<Self> {
        Ok(match keep {
            Some(folder) => {
                fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                Self::Kept(folder.canonicalize()?)
            }
            None => Self::Gone(TempDir::new().context("cannot make a temporary directory")?),
        })
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Kept(folder) => folder,
            Self::Gone(folder) => folder.path(),
        }
    }
}

/// A drama that is over.
struct Played {
    world: World,
    asked: Vec<Asked>,
    /// When the records had been asked for their ends.
    until: u64,
}

/// Plays the whole drama; the processes have ended when this returns.
async fn play(options: &Options, place: &std::path::Path) -> Result<Played> {
    let vehicles: Vec<String> = (1..=options.vehicles).map(|number| format!("torture-{number}")).collect();
    let mut world = World::start(place, &vehicles).await?;
    let operators = Operators::start(&world.client(), &vehicles, options.rate, options.seed);
    let mut chance = Pcg64Mcg::new(u128::from(options.seed) << 1 | 1);
    for kill in 1..=options.kills {
        tokio::time::sleep(between(&mut chance, 300, 2_500)).await;
        if chance.next_u32().is_multiple_of(3) {
            world.disturb(&mut chance)?;
        }
        let victim = chance.next_u32() as usize % (vehicles.len() + 2);
        let dead = between(&mut chance, 0, 600);
        match vehicles.get(victim) {
            Some(vehicle) => world.restart_vehicle(vehicle, dead).await?,
            None => world.restart_gateway(dead).await?,
        }
        if kill.is_multiple_of(20) {
            crate::say(&format!("{kill} of {} kills", options.kills));
        }
    }
    world.heal().await?;
    let mut asked = operators.stop().await;
    crate::say(&format!(
        "{} commands were sent; everything heals, and each is asked for its end",
        asked.len()
    ));
    operators::resolve(&world.client(), &mut asked, SETTLE).await;
    let until = wall_micros();
    world.stop().await?;
    Ok(Played { world, asked, until })
}

/// So many milliseconds, `least` to `most`.
fn between(chance: &mut Pcg64Mcg, least: u64, most: u64) -> Duration {
    Duration::from_millis(least + chance.next_u64() % (most - least + 1))
}
