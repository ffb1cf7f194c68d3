//! Carriageway.
