//! What is added to the propagation delay: a function of the moment at which a packet leaves, whoever else sends.
//!
//! Every slot draws an addition of its own. Where order is kept, a packet cannot arrive before one that could have left earlier:
//! the arrival of what leaves at `t` is the latest of `u + draw(slot of u)` over all `u` up to `t`, as if every slot were in use. So two
//! transports meet the same delay at the same moment, and bulk does not raise the delay of the signals beside it.

use std::collections::VecDeque;
use std::time::Duration;

use super::chance::{Chance, Draw};
use super::law::{Draws, Jitter, Order, Shape};
use super::moment::{Moment, Slot};

/// Draws of the exponential shape are cut off at this many means.
const CUT: f64 = 8.0;
/// No addition is longer: bounds how many slots an arrival can hang on.
const LONGEST: Duration = Duration::from_secs(1_000);
/// Length of a slot in seconds.
const SLOT_SECONDS: f64 = 1e-3;

/// The jitter of one direction.
#[derive(Clone, Debug)]
pub(super) struct Additions {
    chance: Chance,
    start: Moment,
    law: Jitter,
    draws: Draws,
    /// Mean of an exponential draw, in seconds.
    mean: f64,
    /// No draw is longer.
    longest: Duration,
    past: Past,
}

/// Slots that are over and whose draws may still hold back what leaves later.
#[derive(Clone, Debug)]
struct Past {
    /// The last arrival of each, falling: an earlier slot matters only if it holds back longer.
    arrivals: VecDeque<Moment>,
    /// The first slot that is not among them.
    next: u64,
}

impl Additions {
    pub(super) fn new(law: Jitter, draws: Draws, chance: Chance, start: Moment) -> Self {
        let cut = match law.shape {
            Shape::Uniform => 1.0,
            Shape::Exponential => CUT,
        };
        let spread = law.spread.min(LONGEST);
        let longest = spread.mul_f64(cut).min(LONGEST);
        let mean = match (law.shape, law.order, draws) {
            (Shape::Exponential, Order::Kept, Draws::BySlot) => mean_of_draws(spread.as_secs_f64()),
            (Shape::Exponential | Shape::Uniform, _, _) => spread.as_secs_f64(),
        };
        let past = Past { arrivals: VecDeque::new(), next: 0 };
        Self { chance, start, law, draws, mean, longest, past }
    }

    /// No addition is longer.
    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    /// What is added to the delay of packet number `index` if it leaves at `at`. Cheap while `at` rises.
    pub(super) fn addition(&mut self, at: Moment, index: u64) -> Duration {
        if self.law.spread.is_zero() {
            return Duration::ZERO;
        }
        let slot = Slot::of(at, self.start);
        match (self.draws, self.law.order) {
            (Draws::ByIndex, _) => self.draw(index),
            (Draws::BySlot, Order::Free) => self.draw(slot.0),
            (Draws::BySlot, Order::Kept) => self.draw(slot.0).max(self.held_back(at, slot)),
        }
    }

    /// How long slots before `slot` hold back what leaves at `at`.
    fn held_back(&mut self, at: Moment, slot: Slot) -> Duration {
        if slot.0 < self.past.next {
            self.past = Past { arrivals: VecDeque::new(), next: 0 };
        }
        let window = self.longest.as_millis() as u64 + 1;
        for number in self.past.next.max(slot.0.saturating_sub(window))..slot.0 {
            let arrival = Slot(number + 1).begins(self.start) + self.draw(number);
            while self.past.arrivals.pop_back_if(|earlier| *earlier <= arrival).is_some() {}
            self.past.arrivals.push_back(arrival);
        }
        self.past.next = slot.0;
        let begins = slot.begins(self.start);
        while self.past.arrivals.pop_front_if(|arrival| *arrival <= begins).is_some() {}
        self.past.arrivals.front().map_or(Duration::ZERO, |arrival| arrival.since(at))
    }

    fn draw(&self, n: u64) -> Duration {
        let seconds = match self.law.shape {
            Shape::Uniform => self.mean * self.chance.unit(Draw::Jitter, n),
            Shape::Exponential => self.mean * self.chance.exponential(Draw::Jitter, n),
        };
        Duration::from_secs_f64(seconds).min(self.longest)
    }
}

/// The mean that exponential draws need for additions that keep order to have the mean `wanted`, in seconds: the latest of
/// many draws is longer than one of them.
///
/// With `y` in means of the draws, an addition stays below `y` if the slot's own draw does and none of the past ones reaches over:
/// `(1 - e^-y) * product of (1 - e^-(y + k/slots))`, where a mean is `slots` slots long. The product is taken as `e` to the power of
/// an integral, which is a dilogarithm, and the mean addition is the integral of what is missing to one.
fn mean_of_draws(wanted: f64) -> f64 {
    /// Halvings: to a millionth of `wanted`.
    const HALVINGS: usize = 20;
    let steps: Vec<_> = (0..STEPS).map(|step| (-(f64::from(step) + 0.5) * STEP).exp()).collect();
    let steps: Vec<_> = steps.into_iter().map(|z| (z, dilogarithm(z))).collect();
    let (mut low, mut high) = (0.0, wanted);
    for _ in 0..HALVINGS {
        let mean = f64::midpoint(low, high);
        let slots = mean / SLOT_SECONDS;
        let missing = |(z, dilogarithm): &(f64, f64)| 1.0 - (1.0 - z) * (-slots * dilogarithm).exp();
        if mean * STEP * steps.iter().map(missing).sum::<f64>() < wanted {
            low = mean;
        } else {
            high = mean;
        }
    }
    high
}

/// Grain of that integral in means, and how many grains: up to 30 means, which nothing reaches.
const STEP: f64 = 0.1;
const STEPS: u32 = 300;

/// The sum of `z^n / n^2`.
fn dilogarithm(z: f64) -> f64 {
    /// Terms: what they miss matters only near one, where its effect is nil.
    const TERMS: u32 = 60;
    let (mut sum, mut power) = (0.0, 1.0);
    for n in 1..=TERMS {
        power *= z;
        sum += power / f64::from(n * n);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chance::{Direction, Seed};

    fn additions(spread_ms: u64, shape: Shape, order: Order) -> Additions {
        let law = Jitter { spread: Duration::from_millis(spread_ms), shape, order };
        Additions::new(law, Draws::BySlot, Chance::new(Seed(5), Direction::Up), Moment::from_millis(3))
    }

    /// The additions of a sender with this period, in milliseconds, sorted.
    fn sorted(additions: &mut Additions, period_us: u64) -> Vec<f64> {
        let moments = (0..100_000).map(|turn| Moment::from_nanos(3_000_000 + turn * period_us * 1_000));
        let mut all: Vec<_> = moments.map(|at| additions.addition(at, 0).as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn mean(all: &[f64]) -> f64 {
        all.iter().sum::<f64>() / all.len() as f64
    }

    #[test]
    fn the_exponential_spread_is_the_mean_in_order_and_out_of_it() {
        for spread in [1, 8, 15, 100] {
            for order in [Order::Kept, Order::Free] {
                let all = sorted(&mut additions(spread, Shape::Exponential, order), 1_037);
                let (mean, spread) = (mean(&all), spread as f64);
                assert!((mean / spread - 1.0).abs() < 0.04, "{order:?}: mean {mean} of {spread}");
                assert!(all[all.len() - 1] <= spread * CUT);
            }
        }
    }

    #[test]
    fn the_uniform_spread_is_the_largest() {
        let mut free = sorted(&mut additions(10, Shape::Uniform, Order::Free), 1_037);
        assert!((mean(&free) - 5.0).abs() < 0.1);
        let kept = sorted(&mut additions(10, Shape::Uniform, Order::Kept), 1_037);
        assert!((6.2..7.2).contains(&mean(&kept)), "{}", mean(&kept));
        free.extend(kept);
        assert!(free.iter().all(|addition| *addition <= 10.0));
    }

    #[test]
    fn who_sends_more_is_not_delayed_more() {
        for shape in [Shape::Uniform, Shape::Exponential] {
            let means =
                [137, 20_137].map(|period| mean(&sorted(&mut additions(8, shape, Order::Kept), period)));
            assert!((means[0] / means[1] - 1.0).abs() < 0.05, "{means:?}");
        }
    }

    #[test]
    fn the_addition_depends_on_the_moment_only() {
        let fresh = || additions(12, Shape::Exponential, Order::Kept);
        let (mut forth, mut back) = (fresh(), fresh());
        let moments: Vec<_> = (0..4_000).map(|turn| Moment::from_nanos(turn * 333_333)).collect();
        let up: Vec<_> = moments.iter().map(|at| forth.addition(*at, 0)).collect();
        for (at, addition) in moments.iter().zip(&up).rev().step_by(7) {
            assert_eq!(back.addition(*at, 0), *addition);
        }
        let arrivals: Vec<_> = moments.iter().zip(&up).map(|(at, addition)| *at + *addition).collect();
        assert!(arrivals.is_sorted());
    }
}
