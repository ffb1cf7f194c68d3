//! Outcomes that are told late: after a restart, and where there was no room.

use super::*;
use crate::core::outbox::Outbox;

/// More than any queue of answers holds.
const MANY: u64 = 1_500;

/// The commands of one drive through a long tunnel, on the disk, oldest first; none of their outcomes arrived.
fn tunnel() -> Vec<Record> {
    let mut bench = Bench::with(Limits::default(), Vec::new(), BOOT, at(10_000));
    (bench.deaf, bench.answer) = (true, Applied::Done);
    for number in 0..MANY {
        bench.give(command(&key(number), 1, 9_900 + number * 1_000));
        bench.now = bench.now + ms(1_000);
    }
    assert_eq!(bench.acted.len() as u64, MANY);
    bench.disk.into_values().collect()
}

fn key(number: u64) -> String {
    format!("k{number:05}")
}

/// A vehicle with its answers and a link that takes so many at once.
struct Way {
    executor: Executor,
    now: Moment,
    outbox: Outbox<usize>,
    /// What went, in this order.
    told: Vec<Outcome>,
    under_way: Vec<usize>,
}

impl Way {
    /// The agent has restarted.
    fn after(journal: Vec<Record>) -> Self {
        let now = at(10_000 + MANY * 1_000);
        let here = Stamp { boot: BOOT, clock: now };
        let executor = Executor::recover(here, PolicyTable::defaults(), Limits::default(), journal);
        Self { executor, now, outbox: Outbox::default(), told: Vec::new(), under_way: Vec::new() }
    }

    /// As the agent does, with a link that has room for `window` answers on their way.
    fn act(&mut self, window: usize) {
        loop {
            match self.executor.poll(self.now) {
                Output::Wait(_) => break,
                Output::Tell { class, outcome } => {
                    if let Err(outcome) = self.outbox.push(class, outcome) {
                        self.executor.handle(self.now, Input::Untold(outcome));
                    }
                }
                Output::Write { id, .. } => self.executor.handle(self.now, Input::Written(id)),
                Output::Apply { actuation, .. } => {
                    let applied = Applied::Done;
                    self.executor.handle(self.now, Input::Applied { actuation, applied });
                }
                Output::Forget(_) => {}
                other @ (Output::Stop(_) | Output::Released(_)) => panic!("{other:?}"),
            }
        }
        while self.outbox.has_room(Class::Body)
            && let Some(outcome) = self.executor.next_owed(Class::Body)
        {
            self.outbox.push(Class::Body, outcome).expect("there is room");
        }
        while self.under_way.len() < window
            && let Some(outcome) = self.outbox.next(Class::Body).cloned()
        {
            let ticket = self.told.len();
            self.told.push(outcome);
            self.outbox.sent(Class::Body, ticket);
            self.under_way.push(ticket);
        }
    }

    fn arrive(&mut self) {
        for ticket in std::mem::take(&mut self.under_way) {
            if let Some(key) = self.outbox.arrived(&ticket) {
                self.executor.handle(self.now, Input::Arrived(key));
            }
        }
    }

    fn lose(&mut self) {
        for ticket in std::mem::take(&mut self.under_way) {
            if let Err(outcome) = self.outbox.lost(&ticket) {
                self.executor.handle(self.now, Input::Untold(outcome));
            }
        }
    }

    fn all_told(&mut self) {
        for _ in 0..MANY {
            self.arrive();
            self.act(32);
            if self.under_way.is_empty() {
                return;
            }
        }
        panic!("{} are owed still", self.executor.owed());
    }

    fn keys(&self) -> Vec<&str> {
        self.told.iter().map(|outcome| outcome.key.as_str()).collect()
    }
}

#[test]
fn after_a_restart_every_outcome_arrives_once_the_newest_first() {
    let mut way = Way::after(tunnel());
    way.act(32);
    assert_eq!(way.keys()[0], key(MANY - 1), "whoever sent it may still wait");
    assert!(way.outbox.len() <= 64, "{} answers stand before what is new", way.outbox.len());
    way.all_told();
    let newest_first: Vec<String> = (0..MANY).rev().map(key).collect();
    assert_eq!(way.keys(), newest_first);
    assert!(way.told.iter().all(|outcome| outcome.phase == Phase::Succeeded));
    assert_eq!((way.executor.owed(), way.executor.counts().dropped), (0, 0));
    way.now = way.now + Duration::from_hours(2);
    way.act(32);
    assert_eq!(way.executor.remembered(), 0, "what has arrived can be forgotten");
}

#[test]
fn what_is_new_goes_ahead_of_most_of_what_is_old() {
    let mut way = Way::after(tunnel());
    way.act(32);
    let new = command("new", 50, 9_900 + MANY * 1_000);
    way.executor.handle(way.now, Input::Command { lane: Class::Body, command: new });
    way.act(32);
    way.arrive();
    way.act(32);
    way.arrive();
    way.act(32);
    let place = way.told.iter().position(|outcome| outcome.key.as_str() == "new").expect("it was told");
    assert!(place <= 64, "the {place}th");
}

#[test]
fn what_is_told_meanwhile_is_not_told_again() {
    let mut way = Way::after(tunnel());
    let again = command(&key(3), 1, 9_900 + MANY * 1_000);
    way.executor.handle(way.now, Input::Command { lane: Class::Body, command: again });
    way.act(32);
    assert_eq!(way.keys()[0], key(3), "somebody asks for it now");
    way.all_told();
    assert_eq!(way.told.len() as u64, MANY);
}

#[test]
fn what_a_lost_session_and_a_flood_leave_no_room_for_is_told_later() {
    let mut way = Way::after(tunnel());
    way.act(64);
    assert_eq!(way.told.len(), 64);
    // Answers to what is not remembered, as many as there is room for.
    for number in 0..600 {
        let key = format!("bad{number}").parse().unwrap();
        let refusal = Refusal::new(Reason::Malformed, "no value");
        way.executor.handle(way.now, Input::Unreadable { lane: Class::Body, key, refusal });
    }
    way.act(64);
    assert_eq!(way.executor.counts().dropped, 88, "nobody tells these again");
    way.lose();
    assert_eq!(way.executor.owed() as u64, MANY, "there was no room for any");
    way.all_told();
    let ends = way.told.iter().skip(64).filter(|outcome| outcome.phase == Phase::Succeeded).count();
    assert_eq!((ends as u64, way.executor.counts().dropped), (MANY, 88));
}

#[test]
fn another_command_under_a_key_does_not_count_as_its_outcome() {
    let mut way = Way::after(tunnel());
    let oldest = key(0);
    let other = command(&oldest, 77, 9_900 + MANY * 1_000);
    way.executor.handle(way.now, Input::Command { lane: Class::Body, command: other });
    way.act(1);
    assert_eq!((way.keys(), way.told[0].phase), (vec![oldest.as_str()], Phase::Rejected));
    way.arrive();
    way.now = way.now + Duration::from_hours(2);
    way.all_told();
    let told: Vec<Phase> = way
        .told
        .iter()
        .filter(|outcome| outcome.key.as_str() == oldest)
        .map(|outcome| outcome.phase)
        .collect();
    assert_eq!(told, [Phase::Rejected, Phase::Succeeded]);
}

#[test]
fn what_was_forgotten_or_gave_way_is_not_owed() {
    let mut bench = Bench::new();
    let cancel = |key: &str| {
        let key = key.parse().unwrap();
        Input::Cancel {
            lane: Class::Body,
            cancel: carriageway_proto::Cancel { key, class: Class::Body, fingerprint: None },
        }
    };
    bench.deaf = true;
    bench.put(cancel("a")).put(cancel("b"));
    let journal: Vec<Record> = bench.disk.into_values().collect();
    let mut bench = Bench::with(FORGETFUL, journal, BOOT, at(11_000));
    assert_eq!(bench.executor.owed(), 2);
    let stop = emergency_stop("a", 10_900);
    bench.executor.handle(bench.now, Input::Command { lane: Class::Safety, command: stop });
    assert_eq!(bench.executor.owed(), 1, "the stop has the key now");
    // Somebody asks, hears, and a copy of the answer finds no room: it is owed although it may be forgotten.
    bench.put(cancel("b"));
    let told = bench.told.iter().rfind(|outcome| outcome.key.as_str() == "b").expect("it was told").clone();
    bench.put(Input::Arrived("b".parse().unwrap()));
    bench.executor.handle(bench.now, Input::Untold(told));
    assert_eq!(bench.executor.owed(), 1);
    bench.now = bench.now + Duration::from_hours(24 * 8);
    assert!(matches!(bench.executor.poll(bench.now), Output::Stop(_) | Output::Forget(_)));
    bench.run();
    assert_eq!(bench.executor.owed(), 0);
}
