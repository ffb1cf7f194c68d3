//! The generated protobuf types. Raw: use [`crate::Frame`] and [`crate::Message`] instead, which
//! are checked.
#![allow(missing_docs, reason = "generated; the schema carries the comments")]
#![allow(clippy::pedantic, reason = "generated")]
#![allow(clippy::all, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/carriageway.v1.rs"));
