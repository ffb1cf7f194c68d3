//! `carriageway-netem measure`: the figures of the README, each from one command.

mod tcp;
mod udp;

use std::io;
use std::time::Duration;

use carriageway_netem::profile::{Profile, Tweak, units};
use carriageway_netem::realtime;
use carriageway_netem::testbed::report::Report;
use carriageway_netem::testbed::{Config, Testbed};
use clap::{Parser, ValueEnum};

use super::{note, say};

/// Measure the emulator itself, over real sockets in namespaces of its own
#[derive(Parser)]
pub(super) struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// For how long, each
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = units::duration)]
    time: Duration,
    /// The weather
    #[arg(long, default_value_t = 7, value_name = "NUMBER")]
    seed: u64,
    /// Run the emulator and the endpoints of round-trip with real-time priority, on processors kept from sleeping where that is allowed
    #[arg(long)]
    realtime: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// How far a 40 ms round trip of 100-byte datagrams at 91 Hz is off
    RoundTrip,
    /// The same through the relay, over loopback
    Relay,
    /// How many packets of 1,400 bytes pass per second
    Packets,
    /// Goodput of kernel TCP at 10 Mbit/s, 60 ms, 1 % loss: Reno, CUBIC, BBR
    Tcp,
    /// Round trip that CUBIC makes with 150 kB of queue at 10 Mbit/s, 60 ms
    Bufferbloat,
    /// Cost of 50 vehicles at 50 Hz and one 10 Mbit/s bulk
    Fleet,
    /// Whether UDP at 50 Hz and bulk TCP meet the same channel under one seed
    Channel,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what {
        What::RoundTrip => udp::round_trip(args),
        What::Relay => udp::relay(args),
        What::Packets => udp::packets(args),
        What::Fleet => udp::fleet(args),
        What::Tcp => tcp::goodput(args),
        What::Bufferbloat => tcp::bufferbloat(args),
        What::Channel => tcp::channel(args),
    }
}

impl Args {
    /// A testbed with one link, described by `tweak`.
    fn bed(&self, tweak: &Tweak) -> anyhow::Result<Testbed> {
        self.start(Config::new(Profile::perfect("measured").tweaked(tweak)))
    }

    /// Makes the calling thread an endpoint like any other of this measurement.
    fn prepare(&self) -> io::Result<()> {
        if self.realtime { realtime::enter() } else { Ok(()) }
    }

    fn start(&self, config: Config) -> anyhow::Result<Testbed> {
        Ok(Testbed::start(Config { realtime: self.realtime, ..config }.seed(self.seed))?)
    }
}

/// 10 Mbit/s and 60 ms, the link of the TCP measurements.
fn ten_megabit(queue: &str) -> Tweak {
    Tweak {
        delay: Some(Duration::from_millis(30)),
        rate: units::rate("10 Mbit/s").ok(),
        queue: units::limit(queue).ok(),
        ..Tweak::default()
    }
}

/// Whether the run can be trusted, and what it cost.
fn conclude(report: &Report) -> anyhow::Result<()> {
    let json = report.json();
    say(&format!(
        "emulator: {:.1} % of a core, lateness p50 {} us, p99 {} us, worst {} us; canary p99 {} us; CPU pressure {:.0} %; {}",
        json["cpu_share"].as_f64().unwrap_or(0.0) * 100.0,
        json["lateness"]["p50_us"],
        json["lateness"]["p99_us"],
        json["lateness"]["worst_us"],
        json["canary"]["p99_us"],
        json["cpu_pressure"].as_f64().unwrap_or(0.0) * 100.0,
        if report.is_valid() { "valid" } else { "NOT VALID" },
    ))?;
    report.faults().iter().for_each(|fault| note(fault));
    Ok(())
}

/// Median, 99th percentile and largest of `values`.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at =
        |q: f64| values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN);
    (at(0.5), at(0.99), at(1.0))
}
