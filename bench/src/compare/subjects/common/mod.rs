//! What several subjects are made of: TLS, tuned TCP, QUIC, messages on a stream, dialing again, versions.

mod frames;
mod meeting;
pub(super) mod quic;
mod taking;
mod tcp;
mod tls;
mod version;

pub(super) use frames::{Frames, framed, hear, hear_frames, write_frame};
pub(super) use meeting::{Newest, again};
pub(super) use quic::Quic;
pub(super) use taking::{Taking, Way, piece_bytes};
pub(super) use tcp::{Carry, Congestion, Stream, Tuning, dial, listen, serve};
pub(super) use tls::client;
pub(super) use version::versions;
