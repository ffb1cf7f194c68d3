use std::collections::BTreeMap;

use carriageway_proto::{BootId, Outcome, SignalPath, Value};

use super::*;
use crate::core::vehicle::EMERGENCY_STOP;

const BOOT: BootId = BootId::from_bytes([1; 16]);
const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::ZERO + ms(millis)
}

fn path(text: &str) -> SignalPath {
    text.parse().unwrap()
}

fn command(key: &str, value: i64, stamped: u64) -> Command {
    Command {
        key: key.parse().unwrap(),
        class: Class::Body,
        path: path(WINDOW),
        value: Value::Int(value),
        stamp: Stamp { boot: BOOT, clock: at(stamped) },
        ttl: ms(5_000),
        operator: "ada".into(),
        token: None,
        order: 0,
    }
}

fn emergency_stop(key: &str, stamped: u64) -> Command {
    Command {
        class: Class::Safety,
        path: path(EMERGENCY_STOP),
        value: Value::Bool(true),
        ttl: ms(2_000),
        ..command(key, 0, stamped)
    }
}

/// An executor with a journal that obeys at once unless told otherwise, and a vehicle that does what it is told.
struct Bench {
    executor: Executor,
    now: Moment,
    disk: BTreeMap<CommandKey, Record>,
    /// Writes that wait, while the journal holds still.
    held: Vec<(WriteId, Record)>,
    holding: bool,
    failing: bool,
    /// Whoever asked cannot be reached.
    deaf: bool,
    answer: Applied,
    acted: Vec<(Actuation, Target)>,
    stops: Vec<Actuation>,
    told: Vec<Outcome>,
}

/// Keeps a key no longer than its copies could be fresh.
const FORGETFUL: Limits = Limits { admitted: 320, refused: 64, remember: Duration::ZERO };

impl Bench {
    fn new() -> Self {
        Self::with(FORGETFUL, Vec::new(), BOOT, at(10_000))
    }

    fn with(limits: Limits, journal: Vec<Record>, boot: BootId, now: Moment) -> Self {
        let disk = journal.iter().map(|record| (record.key().clone(), record.clone())).collect();
        let here = Stamp { boot, clock: now };
        let executor = Executor::recover(here, PolicyTable::defaults(), limits, journal);
        let (held, acted, stops, told) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (holding, failing, deaf, answer) = (false, false, false, Applied::Moving);
        Self { executor, now, disk, held, holding, failing, deaf, answer, acted, stops, told }
    }

    /// What is left after the power went: only what was durable.
    fn restart(self, boot: BootId, now: Moment) -> Self {
        let mut next = Self::with(FORGETFUL, self.disk.into_values().collect(), boot, now);
        next.run();
        next
    }

    fn give(&mut self, command: Command) -> &mut Self {
        let lane = command.class;
        self.put(Input::Command { lane, command })
    }

    fn put(&mut self, input: Input) -> &mut Self {
        self.executor.handle(self.now, input);
        self.run();
        self
    }

    fn finish(&mut self) -> &mut Self {
        let (actuation, _) = *self.acted.last().as_ref().expect("something acted");
        self.put(Input::Finished { actuation: *actuation, result: Ok(()) })
    }

    fn release(&mut self) {
        self.holding = false;
        for (id, record) in std::mem::take(&mut self.held) {
            self.disk.insert(record.key().clone(), record);
            self.put(Input::Written(id));
        }
    }

    fn run(&mut self) {
        loop {
            match self.executor.poll(self.now) {
                Output::Wait(_) => return,
                Output::Stop(actuation) => self.stops.push(actuation),
                Output::Apply { actuation, target } => {
                    self.acted.push((actuation, target));
                    let applied = self.answer.clone();
                    self.executor.handle(self.now, Input::Applied { actuation, applied });
                }
                Output::Write { id, record } => self.write(id, *record),
                Output::Tell { outcome, .. } => self.hear(outcome),
                Output::Forget(key) => drop(self.disk.remove(&key)),
            }
        }
    }

    fn hear(&mut self, outcome: Outcome) {
        if outcome.phase.is_terminal() && !self.deaf {
            self.executor.handle(self.now, Input::Arrived(outcome.key.clone()));
        }
        self.told.push(outcome);
    }

    fn write(&mut self, id: WriteId, record: Record) {
        if self.failing {
            self.executor.handle(self.now, Input::WriteFailed(id));
        } else if self.holding {
            self.held.push((id, record));
        } else {
            self.disk.insert(record.key().clone(), record);
            self.executor.handle(self.now, Input::Written(id));
        }
    }

    fn phases(&self, key: &str) -> Vec<Phase> {
        self.told.iter().filter(|outcome| outcome.key.as_str() == key).map(|outcome| outcome.phase).collect()
    }

    fn last(&self) -> (Phase, Option<Reason>) {
        let outcome = self.told.last().expect("something was told");
        (outcome.phase, outcome.reason)
    }
}

#[test]
fn a_command_is_received_executed_and_succeeds() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).finish();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Executing, Phase::Succeeded]);
    assert_eq!(bench.acted.len(), 1);
    assert_eq!(bench.disk[&"a".parse().unwrap()].verdict, Some(Verdict::succeeded()));
}

#[test]
fn nothing_acts_before_its_intent_is_durable() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 100, 9_900));
    assert!(bench.acted.is_empty() && bench.told.is_empty());
    bench.release();
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn success_is_told_only_once_it_is_durable() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900));
    bench.holding = true;
    bench.finish();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Executing]);
    bench.release();
    assert_eq!(bench.last().0, Phase::Succeeded);
}

#[test]
fn a_repeat_is_answered_from_memory_at_every_stage() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 100, 9_900)).give(command("a", 100, 9_950));
    assert!(bench.told.is_empty(), "RECEIVED is not true yet");
    bench.release();
    bench.give(command("a", 100, 9_960));
    assert_eq!(bench.last().0, Phase::Executing);
    bench.finish().give(command("a", 100, 9_970));
    assert_eq!(bench.last().0, Phase::Succeeded);
    assert_eq!((bench.acted.len(), bench.executor.counts().repeats), (1, 3));
}

#[test]
fn a_late_repeat_of_what_succeeded_is_not_called_expired() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).finish();
    bench.now = at(14_950);
    bench.give(command("a", 100, 9_900));
    assert_eq!(bench.last().0, Phase::Succeeded);
}

#[test]
fn another_command_under_the_same_key_is_refused() {
    let mut bench = Bench::new();
    bench.give(command("a", 100, 9_900)).give(command("a", 50, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::KeyConflict)));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn what_is_too_old_or_of_unknowable_age_never_acts() {
    let mut bench = Bench::new();
    bench.give(command("late", 1, 4_990));
    assert_eq!(bench.last(), (Phase::Expired, None));
    bench.give(command("ahead", 1, 10_001));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    let foreign = Stamp { boot: BootId::from_bytes([2; 16]), clock: at(9_999) };
    bench.give(Command { stamp: foreign, ..command("foreign", 1, 0) });
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    assert!(bench.acted.is_empty());
}

#[test]
fn the_age_counts_the_drift_of_the_clock() {
    let mut bench = Bench::new();
    bench.give(command("edge", 1, 5_004));
    assert_eq!(bench.last(), (Phase::Expired, None), "4,996 ms on this clock may be 5,001 in truth");
    bench.give(command("just", 1, 5_006));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn age_is_judged_again_when_the_journal_took_too_long() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    bench.now = at(15_000);
    bench.release();
    assert_eq!(bench.phases("a"), [Phase::Received, Phase::Expired]);
    assert!(bench.acted.is_empty());
}

#[test]
fn a_copy_with_a_better_stamp_cannot_revive_what_was_called_expired() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 4_000)).give(command("a", 1, 9_000));
    assert_eq!(bench.phases("a"), [Phase::Expired, Phase::Expired]);
    assert!(bench.acted.is_empty());
}

#[test]
fn a_clock_that_went_backwards_makes_older_stamps_worthless() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("waiting", 1, 9_900));
    bench.now = at(3_000);
    bench.release();
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    bench.now = at(10_100);
    bench.give(command("of-either-time", 1, 9_999));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    assert!(bench.acted.is_empty());
}

/// The gateway's floor was 7 s ahead of the clock from the jump on: its stamps look younger by that.
#[test]
fn a_floor_from_before_the_clock_went_backwards_passes_nothing_for_fresh() {
    let mut bench = Bench::new();
    bench.now = at(3_000);
    bench.give(command("first", 1, 2_900));
    bench.now = at(12_000);
    bench.give(command("stamped-for-7-s-later", 2, 11_500));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
    let mut bench = bench.restart(BOOT, at(12_100));
    bench.now = at(13_000);
    bench.give(command("of-a-new-floor", 1, 12_950));
    assert_eq!(bench.acted.len(), 1, "a new agent's session has a new floor");
}

#[test]
fn a_clock_that_went_backwards_while_the_agent_was_down_is_noticed() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let mut bench = bench.restart(BOOT, at(9_500));
    bench.give(command("b", 1, 9_400));
    assert_eq!(bench.last(), (Phase::Expired, Some(Reason::AgeUnknowable)));
}

#[test]
fn a_crash_between_intent_and_result_is_unknown_and_never_retried() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900));
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("a"), [Phase::Unknown]);
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.phases("a"), [Phase::Unknown, Phase::Unknown]);
    assert!(bench.acted.is_empty());
}

#[test]
fn verdicts_survive_a_restart_and_are_told_again() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("a"), [Phase::Succeeded]);
}

#[test]
fn a_crash_before_the_intent_was_durable_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    let mut bench = bench.restart(BOOT, at(10_100));
    assert!(bench.told.is_empty());
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.acted.len(), 1);
}

#[test]
fn a_reboot_keeps_records_until_their_ttl_has_passed_on_the_new_clock() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    let reborn = BootId::from_bytes([2; 16]);
    let mut bench = bench.restart(reborn, at(4_000));
    let again = |stamped| Command { stamp: Stamp { boot: reborn, clock: at(stamped) }, ..command("a", 1, 0) };
    bench.give(again(3_900));
    assert_eq!(bench.phases("a"), [Phase::Succeeded, Phase::Succeeded]);
    bench.now = at(9_000);
    bench.run();
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (0, 0));
}

#[test]
fn a_record_outlives_every_copy_that_was_seen() {
    let mut bench = Bench::new();
    bench.give(command("a", 1, 9_900)).finish();
    bench.give(Command { ttl: ms(60_000), ..command("a", 1, 9_950) });
    bench.now = at(69_900);
    bench.give(Command { ttl: ms(60_000), ..command("a", 1, 9_950) });
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 1));
    bench.now = at(69_960);
    bench.run();
    assert_eq!(bench.executor.remembered(), 0);
}

/// A client comes back with its key after the ttl, and a gateway that has forgotten stamps it anew.
#[test]
fn a_key_is_remembered_for_an_hour_whatever_its_ttl() {
    let mut bench = Bench::with(Limits::default(), Vec::new(), BOOT, at(10_000));
    bench.give(command("a", 1, 9_900)).finish();
    bench.now = at(10_000) + Duration::from_mins(59);
    bench.give(command("a", 1, 10_000 + 59 * 60_000));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 1));
    bench.now = bench.now + Duration::from_mins(2);
    bench.run();
    assert_eq!(bench.executor.remembered(), 0);
}

#[test]
fn a_record_is_kept_until_its_outcome_has_arrived() {
    let mut bench = Bench::new();
    bench.deaf = true;
    bench.give(command("a", 1, 9_900)).finish();
    bench.now = at(60_000);
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.last().0, Phase::Succeeded, "EXPIRED would say that it never took effect");
    bench.deaf = false;
    bench.put(Input::Arrived("a".parse().unwrap()));
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (0, 0));
}

#[test]
fn a_full_journal_refuses_and_never_evicts() {
    let mut bench = Bench::with(
        Limits { admitted: 2, refused: 1, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.answer = Applied::Done;
    bench.give(command("a", 1, 9_900)).give(command("b", 2, 9_900)).give(command("c", 3, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Busy)));
    bench.give(command("d", 4, 9_900));
    assert!(bench.phases("d").is_empty(), "what cannot be remembered is not answered");
    assert_eq!(bench.executor.counts().unanswered, 1);
    bench.give(command("a", 1, 9_900));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Succeeded, 2));
    bench.now = at(16_000);
    bench.give(command("e", 5, 15_900));
    assert_eq!(bench.acted.len(), 3, "room again once the ttl has passed");
}

#[test]
fn one_class_cannot_fill_the_journal_of_another() {
    let mut bench = Bench::with(
        Limits { admitted: 1, refused: 1, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.give(command("a", 1, 9_900)).give(command("b", 2, 9_900));
    bench.give(Command { class: Class::Comfort, ..command("c", 3, 9_900) });
    assert_eq!(bench.acted.len(), 2);
}

#[test]
fn the_rate_holds_and_a_refused_key_stays_refused() {
    let mut bench = Bench::new();
    bench.answer = Applied::Done;
    for number in 0..25 {
        bench.give(command(&format!("k{number}"), number, 9_900));
    }
    assert_eq!((bench.acted.len(), bench.last()), (20, (Phase::Rejected, Some(Reason::RateLimited))));
    bench.now = at(11_000);
    bench.give(command("k24", 24, 9_900));
    assert_eq!((bench.acted.len(), bench.last().0), (20, Phase::Rejected));
    bench.give(command("later", 24, 10_900));
    assert_eq!(bench.acted.len(), 21);
}

#[test]
fn too_many_under_way_are_refused() {
    let mut bench = Bench::new();
    for number in 0..17 {
        let door = path(&format!("Vehicle.Cabin.Door.Row{number}.IsLocked"));
        bench.give(Command { path: door, ..command(&format!("k{number}"), 1, 9_900) });
    }
    assert_eq!((bench.acted.len(), bench.last()), (16, (Phase::Rejected, Some(Reason::Busy))));
}

#[test]
fn what_never_ends_is_unknown_and_frees_its_slot() {
    let mut bench = Bench::new();
    let lock = |number: u64, stamped: u64| {
        let path = path(&format!("Vehicle.Cabin.Door.Row{number}.IsLocked"));
        Command { path, ..command(&format!("k{number}"), 1, stamped) }
    };
    for number in 0..16 {
        bench.give(lock(number, 9_900));
    }
    bench.now = at(39_999);
    bench.run();
    assert_eq!(bench.last().0, Phase::Executing);
    assert_eq!(bench.executor.poll(bench.now), Output::Wait(Some(at(40_000))));
    bench.now = at(40_000);
    bench.run();
    assert_eq!(bench.phases("k0").last(), Some(&Phase::Unknown));
    assert_eq!(bench.told.last().unwrap().detail, "the vehicle did not report an end");
    assert!(bench.executor.is_idle() && !bench.executor.is_acting());
    bench.finish();
    assert_eq!(bench.phases("k15").last(), Some(&Phase::Unknown), "a report that comes too late is ignored");
    bench.give(lock(16, 39_900));
    assert_eq!((bench.last().0, bench.acted.len()), (Phase::Executing, 17));
}

#[test]
fn a_vehicle_has_the_ttl_for_its_report_within_limits() {
    let mut bench = Bench::new();
    bench.give(Command { ttl: ms(60_000), path: path("Vehicle.A"), ..command("minute", 1, 9_900) });
    bench.give(Command { ttl: ms(3_600_000), path: path("Vehicle.B"), ..command("hour", 1, 9_900) });
    bench.give(emergency_stop("stop", 9_900));
    for (now, phases) in [
        (39_999, [Phase::Executing, Phase::Executing, Phase::Executing]),
        (40_000, [Phase::Executing, Phase::Executing, Phase::Unknown]),
        (70_000, [Phase::Unknown, Phase::Executing, Phase::Unknown]),
        (310_000, [Phase::Unknown, Phase::Unknown, Phase::Unknown]),
    ] {
        bench.now = at(now);
        bench.run();
        let last = |key: &str| *bench.phases(key).last().unwrap();
        assert_eq!([last("minute"), last("hour"), last("stop")], phases, "at {now} ms");
    }
    assert_eq!(bench.restart(BOOT, at(310_001)).stops.len(), 1, "the stop is latched all the same");
}

#[test]
fn a_newer_target_for_the_same_thing_supersedes_the_older() {
    let mut bench = Bench::new();
    bench.give(command("open", 100, 9_900)).give(command("close", 0, 9_950)).finish();
    assert_eq!(bench.phases("open"), [Phase::Received, Phase::Executing, Phase::Superseded]);
    assert_eq!(bench.phases("close"), [Phase::Received, Phase::Executing, Phase::Succeeded]);
}

#[test]
fn what_the_vehicle_refuses_is_rejected_in_its_words() {
    let mut bench = Bench::new();
    bench.answer = Applied::Refused(Refusal::new(Reason::Unsupported, "no such window"));
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Unsupported)));
    assert_eq!(bench.told.last().unwrap().detail, "no such window");
}

#[test]
fn a_command_must_keep_to_its_lane_and_to_a_class_of_commands() {
    let mut bench = Bench::new();
    bench.put(Input::Command { lane: Class::Safety, command: command("a", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Malformed)));
    bench.give(Command { class: Class::Bulk, ..command("b", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Unsupported)));
    let refusal = Refusal::new(Reason::Malformed, "no ttl");
    bench.put(Input::Unreadable { lane: Class::Body, key: "c".parse().unwrap(), refusal });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Malformed)));
    bench.give(Command { ttl: ms(1_000 * 3_600 * 24 * 8), ..command("d", 1, 9_900) });
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::OutOfRange)));
    assert!(bench.acted.is_empty() && bench.disk.is_empty());
}

#[test]
fn a_broken_journal_refuses_all_but_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(command("moving", 1, 9_900));
    bench.failing = true;
    bench.finish();
    assert_eq!(bench.last().0, Phase::Unknown, "an effect that is not recorded is not known");
    bench.give(command("next", 2, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Busy)));
    assert!(bench.executor.is_broken());
    bench.give(emergency_stop("stop", 9_900));
    let actuation = bench.stops[0];
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.phases("stop"), [Phase::Executing, Phase::Unknown]);
    assert!(bench.told.last().unwrap().detail.contains("SUCCEEDED"), "the stop itself is told");
}

#[test]
fn a_stopping_agent_takes_nothing_new_but_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(command("moving", 1, 9_900)).put(Input::Stopping).give(command("new", 2, 9_900));
    assert_eq!(bench.last(), (Phase::Rejected, Some(Reason::Busy)));
    assert_eq!(bench.told.last().unwrap().detail, "the vehicle's agent is stopping");
    bench.give(command("moving", 1, 9_900));
    assert_eq!(bench.last().0, Phase::Executing, "a repeat is answered");
    bench.finish();
    assert_eq!((bench.last().0, bench.executor.is_idle()), (Phase::Succeeded, true));
    bench.give(emergency_stop("stop", 9_900));
    assert_eq!((bench.stops.len(), bench.acted.len()), (1, 1));
}

#[test]
fn an_intent_that_could_not_be_written_does_not_act() {
    let mut bench = Bench::new();
    bench.failing = true;
    bench.give(command("a", 1, 9_900));
    assert_eq!(bench.phases("a"), [Phase::Unknown]);
    assert!(bench.told.last().unwrap().detail.contains("not executed"), "the fact itself is told");
    assert!(bench.acted.is_empty());
}

/// The write failed, but what it wrote may have reached the disk, or not.
#[test]
fn a_failed_write_and_the_restart_after_it_tell_the_same() {
    let intent = |bench: &Bench| {
        let record = bench.executor.entries[&"a".parse::<CommandKey>().unwrap()].record.clone();
        Record { verdict: None, ..record }
    };
    let mut bench = Bench::new();
    bench.failing = true;
    bench.give(command("a", 1, 9_900));
    let (told, left) = (bench.last().0, intent(&bench));
    bench.disk.insert(left.key().clone(), left);
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!((told, bench.last().0), (Phase::Unknown, Phase::Unknown), "the intent failed");
    bench.give(command("a", 1, 9_900));
    assert!(bench.acted.is_empty());

    let mut bench = Bench::new();
    bench.holding = true;
    bench.give(command("a", 1, 9_900));
    bench.now = at(15_000);
    bench.failing = true;
    bench.release();
    let told = bench.last().0;
    let bench = bench.restart(BOOT, at(15_100));
    assert_eq!((told, bench.last().0), (Phase::Unknown, Phase::Unknown), "the refusal after it failed");
}

#[test]
fn the_emergency_stop_waits_for_nothing() {
    let mut bench = Bench::with(
        Limits { admitted: 3, refused: 0, remember: Duration::ZERO },
        Vec::new(),
        BOOT,
        at(10_000),
    );
    bench.holding = true;
    for number in 0..50 {
        bench.give(emergency_stop(&format!("s{number}"), 9_900));
    }
    assert_eq!(bench.stops.len(), 50, "no rate, no full journal, no slow disk");
    assert_eq!(bench.phases("s49"), [Phase::Unknown], "no room to record it");
    bench.give(emergency_stop("s0", 9_900));
    assert_eq!(bench.stops.len(), 50, "a repeat is the same stop");
    let actuation = bench.stops[0];
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.phases("s0"), [Phase::Executing, Phase::Executing]);
    bench.release();
    assert_eq!(bench.phases("s0").last(), Some(&Phase::Succeeded));
}

#[test]
fn emergency_stops_do_not_supersede_each_other() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900)).give(emergency_stop("s1", 9_900));
    for actuation in bench.stops.clone() {
        bench.put(Input::Finished { actuation, result: Ok(()) });
    }
    assert_eq!(bench.phases("s0").last(), Some(&Phase::Succeeded));
    assert_eq!(bench.phases("s1").last(), Some(&Phase::Succeeded));
}

#[test]
fn a_stale_emergency_stop_is_refused() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 7_000));
    assert!(bench.stops.is_empty());
    assert_eq!(bench.last().0, Phase::Expired);
}

/// The executor's first wish after a restart on what this one's disk holds.
fn first_after_restart(bench: &Bench, boot: BootId, now: Moment) -> Output {
    let journal = bench.disk.values().cloned().collect();
    let here = Stamp { boot, clock: now };
    Executor::recover(here, PolicyTable::defaults(), FORGETFUL, journal).poll(now)
}

#[test]
fn a_restart_does_not_release_the_emergency_stop() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let actuation = bench.stops[0];
    assert!(matches!(first_after_restart(&bench, BOOT, at(10_100)), Output::Stop(_)), "no verdict yet");
    bench.put(Input::Finished { actuation, result: Ok(()) });
    assert_eq!(bench.last().0, Phase::Succeeded);
    assert!(matches!(first_after_restart(&bench, BOOT, at(10_100)), Output::Stop(_)), "SUCCEEDED");
    let mut bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.stops.len(), 1);
    bench.now = at(900_000_000);
    bench.run();
    let mut bench = bench.restart(BootId::from_bytes([2; 16]), at(1_000));
    assert_eq!(
        (bench.stops.len(), bench.phases("s0")),
        (1, vec![Phase::Succeeded]),
        "days and a reboot later"
    );
    bench.now = at(900_000_000);
    bench.run();
    assert_eq!(bench.executor.remembered(), 1);
    assert!(
        matches!(first_after_restart(&bench, BOOT, at(1_000)), Output::Stop(_)),
        "as often as it restarts"
    );
}

#[test]
fn a_stop_that_a_crash_made_unknown_or_that_failed_is_latched() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let bench = bench.restart(BOOT, at(10_100));
    assert_eq!(bench.phases("s0"), [Phase::Unknown]);
    assert_eq!(bench.restart(BOOT, at(10_200)).stops.len(), 1);
    let mut bench = Bench::new();
    bench.give(emergency_stop("s0", 9_900));
    let result = Err(Refusal::new(Reason::ActuatorFault, "a brake is worn"));
    bench.put(Input::Finished { actuation: bench.stops[0], result });
    assert_eq!(bench.last().0, Phase::Failed);
    assert_eq!(bench.restart(BOOT, at(10_200)).stops.len(), 1);
}

#[test]
fn a_refused_stop_and_other_commands_latch_nothing() {
    let mut bench = Bench::new();
    bench.give(emergency_stop("late", 7_000)).give(command("a", 1, 9_900));
    bench.give(Command { value: Value::Bool(false), ..emergency_stop("false", 9_900) });
    assert_eq!(bench.disk.len(), 3);
    assert!(bench.restart(BOOT, at(10_100)).stops.is_empty());
}

#[test]
fn stops_in_a_row_leave_one_latch_and_do_not_fill_the_journal() {
    let limits = Limits { admitted: 3, refused: 0, remember: Duration::ZERO };
    let mut bench = Bench::with(limits, Vec::new(), BOOT, at(10_000));
    for number in 0..20_u64 {
        bench.now = at(10_000 + number * 5_000);
        bench.give(emergency_stop(&format!("s{number}"), 9_900 + number * 5_000));
        let actuation = *bench.stops.last().unwrap();
        bench.put(Input::Finished { actuation, result: Ok(()) });
        assert_eq!(bench.last().0, Phase::Succeeded, "s{number}");
    }
    bench.now = at(200_000);
    bench.run();
    assert_eq!((bench.executor.remembered(), bench.disk.len()), (1, 1));
    assert_eq!(bench.restart(BOOT, at(200_100)).stops.len(), 1, "one stop for one latch");
}

#[test]
fn a_full_journal_has_room_for_the_latch() {
    let limits = Limits { admitted: 0, refused: 0, remember: Duration::ZERO };
    let mut bench = Bench::with(limits, Vec::new(), BOOT, at(10_000));
    bench.give(emergency_stop("s0", 9_900));
    assert_eq!(bench.restart(BOOT, at(10_100)).stops.len(), 1);
}
