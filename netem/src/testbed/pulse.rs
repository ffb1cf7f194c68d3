//! A beat on the emulator's own thread: how late it is, is how late the thread wakes, whatever its priority.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};

use crate::clock;
use crate::core::Moment;
use crate::lateness::Lateness;

/// Between two beats: also how long the thread sleeps at most, so that a look at the devices is never much older. The
/// shortest delay that a profile has; each beat costs some 40 us of a small machine.
pub(super) const PERIOD: Duration = Duration::from_millis(5);

/// A timer that beats for ever.
pub(super) struct Pulse {
    timer: OwnedFd,
    next: Moment,
    lateness: Lateness,
}

impl Pulse {
    /// Beats from one period after now on.
    pub(super) fn start() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let next = clock::now() + PERIOD;
        let nanos = next.as_nanos().cast_signed();
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: PERIOD.subsec_nanos().into() },
            it_value: Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(Self { timer, next, lateness: Lateness::default() })
    }

    /// Records every beat since the last call, each by its own due time: a long pause counts by its length.
    pub(super) fn feel(&mut self) -> io::Result<()> {
        let mut beats = [0; 8];
        match rustix::io::read(&self.timer, &mut beats) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let now = clock::now();
        for _ in 0..u64::from_ne_bytes(beats) {
            self.lateness.record(now.since(self.next));
            self.next = self.next + PERIOD;
        }
        Ok(())
    }

    /// How late the beats were felt.
    pub(super) const fn lateness(&self) -> &Lateness {
        &self.lateness
    }
}

impl AsFd for Pulse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
