//! The Carriageway gateway: vehicles on one side, operators on the other.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use carriageway_gateway::cli::certs::Certs;
use carriageway_gateway::cli::config::{self, Source};
use carriageway_gateway::cli::drive::Drive;
use carriageway_gateway::cli::token::Token;
use carriageway_gateway::config::{Config, ENV_PREFIX, unread};
use carriageway_gateway::serve::{Running, serve};
use carriageway_transport::daemon::{self, Signals};
use clap::{Parser, Subcommand};

/// Links vehicles on lossy networks with the people and programs that watch and command them.
///
/// The first minute:
///
///   carriageway-gateway certs init               makes ./certs: an authority, keys, a certificate
///   carriageway-gateway certs vehicle truck-7    makes a vehicle's certificate
///   carriageway-gateway token new --sub ada --vehicles '*' --scope 'observe command:* drive' > operator.token
///   carriageway-gateway serve                    serves on port 4433
///   carriageway-gateway drive truck-7            drives it from a terminal
///
/// Then open https://localhost:4433/ for the page and https://localhost:4433/docs for the API; health
/// and metrics are on http://127.0.0.1:9464 (/livez, /readyz, /health, /metrics).
///
/// Configuration comes from a file, then CARRIAGEWAY_GATEWAY__* variables, then --set; `config show`
/// prints what is in force, `config check` what is wrong with it.
#[derive(Debug, Parser)]
#[command(name = "carriageway-gateway", version, about, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once
    ///
    /// Vehicles come in by QUIC on the UDP ports and by WebSocket on the TCP port, each with the
    /// certificate that names it. The TCP port also serves the HTTP API and the page. While it
    /// drains, `/readyz` answers 503, commands under way finish, and vehicles are told when to come
    /// back. Command records are kept on disk and outlive the process; a vehicle's own journal is what
    /// keeps a command from being executed twice. Files on the bulk lane are counted and let go.
    Serve(Source),
    /// Check or show the configuration
    Config(config::Config),
    /// Make certificates for development
    Certs(Certs),
    /// Make tokens for operators
    Token(Token),
    /// Drive a vehicle from this terminal, by keys or by a script
    ///
    /// Takes the lease, shows how old everything is, and sends control fifty times a second. A vehicle
    /// stands until it is re-armed (r): then it waits for hands off, and follows. The space bar is an
    /// emergency stop. A terminal cannot tell when a key is let go: controls wear off by themselves.
    Drive(Drive),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(source) => run(source),
        Command::Config(config) => config.run(&mut stdout().lock()),
        Command::Certs(certs) => certs.run(&mut stdout().lock()),
        Command::Token(token) => token.run(&mut stdout().lock()),
        Command::Drive(drive) => steer(drive),
    };
    done.unwrap_or_else(|error| {
        // Nothing is left to be done where even this cannot be written.
        let _unread = writeln!(stderr(), "carriageway-gateway: {}", daemon::said_once(error.chain()));
        ExitCode::FAILURE
    })
}

fn run(source: Source) -> Result<ExitCode> {
    let config = source.load()?;
    if let Err(problems) = config.check() {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        return Err(anyhow!("the configuration is not good:\n  {}", problems.join("\n  ")));
    }
    config.log.start()?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unread = unread(names);
    if !unread.is_empty() {
        tracing::warn!(?unread, "these variables are no settings: settings begin with {ENV_PREFIX}__");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(until_told(&config))?;
    // Whatever still waits for a peer is not waited for.
    runtime.shutdown_background();
    Ok(code)
}

fn steer(drive: Drive) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(drive.run(&mut stdout()));
    // Nor does a name that nobody resolves hold up whoever leaves.
    runtime.shutdown_background();
    code
}

async fn until_told(config: &Config) -> Result<ExitCode> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut running = serve(config).await?;
    daemon::ready();
    tokio::select! {
        () = running.broken() => return Ok(ExitCode::FAILURE),
        name = signals.next() => tracing::info!(signal = name, "draining"),
    }
    daemon::stopping();
    tokio::select! {
        code = drain(running) => Ok(code),
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn drain(running: Running) -> ExitCode {
    running.drain().await;
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_names_the_prefix_that_is_read() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("CARRIAGEWAY_GATEWAY__*"), "{help}");
        assert!(!help.replace("GATEWAY__", "").contains("GATEWAY_"), "{help}");
    }
}
