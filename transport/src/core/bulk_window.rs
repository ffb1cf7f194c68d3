//! How much of the bulk lane may be under way: little enough that it never fills the link's queue.
//!
//! Delay-based, after LEDBAT (RFC 6817) with the slow start and periodic slowdown of LEDBAT++: the
//! window grows while the one-way delay stays near its floor, and shrinks in proportion when bulk
//! adds more than the target to it. Delay is measured through the session's own acknowledgements, so
//! one law holds over QUIC and TCP, under any congestion control below.

use std::collections::VecDeque;
use std::time::Duration;

use carriageway_proto::Moment;
use carriageway_proto::time::micros;

/// The knobs of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queueing delay that bulk may add.
    pub target: Duration,
    /// Least window in bytes: the lane never stops altogether.
    pub min: u64,
    /// Largest window in bytes.
    pub max: u64,
}

impl Default for Config {
    /// 15 ms of added delay is a quarter of a usual cellular round trip; two chunks keep the
    /// lane moving; 512 KiB is 40 Mbit/s at 100 ms.
    fn default() -> Self {
        Self { target: Duration::from_millis(15), min: 2 * 1_024, max: 512 * 1_024 }
    }
}

/// Growth per acknowledged window at zero added delay, in bytes: a packet, as RFC 6817 has it.
const GAIN_BYTES: f64 = 1_400.0;

/// Delay floors are remembered in this many spans of [`BASE_SPAN`] each, so that a route change is
/// believed after a minute at the latest.
const BASE_SPANS: usize = 6;
const BASE_SPAN: Duration = Duration::from_secs(10);

/// The window closes to its least this often, and for so many round trips, to see the bare link.
const SLOWDOWN_EVERY: Duration = Duration::from_secs(10);
const SLOWDOWN_ROUNDS: u32 = 2;

/// The window.
#[derive(Debug)]
pub struct BulkWindow {
    config: Config,
    bytes: f64,
    phase: Phase,
    /// Least one-way delay per span, newest last; relative, in microseconds.
    base: VecDeque<i64>,
    span_ends: Option<Moment>,
    /// Delays of the last round trip; relative, in microseconds.
    recent: VecDeque<(Moment, i64)>,
    round_trip: Duration,
    next_slowdown: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Doubles per round trip until bulk first shows in the delay.
    SlowStart,
    /// Proportional to what is left of the target.
    Steady,
    /// Closed until then, to see the bare link; back to so many bytes after.
    Slowdown { until: Moment, back_to: f64 },
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
            next_slowdown: None,
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
            Phase::SlowStart | Phase::Steady => self.bytes as u64,
        }
    }

    /// The delay that the link's queue adds now, by the last round trip's quickest frame.
    pub fn queueing(&self) -> Duration {
        let quickest = self.recent.iter().map(|(_, delay)| *delay).min();
        let base = self.base.iter().copied().min();
        match (quickest, base) {
            (Some(quickest), Some(base)) => {
                Duration::from_micros(u64::try_from(quickest - base).unwrap_or(0))
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
        self.round_trip = (self.round_trip * 7 + now.since(handed_at)) / 8;
        let delay = arrived.as_micros().wrapping_sub(handed_at.as_micros()).cast_signed();
        self.note_delay(delay, now);
        self.slow_down_in_time(now);
        let target = micros(self.config.target) as f64;
        let queueing = micros(self.queueing()) as f64;
        match self.phase {
            Phase::Slowdown { .. } => return,
            Phase::SlowStart if queueing > target / 2.0 => self.phase = Phase::Steady,
            Phase::SlowStart if was_full => self.bytes += bytes as f64,
            Phase::SlowStart => {}
            Phase::Steady => self.steer(bytes, (target - queueing) / target, was_full),
        }
        self.bytes = self.bytes.clamp(self.config.min as f64, self.config.max as f64);
    }

    /// RFC 6817, 2.4.2. A sender with less appetite than window does not grow it.
    fn steer(&mut self, bytes: u64, off_target: f64, was_full: bool) {
        if off_target > 0.0 && !was_full {
            return;
        }
        // Never less than half per window, however late the news.
        let off_target = off_target.max(-4.0);
        let step = GAIN_BYTES * off_target * bytes as f64 / self.bytes;
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
        let horizon = now - self.round_trip;
        self.recent.push_back((now, delay));
        while self.recent.len() > 1 && self.recent.front().is_some_and(|(at, _)| *at < horizon) {
            self.recent.pop_front();
        }
    }

    fn slow_down_in_time(&mut self, now: Moment) {
        if let Phase::Slowdown { until, back_to } = self.phase
            && now >= until
        {
            self.phase = Phase::Steady;
            self.bytes = back_to;
            self.next_slowdown = Some(now + SLOWDOWN_EVERY);
        }
        let due = *self.next_slowdown.get_or_insert(now + SLOWDOWN_EVERY);
        if now >= due && self.phase == Phase::Steady {
            let until = now + self.round_trip * SLOWDOWN_ROUNDS;
            self.phase = Phase::Slowdown { until, back_to: self.bytes };
        }
    }
}
