//! TCP between the ends of an emulated link without a clock: for the fallback, whose bytes must come in order.
//!
//! A model of Linux' TCP with CUBIC as far as the fallback meets it: SACK, RACK-TLP, timeouts, delayed acknowledgements,
//! TCP_NOTSENT_LOWAT, headers of their real size. What it leaves out: HyStart, ECN, windows of the receiver, path MTU discovery, closing
//! in order (what is not yet sent is lost), and the port of a connection is one of its own at both ends.

mod cubic;
mod receiver;
mod segment;
mod sender;
mod stream;

pub(super) use segment::Segment;
pub(super) use stream::{Listener, Stream};
