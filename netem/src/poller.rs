//! Waiting: epoll for sockets, and a timer that fires early so that the rest can be spun away.
//!
//! A timer alone wakes 50 to 100 us late and tokio's wheel counts whole milliseconds; arming early and spinning the rest puts
//! deliveries within some microseconds of their due time and costs at most [`EARLY`] of CPU per delivery.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};

pub(crate) use rustix::event::epoll::EventFlags;

use crate::clock;
use crate::core::Moment;

/// How long before a due time the timer fires.
pub(crate) const EARLY: Duration = Duration::from_micros(100);

/// Events taken per wait.
const BATCH: usize = 64;

/// Data of the timer's event; sources use smaller numbers.
const ALARM: u64 = u64::MAX;
/// Data of the waker's event.
const WAKE: u64 = u64::MAX - 1;

/// A set of file descriptors and one alarm.
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Moment>,
    waker: OwnedFd,
}

/// Wakes a poller from another thread.
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn wake(&self) {
        // Fails only when the counter is full, and then the poller wakes anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, EventData::new_u64(ALARM), EventFlags::IN)?;
        epoll::add(&epoll, &waker, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, timer, armed: None, waker })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(self.waker.try_clone()?))
    }

    /// Watches `source` until it is closed. Its events carry `data`.
    pub(crate) fn watch(&self, source: impl AsFd, data: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(data), flags)?)
    }

    /// Stops watching `source`.
    pub(crate) fn unwatch(&self, source: impl AsFd) {
        // Fails only if it was not watched.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits until something happens or `due` has come, whichever is first, and puts what happened into `events`.
    pub(crate) fn wait(
        &mut self,
        due: Option<Moment>,
        events: &mut Vec<(u64, EventFlags)>,
    ) -> io::Result<()> {
        let at_once = match due {
            Some(due) if due <= clock::now() + EARLY => {
                spin_until(due);
                true
            }
            Some(_) | None => {
                self.arm(due)?;
                false
            }
        };
        let timeout = at_once.then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut batch = [const { MaybeUninit::uninit() }; BATCH];
        let happened = match epoll::wait(&self.epoll, &mut batch, timeout.as_ref()) {
            Ok((happened, _)) => happened,
            Err(rustix::io::Errno::INTR) => &mut [],
            Err(error) => return Err(error.into()),
        };
        events.clear();
        let happened = happened.iter().map(|event| (event.data.u64(), event.flags));
        events.extend(happened.filter(|(data, _)| is_source(&self.waker, *data)));
        Ok(())
    }

    /// Sets the timer to fire shortly before `due`.
    fn arm(&mut self, due: Option<Moment>) -> io::Result<()> {
        if due == self.armed {
            return Ok(());
        }
        let nanos =
            due.map_or(0, |due| due.as_nanos().saturating_sub(EARLY.as_nanos() as u64).max(1)).cast_signed();
        let it_value = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        self.armed = due;
        Ok(())
    }
}

/// Keeps events of sources; the alarm is cleared when it is set anew, the waker by reading it.
fn is_source(waker: &OwnedFd, data: u64) -> bool {
    if data == WAKE {
        let _ = rustix::io::read(waker, &mut [0_u8; 8]);
    }
    data < WAKE
}

fn spin_until(due: Moment) {
    while clock::now() < due {
        std::hint::spin_loop();
    }
}
