//! The command line: reads arguments, prints, and leaves the work to the library.

mod link;
mod profiles;
mod relay;

use std::io::{self, Write};
use std::process::ExitCode;

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
}

pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Profiles(args) => profiles::run(args),
        Command::Relay(args) => relay::run(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error.
fn complain(error: &anyhow::Error) {
    // Nobody reads it: nothing more can be done.
    let _ = writeln!(io::stderr(), "carriageway-netem: {error:#}");
}

/// One line on standard output. Fails when nobody reads any more.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
