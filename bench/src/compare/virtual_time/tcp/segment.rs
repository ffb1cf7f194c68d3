//! What goes over the link.

use std::ops::Range;

use bytes::Bytes;
use carriageway_netem::core::Moment;

/// Bytes of a full segment's payload: 1,500 less the headers of IPv4 and TCP and its timestamps.
pub(super) const MSS: usize = 1_500 - 20 - BARE;

/// Bytes of TCP's header with timestamps.
const BARE: usize = 20 + 12;

/// Blocks of SACK that find room beside timestamps (RFC 2018).
pub(super) const MOST_BLOCKS: usize = 3;

/// One segment. Sequence numbers count bytes from zero and never wrap; the handshake has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compare::virtual_time) struct Segment {
    pub(super) phase: Phase,
    pub(super) seq: u64,
    pub(super) data: Bytes,
    /// All before it has arrived.
    pub(super) ack: u64,
    /// What has arrived behind a hole, the newest first.
    pub(super) blocks: Vec<Range<u64>>,
    /// When it was sent.
    pub(super) sent: Moment,
    /// When the request was sent that it answers.
    pub(super) echo: Option<Moment>,
}

/// Of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake: a request, or the answer to one.
    Syn,
    Open,
    /// Nothing follows.
    Fin,
}

impl Segment {
    pub(super) const fn empty(phase: Phase, sent: Moment) -> Self {
        Self { phase, seq: 0, data: Bytes::new(), ack: 0, blocks: Vec::new(), sent, echo: None }
    }

    /// Bytes of TCP's header and payload.
    pub(in crate::compare::virtual_time) const fn len(&self) -> usize {
        let blocks = if self.blocks.is_empty() { 0 } else { 4 + 8 * self.blocks.len() };
        BARE + blocks + self.data.len()
    }
}
