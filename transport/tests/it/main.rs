//! The transport's integration tests, in one binary: linking is what costs.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod conformance;
mod quic;
mod support;
mod tls;
mod websocket;
