//! The one place that asks for the time.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::core::Moment;

/// `CLOCK_MONOTONIC`: one clock for all processes and network namespaces of a host.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock is never negative");
    let nanos = u64::try_from(time.tv_nsec).expect("nanoseconds are never negative");
    Moment::from_nanos(seconds * 1_000_000_000 + nanos)
}

/// How often both clocks are read for the closest pair.
const TRIES: usize = 8;

/// One instant by `CLOCK_MONOTONIC` and as nanoseconds since 1970: the closest of a few tries, within some hundred nanoseconds.
pub fn now_and_date() -> (Moment, u64) {
    let read = || {
        let before = now();
        let wall = clock_gettime(ClockId::Realtime);
        let spread = now().since(before);
        let unix = wall.tv_sec.unsigned_abs() * 1_000_000_000 + wall.tv_nsec.unsigned_abs();
        (spread, before + spread / 2, unix)
    };
    let tries = (0..TRIES).map(|_| read());
    let (_, moment, unix) = tries.min_by_key(|(spread, ..)| *spread).expect("there is at least one try");
    (moment, unix)
}

/// Sleeps until `due`, as exactly as the kernel wakes: some tens of microseconds late on an idle machine.
pub fn sleep_until(due: Moment) {
    let nanos = due.as_nanos().cast_signed();
    let at = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    // A signal may interrupt it; the kernel then wants the same call again.
    while clock_nanosleep_absolute(ClockId::Monotonic, &at).is_err() && now() < due {}
}
