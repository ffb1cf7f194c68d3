//! The Carriageway agent: links a vehicle with its gateway.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use carriageway_agent::daemon::fleet::Fleet;
use carriageway_agent::daemon::identity::Proven;
use carriageway_transport::clock::BootClock;
use carriageway_transport::daemon::{self, Signals};
use clap::Parser;
use tokio::sync::watch;

use crate::cli::{Cli, Command, Prepared};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(source) => source.prepare().and_then(work),
        Command::Simulate(simulate) => simulate.prepare().and_then(work),
        Command::Config(config) => config.run(&mut std::io::stdout().lock()),
    };
    done.unwrap_or_else(|error| {
        // Nothing is left to be done where even this cannot be written.
        let _unread = writeln!(std::io::stderr(), "carriageway-agent: {}", daemon::said_once(error.chain()));
        ExitCode::FAILURE
    })
}

fn work(prepared: Prepared) -> Result<ExitCode> {
    let Prepared { config, members, journals, upload } = prepared;
    config.log.start()?;
    tracing::info!(
        vehicles = members.len(),
        host = config.gateway.host,
        udp_port = config.gateway.udp_port,
        tcp_port = config.gateway.tcp_port,
        "starting"
    );
    if let Some(doubt) = config.doubt() {
        tracing::warn!("{doubt}");
    }
    let fleet = Fleet::new(config, BootClock::system()?, journals, upload)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(until_told(fleet, members))
}

async fn until_told(fleet: Fleet, members: Vec<Proven>) -> Result<ExitCode> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let (stop, stopped) = watch::channel(false);
    let running = fleet.run(members, stopped);
    tokio::pin!(running);
    // Ready to carry out commands; whether a network is there, nobody can promise.
    daemon::ready();
    let name = tokio::select! {
        failed = &mut running => return verdict(failed),
        name = signals.next() => name,
    };
    tracing::info!(signal = name, "stopping; again to end at once");
    daemon::stopping();
    stop.send_replace(true);
    tokio::select! {
        failed = &mut running => verdict(failed),
        name = signals.next() => Err(anyhow!("{name} again: ended at once")),
    }
}

fn verdict(failed: usize) -> Result<ExitCode> {
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(anyhow!("one vehicle did not end cleanly; its lines above say why")),
        many => Err(anyhow!("{many} vehicles did not end cleanly; their lines above say why")),
    }
}
