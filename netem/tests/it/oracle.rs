//! Nobody beats the oracle, and where it says how, somebody equals it.

use std::time::Duration;

use carriageway_netem::core::{
    Capacity, Direction, Discipline, Draws, Event, Kind, Law, Limit, Loss, Message, Moment, Oracle, Order,
    Packet, Pipe, Probability, Queue, Rate, Seed,
};
use proptest::prelude::*;

use crate::laws;

const START: Moment = Moment::from_millis(3);
/// How far the oracle looks.
const HORIZON: Duration = Duration::from_mins(2);
/// Payload of a full packet besides: UDP and IPv4 headers.
const HEADERS: u32 = 28;

/// A law that fates by slot, with any MTU, whose queue never drops: the best sender never lets it fill.
fn law() -> impl Strategy<Value = Law> {
    (laws::law(), 100_u32..5_000).prop_map(|(law, mtu)| {
        let queue = Queue { limit: Limit::Packets(10_000), discipline: Discipline::DropTail };
        Law { mtu, queue, draws: Draws::BySlot, ..law }
    })
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let message = (0_u64..300_000, 0_u32..6_000, 0_u8..3).prop_map(|(at, bytes, priority)| Message {
        offered: START + Duration::from_micros(at),
        bytes,
        priority,
    });
    prop::collection::vec(message, 1..8)
}

fn changes() -> impl Strategy<Value = Vec<(Moment, Capacity)>> {
    let change = (0_u64..300, laws::capacity())
        .prop_map(|(at, capacity)| (START + Duration::from_millis(at), capacity));
    prop::collection::vec(change, 0..3).prop_map(|mut changes| {
        changes.sort_by_key(|(at, _)| *at);
        changes
    })
}

/// A sender that decides by `choices`: which message, how much of it, how long to idle, whether to send in vain.
struct Sender<'a> {
    pipe: Pipe<()>,
    changes: &'a [(Moment, Capacity)],
    choices: std::iter::Cycle<std::slice::Iter<'a, u32>>,
    most: u32,
    now: Moment,
}

impl Sender<'_> {
    fn choose(&mut self, below: usize) -> usize {
        *self.choices.next().unwrap() as usize % below.max(1)
    }

    /// Sends a packet to the idle link; gives when it left and when, if ever, it arrived.
    fn send(&mut self, payload: u32) -> (Moment, Option<Moment>) {
        while let Some(((at, capacity), rest)) =
            self.changes.split_first().filter(|((at, _), _)| *at <= self.now)
        {
            self.pipe.set_capacity(*at, capacity.clone());
            self.changes = rest;
        }
        while self.pipe.pop(self.now).is_some() {}
        let number =
            self.pipe.push(self.now, Packet { size: payload + HEADERS, kind: Kind::Udp, payload: () });
        let number = number.unwrap();
        let mut future = self.pipe.clone();
        self.changes.iter().for_each(|(at, capacity)| future.set_capacity(*at, capacity.clone()));
        loop {
            match future.pop(Moment::NEVER).expect("what was pushed ends somehow") {
                Event::Delivered(delivery) if delivery.index == number => {
                    return (delivery.left, Some(delivery.due));
                }
                Event::Dropped(dropped) if dropped.index == number => return (dropped.at, None),
                Event::Delivered(_) | Event::Dropped(_) => {}
            }
        }
    }

    /// When each message was complete. `respectful`: nothing goes before what is more important.
    fn run(&mut self, messages: &[Message], respectful: bool) -> Vec<Option<Moment>> {
        let mut left: Vec<_> =
            messages.iter().map(|message| (Some(message.bytes), message.offered)).collect();
        for _ in 0..300 {
            let open = |index: &usize| left[*index].0.is_some() && messages[*index].offered <= self.now;
            let mut open: Vec<_> = (0..messages.len()).filter(open).collect();
            if respectful {
                let top = open.iter().map(|index| messages[*index].priority).max();
                open.retain(|index| Some(messages[*index].priority) == top);
            }
            if open.is_empty() {
                let waiting = (0..messages.len()).filter(|index| left[*index].0.is_some());
                let Some(next) = waiting.map(|index| messages[index].offered).min() else { break };
                self.now = self.now.max(next);
                continue;
            }
            let chosen = open[self.choose(open.len())];
            let most = self.most / [1, 1, 1, 2, 3][self.choose(5)];
            let payload = left[chosen].0.unwrap().min(most.max(1));
            let (gone, arrived) = self.send(payload);
            if gone == Moment::NEVER {
                break;
            }
            let in_vain = self.choose(8) == 0;
            if let Some(arrived) = arrived.filter(|_| !in_vain) {
                let (bytes, complete) = &mut left[chosen];
                *complete = (*complete).max(arrived);
                *bytes = bytes.map(|bytes| bytes - payload).filter(|bytes| *bytes > 0);
            }
            let idle = [0, 0, 0, 400, 3_000][self.choose(5)];
            self.now = gone + Duration::from_micros(idle);
        }
        left.into_iter().map(|(bytes, complete)| bytes.is_none().then_some(complete)).collect()
    }
}

fn is_bound(bound: Option<Moment>, message: &Message, actual: Option<Moment>) -> bool {
    match (bound, actual) {
        (_, None) => true,
        (Some(bound), Some(actual)) => bound <= actual,
        (None, Some(actual)) => actual.since(message.offered) >= HORIZON,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nobody_is_faster(
        law in law(), seed in any::<u64>(), messages in messages(), changes in changes(), respectful in any::<bool>(),
        choices in prop::collection::vec(any::<u32>(), 1..40),
    ) {
        let oracle = Oracle::new(law.clone(), Seed(seed), Direction::Up, START).with_changes(changes.clone());
        let most = law.mtu - HEADERS;
        let pipe = Pipe::new(law, Seed(seed), Direction::Up, START);
        let mut sender = Sender { pipe, changes: &changes, choices: choices.iter().cycle(), most, now: START };
        let done = sender.run(&messages, respectful);
        let together = oracle.jointly(&messages);
        for ((message, actual), together) in messages.iter().zip(done).zip(together) {
            let alone = oracle.best(message.offered, message.bytes);
            prop_assert!(is_bound(alone, message, actual), "{message:?}: {alone:?}, but {actual:?}");
            if respectful {
                prop_assert!(is_bound(together, message, actual), "{message:?}: {together:?}, but {actual:?}");
            }
        }
    }

    #[test]
    fn without_a_limit_on_the_rate_sending_in_every_slot_is_as_fast(mut law in law(), seed in any::<u64>(), at in 3_u64..400) {
        law.capacity = Capacity::Unlimited;
        law.outages.clear();
        let mut pipe = Pipe::new(law.clone(), Seed(seed), Direction::Up, START);
        let offered = Moment::from_millis(at);
        for turn in 0..2_000 {
            pipe.push(offered + Duration::from_millis(1) * turn, Packet { size: 60, kind: Kind::Udp, payload: () }).unwrap();
        }
        let arrivals = std::iter::from_fn(|| pipe.pop(Moment::NEVER)).filter_map(|event| match event {
            Event::Delivered(delivery) => Some(delivery.due),
            Event::Dropped(_) => None,
        });
        let best = Oracle::new(law.clone(), Seed(seed), Direction::Up, START).best(offered, 32);
        let first = arrivals.min();
        prop_assert!(best <= first);
        // In order the addition falls within a slot; a sender at its beginning does not see all of that.
        let slack = match law.jitter.order { Order::Kept => Duration::from_millis(1), Order::Free => Duration::ZERO };
        prop_assert!(best.map(|best| best + slack) >= first);
    }

    #[test]
    fn what_is_achieved_lies_above_the_bounds(
        law in law(), seed in any::<u64>(), messages in messages(), changes in changes(),
    ) {
        let oracle = Oracle::new(law, Seed(seed), Direction::Up, START).with_changes(changes);
        let (bounds, achieved) = (oracle.jointly(&messages), oracle.achievable(&messages));
        for ((message, bound), achieved) in messages.iter().zip(bounds).zip(achieved) {
            prop_assert!(is_bound(bound, message, achieved), "{message:?}: {bound:?}, but {achieved:?}");
            let alone = oracle.best(message.offered, message.bytes);
            prop_assert!(bound.is_none_or(|bound| alone.is_some_and(|alone| alone <= bound)));
        }
    }

    /// One packet, a rate and losses: the bound is what somebody reaches who tries every microsecond.
    #[test]
    fn for_one_packet_the_bound_is_reached(mut law in law(), bits in 200_000_u64..20_000_000, seed in any::<u64>(), at in 0_u64..100_000, bytes in 1_u32..72) {
        law.capacity = Capacity::Rate(Rate::from_bits_per_second(bits).unwrap());
        law.outages.retain(|outage| outage.mode == carriageway_netem::core::OutageMode::Drop);
        law.jitter.order = Order::Kept;
        let offered = START + Duration::from_micros(at);
        let message = Message { offered, bytes, priority: 0 };
        let oracle = Oracle::new(law, Seed(seed), Direction::Up, START);
        prop_assert_eq!(oracle.achievable(&[message]), [oracle.best(offered, bytes)]);
    }
}

#[test]
fn the_important_goes_first() {
    let rate = Rate::from_bits_per_second(1_000_000).unwrap();
    let law = Law { delay: Duration::from_millis(10), capacity: Capacity::Rate(rate), ..Law::default() };
    let oracle = Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO);
    let bulk = Message { offered: Moment::ZERO, bytes: 14_720, priority: 0 };
    let urgent = Message { offered: Moment::from_millis(5), bytes: 97, priority: 9 };
    let done = oracle.achievable(&[bulk, urgent]);
    // The packet in service ends at 12 ms; the urgent one takes 1 ms and the delay 10.
    assert_eq!(done[1], Some(Moment::from_millis(23)));
    // Ten full packets of 12 ms, one of 1 ms between them, the delay.
    assert_eq!(done[0], Some(Moment::from_millis(131)));
    // Who foresees the urgent one holds the bulk back.
    assert_eq!(oracle.jointly(&[bulk, urgent])[1], Some(Moment::from_millis(16)));
}

#[test]
fn what_waits_out_an_outage_does_not_block_the_important() {
    let outage = carriageway_netem::core::Outage {
        from: Duration::ZERO,
        length: Duration::from_secs(2),
        every: None,
        mode: carriageway_netem::core::OutageMode::Drop,
    };
    let rate = Rate::from_bits_per_second(100_000).unwrap();
    let law = Law { capacity: Capacity::Rate(rate), outages: vec![outage], ..Law::default() };
    let oracle = Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO);
    let bulk = Message { offered: Moment::ZERO, bytes: 1_472, priority: 0 };
    let urgent = Message { offered: Moment::from_millis(700), bytes: 97, priority: 1 };
    assert_eq!(oracle.achievable(&[bulk, urgent])[1], Some(Moment::from_millis(2_000)));
}

#[test]
fn a_change_of_the_capacity_counts() {
    let rate = |bits| Capacity::Rate(Rate::from_bits_per_second(bits).unwrap());
    let law = Law { capacity: rate(10_000), ..Law::default() };
    let change = (Moment::from_millis(1_000), rate(10_000_000));
    let oracle = Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO).with_changes([change]);
    assert_eq!(oracle.best(Moment::from_millis(1_500), 1_000), Some(Moment::from_nanos(1_500_822_400)));
    assert!(oracle.best(Moment::ZERO, 1_000) >= Some(Moment::from_millis(822)));
}

#[test]
fn a_way_that_does_not_exist_is_not_found() {
    let law = Law { loss: Loss::Bernoulli(Probability::ONE), ..Law::default() };
    let oracle = Oracle::new(law, Seed(0), Direction::Up, Moment::ZERO);
    assert_eq!(oracle.best(Moment::ZERO, 1), None);
    let message = Message { offered: Moment::ZERO, bytes: 1, priority: 0 };
    assert_eq!(oracle.achievable(&[message]), [None]);
}
