//! How much of the bulk lane may be under way: little enough that it never fills the link's queue.
//!
//! Delay-based, after LEDBAT (RFC 6817) with the slow start and periodic slowdown of LEDBAT++
//! (draft-irtf-iccrg-ledbat-plus-plus): the window grows while the one-way delay stays near its floor,
//! and shrinks in proportion when bulk adds more than the target to it. Delay is measured through the
//! session's own acknowledgements, so one law holds over QUIC and TCP, under any congestion control below.
//!
//! It differs from LEDBAT in its step. RFC 6817 grows by a packet per round trip, whatever the rate; with a
//! target of few milliseconds, which is less than a packet on a narrow link, that overshoots by more than
//! it steers. Here a step is a share of the bytes that fill the target at the rate seen, so the loop is
//! equally calm on every link.

use std::collections::VecDeque;
use std::time::Duration;

use carriageway_proto::Moment;
use carriageway_proto::time::micros;

/// The knobs of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queueing delay that bulk may add, as the quickest frame of a round trip sees it; on average it
    /// adds half a frame's time more.
    pub target: Duration,
    /// Least window in bytes: the lane never stops altogether.
    pub min: u64,
    /// Largest window in bytes.
    pub max: u64,
}

impl Default for Config {
    /// 6 ms keeps the link busy between two acknowledgements and is a tenth of a usual cellular round
    /// trip; a frame is always let go where none is under way; 512 KiB is 40 Mbit/s at 100 ms.
    fn default() -> Self {
        Self { target: Duration::from_millis(6), min: 2 * 1_024, max: 512 * 1_024 }
    }
}

/// Per round trip the window makes up for this share of what it is off by. The news is one round trip
/// old and averaged over another; above a third such a loop rings.
const GAIN: f64 = 0.3;

/// Growth per round trip while nothing shows in the delay. Doubling would leave a queue as long as
/// the link before the news of it is back.
const START: f64 = 1.5;

/// Least step per window at zero added delay, in bytes: small windows must grow, too.
const LEAST_STEP: f64 = 300.0;

/// Delay floors are remembered in this many spans of [`BASE_SPAN`] each, so that a route change is
/// believed after a minute at the latest.
const BASE_SPANS: usize = 6;
const BASE_SPAN: Duration = Duration::from_secs(10);

/// The window closes to its least this often, and for so many round trips, to see the bare link.
const SLOWDOWN_EVERY: Duration = Duration::from_secs(10);
const SLOWDOWN_ROUNDS: u32 = 2;

/// At least so many round trips lie between two slowdowns, each of which costs about four.
const SLOWDOWN_EVERY_ROUNDS: u32 = 40;

/// After a slowdown the window opens to this share of what it was, and grows from there by [`START`]: all
/// at once would be a queue.
const RETURN: f64 = 0.25;

/// So many targets of delay are no overshoot: something has happened to the link.
const OVERLOAD: f64 = 4.0;

/// The window goes back to this share of what it was before that.
const RETURN_AFTER_OVERLOAD: f64 = 0.8;

/// The window.
#[derive(Debug)]
pub struct BulkWindow {
    config: Config,
    bytes: f64,
    phase: Phase,
    /// Least one-way delay per span, newest last; relative, in microseconds.
    base: VecDeque<i64>,
    span_ends: Option<Moment>,
    /// Delays of the last bare round trip; relative, in microseconds.
    recent: VecDeque<(Moment, i64)>,
    round_trip: Duration,
    /// The least round trip seen: with the queue's part in it, news would be judged the later the
    /// worse it is.
    bare_round_trip: Duration,
    next_slowdown: Option<Moment>,
    /// The window before a delay so long that it halved: once that has passed, the way back.
    before_overload: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Grows by [`START`] per round trip until bulk first shows in the delay.
    SlowStart,
    /// Proportional to what is left of the target.
    Steady,
    /// Closed until then, to see the bare link; then back to so many bytes.
    Slowdown { until: Moment, back_to: f64 },
    /// Grows likewise up to so many bytes: all of them at once would be a queue of their own.
    Return { back_to: f64 },
}

impl BulkWindow {
    /// A window that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            bytes: (4 * config.min) as f64,
            phase: Phase::SlowStart,
            base: VecDeque::new(),
            span_ends: None,
            recent: VecDeque::new(),
            round_trip: Duration::from_millis(100),
            bare_round_trip: Duration::MAX,
            next_slowdown: None,
            before_overload: None,
        }
    }

    /// Starts over: the lane moved to another connection, whose delays are others.
    pub fn restart(&mut self) {
        *self = Self::new(self.config);
    }

    /// May another frame go while `in_flight` bytes are unacknowledged?
    pub fn has_room(&self, in_flight: u64) -> bool {
        in_flight < self.bytes()
    }

    /// The window, in bytes.
    pub fn bytes(&self) -> u64 {
        match self.phase {
            Phase::Slowdown { .. } => self.config.min,
            Phase::SlowStart | Phase::Steady | Phase::Return { .. } => self.bytes as u64,
        }
    }

    /// The delay that the link's queue adds now, by the quickest frame of a bare round trip: what waits
    /// behind frames of its own burst is no queue.
    pub fn queueing(&self) -> Duration {
        let quickest = self.recent.iter().map(|(_, delay)| *delay).min();
        let base = self.base.iter().copied().min();
        match (quickest, base) {
            (Some(quickest), Some(base)) => {
                Duration::from_micros(u64::try_from(quickest.saturating_sub(base)).unwrap_or(0))
            }
            (None, _) | (_, None) => Duration::ZERO,
        }
    }

    /// Takes in an acknowledgement of `bytes`, seen at `now`: the newest frame it covers was handed
    /// over at `handed_at` and arrived when the peer's clock read `arrived`. `was_full` says that the
    /// window, not the sender's appetite, was the limit.
    pub fn acknowledged(
        &mut self,
        bytes: u64,
        handed_at: Moment,
        arrived: Moment,
        now: Moment,
        was_full: bool,
    ) {
        let round_trip = now.since(handed_at);
        self.round_trip = (self.round_trip * 7 + round_trip) / 8;
        self.bare_round_trip = self.bare_round_trip.min(round_trip);
        let delay = arrived.as_micros().wrapping_sub(handed_at.as_micros()).cast_signed();
        self.note_delay(delay, now);
        self.slow_down_in_time(now);
        let target = micros(self.config.target).max(1) as f64;
        let queueing = micros(self.queueing()) as f64;
        let shows = self.queueing() > self.config.target / 2;
        match self.phase {
            Phase::Slowdown { .. } => return,
            // What shows now was caused by the window of a round trip ago.
            Phase::SlowStart if shows => self.slow_down(now, self.bytes / START),
            // Its end is known to be safe: a little of a queue on the way there is no reason to stop.
            Phase::Return { .. } if queueing > target => self.steady(),
            Phase::SlowStart | Phase::Return { .. } if was_full => {
                self.bytes += bytes as f64 * (START - 1.0);
            }
            Phase::SlowStart | Phase::Return { .. } => {}
            Phase::Steady if !shows && self.before_overload.is_some() => self.come_back(),
            Phase::Steady => {
                if queueing > OVERLOAD * target {
                    self.before_overload.get_or_insert(self.bytes);
                }
                self.steer(bytes, (target - queueing) / target, was_full);
            }
        }
        if let Phase::Return { back_to } = self.phase
            && self.bytes >= back_to
        {
            self.bytes = back_to;
            self.steady();
        }
        self.bytes = self.bytes.clamp(self.config.min as f64, self.config.max as f64);
    }

    fn steady(&mut self) {
        self.phase = Phase::Steady;
        self.before_overload = None;
    }

    /// The link was blocked for a moment, or its rate has changed: whichever it was shows on the way.
    fn come_back(&mut self) {
        if let Some(before) = self.before_overload.take() {
            self.phase = Phase::Return { back_to: before * RETURN_AFTER_OVERLOAD };
        }
    }

    /// RFC 6817, 2.4.2, with another step. A sender with less appetite than window does not grow it.
    fn steer(&mut self, bytes: u64, off_target: f64, was_full: bool) {
        if off_target > 0.0 && !was_full {
            return;
        }
        let round_trip = micros(self.round_trip).max(1) as f64;
        let target_bytes = self.bytes * micros(self.config.target) as f64 / round_trip;
        let whole = (GAIN * target_bytes).max(LEAST_STEP);
        let step = whole * off_target * bytes as f64 / self.bytes;
        // Never less than half per window, however late the news.
        self.bytes += step.max(-(bytes as f64) / 2.0);
    }

    fn note_delay(&mut self, delay: i64, now: Moment) {
        if self.span_ends.is_none_or(|ends| now >= ends) {
            self.span_ends = Some(now + BASE_SPAN);
            self.base.push_back(delay);
            if self.base.len() > BASE_SPANS {
                self.base.pop_front();
            }
        }
        let newest = self.base.back_mut().expect("a span was opened");
        *newest = delay.min(*newest);
        let horizon = now - self.bare_round_trip;
        self.recent.push_back((now, delay));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| *at < horizon) {
            self.recent.pop_front();
        }
    }

    fn slow_down_in_time(&mut self, now: Moment) {
        if let Phase::Slowdown { until, back_to } = self.phase
            && now >= until
        {
            self.bytes = back_to * RETURN;
            self.phase = Phase::Return { back_to };
            self.next_slowdown = Some(now + SLOWDOWN_EVERY.max(self.round_trip * SLOWDOWN_EVERY_ROUNDS));
            // Measured while the queue that made the slowdown necessary ran empty.
            self.recent.clear();
        }
        let due = *self.next_slowdown.get_or_insert(now + SLOWDOWN_EVERY);
        if now >= due && self.phase == Phase::Steady {
            let back_to =
                self.before_overload.take().map_or(self.bytes, |before| before * RETURN_AFTER_OVERLOAD);
            self.slow_down(now, back_to);
        }
    }

    fn slow_down(&mut self, now: Moment, back_to: f64) {
        let until = now + self.round_trip * SLOWDOWN_ROUNDS;
        self.phase = Phase::Slowdown { until, back_to: back_to.max(self.config.min as f64) };
    }
}

#[cfg(test)]
mod tests;
