mod model;
mod queue;
mod slots;
mod told;

use carriageway_proto::{Class, Reason, Value};

use super::*;

const START: Moment = Moment::from_micros(1_000_000_000);

fn at(ms: u64) -> Moment {
    START + Duration::from_millis(ms)
}

fn truck() -> VehicleId {
    "truck".parse().unwrap()
}

fn id(n: u64) -> CommandId {
    CommandId::from_bytes(u128::from(n).to_be_bytes())
}

fn window(key: &str, position: i64) -> Request {
    Request {
        vehicle: truck(),
        key: key.parse().unwrap(),
        class: Class::Body,
        path: "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position".parse().unwrap(),
        value: Value::Int(position),
        ttl: None,
        operator: "ops".into(),
        on_offline: OnOffline::Fail,
        drives: Ok(()),
    }
}

/// Something else for each key.
fn other(key: &str) -> Request {
    Request { path: format!("Vehicle.Body.{key}").parse().unwrap(), ..window(key, 1) }
}

fn stop(key: &str) -> Request {
    Request { class: Class::Safety, path: "Vehicle.EmergencyStop".parse().unwrap(), ..window(key, 1) }
}

fn commands() -> Commands {
    Commands::new(Limits::default(), PolicyTable::defaults())
}

/// Submits at `ms` what began to come in at `arrived`.
fn submit(
    commands: &mut Commands,
    ms: u64,
    arrived: u64,
    fresh: CommandId,
    request: Request,
    reach: Reach,
) -> Submitted {
    let arrived = commands.arrival(at(arrived));
    commands.submit(at(ms), arrived, fresh, request, reach)
}

/// With one body command in the lane, ttl 5 s.
fn with_one() -> Commands {
    let mut commands = commands();
    let submitted = submit(&mut commands, 0, 0, id(1), window("k", 50), Reach::Connected);
    assert_eq!(submitted, Submitted::Accepted { id: id(1), ttl: Duration::from_secs(5) });
    commands.handle(at(0), Input::Sent(id(1)));
    commands
}

fn says(phase: Phase) -> Input {
    let outcome =
        Outcome { key: "k".parse().unwrap(), phase, reason: None, detail: String::new(), fingerprint: None };
    Input::Outcome(truck(), outcome)
}

fn phases(commands: &Commands) -> Vec<Phase> {
    commands.record(id(1)).unwrap().timeline.iter().map(|step| step.phase).collect()
}

fn outputs(commands: &mut Commands) -> Vec<Output> {
    std::iter::from_fn(|| commands.poll()).collect()
}

fn phase_of(output: &Output) -> Option<Phase> {
    match output {
        Output::Changed(change) => Some(change.phase),
        Output::Dispatch(_) | Output::Cancel(_) | Output::Durable(_) | Output::Persist(_) => None,
    }
}

fn write_of(output: &Output) -> Option<WriteId> {
    match output {
        Output::Persist(write) => Some(write.id),
        Output::Changed(_) | Output::Dispatch(_) | Output::Cancel(_) | Output::Durable(_) => None,
    }
}

fn heard(commands: &mut Commands) -> Vec<Heard> {
    std::iter::from_fn(|| commands.poll_heard()).collect()
}

use Phase::{Created, Dispatched, Executing, Expired, Queued, Received, Succeeded, Unknown};

#[test]
fn a_command_goes_through_its_phases_and_tells_each_once() {
    let mut commands = with_one();
    commands.handle(at(50), Input::Delivery(id(1), Delivery::Acknowledged));
    for phase in [Received, Received, Executing, Received, Succeeded, Succeeded] {
        commands.handle(at(60), says(phase));
    }
    let all = [Created, Queued, Dispatched, Received, Executing, Succeeded];
    assert_eq!(phases(&commands), all);
    let first = outputs(&mut commands);
    let write = first.iter().find_map(write_of).expect("it is to be written");
    commands.handle(at(61), Input::Persisted(write));
    let then = outputs(&mut commands);
    let told: Vec<_> = first.iter().chain(&then).filter_map(phase_of).collect();
    assert_eq!(told, all);
    assert_eq!(commands.unfinished(), 0);
    assert!(!heard(&mut commands).contains(&Heard::Contradiction));
}

#[test]
fn the_same_key_is_the_same_command_even_when_the_vehicle_is_gone() {
    let mut commands = with_one();
    let again = submit(&mut commands, 9, 9, id(2), window("k", 50), Reach::Offline);
    assert_eq!(again, Submitted::Repeated(id(1)));
    for other in [
        window("k", 51),
        Request { class: Class::Comfort, ..window("k", 50) },
        Request { ttl: Some(Duration::from_secs(4)), ..window("k", 50) },
    ] {
        let conflict = submit(&mut commands, 9, 9, id(2), other, Reach::Connected);
        assert_eq!(conflict, Submitted::Refused(Refusal::KeyConflict(id(1))));
    }
    assert_eq!(commands.len(), 1);
}

#[test]
fn an_offline_vehicle_gets_nothing_and_the_key_stays_free() {
    let mut commands = commands();
    let refused = submit(&mut commands, 0, 0, id(1), window("k", 50), Reach::Offline);
    assert_eq!(refused, Submitted::Refused(Refusal::Offline));
    assert!(commands.is_empty());
    let later = submit(&mut commands, 1, 1, id(2), window("k", 99), Reach::Connected);
    assert!(matches!(later, Submitted::Accepted { .. }));
}

#[test]
fn silence_ends_in_unknown_and_the_journal_resolves_it_once() {
    let mut commands = with_one();
    commands.handle(at(5_000), Input::Delivery(id(1), Delivery::ExpiredSent));
    commands.handle(at(6_999), Input::Tick);
    assert_eq!(phases(&commands), [Created, Queued, Dispatched]);
    commands.handle(at(7_000), Input::Tick);
    assert_eq!(phases(&commands).last(), Some(&Unknown));
    for phase in [Executing, Unknown, Succeeded, Phase::Failed] {
        commands.handle(at(8_000), says(phase));
    }
    assert_eq!(phases(&commands), [Created, Queued, Dispatched, Unknown, Succeeded]);
    let expected = [Heard::Repeat, Heard::Repeat, Heard::News, Heard::Contradiction];
    assert_eq!(heard(&mut commands), expected);
}

#[test]
fn what_never_left_is_expired_and_what_may_have_left_is_not() {
    for (delivery, end) in [
        (Delivery::ExpiredUnsent, Expired),
        (Delivery::LostUnsent, Expired),
        (Delivery::ExpiredSent, Dispatched),
        (Delivery::LostSent, Dispatched),
    ] {
        let mut commands = with_one();
        commands.handle(at(100), Input::Delivery(id(1), delivery));
        assert_eq!(phases(&commands).last(), Some(&end), "{delivery:?}");
    }
}

#[test]
fn a_session_that_ended_gives_the_next_one_a_moment_to_speak() {
    let mut commands = with_one();
    commands.handle(at(100), Input::Delivery(id(1), Delivery::LostSent));
    commands.handle(at(2_099), Input::Tick);
    assert_eq!(phases(&commands).last(), Some(&Dispatched));
    commands.handle(at(2_100), Input::Tick);
    assert_eq!(phases(&commands).last(), Some(&Unknown));
}

#[test]
fn a_vehicle_that_says_it_is_at_it_gets_longer_but_not_for_ever() {
    let mut commands = with_one();
    commands.handle(at(4_000), says(Executing));
    commands.handle(at(13_999), Input::Tick);
    assert_eq!(phases(&commands).last(), Some(&Executing));
    commands.handle(at(14_000), Input::Tick);
    assert_eq!(phases(&commands).last(), Some(&Unknown));
}

#[test]
fn a_vehicle_cannot_speak_in_the_gateways_place_or_of_anothers_keys() {
    let mut commands = with_one();
    commands.handle(at(1), says(Dispatched));
    let Input::Outcome(_, outcome) = says(Succeeded) else { unreachable!() };
    commands.handle(at(1), Input::Outcome("other".parse().unwrap(), outcome));
    assert_eq!(phases(&commands), [Created, Queued]);
    assert_eq!(heard(&mut commands), [Heard::Repeat, Heard::Stranger]);
}

/// After a restart the vehicle tells again what became of an older command under the same key.
#[test]
fn a_word_about_another_wish_under_the_key_is_not_taken() {
    let mut commands = with_one();
    let meant = window("k", 50).fingerprint();
    let said = |wish: Request| {
        let fingerprint = Some(wish.fingerprint());
        let (key, phase) = ("k".parse().unwrap(), Succeeded);
        Input::Outcome(truck(), Outcome { key, phase, reason: None, detail: String::new(), fingerprint })
    };
    assert_ne!(window("k", 51).fingerprint(), meant);
    commands.handle(at(1), said(window("k", 51)));
    assert_eq!(phases(&commands), [Created, Queued]);
    assert_eq!(heard(&mut commands), [Heard::Stranger]);
    commands.handle(at(2), said(window("k", 50)));
    assert_eq!(phases(&commands).last(), Some(&Succeeded));
}

#[test]
fn a_rejection_keeps_its_reason() {
    let mut commands = with_one();
    let outcome = Outcome {
        key: "k".parse().unwrap(),
        phase: Phase::Rejected,
        reason: Some(Reason::OutOfRange),
        detail: "0 to 100".into(),
        fingerprint: None,
    };
    commands.handle(at(1), Input::Outcome(truck(), outcome));
    let record = commands.record(id(1)).unwrap();
    assert_eq!((record.reason(), record.detail()), (Some(Reason::OutOfRange), "0 to 100"));
}

#[test]
fn a_record_stays_ten_minutes_after_its_end_and_never_less_than_its_ttl() {
    let mut commands = with_one();
    commands.handle(at(1_000), says(Succeeded));
    commands.handle(at(600_999), Input::Tick);
    assert_eq!(commands.len(), 1);
    commands.handle(at(601_000), Input::Tick);
    assert!(commands.is_empty());
    assert_eq!(commands.wakes_at(), None);

    let day = Request { class: Class::Config, ..window("d", 1) };
    submit(&mut commands, 0, 0, id(1), day, Reach::Connected);
    commands.handle(at(0), Input::Sent(id(1)));
    let outcome = Outcome {
        key: "d".parse().unwrap(),
        phase: Succeeded,
        reason: None,
        detail: String::new(),
        fingerprint: None,
    };
    commands.handle(at(1), Input::Outcome(truck(), outcome));
    commands.handle(at(24 * 3_600 * 1_000), Input::Tick);
    assert_eq!(commands.len(), 1);
}

#[test]
fn a_ttl_of_nothing_or_of_ages_is_refused() {
    let mut commands = commands();
    for ttl in [0, 51_000] {
        let request = Request { ttl: Some(Duration::from_millis(ttl)), ..window("k", 1) };
        let refused = submit(&mut commands, 0, 0, id(1), request, Reach::Connected);
        let longest = Duration::from_secs(50);
        assert_eq!(refused, Submitted::Refused(Refusal::Ttl { longest }), "{ttl} ms");
    }
    let bulk = Request { class: Class::Bulk, ..window("k", 1) };
    let refused = submit(&mut commands, 0, 0, id(1), bulk, Reach::Connected);
    assert_eq!(refused, Submitted::Refused(Refusal::NoCommandClass));
}

/// Submits `count` commands of one kind at once, each with its own key, and counts those accepted.
fn accepted_at_once(
    commands: &mut Commands,
    count: u64,
    make: fn(&str) -> Request,
) -> (usize, Option<Refusal>) {
    let mut refusal = None;
    let accepted = (0..count)
        .filter(|n| {
            match submit(
                commands,
                0,
                0,
                id(1_000 * commands.len() as u64 + 1_000 + n),
                make(&format!("{}{n}", commands.len())),
                Reach::Connected,
            ) {
                Submitted::Accepted { id, .. } => {
                    commands.handle(at(0), Input::Sent(id));
                    true
                }
                Submitted::Repeated(_) | Submitted::Expired(_) => false,
                Submitted::Refused(why) => {
                    refusal = Some(why);
                    false
                }
            }
        })
        .count();
    (accepted, refusal)
}

#[test]
fn too_many_under_way_are_refused_but_never_an_emergency_stop() {
    let mut commands = commands();
    let body = accepted_at_once(&mut commands, 30, other);
    assert_eq!(body, (16, Some(Refusal::InFlight { limit: 16 })));
    assert_eq!(accepted_at_once(&mut commands, 500, stop), (500, None));
}

#[test]
fn too_fast_is_told_when_to_come_back() {
    let mut policies = PolicyTable::defaults();
    policies[Class::Body].in_flight = 100;
    let mut commands = Commands::new(Limits::default(), policies);
    let body = accepted_at_once(&mut commands, 30, other);
    assert_eq!(body, (20, Some(Refusal::RateLimited(Duration::from_millis(100)))));
    let later = submit(&mut commands, 100, 100, id(1), other("late"), Reach::Connected);
    assert!(matches!(later, Submitted::Accepted { .. }));
}

#[test]
fn full_refuses_and_keeps_every_record_but_lets_emergency_stops_in() {
    let limits = Limits { records: 3, reserve: 2, ..Limits::default() };
    let mut commands = Commands::new(limits, PolicyTable::defaults());
    let body = accepted_at_once(&mut commands, 4, other);
    assert_eq!(body, (3, Some(Refusal::Full)));
    assert_eq!(accepted_at_once(&mut commands, 3, stop), (2, Some(Refusal::Full)));
    assert_eq!(commands.len(), 5);
}

#[test]
fn a_stop_takes_the_place_of_a_record_that_has_only_been_kept_to_be_read() {
    let of_all = Limits { records: 3, reserve: 2, ..Limits::default() };
    let of_one = Limits { per_vehicle: 3, reserve: 2, ..Limits::default() };
    for limits in [of_all, of_one] {
        let mut commands = Commands::new(limits, PolicyTable::defaults());
        accepted_at_once(&mut commands, 3, other);
        accepted_at_once(&mut commands, 2, stop);
        while commands.wakes_at().is_some_and(|wake| wake <= at(60_000)) {
            commands.handle(at(60_000), Input::Tick);
        }
        let body = submit(&mut commands, 60_000, 60_000, id(7), other("late"), Reach::Connected);
        assert_eq!(body, Submitted::Refused(Refusal::Full));
        for n in 10..15 {
            let stopped =
                submit(&mut commands, 60_000, 60_000, id(n), stop(&format!("s{n}")), Reach::Connected);
            assert!(matches!(stopped, Submitted::Accepted { .. }), "{stopped:?}");
            assert_eq!((commands.len(), commands.take_evicted()), (5, 1));
        }
    }
}

/// What is left of the ttl would be overstated by the step, also where the clock has passed the arrival again.
#[test]
fn a_command_that_came_in_while_the_clock_went_backwards_is_not_sent() {
    let mut commands = commands();
    let arrived = commands.arrival(at(1_000));
    commands.note(at(1_900));
    commands.note(at(800));
    let submitted = commands.submit(at(1_700), arrived, id(1), window("k", 1), Reach::Connected);
    assert_eq!(submitted, Submitted::Expired(id(1)));
    assert_eq!(phases(&commands), [Created, Expired]);
    assert_eq!(commands.record(id(1)).unwrap().reason(), Some(Reason::AgeUnknowable));
    let whole = submit(&mut commands, 1_750, 1_701, id(2), other("b"), Reach::Connected);
    assert!(matches!(whole, Submitted::Accepted { .. }), "it is of a known age");
}

/// What is left of the ttl would be overstated by the step.
#[test]
fn a_command_that_began_to_come_in_ahead_of_the_clock_is_not_sent() {
    let mut commands = commands();
    let submitted = submit(&mut commands, 1_000, 1_001, id(1), window("k", 1), Reach::Connected);
    assert_eq!(submitted, Submitted::Expired(id(1)));
    assert_eq!(phases(&commands), [Created, Expired]);
}

#[test]
fn the_ttl_counts_from_when_a_command_began_to_come_in() {
    let mut commands = commands();
    let brief = |key| Request { ttl: Some(Duration::from_secs(1)), ..window(key, 1) };
    let late = submit(&mut commands, 1_000, 0, id(1), brief("k"), Reach::Connected);
    assert_eq!(late, Submitted::Expired(id(1)));
    assert_eq!(phases(&commands), [Created, Expired]);
    assert_eq!(commands.unfinished(), 0);
    let again = submit(&mut commands, 1_001, 1_001, id(2), brief("k"), Reach::Connected);
    assert_eq!(again, Submitted::Repeated(id(1)), "a repeat is answered, not sent");
    let in_time = submit(&mut commands, 2_000, 1_001, id(3), brief("k-2"), Reach::Connected);
    assert_eq!(in_time, Submitted::Accepted { id: id(3), ttl: Duration::from_secs(1) });
    assert_eq!(commands.record(id(3)).unwrap().lives_until(), at(2_001));
}

#[test]
fn a_command_the_lane_refused_leaves_nothing() {
    let mut commands = commands();
    submit(&mut commands, 0, 0, id(1), window("k", 1), Reach::Connected);
    commands.handle(at(0), Input::NotSent(id(1), NotSent::LaneFull));
    assert!(commands.is_empty());
    assert_eq!(
        (outputs(&mut commands).iter().filter(|o| matches!(o, Output::Changed(_))).count(), 0),
        (0, 0)
    );
    assert_eq!((commands.unfinished(), commands.wakes_at()), (0, None));
}
