//! The benchmark's command line.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use carriageway_bench::{compare, cores, fleet, lanes, torture, watchdog};
use clap::{Parser, Subcommand};

/// Measures Carriageway: the real gateway and the real agent, not models of them.
///
/// The first minute:
///
///   carriageway-bench list               plans of the comparison and the subjects that it compares
///   carriageway-bench run virtual        our session in virtual time: half a minute, without root
///   carriageway-bench run quick          ours and its peers on the same links: a first look, under ten minutes (as root)
///   carriageway-bench run drive --jobs 6 the whole, an hour and more; the same command again goes on
///   carriageway-bench lanes --quick      what a saturating upload does to commands and signals (as root)
///   carriageway-bench fleet --vehicles 100    connect time, memory and CPU of a gateway with a fleet
///   carriageway-bench cores              what a command costs in the cores, in microseconds
///   carriageway-bench torture --kills 20      kills real processes at random: is a command lost, stuck, doubled,
///                                             late or lied about? (FRESH, ONCE, ACK-TRUTH, OFFLINE, RATE, LIVENESS)
///   carriageway-bench watchdog --cuts 100     cuts the link under driven vehicles: how soon do they stop?
///   carriageway-bench report results/drive    the page on a comparison's results: answer, claims, what speaks against it
///
/// Progress goes to stderr, tables to stdout, everything as JSON to --json FILE. Build with --release: a debug
/// build measures the compiler. Other work on the machine widens every tail; see bench/README.md.
#[derive(Debug, Parser)]
#[command(name = "carriageway-bench", version, about, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(compare::conduct::Options),
    List(compare::conduct::list::Options),
    Lanes(lanes::Options),
    Fleet(fleet::Options),
    Cores(cores::Options),
    Torture(torture::Options),
    Watchdog(watchdog::Options),
    Report(compare::report::Options),
    Compare(compare::contrast::Options),
    #[command(hide = true)]
    Cell(compare::cell::Options),
    #[cfg(feature = "peer-zenoh")]
    #[command(hide = true)]
    ZenohVehicle(compare::subjects::ZenohVehicle),
    #[command(hide = true)]
    FleetGateway(fleet::gateway::Options),
    #[command(hide = true)]
    FleetVehicles(fleet::vehicles::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).init();
    // Fails only where one is installed already, and then there is one.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let out = &mut stdout();
    let done = match cli.command {
        Command::Run(options) => compare::conduct::run(&options, out),
        Command::List(options) => compare::conduct::list::run(&options, out),
        Command::Lanes(options) => lanes::run(&options, out),
        Command::Fleet(options) => fleet::run(&options, out),
        Command::Cores(options) => cores::run(&options, out),
        Command::Torture(options) => torture::run(&options, out),
        Command::Watchdog(options) => watchdog::run(&options, out),
        Command::Report(options) => compare::report::run(&options, out),
        Command::Compare(options) => compare::contrast::run(&options, out),
        Command::Cell(options) => compare::cell::run(&options),
        #[cfg(feature = "peer-zenoh")]
        Command::ZenohVehicle(options) => compare::subjects::run_zenoh_vehicle(&options),
        Command::FleetGateway(options) => fleet::gateway::run(&options, out),
        Command::FleetVehicles(options) => fleet::vehicles::run(&options, out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where even this cannot be written.
            let _unread = writeln!(stderr(), "carriageway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
