//! Stories of one target: who goes, who waits, who wins.

use super::*;
use crate::core::lease::NotDriving;

/// The commands, a link that takes everything, and what was told.
pub(super) struct Desk {
    pub(super) commands: Commands,
    pub(super) dispatched: Vec<CommandId>,
    pub(super) cancels: Vec<CommandId>,
    pub(super) writes: Vec<Write>,
    pub(super) durable: Vec<CommandId>,
    pub(super) told: Vec<Change>,
    pub(super) reach: Reach,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        Self {
            commands: Commands::new(limits, PolicyTable::defaults()),
            dispatched: Vec::new(),
            cancels: Vec::new(),
            writes: Vec::new(),
            durable: Vec::new(),
            told: Vec::new(),
            reach: Reach::Connected,
        }
    }

    pub(super) fn submit(&mut self, ms: u64, n: u64, request: Request) -> Submitted {
        let submitted = submit(&mut self.commands, ms, ms, id(n), request, self.reach);
        self.pump(ms);
        submitted
    }

    pub(super) fn handle(&mut self, ms: u64, input: Input) {
        self.commands.handle(at(ms), input);
        self.pump(ms);
    }

    pub(super) fn ends(&mut self, ms: u64, key: &str, phase: Phase) {
        let Input::Outcome(vehicle, outcome) = says(phase) else { unreachable!() };
        self.handle(ms, Input::Outcome(vehicle, Outcome { key: key.parse().unwrap(), ..outcome }));
    }

    pub(super) fn reach(&mut self, ms: u64, reach: Reach) {
        self.reach = reach;
        self.handle(ms, Input::Reach(truck(), reach));
    }

    /// The disk takes the write that is under way.
    pub(super) fn disk(&mut self, ms: u64) {
        let write = self.writes.last().expect("a write is under way").id;
        self.handle(ms, Input::Persisted(write));
    }

    fn pump(&mut self, ms: u64) {
        while let Some(output) = self.commands.poll() {
            match output {
                Output::Changed(change) => self.told.push(change),
                Output::Dispatch(id) => {
                    self.dispatched.push(id);
                    self.commands.handle(at(ms), Input::Sent(id));
                }
                Output::Cancel(id) => self.cancels.push(id),
                Output::Durable(id) => self.durable.push(id),
                Output::Persist(write) => self.writes.push(write),
            }
        }
    }

    pub(super) fn end(&self, n: u64) -> (Phase, Option<Reason>, &str) {
        let record = self.commands.record(id(n)).unwrap();
        (record.phase(), record.reason(), record.detail())
    }

    pub(super) fn phase(&self, n: u64) -> Phase {
        self.end(n).0
    }
}

#[test]
fn the_end_of_a_targets_window_is_named_to_the_point() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.ends(40, "a", Succeeded);
    while !desk.commands.is_settled() {
        desk.disk(41);
    }
    desk.submit(100, 2, window("b", 60));
    assert_eq!(desk.commands.wakes_at(), Some(at(500)));
    desk.handle(499, Input::Tick);
    assert_eq!(desk.dispatched, [id(1)]);
    desk.handle(500, Input::Tick);
    assert_eq!(desk.dispatched, [id(1), id(2)]);
}

#[test]
fn a_lone_command_goes_at_once() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    assert_eq!(desk.dispatched, [id(1)]);
    desk.ends(40, "a", Succeeded);
    desk.submit(500, 2, window("b", 60));
    assert_eq!(desk.dispatched, [id(1), id(2)], "the window has passed");
}

#[test]
fn of_five_clicks_one_goes_and_each_of_the_others_says_why_it_did_not() {
    let mut desk = Desk::new();
    for (n, key) in (1..=5).zip(["a", "b", "c", "d", "e"]) {
        desk.submit(n * 10, n, window(key, 50));
    }
    assert_eq!(desk.dispatched, [id(1)]);
    for n in 2..=4 {
        let (phase, reason, detail) = desk.end(n);
        assert_eq!((phase, reason), (Phase::Superseded, None));
        assert!(detail.contains(&id(n + 1).to_string()), "{detail}");
    }
    assert_eq!(desk.phase(5), Queued);
    assert!(desk.end(5).2.contains(&id(1).to_string()), "{}", desk.end(5).2);
    desk.ends(90, "a", Succeeded);
    let (phase, reason, detail) = desk.end(5);
    assert_eq!((phase, reason), (Phase::Superseded, Some(Reason::Duplicate)));
    assert!(detail.contains(&id(1).to_string()), "{detail}");
    desk.handle(2_000, Input::Tick);
    assert_eq!(desk.dispatched, [id(1)], "one window, opened once");
}

#[test]
fn another_value_goes_when_the_first_has_ended_and_the_window_has_passed() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(10, 2, window("b", 60));
    desk.submit(20, 3, window("c", 70));
    assert_eq!(desk.phase(2), Phase::Superseded);
    desk.ends(90, "a", Succeeded);
    assert_eq!(desk.dispatched, [id(1)], "its window has not passed");
    assert_eq!(desk.commands.wakes_at(), Some(at(500)));
    desk.handle(499, Input::Tick);
    assert_eq!(desk.dispatched, [id(1)]);
    desk.handle(500, Input::Tick);
    assert_eq!(desk.dispatched, [id(1), id(3)]);
}

#[test]
fn one_is_in_flight_however_long_it_takes_and_what_follows_lives_no_longer() {
    let mut desk = Desk::new();
    desk.submit(0, 1, Request { ttl: Some(Duration::from_secs(20)), ..window("a", 50) });
    desk.submit(100, 2, window("b", 50));
    desk.handle(5_100, Input::Tick);
    assert_eq!(desk.phase(2), Expired, "it never left: certain");
    desk.submit(6_000, 3, window("c", 50));
    desk.handle(7_000, Input::Delivery(id(1), Delivery::ExpiredUnsent));
    assert_eq!(desk.phase(1), Expired);
    assert_eq!(desk.dispatched, [id(1), id(3)], "nothing was brought about: the same value goes");
}

#[test]
fn targets_do_not_wait_for_each_other_and_a_stop_waits_for_nothing() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(0, 2, other("b"));
    desk.submit(0, 3, stop("s1"));
    desk.submit(0, 4, stop("s2"));
    assert_eq!(desk.dispatched, [id(1), id(2), id(3), id(4)]);
}

#[test]
fn a_drive_command_has_no_window_but_waits_for_the_one_in_flight() {
    let mut desk = Desk::new();
    let gear = |key, value| Request { class: Class::Drive, ..window(key, value) };
    desk.submit(0, 1, gear("a", 1));
    desk.submit(1, 2, gear("b", 2));
    assert_eq!(desk.dispatched, [id(1)]);
    desk.ends(2, "a", Phase::Rejected);
    assert_eq!(desk.dispatched, [id(1), id(2)]);
}

/// FENCE: looked at behind what makes no sense and what is known already.
#[test]
fn a_drive_command_needs_the_lease_and_nothing_else_does() {
    let mut desk = Desk::new();
    let gear = Request { class: Class::Drive, drives: Err(NotDriving::NoLease), ..window("a", 1) };
    assert_eq!(desk.submit(0, 1, gear.clone()), Submitted::Refused(Refusal::NoLease));
    let unheard = Request { drives: Err(NotDriving::Unheard), ..gear.clone() };
    assert_eq!(desk.submit(0, 2, unheard), Submitted::Refused(Refusal::DriveStateUnknown));
    let endless = Request { ttl: Some(Duration::from_mins(1)), ..gear.clone() };
    assert!(matches!(desk.submit(0, 2, endless), Submitted::Refused(Refusal::Ttl { .. })));
    desk.submit(0, 3, Request { drives: Ok(()), ..gear.clone() });
    assert_eq!(desk.submit(1, 4, gear), Submitted::Repeated(id(3)), "the lease has gone since");
    desk.submit(1, 5, Request { drives: Err(NotDriving::NoLease), ..other("b") });
    desk.submit(1, 6, Request { drives: Err(NotDriving::NoLease), ..stop("s") });
    assert_eq!(desk.dispatched, [id(3), id(5), id(6)]);
}

#[test]
fn an_operator_has_a_rate_of_its_own_over_all_vehicles() {
    let mut desk = Desk::with(Limits { operator_rate: 10, operator_burst: 2, ..Limits::default() });
    let to = |n: u64, operator: &str| Request {
        vehicle: format!("truck-{n}").parse().unwrap(),
        operator: operator.into(),
        ..window(&format!("k{n}"), 1)
    };
    let is_accepted = |submitted| matches!(submitted, Submitted::Accepted { .. });
    assert!(is_accepted(desk.submit(0, 1, to(1, "ada"))) && is_accepted(desk.submit(0, 2, to(2, "ada"))));
    let wait = Duration::from_millis(100);
    assert_eq!(desk.submit(0, 3, to(3, "ada")), Submitted::Refused(Refusal::OperatorRate(wait)));
    assert!(is_accepted(desk.submit(0, 4, to(4, "bob"))), "another operator");
    let halt = Request { class: Class::Safety, ..to(5, "ada") };
    assert!(is_accepted(desk.submit(0, 5, halt)), "an emergency stop is not counted");
    assert!(is_accepted(desk.submit(100, 6, to(6, "ada"))));
}

#[test]
fn operators_are_bounded_and_those_at_rest_are_forgotten() {
    let mut desk = Desk::with(Limits { operators: 2, operator_burst: 5, ..Limits::default() });
    let by = |n: u64| Request { operator: format!("op-{n}"), ..other(&format!("k{n}")) };
    desk.submit(0, 1, by(1));
    desk.submit(0, 2, by(2));
    assert!(matches!(desk.submit(0, 3, by(3)), Submitted::Refused(Refusal::OperatorRate(_))));
    assert!(matches!(desk.submit(10, 3, by(3)), Submitted::Accepted { .. }));
}

#[test]
fn what_is_here_is_canceled_at_once_and_what_has_left_is_the_vehicles_to_cancel() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(10, 2, window("b", 60));
    assert_eq!(desk.commands.cancel(at(20), id(2)), Canceling::Canceled);
    assert_eq!(desk.phase(2), Phase::Canceled);
    assert_eq!(desk.commands.cancel(at(20), id(1)), Canceling::Asked);
    desk.handle(20, Input::Tick);
    assert_eq!((desk.cancels.as_slice(), desk.phase(1)), ([id(1)].as_slice(), Queued));
    desk.ends(30, "a", Phase::Canceled);
    assert_eq!(desk.phase(1), Phase::Canceled);
    assert_eq!(desk.commands.cancel(at(40), id(1)), Canceling::Ended);
    desk.submit(40, 3, stop("s"));
    assert_eq!(desk.commands.cancel(at(50), id(3)), Canceling::Stop);
    assert_eq!(desk.commands.cancel(at(50), id(9)), Canceling::Unknown);
}

#[test]
fn a_wish_to_cancel_is_repeated_to_the_next_session() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.commands.cancel(at(20), id(1));
    desk.handle(30, Input::Delivery(id(1), Delivery::LostSent));
    desk.reach(30, Reach::Offline);
    desk.reach(60, Reach::Connected);
    assert_eq!(desk.cancels, [id(1), id(1)]);
}

#[test]
fn a_full_lane_is_tried_again() {
    let mut desk = Desk::new();
    desk.submit(0, 1, window("a", 50));
    desk.submit(10, 2, window("b", 60));
    desk.ends(600, "a", Succeeded);
    assert_eq!(desk.dispatched, [id(1), id(2)]);
    // It was taken, then given back: the session never sent it.
    submit(&mut desk.commands, 610, 610, id(3), other("c"), Reach::Connected);
    assert!(matches!(desk.commands.poll(), Some(Output::Changed(_))));
    assert_eq!(desk.commands.poll(), Some(Output::Dispatch(id(3))));
    desk.handle(610, Input::NotSent(id(3), NotSent::LaneFull));
    assert!(desk.commands.record(id(3)).is_none(), "nobody was told of it");
}
