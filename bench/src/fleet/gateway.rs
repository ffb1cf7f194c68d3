//! The role of the gateway: serves until its input ends.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use carriageway_gateway::serve::serve;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::local::gateway_config;

/// The gateway of a fleet; started by `fleet`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Certificates and keys
    #[arg(long)]
    folder: PathBuf,
}

/// Its ports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) udp: u16,
    pub(super) tcp: u16,
    pub(super) internal: u16,
}

/// Serves.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let config = gateway_config(&options.folder);
    // As the gateway's own binary does.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = serve(&config).await?;
        let udp = running.udp.first().context("the gateway has no UDP port")?.port();
        let ready = Ready { udp, tcp: running.tcp.port(), internal: running.internal.port() };
        writeln!(out, "{}", serde_json::to_string(&ready)?)?;
        out.flush()?;
        until_input_ends().await;
        running.drain().await;
        Ok(())
    })
}

/// Whoever started this process has gone, or wants it to.
pub(super) async fn until_input_ends() {
    let mut nothing = [0; 64];
    let mut input = tokio::io::stdin();
    while input.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}
