//! Carriageway.

fn main() {}
