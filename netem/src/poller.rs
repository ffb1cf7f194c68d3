//! Waiting: epoll for sockets, and a timer that fires early so that the rest can be spun away.
//!
//! A timer alone wakes 10 to 100 us late and tokio's wheel counts whole milliseconds; arming early and spinning the rest puts
//! deliveries within some microseconds of their due time. How early follows how late the kernel has been waking us, so that a
//! machine with quick timers spins little.

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

/// The timer fires at most this long before a due time.
const EARLIEST: Duration = Duration::from_micros(100);
/// And at least this long.
const LATEST: Duration = Duration::from_micros(15);
/// How much earlier than the kernel's recent delay in waking us would demand.
const MARGIN: Duration = Duration::from_micros(10);
/// After a quick wake-up the expected delay falls by this share of the difference; after a slow one it rises at once.
const FORGETTING: u32 = 64;

/// Events taken per wait.
pub(crate) const BATCH: usize = 64;

/// Data of the timer's event; sources use smaller numbers.
const ALARM: u64 = u64::MAX;
/// Data of the waker's event.
const WAKE: u64 = u64::MAX - 1;

/// A set of file descriptors and one alarm.
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Moment>,
    /// When the timer is to fire, for `armed`.
    fires: Moment,
    /// How late the kernel wakes us.
    delay: Duration,
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
        Ok(Self { epoll, timer, armed: None, fires: Moment::NEVER, delay: EARLIEST, waker })
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
            Some(due) if self.is_close(due) => {
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
            // Nothing was looked at: a process that is stopped and goes on gets here.
            Err(rustix::io::Errno::INTR) => return self.wait(due, events),
            Err(error) => return Err(error.into()),
        };
        events.clear();
        if !at_once && happened.iter().any(|event| event.data.u64() == ALARM) {
            learn(&mut self.delay, clock::now().since(self.fires));
        }
        let happened = happened.iter().map(|event| (event.data.u64(), event.flags));
        events.extend(happened.filter(|(data, _)| is_source(&self.waker, *data)));
        Ok(())
    }

    /// Whether the rest is to be spun away: because the timer has fired, or because it would at once.
    fn is_close(&self, due: Moment) -> bool {
        let now = clock::now();
        due <= now + self.early() || (self.armed == Some(due) && self.fires <= now)
    }

    fn early(&self) -> Duration {
        (self.delay + MARGIN).clamp(LATEST, EARLIEST)
    }

    /// Sets the timer to fire shortly before `due`.
    fn arm(&mut self, due: Option<Moment>) -> io::Result<()> {
        if due == self.armed {
            return Ok(());
        }
        let early = self.early();
        self.fires = due.map_or(Moment::NEVER, |due| {
            Moment::from_nanos(due.as_nanos().saturating_sub(early.as_nanos() as u64).max(1))
        });
        // Zero disarms.
        let nanos = if due.is_some() { self.fires.as_nanos().cast_signed() } else { 0 };
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

/// Takes a delay in waking up into account.
fn learn(expected: &mut Duration, delay: Duration) {
    let delay = delay.min(EARLIEST);
    let step = expected.saturating_sub(delay) / FORGETTING;
    *expected = delay.max(expected.saturating_sub(step));
}

fn spin_until(due: Moment) {
    while clock::now() < due {
        std::hint::spin_loop();
    }
}
