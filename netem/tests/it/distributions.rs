//! What comes out of a pipe is distributed as its law says.

use std::time::Duration;

use carriageway_netem::core::{
    Cause, Delivery, Direction, Event, Jitter, Kind, Law, Loss, Moment, Order, Packet, Pipe, Probability,
    Seed, Shape,
};
use proptest::prelude::*;

/// A period that meets every part of a slot.
const PERIOD: Duration = Duration::from_micros(1_037);

/// What becomes of `count` packets of 100 bytes, one every `period`.
fn run(law: &Law, seed: u64, period: Duration, count: u32) -> (Vec<Delivery<()>>, Pipe<()>) {
    let mut pipe = Pipe::new(law.clone(), Seed(seed), Direction::Down, Moment::ZERO);
    for turn in 0..count {
        let packet = Packet { size: 100, kind: Kind::Udp, payload: () };
        pipe.push(Moment::ZERO + period * turn, packet).unwrap();
    }
    let mut deliveries = Vec::new();
    while let Some(event) = pipe.pop(Moment::NEVER) {
        match event {
            Event::Delivered(delivery) => deliveries.push(delivery),
            Event::Dropped(_) => {}
        }
    }
    (deliveries, pipe)
}

fn share(share: f64) -> Probability {
    Probability::new(share).unwrap()
}

fn additions(law: &Law, period: Duration) -> Vec<f64> {
    let count = (Duration::from_secs(150).as_nanos() / period.as_nanos()) as u32;
    let (deliveries, _) = run(law, 7, period, count);
    let addition =
        |delivery: &Delivery<()>| delivery.due.since(delivery.left + law.delay).as_secs_f64() * 1e3;
    let mut all: Vec<_> = deliveries.iter().map(addition).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn jittery(shape: Shape, order: Order) -> Law {
    let jitter = Jitter { spread: Duration::from_millis(8), shape, order };
    Law { delay: Duration::from_millis(20), jitter, ..Law::default() }
}

/// Within a few percent of `wanted`.
fn is_about(found: f64, wanted: f64) -> bool {
    (found / wanted - 1.0).abs() < 0.06
}

#[test]
fn free_jitter_has_the_quantiles_of_its_shape() {
    let at = |all: &[f64], q: f64| all[((all.len() - 1) as f64 * q) as usize];
    let uniform = additions(&jittery(Shape::Uniform, Order::Free), PERIOD);
    let exponential = additions(&jittery(Shape::Exponential, Order::Free), PERIOD);
    for q in [0.25, 0.5, 0.9, 0.99] {
        assert!(is_about(at(&uniform, q), 8.0 * q), "uniform, {q}");
        assert!(is_about(at(&exponential, q), -8.0 * (1.0 - q).ln()), "exponential, {q}");
    }
}

#[test]
fn jitter_in_order_has_its_mean_at_any_rate_of_packets() {
    for period in [Duration::from_micros(197), PERIOD, Duration::from_micros(20_037)] {
        let all = additions(&jittery(Shape::Exponential, Order::Kept), period);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!(is_about(mean, 8.0), "mean {mean} ms at one packet per {period:?}");
    }
}

#[test]
fn duplicates_and_flipped_bits_take_their_share() {
    let law = Law { duplicate: share(0.1), corrupt: share(0.04), ..Law::default() };
    let (deliveries, pipe) = run(&law, 7, PERIOD, 60_000);
    let counts = pipe.counts();
    assert!(is_about(counts.duplicated as f64, 6_000.0), "{}", counts.duplicated);
    assert!(is_about(counts.corrupted as f64, 2_400.0), "{}", counts.corrupted);
    let both =
        deliveries.iter().filter(|delivery| delivery.copies == 2 && delivery.corrupt.is_some()).count();
    assert!((150..350).contains(&both), "each has draws of its own: {both} of 240");
    let mut bits = [0_u32; 8];
    let choices = deliveries.iter().filter_map(|delivery| delivery.corrupt);
    choices.for_each(|choice| bits[(choice % 8) as usize] += 1);
    assert!(bits.iter().all(|count| (200..400).contains(count)), "{bits:?}");
}

#[test]
fn bursts_have_their_lengths_their_gaps_and_their_losses() {
    let loss = Loss::GilbertElliott {
        mean_good: Duration::from_millis(400),
        mean_bad: Duration::from_millis(100),
        loss_good: share(0.01),
        loss_bad: share(1.0),
    };
    let (deliveries, pipe) = run(&Law { loss, ..Law::default() }, 7, Duration::from_millis(1), 600_000);
    let (burst, alone) = (pipe.counts().dropped_by(Cause::Burst), pipe.counts().dropped_by(Cause::Loss));
    assert!(is_about(burst as f64, 120_000.0), "a fifth of the time is bad: {burst}");
    assert!(is_about(alone as f64, 4_800.0), "{alone}");
    let gaps = deliveries.windows(2).map(|pair| pair[1].left.since(pair[0].left).as_millis() as f64 - 1.0);
    // A lone loss is a gap of one; of bursts only those up to two slots are missed.
    let bursts: Vec<_> = gaps.filter(|gap| *gap > 2.0).collect();
    let mean = bursts.iter().sum::<f64>() / bursts.len() as f64;
    assert!(is_about(mean, 102.0), "mean burst {mean} ms");
    let long = bursts.iter().filter(|gap| **gap > 230.0).count() as f64 / bursts.len() as f64;
    assert!((0.07..0.14).contains(&long), "exponential: one in ten is longer than 2.3 means, not {long}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// Two transports that leave at the same moment take the same time, whatever else they send.
    #[test]
    fn the_delay_is_the_channels(
        spread in 0_u64..40, exponential in any::<bool>(), kept in any::<bool>(), seed in any::<u64>(), every in 2_u32..50,
    ) {
        let shape = if exponential { Shape::Exponential } else { Shape::Uniform };
        let order = if kept { Order::Kept } else { Order::Free };
        let jitter = Jitter { spread: Duration::from_millis(spread), shape, order };
        let law = Law { jitter, ..Law::default() };
        let (busy, _) = run(&law, seed, Duration::from_micros(400), 2_000);
        let (calm, _) = run(&law, seed, Duration::from_micros(400) * every, 2_000 / every);
        prop_assert!(!calm.is_empty());
        for delivery in calm {
            let twin = busy.iter().find(|other| other.left == delivery.left).unwrap();
            prop_assert_eq!(twin.due, delivery.due);
        }
    }
}
