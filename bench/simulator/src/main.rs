//! Runs seeds of the simulation and says what they broke; see `carriageway-simulate --help`.
#![expect(clippy::print_stdout, reason = "a command-line tool answers on its standard output")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use carriageway_proto::PolicyTable;
use carriageway_simulator::checker::{self, Rules};
use carriageway_simulator::plan::Size;
use carriageway_simulator::run::{self, Report};
use carriageway_simulator::shrink::{self, Kept};
use clap::{Args, Parser, Subcommand};

/// Simulates vehicles, gateways and operators with every fault there is, and checks the invariants at every step.
#[derive(Debug, Parser)]
#[command(name = "carriageway-simulate", version)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    seeds: Seeds,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Hunts deliberate bugs in the cores and prints, as a table in Markdown, which invariant found each
    #[cfg(feature = "sabotage")]
    Bugs {
        /// Most seeds for one bug
        #[arg(long, default_value_t = 10_000)]
        most: u64,
        /// Only bugs whose names hold this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Checks a log, of a real run or of a seed: JSON lines, as `--trace` prints them on stdout
    ///
    /// RATE and DEBOUNCE are judged by the default policies of the classes. A seed may hold its vehicles to less
    /// than those allow; its own run judges that.
    Check {
        /// The file
        log: std::path::PathBuf,
    },
}

#[derive(Debug, Args)]
struct Seeds {
    /// This one seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// These seeds, the last not included
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Goes on until so many commands were given, in all
    #[arg(long, default_value_t = 0)]
    commands: u64,
    /// Goes on until so many vehicle-hours have passed, in all
    #[arg(long, default_value_t = 0.0)]
    hours: f64,
    /// Seeds at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Prints everything that happens as a log for `check`, with `--seed`; all else goes to stderr then
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Keeps these faults of the seed only, by number: "3,7", or "none"
    #[arg(long, value_name = "NUMBERS", requires = "seed")]
    keep_faults: Option<Places>,
    /// Keeps these clicks of the seed only, by number: "3,7", or "none"
    #[arg(long, value_name = "NUMBERS", requires = "seed")]
    keep_clicks: Option<Places>,
    /// Keeps these drives of the seed only, by number: "3,7", or "none"
    #[arg(long, value_name = "NUMBERS", requires = "seed")]
    keep_drives: Option<Places>,
}

/// Some of a seed's faults, clicks or drives.
#[derive(Clone, Debug)]
struct Places(Vec<usize>);

impl std::str::FromStr for Places {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let number =
            |part: &str| part.parse().map_err(|_| format!("{part:?} is not a number; say 3,7 or none"));
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is not a number; say 0..100"));
    let (from, to) = text.split_once("..").ok_or("say 0..100")?;
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_good = match &cli.task {
        #[cfg(feature = "sabotage")]
        Some(Task::Bugs { most, only }) => bugs(*most, only),
        Some(Task::Check { log }) => check(log),
        None => match cli.seeds.seed {
            Some(seed) => one(seed, &cli.seeds),
            None => many(&cli.seeds),
        },
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(log: &std::path::Path) -> bool {
    let text = match std::fs::read_to_string(log) {
        Ok(text) => text,
        Err(error) => {
            println!("cannot read {}: {error}", log.display());
            return false;
        }
    };
    match checker::check(&text, &usual_rules()) {
        Ok(violations) => {
            for violation in &violations {
                println!("{violation}");
            }
            println!("{} violations", violations.len());
            violations.is_empty()
        }
        Err(why) => {
            println!("{}, {why}", log.display());
            false
        }
    }
}

/// What holds where nothing is configured: a log does not say what was.
fn usual_rules() -> Rules {
    Rules::of(&PolicyTable::defaults())
}

/// One seed, in full. Its log has standard output for itself.
#[expect(clippy::print_stderr, reason = "what is no event must not stand in the log")]
fn one(seed: u64, seeds: &Seeds) -> bool {
    let size = Size::default();
    let mut kept = Kept::all(seed, size);
    kept.faults = seeds.keep_faults.clone().map_or(kept.faults, |places| places.0);
    kept.clicks = seeds.keep_clicks.clone().map_or(kept.clicks, |places| places.0);
    kept.drives = seeds.keep_drives.clone().map_or(kept.drives, |places| places.0);
    let report = run::replay(seed, size, &kept);
    if seeds.trace {
        eprint!("{}", summary(&report));
        print!("{}", trace(&report));
    } else {
        print!("{}", summary(&report));
    }
    report.violation.is_none()
}

/// The plan, and what came of it.
fn summary(report: &Report) -> String {
    let Report { plan, events, effects, hash, .. } = report;
    let violation = report.violation.as_ref().map_or_else(String::new, |violation| format!("{violation}\n"));
    format!("{plan}{events} events, {effects} effects, hash {hash:016x}\n{violation}")
}

/// The log, as `check` reads it.
fn trace(report: &Report) -> String {
    let line = |event| serde_json::to_string(event).expect("an event has a form in JSON") + "\n";
    report.log.iter().map(line).collect()
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    commands: u64,
    effects: u64,
    frames: u64,
    hours: f64,
    events: u64,
    bad: u64,
}

/// How many violations are shrunk and told in full.
const TOLD: u64 = 3;

#[expect(clippy::disallowed_methods, reason = "the speed of the simulation itself is in wall time")]
fn many(seeds: &Seeds) -> bool {
    let goes_on = seeds.commands > 0 || seeds.hours > 0.0;
    let range = seeds.seeds.clone().unwrap_or(if goes_on { 0..u64::MAX } else { 0..100 });
    let (next, enough) = (AtomicU64::new(range.start), AtomicBool::new(false));
    let (sum, began) = (Mutex::new(Sum::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end {
                        return;
                    }
                    let report = run::run(seed, Size::default());
                    let mut sum = sum.lock().expect("no thread panics while it holds it");
                    add(&mut sum, &report);
                    if sum.seeds.is_multiple_of(500) {
                        tell(&sum, began.elapsed().as_secs_f64(), seeds.jobs);
                    }
                    let is_done = sum.commands >= seeds.commands && sum.hours >= seeds.hours;
                    enough.fetch_or(goes_on && is_done, Ordering::Relaxed);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no thread panicked");
    tell(&sum, began.elapsed().as_secs_f64(), seeds.jobs);
    sum.bad == 0
}

fn add(sum: &mut Sum, report: &Report) {
    sum.seeds += 1;
    sum.commands += report.commands;
    sum.effects += report.effects;
    sum.frames += report.frames;
    sum.hours += report.vehicle_hours;
    sum.events += report.events;
    let Some(violation) = &report.violation else { return };
    sum.bad += 1;
    println!("seed {}: {}: {}", report.seed, violation.invariant, violation.what);
    if sum.bad <= TOLD
        && let Some((kept, least)) = shrink::shrink(report.seed, Size::default())
    {
        print!("the least that still does it: {}", least.plan);
        println!("{}", least.violation.expect("the shrinker keeps it"));
        println!(
            "replay: carriageway-simulate --seed {} --keep-faults {} --keep-clicks {} --keep-drives {} --trace",
            report.seed,
            Places(kept.faults),
            Places(kept.clicks),
            Places(kept.drives)
        );
    }
}

fn tell(sum: &Sum, seconds: f64, jobs: usize) {
    println!(
        "{} seeds, {} commands, {} effects, {} control frames, {:.0} vehicle-hours, {} events in {seconds:.0} s: {:.0} \
         commands/s per core, {:.1} vehicle-hours/s, {:.0} frames/s; {} violations",
        sum.seeds,
        sum.commands,
        sum.effects,
        sum.frames,
        sum.hours,
        sum.events,
        sum.commands as f64 / seconds / jobs.max(1) as f64,
        sum.hours / seconds,
        sum.frames as f64 / seconds,
        sum.bad
    );
}

#[cfg(feature = "sabotage")]
fn bugs(most: u64, only: &str) -> bool {
    use carriageway_proto::sabotage::Sabotage;
    println!("| deliberate bug | found by | seeds |\n|---|---|---|");
    let mut all_found = true;
    for bug in Sabotage::ALL.iter().filter(|bug| format!("{bug:?}").contains(only)) {
        let found = carriageway_simulator::bugs::hunt(*bug, Size::default(), most);
        println!("{found}");
        all_found &= found.by.is_some();
    }
    all_found
}

#[cfg(test)]
mod tests {
    use carriageway_simulator::checker::{Event, Name, What, Wish};

    use super::*;

    fn traced(seed: u64) -> Report {
        let size = Size::default();
        run::replay(seed, size, &Kept::all(seed, size))
    }

    #[test]
    fn the_trace_of_a_seed_is_a_log_that_is_checked_and_clean() {
        for seed in 0..4 {
            let report = traced(seed);
            let found = checker::check(&trace(&report), &usual_rules());
            assert_eq!(found, Ok(Vec::new()), "seed {seed}");
            assert_eq!(trace(&report).lines().count() as u64, report.events);
        }
    }

    fn found(log: impl IntoIterator<Item = (u64, &'static str, What)>) -> Vec<&'static str> {
        let line = |(at, node, what): (u64, &str, What)| {
            serde_json::to_string(&Event { at, node: node.into(), what }).expect("plain data")
        };
        let lines: Vec<_> = log.into_iter().map(line).collect();
        let found = checker::check(&lines.join("\n"), &usual_rules()).expect("it is a log");
        found.iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn a_log_is_held_to_the_usual_rates() {
        let acted = |number: u64| {
            let path = format!("Vehicle.Lamp{number}").into();
            (5, "v", What::Wish(Wish::Acted { class: "config".into(), path, version: number, value: 1 }))
        };
        let burst = u64::from(PolicyTable::defaults()[carriageway_proto::Class::Config].burst);
        let rate =
            |count: u64| found((1..=count).map(acted)).into_iter().filter(|one| *one == "RATE").count();
        assert_eq!((rate(burst), rate(burst + 2)), (0, 2));
    }

    #[test]
    fn a_log_is_held_to_the_usual_duplicate_windows() {
        let (path, class) = (Name::from("Vehicle.Lamp"), Name::from("body"));
        let command = |at: u64, key: &'static str| {
            let (path, class, key, print) = (path.clone(), class.clone(), Name::from(key), 7);
            let accepted = What::Accepted {
                vehicle: "v".into(),
                key: key.clone(),
                id: key.clone(),
                class: class.clone(),
                path: path.clone(),
                print,
                born: at,
                ttl: 5_000_000,
                queued: false,
            };
            let durable = |verdict| What::Durable { key: key.clone(), verdict, print: Some(print) };
            let effect = What::Effect { key: key.clone(), class, path, print, token: 0, order: 0 };
            let done = durable(Some("SUCCEEDED".into()));
            [(at, "g", accepted), (at, "v", durable(None)), (at, "v", effect), (at, "v", done)]
        };
        let twice = |after: u64| found([command(1, "a"), command(1 + after, "b")].into_iter().flatten());
        assert!(twice(400_000).contains(&"DEBOUNCE"), "{:?}", twice(400_000));
        assert!(!twice(600_000).contains(&"DEBOUNCE"), "{:?}", twice(600_000));
    }
}
