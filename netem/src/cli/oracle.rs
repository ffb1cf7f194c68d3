//! `carriageway-netem oracle`: what a link allows at best.

use std::time::Duration;

use carriageway_netem::core::{Direction, Limit, Message, Moment, Oracle, Seed};
use carriageway_netem::profile::units;
use clap::{Parser, ValueEnum};

use super::link::LinkArgs;
use super::say;

const EXAMPLES: &str = "\
Examples:
  # How many control datagrams at 50 Hz could have arrived within 100 ms, whatever the transport?
  carriageway-netem oracle --profile lte-edge --seed 7 --every 20ms --bytes 100 --within 100ms
  # The same when they share the link with 100 kB every second that must wait for them
  carriageway-netem oracle --profile lte-edge --seed 7 --bulk 100kB";

/// Compute the best delivery that any transport could have reached on a link, in virtual time
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    link: LinkArgs,
    /// Which way
    #[arg(long, value_enum, default_value_t = Way::Up)]
    direction: Way,
    /// A message is offered this often
    #[arg(long, default_value = "20ms", value_name = "TIME", value_parser = units::duration)]
    every: Duration,
    /// Payload of a message
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    bytes: u32,
    /// What counts as on time
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = units::duration)]
    within: Duration,
    /// Bulk of less priority that is offered once per second
    #[arg(long, value_name = "SIZE", value_parser = bulk_bytes)]
    bulk: Option<u32>,
    /// For how long
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = units::duration)]
    time: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Up,
    Down,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(!args.every.is_zero(), "--every 0s: give a time between messages");
    let scenario = args.link.scenario()?;
    let link = &scenario.paths[0].profile;
    let direction = match args.direction {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down,
    };
    let oracle = Oracle::new(link.law(direction).clone(), Seed(args.link.seed), direction, Moment::ZERO);
    let messages = workload(args);
    let done = match args.bulk {
        None => messages.iter().map(|message| oracle.best(message.offered, message.bytes)).collect(),
        Some(_) => oracle.jointly(&messages),
    };
    let urgent = messages.iter().zip(done).filter(|(message, _)| message.priority == URGENT);
    let ages: Vec<_> = urgent.map(|(message, done)| done.map(|done| done.since(message.offered))).collect();
    tell(args, ages)
}

const URGENT: u8 = 1;

fn workload(args: &Args) -> Vec<Message> {
    let times = |every: Duration| {
        let count = u32::try_from(args.time.as_nanos() / every.as_nanos()).unwrap_or(u32::MAX);
        (0..count).map(move |turn| Moment::ZERO + every * turn)
    };
    let message = |bytes, priority| move |offered| Message { offered, bytes, priority };
    let mut messages: Vec<_> = times(args.every).map(message(args.bytes, URGENT)).collect();
    if let Some(bytes) = args.bulk {
        messages.extend(times(Duration::from_secs(1)).map(message(bytes, 0)));
    }
    messages
}

fn bulk_bytes(text: &str) -> Result<u32, String> {
    match units::limit(text)? {
        Limit::Bytes(bytes) => {
            u32::try_from(bytes).map_err(|_| format!("`{text}` is too much for one message"))
        }
        Limit::Packets(_) => Err(format!("`{text}` is no size in bytes; write one like `100 kB`")),
    }
}

fn tell(args: &Args, ages: Vec<Option<Duration>>) -> anyhow::Result<()> {
    let count = ages.len();
    let mut arrived: Vec<_> = ages.into_iter().flatten().collect();
    anyhow::ensure!(!arrived.is_empty(), "no message finds a way through this link");
    arrived.sort_unstable();
    let on_time = arrived.iter().filter(|age| **age <= args.within).count();
    let at = |q: f64| arrived[((arrived.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3;
    say(&format!(
        "{count} messages of {} bytes: at best {:.3} % within {:?}; p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms; {} never",
        args.bytes,
        on_time as f64 / count as f64 * 100.0,
        args.within,
        at(0.5),
        at(0.99),
        at(1.0),
        count - arrived.len()
    ))?;
    Ok(())
}
