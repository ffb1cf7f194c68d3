//! Media over QUIC (moq-net, over quinn), from peer to peer: no relay stands between vehicle and gateway.
//!
//! Each end publishes a broadcast, `vehicles/bench-1/up` or `vehicles/bench-1/down`, with a track per kind, and subscribes to all
//! tracks of the other's. A message is a group of its own, and a group a QUIC stream; the newest group of a track goes first,
//! and of states it replaces those before it, whose streams are reset. A file's pieces are frames of long groups. All of it
//! lives and ends with a connection: what was under way when one ends is lost, as the library has it where nobody else serves
//! the same broadcast.

mod carry;
mod quality;
mod window;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_netem::core::Direction;
use quinn::{TransportConfig, VarInt};

use super::common::{Newest, Quic, quic, versions};
use super::fleet::{Fleet, ready};
use super::quinn::Controller;
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::Manner;
use carry::carry;

/// Streams that each end may have open at once, as moq-tokio, the library's own way to QUIC, has it: each message has one.
const STREAMS: u32 = 10_000;

/// A dead connection is given up after this, as moq-tokio does.
const IDLE: Duration = Duration::from_secs(10);
/// And an idle one is kept, as there.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Of each stream, as with quinn in its best practice: no file fills a buffer that all streams share.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Media over QUIC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moq(pub(super) Controller);

/// The newest protocol that the library speaks by default.
fn protocol() -> &'static str {
    moq_net::ALPNS[0]
}

fn configuration(controller: Controller) -> Result<Quic> {
    let mut transport = TransportConfig::default();
    controller.set(&mut transport);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .max_idle_timeout(Some(IDLE.try_into()?))
        .keep_alive_interval(Some(KEEP_ALIVE));
    Ok(Quic { alpn: protocol().as_bytes(), transport: Arc::new(transport) })
}

impl Subject for Moq {
    fn facts(&self) -> Facts {
        let setup = format!(
            "{} on QUIC, from peer to peer without a relay; {} (the library's own way to QUIC has BBRv3, which quinn has not); a \
             track per kind and a group (a stream) per message, not its datagrams, which know no newest first; states with \
             max age 0 (the newest replaces the others), pictures 1 s, commands and files without limit; priorities from control \
             down to files; files in frames of 4 KiB, at most {} unconfirmed; stream windows 64 KiB, {STREAMS} streams, keep-alive \
             3 s, idle timeout 10 s; the server's certificate is verified",
            protocol(),
            self.0.name(),
            window::MOST,
        );
        Facts {
            title: format!("Media over QUIC, {}", self.0.name()),
            version: versions(&["moq-net", "web-transport-quinn", "quinn"]),
            setup,
            manner: Manner::NewestFirst,
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        let controller = self.0;
        Box::pin(async move {
            let end = ends.first().context("a gateway has a vehicle")?;
            let (endpoint, udp) = configuration(controller)?.listen(end)?;
            ready(&ends, Reach { udp, ..Reach::default() });
            let fleet = Fleet::new(ends, |_| Newest::new());
            quic::serve(endpoint, fleet, move |connection, end| {
                carry(controller, Direction::Down, connection, end)
            })
            .await
        })
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        let controller = self.0;
        Box::pin(async move {
            let quic = configuration(controller)?;
            let own = |connection| carry(controller, Direction::Up, connection, end.clone());
            quic.dial(reach.udp, &end, own).await
        })
    }
}
