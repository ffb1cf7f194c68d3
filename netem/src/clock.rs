//! The one place that asks for the time.

use rustix::time::{ClockId, clock_gettime};

use crate::core::Moment;

/// `CLOCK_MONOTONIC`: one clock for all processes and network namespaces of a host.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock is never negative");
    let nanos = u64::try_from(time.tv_nsec).expect("nanoseconds are never negative");
    Moment::from_nanos(seconds * 1_000_000_000 + nanos)
}
