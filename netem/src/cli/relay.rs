//! `carriageway-netem relay` and `carriageway-netem relay ctl`.

mod control;

use std::net::SocketAddr;

use anyhow::Context;
use carriageway_netem::relay::control::ORDERS;
use carriageway_netem::relay::{Config, Forward, Relay, Sharing};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::link::LinkArgs;
use super::say;
use control::Address;

const EXAMPLES: &str = "\
Examples:
  # QUIC and WebSocket of a gateway on port 4433, as if over LTE at the cell's edge
  carriageway-netem relay --udp 127.0.0.1:5433=127.0.0.1:4433 --tcp 127.0.0.1:5433=127.0.0.1:4433 \\
      --profile lte-edge --seed 7 --control 127.0.0.1:5434
  # then, from another shell
  carriageway-netem relay ctl --control 127.0.0.1:5434 \"udp drop\"

Limits: UDP is exact. TCP ends here twice: a loss is a delay in order (fast retransmit or a
doubling timeout), and the endpoints' congestion control sees only back-pressure. It holds at most
512 MiB over all flows; beyond, UDP is dropped and counted (over_memory), TCP senders wait. To
compare transports, use `carriageway-netem run`.";

/// Pass UDP and TCP through an emulated link, in user space, without privileges
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    relay: RelayArgs,
}

#[derive(Subcommand)]
enum Command {
    Ctl(CtlArgs),
}

#[derive(clap::Args)]
struct RelayArgs {
    /// Forward UDP; may be repeated
    #[arg(long, value_name = "LISTEN=UPSTREAM", value_parser = forward)]
    udp: Vec<Forward>,
    /// Forward TCP; may be repeated
    #[arg(long, value_name = "LISTEN=UPSTREAM", value_parser = forward)]
    tcp: Vec<Forward>,
    /// Give each UDP flow and TCP connection a link of its own, as if each were a vehicle of its own
    #[arg(long)]
    per_flow: bool,
    /// Take orders here, on a Unix socket or a loopback port
    #[arg(long, value_name = "PATH|IP:PORT")]
    control: Option<Address>,
    #[command(flatten)]
    link: LinkArgs,
}

const ORDERS_EXPLAINED: &str = "\
  udp drop, udp pass      block UDP, or let it through, whatever the profile says
  outage TIME, hold TIME  nothing passes: it is lost, or it waits; `outage end` ends both
  nat-rebind [silent]     new ports for UDP; TCP connections lead nowhere and are not told
  nat-rebind reset        the same, but TCP connections are reset
  profile NAME            another link, by name or by the path of a .toml file
  status                  counters as JSON";

/// Give an order to a running relay and print its answer
#[derive(clap::Args)]
#[command(after_help = ORDERS_EXPLAINED)]
struct CtlArgs {
    /// Where the relay takes orders
    #[arg(long, value_name = "PATH|IP:PORT")]
    control: Address,
    #[arg(value_name = "ORDER", required = true, help = format!("One of: {ORDERS}"))]
    order: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Ctl(ctl)) => {
            say(&control::ask(&ctl.control, &ctl.order.join(" "))?).map_err(Into::into)
        }
        None => relay(args.relay),
    }
}

fn relay(args: RelayArgs) -> anyhow::Result<()> {
    if args.udp.is_empty() && args.tcp.is_empty() {
        anyhow::bail!("nothing to forward; give --udp LISTEN=UPSTREAM, --tcp LISTEN=UPSTREAM or both");
    }
    let scenario = args.link.scenario()?;
    LinkArgs::one_path(&scenario)?;
    let mut config = Config::scenario(scenario).seed(args.link.seed);
    config.sharing = if args.per_flow { Sharing::PerFlow } else { Sharing::Shared };
    config.udp.clone_from(&args.udp);
    config.tcp.clone_from(&args.tcp);
    let relay = Relay::start(config)?;
    announce("udp", relay.udp_addresses(), &args.udp)?;
    announce("tcp", relay.tcp_addresses(), &args.tcp)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(until_told(&relay, args.control))?;
    let stats = relay.stats()?;
    relay.stop().context("the relay failed")?;
    say(&stats.to_json().to_string())?;
    Ok(())
}

fn announce(protocol: &str, listening: &[SocketAddr], forwards: &[Forward]) -> anyhow::Result<()> {
    for (address, forward) in listening.iter().zip(forwards) {
        say(&format!("{protocol} {address} -> {}", forward.upstream))?;
    }
    Ok(())
}

/// Serves orders until the process is asked to stop.
async fn until_told(relay: &Relay, control: Option<Address>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let serve = async {
        match control {
            Some(address) => control::serve(relay, &address).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        failed = serve => failed,
    }
}

fn forward(text: &str) -> Result<Forward, String> {
    let wanted = "write LISTEN=UPSTREAM, like 127.0.0.1:5433=127.0.0.1:4433";
    let (listen, upstream) = text.split_once('=').ok_or(wanted)?;
    let address = |part: &str| part.parse().map_err(|_| format!("`{part}` is no IP:PORT; {wanted}"));
    Ok(Forward { listen: address(listen)?, upstream: address(upstream)? })
}
