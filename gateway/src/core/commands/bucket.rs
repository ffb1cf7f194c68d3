//! RATE at the gateway: the bucket that the vehicle uses, too.

pub(super) use carriageway_proto::rate::{Bucket, Rate};
