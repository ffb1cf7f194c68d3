//! The comparison: ours and the strongest peers, on the same link, beside the best that the link allows.
//!
//! A plan names subjects, links, a workload and blocks. Within a block every subject meets the same weather and the same
//! load, back to back, in random order; differences are taken within blocks. Raw samples are kept, figures come from them.

pub mod analyse;
pub mod analysis;
pub mod bounds;
pub mod cell;
pub mod conduct;
pub mod contrast;
pub mod figures;
pub mod plan;
pub mod report;
pub mod statistics;
pub mod subjects;
pub mod timeline;
pub mod virtual_time;
pub mod workload;
