//! The role of the gateway: serves until its input ends.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use carriageway_gateway::config::Config;
use carriageway_gateway::serve::serve;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

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
    let config = config(options);
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

fn config(options: &Options) -> Config {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::default();
    config.listen.udp = vec![here];
    (config.listen.tcp, config.listen.internal) = (here, here);
    config.tls.ca = options.folder.join("ca.pem");
    config.tls.cert = options.folder.join("server.pem");
    config.tls.key = options.folder.join("server.key");
    config.auth.public_key = options.folder.join("operator.pub");
    config.quic.secret = Some(options.folder.join("quic.secret"));
    config.store.path = options.folder.join("gateway.db");
    config.drain.deadline_ms = 5_000;
    config
}

/// Whoever started this process has gone, or wants it to.
pub(super) async fn until_input_ends() {
    let mut nothing = [0; 64];
    let mut input = tokio::io::stdin();
    while input.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}
