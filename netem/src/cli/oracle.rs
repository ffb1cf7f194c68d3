//! `carriageway-netem oracle`: what a link allows at best.

use std::time::Duration;

use carriageway_netem::core::{Capacity, Direction, Draws, Limit, Message, Moment, Oracle, Seed};
use carriageway_netem::profile::{Agenda, Happening, Scenario, units};
use clap::{Parser, ValueEnum};

use super::link::LinkArgs;
use super::say;

const EXAMPLES: &str = "\
Examples:
  # How many control datagrams at 50 Hz could have arrived within 100 ms, whatever the transport?
  carriageway-netem oracle --profile lte-edge --seed 7 --every 20ms --bytes 100 --within 100ms
  # The same when they share the link with 100 kB every second that must wait for them
  carriageway-netem oracle --profile lte-edge --seed 7 --bulk 100kB";

/// Messages of one computation: an hour at 50 Hz, and seconds of work.
const MOST_MESSAGES: u128 = 200_000;
/// Packets of one computation.
const MOST_PACKETS: u64 = 2_000_000;

/// Compute the best delivery that any transport could have reached on a link, in virtual time
///
/// Says two things: a bound that no sender beats, and what a sender achieves that knows the future, sends the most important first and
/// never idles. Packets count with UDP and IPv4 headers, 28 bytes.
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
    let path = LinkArgs::one_path(&scenario)?;
    let link = &scenario.paths[path].profile;
    let direction = match args.direction {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down,
    };
    let law = link.law(direction).clone();
    anyhow::ensure!(
        law.draws == Draws::BySlot,
        "fates that hang on packet numbers have no best; use `draws = \"slot\"`"
    );
    let oracle = Oracle::new(law, Seed(args.link.seed), direction, Moment::ZERO)
        .with_changes(changes(&scenario, path, direction, args.time));
    let messages = workload(args)?;
    let answers = [("at best", oracle.jointly(&messages)), ("achievable", oracle.achievable(&messages))];
    for (name, done) in answers {
        let urgent = messages.iter().zip(done).filter(|(message, _)| message.priority == URGENT);
        tell(
            args,
            name,
            urgent.map(|(message, done)| done.map(|done| done.since(message.offered))).collect(),
        )?;
    }
    Ok(())
}

/// What events make of the capacity. The others make nothing faster: the bound holds without them.
fn changes(
    scenario: &Scenario,
    path: usize,
    direction: Direction,
    time: Duration,
) -> Vec<(Moment, Capacity)> {
    let mut agenda = Agenda::new(scenario.events.clone());
    let mut changes = Vec::new();
    while let Some(due) = agenda.next_due().filter(|due| *due < time) {
        let Some(event) = agenda.pop(due).filter(|event| event.path.is_none_or(|other| other == path)) else {
            continue;
        };
        if let Happening::Capacity { up, down } = event.what {
            let capacity = match direction {
                Direction::Up => up,
                Direction::Down => down,
            };
            changes.extend(capacity.map(|capacity| (Moment::ZERO + due, capacity)));
        }
    }
    changes
}

const URGENT: u8 = 1;

fn workload(args: &Args) -> anyhow::Result<Vec<Message>> {
    let (count, seconds) = (args.time.as_nanos() / args.every.as_nanos(), args.time.as_secs());
    anyhow::ensure!(
        count <= MOST_MESSAGES,
        "{count} messages are too many; give a longer --every or a shorter --time, for at most {MOST_MESSAGES}"
    );
    let bytes = u64::from(args.bytes) * count as u64 + seconds * u64::from(args.bulk.unwrap_or(0));
    anyhow::ensure!(
        bytes / 1_000 <= MOST_PACKETS,
        "{bytes} bytes are too many; give less --bulk or a shorter --time"
    );
    let times = |every: Duration| {
        let count = u32::try_from(args.time.as_nanos() / every.as_nanos()).unwrap_or(u32::MAX);
        (0..count).map(move |turn| Moment::ZERO + every * turn)
    };
    let message = |bytes, priority| move |offered| Message { offered, bytes, priority };
    let mut messages: Vec<_> = times(args.every).map(message(args.bytes, URGENT)).collect();
    if let Some(bytes) = args.bulk {
        messages.extend(times(Duration::from_secs(1)).map(message(bytes, 0)));
    }
    Ok(messages)
}

fn bulk_bytes(text: &str) -> Result<u32, String> {
    match units::limit(text)? {
        Limit::Bytes(bytes) => {
            u32::try_from(bytes).map_err(|_| format!("`{text}` is too much for one message"))
        }
        Limit::Packets(_) => Err(format!("`{text}` is no size in bytes; write one like `100 kB`")),
    }
}

fn tell(args: &Args, name: &str, ages: Vec<Option<Duration>>) -> anyhow::Result<()> {
    let count = ages.len();
    let mut arrived: Vec<_> = ages.into_iter().flatten().collect();
    anyhow::ensure!(!arrived.is_empty(), "no message finds a way through this link");
    arrived.sort_unstable();
    let on_time = arrived.iter().filter(|age| **age <= args.within).count();
    let at = |q: f64| arrived[((arrived.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3;
    say(&format!(
        "{count} messages of {} bytes: {name} {:.3} % within {:?}; p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms; {} never",
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
