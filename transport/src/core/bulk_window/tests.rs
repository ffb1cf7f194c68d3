//! The window in virtual time, on a simulated bottleneck.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// What the agent's upload puts into a frame, and what the link adds to it, roughly.
const FRAME: u64 = 1_200;
const HEADERS: u64 = 110;

/// Between the acknowledgements of one frame each.
const ACK_DELAY: Duration = Duration::from_millis(5);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A bottleneck with an unlimited queue, a delay each way, and a peer whose clock reads something else.
struct Link {
    window: BulkWindow,
    now: Moment,
    /// Bytes per second.
    rate: u64,
    delay: Duration,
    /// When the bottleneck has sent everything it holds.
    free_at: Moment,
    peer_clock_ahead: Duration,
    /// When the acknowledgement is seen, when the frame was handed over and when it arrived.
    under_way: VecDeque<(Moment, Moment, Moment)>,
    arrived_bytes: u64,
    worst_queue: Duration,
}

impl Link {
    fn new(rate: u64, delay: Duration) -> Self {
        let now = Moment::from_micros(5_000_000);
        Self {
            window: BulkWindow::new(Config::default()),
            now,
            rate,
            delay,
            free_at: now,
            peer_clock_ahead: Duration::from_secs(77),
            under_way: VecDeque::new(),
            arrived_bytes: 0,
            worst_queue: Duration::ZERO,
        }
    }

    /// What waits at the bottleneck.
    fn queue(&self) -> Duration {
        self.now.until(self.free_at)
    }

    fn fill(&mut self) {
        while self.window.has_room(self.under_way.len() as u64 * FRAME) {
            let takes = Duration::from_micros((FRAME + HEADERS) * 1_000_000 / self.rate);
            self.free_at = self.free_at.max(self.now) + takes;
            let arrived = self.free_at + self.delay;
            let seen = arrived + ACK_DELAY + self.delay;
            self.under_way.push_back((seen, self.now, arrived + self.peer_clock_ahead));
            self.worst_queue = self.worst_queue.max(self.queue());
        }
    }

    /// A saturating sender for so long; its goodput as a share of the rate.
    fn run(&mut self, length: Duration) -> f64 {
        let (end, before) = (self.now + length, self.arrived_bytes);
        loop {
            self.fill();
            let Some((seen, ..)) = self.under_way.front().copied() else { unreachable!("it always sends") };
            if seen >= end {
                self.now = end;
                return (self.arrived_bytes - before) as f64 / (self.rate as f64 * length.as_secs_f64());
            }
            let (seen, handed_at, arrived) = self.under_way.pop_front().expect("it was looked at");
            self.now = seen;
            self.arrived_bytes += FRAME;
            self.window.acknowledged(FRAME, handed_at, arrived, self.now, true);
        }
    }

    /// The queue's share of time-averaged samples over `length`, and the worst.
    fn queues(&mut self, length: Duration) -> (Duration, Duration) {
        self.worst_queue = Duration::ZERO;
        let steps = length.as_millis() as u32 / 7;
        let mut sum = Duration::ZERO;
        for _ in 0..steps {
            self.run(ms(7));
            sum += self.queue();
        }
        (sum / steps, self.worst_queue)
    }
}

#[test]
fn it_fills_a_narrow_link_and_leaves_its_queue_short() {
    let mut link = Link::new(250_000, ms(30));
    link.run(Duration::from_secs(3));
    let (mean, worst) = link.queues(Duration::from_secs(30));
    assert!(mean < ms(22), "mean queue {mean:?}");
    assert!(worst < ms(50), "worst queue {worst:?}");
    let goodput = link.run(Duration::from_secs(30));
    assert!(goodput > 0.8, "goodput {goodput}");
}

#[test]
fn it_starts_without_a_queue_of_its_own() {
    let mut link = Link::new(250_000, ms(30));
    link.run(Duration::from_secs(3));
    assert!(link.worst_queue < ms(100), "worst queue {:?}", link.worst_queue);
}

#[test]
fn it_comes_back_from_a_slowdown_step_by_step() {
    let mut link = Link::new(250_000, ms(30));
    link.run(Duration::from_secs(8));
    let before = link.window.bytes();
    let mut closed = 0;
    let mut worst = Duration::ZERO;
    for _ in 0..400 {
        link.worst_queue = Duration::ZERO;
        link.run(ms(10));
        if matches!(link.window.phase, Phase::Slowdown { .. } | Phase::Return { .. }) {
            closed += 1;
            worst = worst.max(link.worst_queue);
        }
    }
    assert!(closed > 10, "there was a slowdown, of {closed} steps");
    assert!(worst < ms(60), "worst queue {worst:?}");
    assert!(link.window.bytes() * 3 > before * 2, "{} of {before} bytes", link.window.bytes());
}

#[test]
fn a_link_that_was_blocked_for_a_moment_is_soon_used_again() {
    let mut link = Link::new(250_000, ms(30));
    link.run(Duration::from_secs(5));
    // Kernel BBR does so every ten seconds.
    link.free_at = link.free_at + ms(200);
    link.run(Duration::from_secs(1));
    let goodput = link.run(Duration::from_secs(2));
    assert!(goodput > 0.75, "goodput {goodput}");
    let (mean, _) = link.queues(Duration::from_secs(1));
    assert!(mean < ms(25), "mean queue {mean:?}");
}

#[test]
fn it_halves_within_a_window_when_the_delay_explodes() {
    let mut window = BulkWindow::new(Config::default());
    window.phase = Phase::Steady;
    window.bytes = 100_000.0;
    let start = Moment::from_micros(1_000_000);
    window.acknowledged(1_000, start, start + ms(30), start + ms(60), true);
    let mut now = start + ms(60);
    for _ in 0..200 {
        now = now + ms(1);
        window.acknowledged(1_000, now - ms(500), now - ms(30), now, true);
    }
    let bytes = window.bytes();
    assert!((30_000..65_000).contains(&bytes), "{bytes} after two windows");
}

#[test]
fn it_follows_a_link_that_becomes_slower_and_faster() {
    let mut link = Link::new(1_000_000, ms(25));
    link.run(Duration::from_secs(10));
    link.rate = 250_000;
    link.run(Duration::from_secs(5));
    let (mean, _) = link.queues(Duration::from_secs(10));
    assert!(mean < ms(40), "mean queue {mean:?}");
    link.rate = 1_000_000;
    link.run(Duration::from_secs(10));
    let goodput = link.run(Duration::from_secs(20));
    assert!(goodput > 0.7, "goodput {goodput}");
}

#[test]
fn a_move_forgets_the_old_links_delay() {
    let mut link = Link::new(1_000_000, ms(10));
    link.run(Duration::from_secs(10));
    let mut far = Link::new(1_000_000, ms(150));
    far.window = link.window;
    far.window.restart();
    assert_eq!(far.window.queueing(), Duration::ZERO);
    far.run(Duration::from_secs(10));
    let goodput = far.run(Duration::from_secs(20));
    assert!(goodput > 0.7, "goodput {goodput}: the longer delay is no queue");
}

#[test]
fn a_sender_without_appetite_does_not_grow_the_window() {
    let mut window = BulkWindow::new(Config::default());
    let before = window.bytes();
    let mut now = Moment::from_micros(1_000_000);
    for _ in 0..1_000 {
        now = now + ms(3);
        window.acknowledged(1_000, now - ms(60), now - ms(30), now, false);
    }
    assert_eq!(window.bytes(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any link a phone has: it keeps it busy, adds little to the delay, and stays within its bounds.
    #[test]
    fn a_steady_link_is_used_and_left_short(
        kilobytes_per_second in 60_u64..4_000,
        delay_ms in 5_u64..150,
        ahead_s in 0_u64..1_000_000,
    ) {
        let mut link = Link::new(kilobytes_per_second * 1_000, ms(delay_ms));
        link.peer_clock_ahead = Duration::from_secs(ahead_s);
        // It rises by round trips: on the longest of these links it needs more than ten seconds to reach half a megabyte.
        let start = Duration::from_secs(10) + 25 * 2 * ms(delay_ms);
        link.run(start);
        let goodput = link.run(Duration::from_secs(20));
        // What the headers leave, and the largest window allows, at best.
        let window = 512.0 * 1_024.0 / (link.rate as f64 * (0.005 + 2.0 * delay_ms as f64 / 1_000.0));
        let possible = window.min(FRAME as f64 / (FRAME + HEADERS) as f64);
        prop_assert!(goodput > 0.8 * possible, "goodput {goodput} of {possible}");
        let (mean, _) = link.queues(start);
        let frame = Duration::from_micros((FRAME + HEADERS) * 1_000_000 / link.rate);
        prop_assert!(mean < ms(15) + frame * 3 / 2, "mean queue {mean:?}, a frame takes {frame:?}");
    }

    /// Whatever a peer acknowledges, the window stays within its bounds.
    #[test]
    fn no_news_takes_the_window_out_of_its_bounds(
        news in prop::collection::vec((1_u64..100_000, 0_u64..3_000_000, any::<u64>(), 0_u64..500_000, any::<bool>()), 1..300),
    ) {
        let config = Config::default();
        let mut window = BulkWindow::new(config);
        let mut now = Moment::from_micros(10_000_000);
        for (bytes, age, arrived, step, was_full) in news {
            now = now + Duration::from_micros(step);
            window.acknowledged(bytes, now - Duration::from_micros(age), Moment::from_micros(arrived), now, was_full);
            prop_assert!((config.min..=config.max).contains(&window.bytes()), "{} bytes", window.bytes());
            prop_assert!(window.has_room(0));
        }
    }
}
