//! Steers virtual time: what is to happen at a moment of its own happens then, to the nanosecond.
//!
//! tokio's paused clock moves by whole milliseconds, from one of its timers to the next. Timers may do so: on a real
//! network tokio rounds them alike. Packets may not. So whoever needs a moment of his own waits for an [`Alarm`], and
//! the clock is led to the earliest of them: by tokio's timer as long as whole milliseconds are left, and over the rest
//! when the runtime has nothing else to do.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use carriageway_netem::core::Moment;
use tokio::sync::Notify;
use tokio::time::{Instant, advance, sleep_until};

/// The grain of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// Longest that the clock is led at once: an alarm may be set for never.
const LONGEST: Duration = Duration::from_hours(1);

/// Time of one runtime, which is current-thread, starts paused and calls [`Pilot::idle`] before it parks. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Pilot(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is an earlier alarm.
    changed: Notify,
    /// The runtime has nothing to do.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When the first of all looked at the clock.
    origin: Option<Instant>,
    /// By moment, then in the order in which they were set.
    alarms: BTreeMap<(Moment, u64), Waker>,
    /// Alarms so far.
    set: u64,
    awaits_idle: bool,
}

impl Pilot {
    /// Whose time begins when [`Pilot::now`] is first asked, within the runtime.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), idle: Notify::new() }))
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Moment {
        let now = tokio_now();
        let passed = now - *self.state().origin.get_or_insert(now);
        Moment::ZERO + passed
    }

    /// Returns at this moment, not a nanosecond later; at once if it has come. Cancel safe.
    pub(super) fn sleep_until(&self, at: Moment) -> Alarm {
        Alarm { pilot: self.clone(), at, place: None }
    }

    /// To be called whenever the runtime is about to park: its `on_thread_park`.
    pub(super) fn idle(&self) {
        if std::mem::take(&mut self.state().awaits_idle) {
            self.0.idle.notify_one();
        }
    }

    /// Leads the clock to one alarm after the other, for ever.
    pub(super) async fn steer(self) {
        loop {
            let Some(next) = self.next() else {
                self.0.changed.notified().await;
                continue;
            };
            let left = next.since(self.now());
            if left.is_zero() {
                self.ring();
            } else if left >= TICK {
                self.glide(left).await;
            } else if self.is_idle().await {
                // Nothing has been set since: it would have said so before the runtime was idle.
                advance(left).await;
            }
        }
    }

    /// Lets tokio's own timers lead the clock to within a tick of what is `left`, or to an earlier alarm.
    async fn glide(&self, left: Duration) {
        let ticks = whole_ticks(left.min(LONGEST));
        // tokio moves the clock by whole ticks, from wherever in a tick it is, when the next timer's tick has come.
        let until = self.beginning() + whole_ticks(self.now().since(Moment::ZERO)) + ticks;
        tokio::select! {
            biased;
            () = self.0.changed.notified() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Whether the runtime has nothing more to do at this moment; false where an earlier alarm was set meanwhile.
    async fn is_idle(&self) -> bool {
        self.state().awaits_idle = true;
        let is_idle = tokio::select! {
            biased;
            () = self.0.changed.notified() => false,
            () = self.0.idle.notified() => true,
        };
        self.state().awaits_idle = false;
        is_idle
    }

    fn next(&self) -> Option<Moment> {
        self.state().alarms.keys().next().map(|(at, _)| *at)
    }

    fn ring(&self) {
        let now = self.now();
        let mut state = self.state();
        while let Some(first) = state.alarms.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
    }

    fn beginning(&self) -> Instant {
        *self.state().origin.get_or_insert_with(tokio_now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of the time panics")
    }
}

const fn whole_ticks(span: Duration) -> Duration {
    Duration::from_millis(span.as_millis() as u64)
}

#[expect(
    clippy::disallowed_methods,
    reason = "virtual time is tokio's; the production clock takes no part in it"
)]
fn tokio_now() -> Instant {
    Instant::now()
}

/// Waits for a moment.
#[derive(Debug)]
#[must_use = "it waits when it is awaited"]
pub(super) struct Alarm {
    pilot: Pilot,
    at: Moment,
    /// Its number, once it is set.
    place: Option<u64>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.pilot.now() >= self.at {
            return Poll::Ready(());
        }
        let pilot = self.pilot.clone();
        let mut state = pilot.state();
        let place = self.place.unwrap_or_else(|| {
            state.set += 1;
            state.set
        });
        self.place = Some(place);
        let is_new = state.alarms.insert((self.at, place), context.waker().clone()).is_none();
        if is_new && state.alarms.keys().next() == Some(&(self.at, place)) {
            pilot.0.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.pilot.state().alarms.remove(&(self.at, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;
    use crate::compare::virtual_time::runtime;

    fn flown<T>(work: impl AsyncFnOnce(Pilot) -> T) -> T {
        let pilot = Pilot::new();
        runtime(&pilot).unwrap().block_on(async {
            let mut steering = JoinSet::new();
            steering.spawn(pilot.clone().steer());
            work(pilot).await
        })
    }

    #[test]
    fn alarms_ring_to_the_nanosecond_whatever_timers_do() {
        flown(async |pilot| {
            let mut timers = JoinSet::new();
            timers.spawn(async {
                loop {
                    sleep(Duration::from_micros(700)).await;
                }
            });
            assert_eq!(pilot.now(), Moment::ZERO);
            for nanos in [1, 999_999, 1_000_000, 1_000_001, 5_600_003, 5_600_004, 3_000_000_017] {
                pilot.sleep_until(Moment::from_nanos(nanos)).await;
                assert_eq!(pilot.now(), Moment::from_nanos(nanos));
            }
        });
    }

    #[test]
    fn timers_are_late_by_less_than_two_ticks_as_they_are_on_a_real_network() {
        flown(async |pilot| {
            for step in 1..500_u64 {
                pilot.sleep_until(pilot.now() + Duration::from_nanos(step * 7_919)).await;
                let before = pilot.now();
                let busy = pilot.clone();
                let mut others = JoinSet::new();
                others.spawn(async move {
                    loop {
                        busy.sleep_until(busy.now() + Duration::from_micros(130)).await;
                    }
                });
                sleep(Duration::from_micros(2_300)).await;
                let late = pilot.now().since(before + Duration::from_micros(2_300));
                assert!(late < TICK * 2, "{late:?}");
            }
        });
    }

    #[test]
    fn an_alarm_that_is_set_later_and_due_sooner_rings_first() {
        flown(async |pilot| {
            let (early, late) = (Moment::from_nanos(2_000_500), Moment::from_nanos(9_000_700));
            let waits = pilot.clone();
            let mut others = JoinSet::new();
            others.spawn(async move {
                waits.sleep_until(late).await;
                waits.now()
            });
            sleep(Duration::from_millis(1)).await;
            pilot.sleep_until(early).await;
            assert_eq!(pilot.now(), early);
            assert_eq!(others.join_next().await.unwrap().unwrap(), late);
        });
    }

    #[test]
    fn an_alarm_that_nobody_waits_for_any_more_is_forgotten() {
        flown(async |pilot| {
            let soon = Moment::from_nanos(1_500_000);
            tokio::select! {
                () = pilot.sleep_until(Moment::from_nanos(2_500_000)) => unreachable!("the other is sooner"),
                () = pilot.sleep_until(soon) => {}
            }
            assert!(pilot.state().alarms.is_empty());
        });
    }
}
