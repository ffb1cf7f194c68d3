//! Integration tests of the transport.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conformance;
