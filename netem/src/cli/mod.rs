//! The command line: reads arguments, prints, and leaves the work to the library.

mod link;
mod measure;
mod oracle;
mod plot;
mod profiles;
mod relay;
mod run;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use carriageway_netem::clock;
use clap::{Parser, Subcommand};

/// A link emulator: cellular links between two sockets, seeded and reproducible.
#[derive(Parser)]
#[command(name = "carriageway-netem", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Profiles(profiles::Args),
    Relay(Box<relay::Args>),
    Run(Box<run::Args>),
    Plot(Box<plot::Args>),
    Oracle(Box<oracle::Args>),
    Measure(measure::Args),
    /// Replace this process by a command, once it may begin
    #[command(hide = true)]
    Enter {
        #[arg(long)]
        gate: Option<i32>,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Be the first process of the namespace in which endpoints live
    #[command(hide = true)]
    Keep,
}

/// Exit code when a command cannot be started, as shells have it.
const NOT_STARTED: u8 = 127;

pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Profiles(args) => profiles::run(args),
        Command::Relay(args) => relay::run(*args),
        Command::Oracle(args) => oracle::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Run(args) => return run::run(&args),
        Command::Keep => run::keep(),
        Command::Enter { gate, command } => {
            complain(&run::enter(gate, &command));
            return ExitCode::from(NOT_STARTED);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error for what went wrong.
fn complain(error: &anyhow::Error) {
    note(&format!("{error:#}"));
}

/// One line on standard error.
fn note(line: &str) {
    // Nobody reads it: nothing more can be done.
    let _ = writeln!(io::stderr(), "carriageway-netem: {line}");
}

/// One line on standard output. Fails when nobody reads any more.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
