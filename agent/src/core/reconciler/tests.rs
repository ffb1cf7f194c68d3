//! Stories of a reconciler with a journal and a vehicle.

mod dropped;
mod refused;
mod told;

use carriageway_proto::scan::MAX_VALUES;
use carriageway_proto::{BootId, DesiredValue, PathState, Stamp};

use super::*;

const BOOT: BootId = BootId::from_bytes([1; 16]);
const SEAT: &str = "Vehicle.Cabin.Seat.Position";
const LIGHT: &str = "Vehicle.Cabin.Light.IsOn";

fn at(millis: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(millis)
}

fn path(text: &str) -> SignalPath {
    text.parse().unwrap()
}

fn wanted(name: &str, value: i64, version: u64) -> Wanted {
    let stamp = Stamp { boot: BOOT, clock: at(10_000) };
    let value = DesiredValue { path: path(name), value: Value::Int(value), version, stamp, ttl: None };
    Wanted { value, class: Some(Class::Comfort) }
}

fn for_millis(wanted: Wanted, millis: u64) -> Wanted {
    Wanted { value: DesiredValue { ttl: Some(Duration::from_millis(millis)), ..wanted.value }, ..wanted }
}

/// A reconciler, a journal that obeys unless it holds still, and a vehicle that answers as it is told to.
struct Bench {
    reconciler: Reconciler,
    buckets: ClassMap<Bucket>,
    now: Moment,
    disk: Past,
    held: Vec<(WriteId, SignalPath, u64)>,
    holding: bool,
    failing: bool,
    answer: Applied,
    acted: Vec<(Actuation, Target)>,
    reports: Vec<StateReport>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Past::default(), false, at(10_000))
    }

    fn with(disk: Past, latched: bool, now: Moment) -> Self {
        let policy = PolicyTable::defaults();
        let judge = Judge::new(BOOT, now, now);
        let reconciler = Reconciler::recover(judge, policy, disk.clone(), latched);
        let buckets = ClassMap::from_fn(|class| Bucket::full(&policy[class], now));
        let (held, acted, reports) = (Vec::new(), Vec::new(), Vec::new());
        let (holding, failing, answer) = (false, false, Applied::Moving);
        Self { reconciler, buckets, now, disk, held, holding, failing, answer, acted, reports }
    }

    fn restart(self, now: Moment) -> Self {
        Self::with(self.disk, false, now)
    }

    fn want(&mut self, version: u64, values: Vec<Wanted>) -> &mut Self {
        self.put(Input::Desired { version, values })
    }

    fn read(&mut self, name: &str, value: i64) -> &mut Self {
        self.put(Input::Readings(vec![(path(name), Value::Int(value))]))
    }

    fn command(&mut self, name: &str, value: i64) -> &mut Self {
        self.put(Input::Commanded { path: path(name), value: Value::Int(value), moving: None })
    }

    fn put(&mut self, input: Input) -> &mut Self {
        self.reconciler.handle(self.now, input);
        self.run()
    }

    fn finish(&mut self) -> &mut Self {
        let actuation = self.acted.last().expect("something acted").0;
        self.put(Input::Finished { actuation, result: Ok(()) })
    }

    fn pass(&mut self, millis: u64) -> &mut Self {
        self.now = self.now + Duration::from_millis(millis);
        self.run()
    }

    fn release(&mut self) -> &mut Self {
        self.holding = false;
        for (id, path, version) in std::mem::take(&mut self.held) {
            self.disk.decided.insert(path, version);
            self.put(Input::Written(id));
        }
        self
    }

    fn run(&mut self) -> &mut Self {
        loop {
            match self.reconciler.poll(self.now, &mut self.buckets) {
                Output::Wait(_) => return self,
                Output::Decide { id, path, version } if self.holding => self.held.push((id, path, version)),
                Output::Decide { id, .. } if self.failing => {
                    self.reconciler.handle(self.now, Input::WriteFailed(id));
                }
                Output::Decide { id, path, version } => {
                    self.disk.decided.insert(path, version);
                    self.reconciler.handle(self.now, Input::Written(id));
                }
                Output::Forget { path, floor } => {
                    self.disk.decided.remove(&path);
                    self.disk.floor = self.disk.floor.max(floor);
                }
                Output::Apply { actuation, target } => {
                    self.acted.push((actuation, target));
                    let applied = self.answer.clone();
                    self.reconciler.handle(self.now, Input::Applied { actuation, applied });
                }
                Output::Report(report) => self.reports.push(report),
            }
        }
    }

    /// How it stands with a path, as last reported; a report may take its time.
    fn state(&mut self, name: &str) -> PathState {
        self.pass(1_000);
        let report = self.reports.last().expect("something was reported");
        report.paths.iter().find(|state| state.path.as_str() == name).expect("the path is there").clone()
    }

    fn status(&mut self, name: &str) -> (SyncStatus, Option<Reason>) {
        let state = self.state(name);
        (state.status, state.reason)
    }
}

#[test]
fn what_is_desired_is_brought_about_once_and_said_to_be() {
    let mut bench = Bench::new();
    bench.read(SEAT, 10).want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!(bench.status(SEAT), (SyncStatus::Applying, None));
    assert_eq!(bench.acted[0].1.class, Class::Comfort);
    bench.finish().read(SEAT, 40);
    let state = bench.state(SEAT);
    assert_eq!((state.status, state.version, state.reported), (SyncStatus::InSync, 1, Some(Value::Int(40))));
    bench.want(1, vec![wanted(SEAT, 40, 1)]).put(Input::Established).pass(60_000);
    assert_eq!(bench.acted.len(), 1);
    bench.want(2, vec![wanted(SEAT, 50, 2)]);
    assert_eq!(bench.acted.len(), 2, "a newer version is another wish");
}

#[test]
fn what_holds_already_is_left_alone() {
    let mut bench = Bench::new();
    bench.read(SEAT, 40).want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::InSync, 0));
    bench.read(SEAT, 10);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::Diverged, 0));
    bench.read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync);
}

#[test]
fn nothing_acts_before_its_decision_is_durable() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    assert!(bench.acted.is_empty() && !bench.reconciler.is_idle());
    assert_eq!(bench.status(SEAT), (SyncStatus::Pending, None));
    bench.release();
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn a_restart_does_not_act_again_for_the_same_version() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    let mut bench = bench.restart(at(11_000));
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, 0));
    bench.read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync);
    bench.want(2, vec![wanted(SEAT, 10, 2)]);
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn what_is_too_old_expires_for_good() {
    let mut bench = Bench::new();
    bench.now = at(15_000);
    let foreign = |mut wanted: Wanted| {
        wanted.value.stamp.boot = BootId::from_bytes([2; 16]);
        wanted
    };
    bench.want(1, vec![for_millis(wanted(SEAT, 40, 1), 4_999), foreign(wanted(LIGHT, 1, 1))]);
    assert_eq!(bench.status(SEAT), (SyncStatus::Expired, None));
    assert_eq!(bench.status(LIGHT), (SyncStatus::Expired, Some(Reason::AgeUnknowable)));
    let fresh = |version| for_millis(wanted(SEAT, 40, version), 60_000);
    bench.want(1, vec![fresh(1)]).read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::Expired, "a copy with a better stamp changes nothing");
    let mut bench = bench.restart(at(17_000));
    bench.want(1, vec![fresh(1)]);
    assert!(bench.acted.is_empty(), "nor does a restart");
    bench.want(2, vec![fresh(2)]);
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn age_is_judged_again_at_the_moment_of_acting() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.want(1, vec![for_millis(wanted(SEAT, 40, 1), 2_000)]).pass(3_000).release();
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::Expired, 0));
}

#[test]
fn a_command_that_changes_the_path_is_not_fought() {
    let mut bench = Bench::new();
    bench.read(SEAT, 10).want(1, vec![wanted(SEAT, 40, 1)]).finish().read(SEAT, 40);
    bench.command(SEAT, 0);
    assert_eq!(bench.status(SEAT).0, SyncStatus::Diverged);
    bench.read(SEAT, 0).want(1, vec![wanted(SEAT, 40, 1)]).pass(60_000);
    assert_eq!(bench.acted.len(), 1);
    let mut bench = bench.restart(at(90_000));
    bench.read(SEAT, 0).want(1, vec![wanted(SEAT, 40, 1)]);
    assert!(bench.acted.is_empty());
    bench.read(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync, "it holds, whoever did it");
}

#[test]
fn a_command_overtakes_what_is_not_applied_yet_or_on_its_way() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.want(1, vec![wanted(SEAT, 40, 1)]).command(SEAT, 0).release();
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::Diverged, 0));
    bench.want(2, vec![wanted(SEAT, 40, 2)]);
    let actuation = bench.acted[0].0;
    bench.command(SEAT, 0).put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.status(SEAT).0, SyncStatus::Diverged, "the end of what was overtaken is none");
    assert!(!bench.reconciler.is_acting());
    bench.want(3, vec![wanted(SEAT, 40, 3)]).finish().read(SEAT, 40).command(SEAT, 40);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync, "it wants the same");
}

#[test]
fn what_the_vehicle_refuses_or_fails_at_is_given_up_in_its_words() {
    let mut bench = Bench::new();
    bench.answer = Applied::Refused(Refusal::new(Reason::OutOfRange, "no seat goes there"));
    bench.want(1, vec![wanted(SEAT, 400, 1)]);
    let state = bench.state(SEAT);
    assert_eq!((state.status, state.reason), (SyncStatus::GivenUp, Some(Reason::OutOfRange)));
    assert_eq!(state.detail, "no seat goes there");
    bench.answer = Applied::Moving;
    bench.want(2, vec![wanted(SEAT, 40, 2)]);
    let actuation = bench.acted[1].0;
    bench.put(Input::Finished { actuation, result: Err(Refusal::new(Reason::ActuatorFault, "stuck")) });
    assert_eq!(bench.status(SEAT), (SyncStatus::GivenUp, Some(Reason::ActuatorFault)));
    bench.pass(60_000).want(2, vec![wanted(SEAT, 40, 2)]);
    assert_eq!(bench.acted.len(), 2);
}

#[test]
fn after_an_emergency_stop_nothing_is_begun() {
    let mut bench = Bench::with(Past::default(), true, at(10_000));
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!(bench.status(SEAT), (SyncStatus::GivenUp, Some(Reason::NotPermitted)));
    bench.put(Input::Latched(false)).want(1, vec![wanted(SEAT, 40, 1)]);
    assert!(bench.acted.is_empty(), "it was said to be given up");
    bench.holding = true;
    bench.want(2, vec![wanted(SEAT, 40, 2)]).put(Input::Latched(true)).release();
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::GivenUp, 0));
}

#[test]
fn desired_state_neither_drives_nor_stops() {
    let mut bench = Bench::new();
    let of = |class, name| Wanted { class, ..wanted(name, 1, 1) };
    let names = ["Vehicle.A", "Vehicle.B", "Vehicle.C", "Vehicle.D"];
    let classes = [Some(Class::Drive), Some(Class::Safety), Some(Class::Bulk), None];
    bench.want(1, names.into_iter().zip(classes).map(|(name, class)| of(class, name)).collect());
    for (name, reason) in names.into_iter().zip([
        Reason::NotPermitted,
        Reason::NotPermitted,
        Reason::Unsupported,
        Reason::Unsupported,
    ]) {
        assert_eq!(bench.status(name), (SyncStatus::GivenUp, Some(reason)), "{name}");
    }
    assert!(bench.acted.is_empty());
}

#[test]
fn the_rate_is_shared_with_commands_and_waited_for() {
    let mut bench = Bench::new();
    let policy = PolicyTable::defaults()[Class::Comfort];
    while bench.buckets[Class::Comfort].take(&policy, bench.now).is_ok() {}
    let all = (0..5).map(|number| wanted(&format!("Vehicle.Seat{number}"), 1, 1)).collect();
    bench.answer = Applied::Done;
    bench.want(1, all);
    assert!(bench.acted.is_empty());
    let due = bench.now + Duration::from_millis(100);
    assert_eq!(bench.reconciler.poll(bench.now, &mut bench.buckets), Output::Wait(Some(due)));
    bench.pass(100);
    assert_eq!(bench.acted.len(), 1);
    bench.pass(399);
    assert_eq!(bench.acted.len(), 4);
    bench.pass(1);
    assert_eq!(bench.acted.len(), 5);
}

#[test]
fn a_path_that_is_not_desired_any_more_is_not_told_of_and_its_actuation_ends() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1), wanted(LIGHT, 1, 1)]).want(2, vec![wanted(LIGHT, 1, 1)]);
    assert_eq!(bench.disk, Past { floor: 0, decided: [(path(LIGHT), 1), (path(SEAT), 2)].into() });
    assert!(bench.reconciler.is_acting());
    for (actuation, _) in bench.acted.clone() {
        bench.put(Input::Finished { actuation, result: Ok(()) });
    }
    assert!(bench.reconciler.is_idle() && bench.status(LIGHT).0 == SyncStatus::InSync);
    assert_eq!(bench.reports.last().unwrap().paths.len(), 1);
    let old = || vec![wanted(SEAT, 40, 1), wanted(LIGHT, 1, 1)];
    bench.want(1, old());
    let mut bench = bench.restart(at(60_000));
    bench.want(1, old());
    assert_eq!((bench.acted.len(), bench.reports[0].version), (0, 2), "an older state comes too late");
}

#[test]
fn a_path_that_cannot_be_read_is_believed_to_hold_what_was_reached() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]).finish();
    assert_eq!(bench.state(SEAT).reported, Some(Value::Int(40)));
    bench.command(SEAT, 0);
    assert_eq!(bench.status(SEAT).0, SyncStatus::Diverged);
    bench.want(2, vec![wanted(SEAT, 10, 2)]).command(SEAT, 10);
    assert_eq!(bench.status(SEAT).0, SyncStatus::InSync);
}

#[test]
fn a_reading_from_before_the_last_move_says_nothing() {
    let mut bench = Bench::new();
    bench.read(SEAT, 40).command(SEAT, 0).want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!(bench.acted.len(), 1, "40 held before the command");
}

#[test]
fn a_vehicle_that_never_reports_an_end_is_given_up_on() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]).pass(299_999);
    assert!(bench.reconciler.is_acting());
    bench.pass(1);
    assert_eq!((bench.status(SEAT), bench.reconciler.is_acting()), ((SyncStatus::GivenUp, None), false));
}

#[test]
fn a_broken_journal_acts_no_more() {
    let mut bench = Bench::new();
    bench.failing = true;
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.status(SEAT), bench.acted.len()), ((SyncStatus::GivenUp, Some(Reason::Busy)), 0));
}

#[test]
fn a_stopping_agent_begins_nothing() {
    let mut bench = Bench::new();
    bench.put(Input::Stopping).want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.status(SEAT).0, bench.acted.len()), (SyncStatus::Pending, 0));
    assert!(bench.reconciler.is_idle() && bench.disk.decided.is_empty(), "the next start may do it");
}

#[test]
fn a_version_says_one_thing_and_none_is_newer_than_all() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]).finish().want(1, vec![wanted(SEAT, 50, 1)]);
    assert_eq!(bench.acted.len(), 1);
    bench.want(2, vec![wanted(SEAT, 50, u64::MAX)]).want(3, vec![wanted(SEAT, 60, 3)]);
    assert_eq!(bench.acted.len(), 2);
}

#[test]
fn reports_keep_their_pace_and_fit_a_frame() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    let text = |number: usize| {
        let mut wanted = wanted(&format!("Vehicle.{}.N{number}", "Long".repeat(30)), 0, 1);
        wanted.value.value = Value::Text("x".repeat(512));
        wanted
    };
    bench.want(1, (0..128).map(text).collect());
    for _ in 0..300 {
        bench.pass(50);
    }
    let largest = bench.reports.iter().map(size).max().unwrap();
    assert!(largest <= MAX_FRAME, "{largest} bytes");
    assert!(bench.reports.last().unwrap().paths.iter().all(|state| state.status == SyncStatus::InSync));

    let mut bench = Bench::new();
    bench.read(SEAT, 0).want(1, vec![wanted(SEAT, 40, 1)]);
    for number in 0..100 {
        bench.pass(50).read(SEAT, 40 + number % 2);
    }
    bench.finish().pass(1_000);
    let before = bench.reports.len();
    for number in 0..100 {
        bench.pass(50).read(SEAT, 40 + number % 2);
    }
    let flutter = bench.reports.len() - before;
    assert!((20..=26).contains(&flutter) && before <= 10, "{before} and {flutter} in five seconds each");
}

#[test]
fn numbers_are_compared_as_they_are_read() {
    let (int, float) = (Value::Int, Value::Float);
    for (wanted, reading, same) in [
        (int(21), float(21.0), true),
        (float(21.0), int(21), true),
        (float(55.5), int(56), true),
        (float(55.5), int(57), false),
        (int(21), int(22), false),
        (float(0.1), float(f64::from(0.1_f32)), true),
        (float(0.1), float(0.11), false),
        (Value::Bool(true), int(1), false),
        (Value::Text("a".into()), Value::Text("a".into()), true),
    ] {
        assert_eq!(is_value(&wanted, &reading), same, "{wanted} and {reading}");
    }
}

#[test]
fn what_was_read_on_the_way_elsewhere_does_not_hold() {
    let mut bench = Bench::new();
    let moving = Some(Actuation(1));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(40), moving }).read(SEAT, 10);
    bench.want(1, vec![wanted(SEAT, 10, 1)]);
    assert_eq!(bench.acted.len(), 1, "a command moves it away from where it was read");
    bench.read(SEAT, 30).finish();
    bench.want(2, vec![wanted(SEAT, 30, 2)]);
    assert_eq!(bench.acted.len(), 2, "it was read on its way, and has come to its end since");
    bench.finish().read(SEAT, 30).want(3, vec![wanted(SEAT, 30, 3)]);
    assert_eq!((bench.acted.len(), bench.status(SEAT)), (2, (SyncStatus::InSync, None)));
}

#[test]
fn a_command_that_has_ended_does_not_keep_what_is_read_from_counting() {
    let mut bench = Bench::new();
    let (actuation, result) = (Actuation(1), Ok(()));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(40), moving: Some(actuation) });
    assert!(!bench.reconciler.is_idle());
    bench.put(Input::Finished { actuation, result }).read(SEAT, 40).want(1, vec![wanted(SEAT, 40, 1)]);
    assert_eq!((bench.acted.len(), bench.status(SEAT)), (0, (SyncStatus::InSync, None)));
}

#[test]
fn a_command_that_is_on_its_way_to_what_is_desired_has_not_brought_it_about_yet() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]);
    let moving = Some(Actuation(1));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(40), moving });
    assert_eq!(bench.status(SEAT), (SyncStatus::Applying, None));
    let result = Err(Refusal::new(Reason::NotPermitted, "stuck"));
    bench.put(Input::Finished { actuation: Actuation(1), result });
    assert_eq!(bench.status(SEAT), (SyncStatus::GivenUp, Some(Reason::NotPermitted)));
}

#[test]
fn what_a_command_moves_away_is_not_in_sync_for_what_is_read_on_the_way() {
    let mut bench = Bench::new();
    bench.want(1, vec![wanted(SEAT, 40, 1)]).finish().read(SEAT, 40);
    assert_eq!(bench.status(SEAT), (SyncStatus::InSync, None));
    let moving = Some(Actuation(1));
    bench.put(Input::Commanded { path: path(SEAT), value: Value::Int(10), moving }).read(SEAT, 40);
    assert_eq!(bench.status(SEAT), (SyncStatus::Diverged, None));
}
