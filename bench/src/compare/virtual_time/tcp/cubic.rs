//! CUBIC as RFC 9438 has it, without what it leaves to choice (HyStart among it). Pure.

use std::time::Duration;

use carriageway_netem::core::Moment;

use super::segment::MSS;

const BETA: f64 = 0.7;
/// Segments per second cubed.
const C: f64 = 0.4;
/// Segments of the first window (RFC 6928).
const FIRST: f64 = 10.0;
/// Segments below which no loss leads.
const LEAST: f64 = 2.0;

/// The window, counted in segments.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    /// The window before the last loss.
    before: f64,
    epoch: Option<Epoch>,
}

/// Time without loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Moment,
    /// Where it is flat: the window before the loss.
    plateau: f64,
    /// Seconds until the window is as before the loss.
    k: f64,
    /// What Reno would have.
    reno: f64,
}

impl Cubic {
    pub(super) const fn new() -> Self {
        Self { window: FIRST, threshold: f64::INFINITY, before: 0.0, epoch: None }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> usize {
        (self.window * MSS as f64) as usize
    }

    /// So many bytes have arrived, and the window was full.
    pub(super) fn acknowledged(&mut self, now: Moment, bytes: usize, rtt: Duration) {
        let segments = bytes as f64 / MSS as f64;
        if self.window < self.threshold {
            self.window += segments;
            return;
        }
        let (window, before) = (self.window, self.before);
        let epoch = self.epoch.get_or_insert_with(|| {
            let plateau = before.max(window);
            Epoch { start: now, plateau, k: ((plateau - window) / C).cbrt(), reno: window }
        });
        let plateau = epoch.plateau;
        let at = |time: f64| C * (time - epoch.k).powi(3) + plateau;
        let time = now.since(epoch.start).as_secs_f64();
        let alpha = if epoch.reno < plateau { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        epoch.reno += alpha * segments / window;
        if at(time) < epoch.reno {
            self.window = window.max(epoch.reno);
        } else {
            let target = at(time + rtt.as_secs_f64()).clamp(window, 1.5 * window);
            self.window += (target - window) / window * segments;
        }
    }

    /// Something was lost, the first of its round trip.
    pub(super) fn lost(&mut self) {
        // Fast convergence: who had less than before leaves room for others.
        let converges = self.window < self.before;
        self.before = if converges { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(LEAST);
        self.window = self.threshold;
        self.epoch = None;
    }

    /// Nothing has arrived for so long that all must be taken for lost.
    pub(super) fn timed_out(&mut self) {
        self.lost();
        self.window = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// A window's worth of acknowledgements per round trip.
    fn after(cubic: &mut Cubic, from: Moment, rounds: u32) -> Vec<f64> {
        (0..rounds)
            .map(|round| {
                let now = from + RTT * round;
                cubic.acknowledged(now, cubic.window(), RTT);
                cubic.window
            })
            .collect()
    }

    #[test]
    fn it_doubles_until_the_first_loss_and_gives_up_three_tenths() {
        let mut cubic = Cubic::new();
        let rounds = after(&mut cubic, Moment::ZERO, 3);
        assert!(
            rounds.iter().zip([20.0, 40.0, 80.0]).all(|(window, doubled)| (window - doubled).abs() < 0.1)
        );
        cubic.lost();
        assert!((cubic.window - 56.0).abs() < 0.1, "{}", cubic.window);
    }

    #[test]
    fn it_is_back_where_it_was_after_k_and_slow_around_it() {
        let mut cubic = Cubic { window: 1_000.0, threshold: 1.0, before: 0.0, epoch: None };
        cubic.lost();
        // The cube root of 300 / 0.4.
        let k = 750_f64.cbrt();
        let rounds = (k / RTT.as_secs_f64()) as u32;
        let windows = after(&mut cubic, Moment::ZERO, rounds + 60);
        let back = windows[rounds as usize];
        assert!((970.0..1_001.0).contains(&back), "{back}");
        let step = |round: u32| windows[round as usize + 1] - windows[round as usize];
        assert!(step(rounds) < step(5) / 10.0, "{} {}", step(rounds), step(5));
    }

    #[test]
    fn a_small_window_grows_as_renos_would() {
        let mut cubic = Cubic { window: 10.0, threshold: 1.0, before: 10.0, epoch: None };
        cubic.lost();
        let rounds = after(&mut cubic, Moment::ZERO, 8);
        let gained = rounds[4] - 7.0;
        // 0.53 segments a round trip, until it is as before.
        assert!((2.3..2.8).contains(&gained), "{gained}");
    }

    #[test]
    fn a_timeout_begins_anew_up_to_seven_tenths() {
        let mut cubic = Cubic { window: 100.0, threshold: 1.0, before: 0.0, epoch: None };
        cubic.timed_out();
        assert_eq!((cubic.window(), cubic.threshold.round()), (MSS, 70.0));
    }
}
