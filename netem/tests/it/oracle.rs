//! Nobody beats the oracle, and where it says how, somebody equals it.

use std::time::Duration;

use carriageway_netem::core::{
    Capacity, Direction, Event, Jitter, Kind, Law, Loss, Message, Moment, Oracle, Order, Outage, OutageMode,
    Packet, Pipe, Probability, Rate, Seed, Shape,
};
use proptest::prelude::*;

const START: Moment = Moment::from_millis(3);

prop_compose! {
    fn law()(
        delay in 0_u64..50,
        spread in 0_u64..30,
        loss in 0.0..0.6_f64,
        outage_from in 0_u64..200,
        outage_length in 1_u64..200,
        hold in any::<bool>(),
        bits in prop::option::of(200_000_u64..20_000_000),
    ) -> Law {
        let mode = if hold { OutageMode::Hold } else { OutageMode::Drop };
        let (from, length) = (Duration::from_millis(outage_from), Duration::from_millis(outage_length));
        Law {
            delay: Duration::from_millis(delay),
            jitter: Jitter { spread: Duration::from_millis(spread), shape: Shape::Uniform, order: Order::Free },
            loss: Loss::Bernoulli(Probability::new(loss).unwrap()),
            outages: vec![Outage { from, length, every: None, mode }],
            capacity: bits.and_then(Rate::from_bits_per_second).map_or(Capacity::Unlimited, Capacity::Rate),
            ..Law::default()
        }
    }
}

/// The first arrival of a one-packet message that is sent again every `every`, from `offered` on.
fn persistent(law: &Law, seed: u64, offered: Moment, bytes: u32, every: Duration) -> Option<Moment> {
    let mut pipe = Pipe::new(law.clone(), Seed(seed), Direction::Up, START);
    let mut first: Option<Moment> = None;
    for turn in 0..2_000 {
        let _ = pipe.push(offered + every * turn, Packet { size: bytes + 28, kind: Kind::Udp, payload: () });
    }
    while let Some(event) = pipe.pop(Moment::NEVER) {
        if let Event::Delivered(delivery) = event {
            first = Some(first.map_or(delivery.due, |first| first.min(delivery.due)));
        }
    }
    first
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nobody_is_faster(law in law(), seed in any::<u64>(), at in 3_u64..400, every in 1_u64..40, bytes in 1_u32..1_400) {
        let offered = Moment::from_millis(at);
        let best = Oracle::new(law.clone(), Seed(seed), Direction::Up, START).best(offered, bytes);
        let actual = persistent(&law, seed, offered, bytes, Duration::from_millis(every));
        if let Some(actual) = actual {
            prop_assert!(best.is_some_and(|best| best <= actual), "{best:?} {actual:?}");
        }
    }

    #[test]
    fn without_a_limit_on_the_rate_sending_in_every_slot_is_as_fast(mut law in law(), seed in any::<u64>(), at in 3_u64..400) {
        law.capacity = Capacity::Unlimited;
        law.outages.clear();
        let offered = Moment::from_millis(at);
        let best = Oracle::new(law.clone(), Seed(seed), Direction::Up, START).best(offered, 100);
        prop_assert_eq!(best, persistent(&law, seed, offered, 100, Duration::from_millis(1)));
    }

    #[test]
    fn company_is_never_faster_than_solitude(law in law(), seed in any::<u64>(), offers in prop::collection::vec((0_u64..300, 1_u32..5_000, 0_u8..3), 1..12)) {
        let messages: Vec<_> = offers
            .iter()
            .map(|(at, bytes, priority)| Message { offered: START + Duration::from_millis(*at), bytes: *bytes, priority: *priority })
            .collect();
        let oracle = Oracle::new(law, Seed(seed), Direction::Up, START);
        for (message, together) in messages.iter().zip(oracle.jointly(&messages)) {
            let alone = oracle.best(message.offered, message.bytes);
            prop_assert!(together.is_none_or(|together| alone.is_some_and(|alone| alone <= together)));
        }
    }
}

#[test]
fn the_important_goes_first() {
    let rate = Rate::from_bits_per_second(1_000_000).unwrap();
    let law = Law { delay: Duration::from_millis(10), capacity: Capacity::Rate(rate), ..Law::default() };
    let oracle = Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO);
    let bulk = Message { offered: Moment::ZERO, bytes: 14_720, priority: 0 };
    let urgent = Message { offered: Moment::from_millis(5), bytes: 97, priority: 9 };
    let done = oracle.jointly(&[bulk, urgent]);
    // The packet in service ends at 12 ms; the urgent one takes 1 ms and the delay 10.
    assert_eq!(done[1], Some(Moment::from_millis(23)));
    // Ten full packets of 12 ms, one of 1 ms between them, the delay.
    assert_eq!(done[0], Some(Moment::from_millis(131)));
}

#[test]
fn a_way_that_does_not_exist_is_not_found() {
    let law = Law { loss: Loss::Bernoulli(Probability::ONE), ..Law::default() };
    assert_eq!(Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO).best(Moment::ZERO, 1), None);
}
