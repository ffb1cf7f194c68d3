use super::*;
use crate::compare::subjects::Facts;
use crate::compare::workload::{Manner, Shed};
use crate::stage::Stage;

const SEED: u64 = 5;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ten states a second each way and a second of files in the middle of three.
fn load() -> Workload {
    Workload {
        seconds: 3.0,
        control_hz: 10.0,
        telemetry_hz: 10.0,
        snapshot_hz: 0.0,
        commands_hz: 10.0,
        ..Workload::default()
    }
}

const fn heard(kind: Kind, number: u32, at: Duration) -> Heard {
    Heard { vehicle: 1, kind, number, bytes: 100, at }
}

/// Everything of this kind arrives after `way` (or never), by its number and when it was due.
fn arrive(kind: Kind, mut way: impl FnMut(u32, Duration) -> Option<Duration>) -> Vec<Heard> {
    let schedule = Schedule::new(&load(), SEED);
    let due = schedule.of(if kind == Kind::Ack { Kind::Command } else { kind });
    due.into_iter().filter_map(|(number, due)| Some(heard(kind, number, due + way(number, due)?))).collect()
}

fn figures(heard: &[Heard]) -> Figures {
    Run::new(&load(), SEED, true, heard).figures()
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-6
}

fn is_inside(due: Duration) -> bool {
    load().transfers().contains(&due)
}

#[test]
fn a_steady_link_is_what_it_is() {
    let figures = figures(&arrive(Kind::Control, |_, _| Some(at(60))));
    assert!(close(figures["control-on-time-50"], 0.0));
    assert!(close(figures["control-on-time-100"], 1.0));
    assert!(close(figures["control-gap"], 100.0), "{}", figures["control-gap"]);
    // Under load the age goes from 60 to 160 ms again and again, ten whole times.
    assert!(close(figures["control-age-mean-under-load"], 110.0));
    assert!(close(figures["control-age-p99-under-load"], 159.0));
    assert!(close(figures["control-age-p999-under-load"], 159.9));
    assert!(close(figures["control-stale-200"], 0.0));
}

#[test]
fn a_state_that_was_left_out_for_a_newer_one_is_on_time_and_a_late_one_is_not() {
    // Only every third arrives, at once: those before it are 100 and 200 ms late.
    let last = arrive(Kind::Control, |_, _| Some(at(0))).len() as u32 - 1;
    let every_third = arrive(Kind::Control, |number, _| (number % 3 == last % 3).then_some(at(0)));
    let figures = figures(&every_third);
    for (name, share) in [("50", 1.0 / 3.0), ("100", 2.0 / 3.0), ("150", 2.0 / 3.0), ("200", 1.0)] {
        assert!(close(figures[&format!("control-on-time-{name}")], share), "{name}: {figures:?}");
    }
}

#[test]
fn an_older_state_that_comes_after_a_newer_one_brings_nothing() {
    let steady = arrive(Kind::Control, |_, _| Some(at(10)));
    let mut with_old = steady.clone();
    with_old.extend(arrive(Kind::Control, |_, _| Some(at(250))));
    // In the order of their arrival at the end, or in any other.
    with_old.reverse();
    assert_eq!(figures(&steady), figures(&with_old));
}

#[test]
fn a_copy_of_the_newest_ends_no_gap() {
    let mut all = arrive(Kind::Control, |number, _| (number <= 10).then_some(at(20)));
    let newest = all.last().unwrap().at;
    all.push(heard(Kind::Control, 10, newest + at(700)));
    assert!(close(figures(&all)["control-gap"], 3_000.0 - ms(newest)));
}

#[test]
fn a_pause_shows_as_stale_time_and_as_a_gap() {
    let due = Schedule::new(&load(), SEED).of(Kind::Telemetry);
    let paused = arrive(Kind::Telemetry, |number, _| (!(10..=16).contains(&number)).then_some(at(20)));
    let figures = figures(&paused);
    // From the tenth (number 9) to the eighteenth (number 17).
    assert!(close(figures["telemetry-gap"], 800.0), "{}", figures["telemetry-gap"]);
    let length = 3_000.0 - ms(due[&0]);
    assert!(close(figures["telemetry-stale-200"], (820.0 - 200.0) / length), "{figures:?}");
    assert!(close(figures["telemetry-stale-500"], (820.0 - 500.0) / length));
    assert!(close(figures["telemetry-on-time-200"], 1.0 - 6.0 / due.len() as f64), "16 is: 17 is there");
}

#[test]
fn without_any_arrival_the_age_grows_to_the_end() {
    let figures = figures(&[]);
    let first = ms(Schedule::new(&load(), SEED).of(Kind::Control)[&0]);
    assert!(close(figures["control-gap"], 3_000.0 - first));
    assert!(close(figures["control-age-mean"], (3_000.0 - first) / 2.0));
    assert!(close(figures["control-on-time-200"], 0.0));
    assert!(figures["command-time-p50"].is_infinite());
    assert!(close(figures["commands-never"], arrive(Kind::Command, |_, _| Some(at(0))).len() as f64));
    assert!(close(figures["log-goodput"], 0.0) && !figures.contains_key("map-goodput"));
    assert!(!figures.contains_key("command-stall-p50"), "there is nothing to compare with");
}

#[test]
fn what_arrives_after_the_end_is_on_time_or_not_but_no_age() {
    let on_time = arrive(Kind::Control, |number, _| (number == 29).then_some(at(190)));
    let figures = figures(&on_time);
    assert!(on_time[0].at > at(3_000), "the last is due in the last tenth of a second");
    assert!(close(figures["control-on-time-200"], 1.0 / 30.0));
    assert!(figures["control-gap"] > 2_800.0);
}

#[test]
fn under_load_means_due_while_files_are_transferred() {
    let worse = arrive(Kind::Control, |_, due| Some(if is_inside(due) { at(90) } else { at(10) }));
    let figures = figures(&worse);
    assert!(close(figures["control-on-time-50-under-load"], 0.0));
    assert!(close(figures["control-on-time-50"], 20.0 / 30.0));
    let idle = Run::new(&load(), SEED, false, &worse).figures();
    assert!(!idle.keys().any(|name| name.ends_with(UNDER_LOAD) || name.starts_with("command-stall")));
}

#[test]
fn commands_are_answered_in_time_or_never_and_copies_are_counted() {
    let mut all = arrive(Kind::Command, |_, due| Some(if is_inside(due) { at(150) } else { at(30) }));
    all.extend(arrive(Kind::Ack, |number, due| match number {
        0 => None,
        1 => Some(at(700)),
        _ if is_inside(due) => Some(at(400)),
        _ => Some(at(60)),
    }));
    let due = Schedule::new(&load(), SEED).of(Kind::Command);
    // One comes twice, another once more when it is stale, and is then both.
    all.push(heard(Kind::Command, 3, due[&3] + at(40)));
    all.push(heard(Kind::Command, 4, due[&4] + at(5_001)));
    all.push(heard(Kind::Command, 5, due[&5] + at(5_000)));
    let figures = figures(&all);
    let count = due.len() as f64;
    let inside = due.iter().filter(|(number, due)| **number > 1 && is_inside(**due)).count() as f64;
    assert!(close(figures["commands-never"], 1.0));
    assert!(close(figures["commands-doubled"], 3.0) && close(figures["commands-late"], 1.0));
    assert!(close(figures["command-within-200"], (count - 2.0 - inside) / count));
    assert!(close(figures["command-within-500"], (count - 2.0) / count));
    assert!(close(figures["command-within-1000"], (count - 1.0) / count));
    assert!(figures["command-time-p99"].is_infinite(), "one in {count} never came");
    assert!(close(figures["command-time-p50"], 60.0) && inside > 2.0 && inside < count / 2.0 - 2.0);
    assert!(close(figures["command-stall-p50"], 120.0));
    assert!(close(figures["command-stall-p99"], 120.0), "copies count by the first: {figures:?}");
}

#[test]
fn a_command_that_came_first_counts_by_its_first_answer() {
    let mut all = arrive(Kind::Ack, |_, _| Some(at(300)));
    all.extend(arrive(Kind::Ack, |_, _| Some(at(80))));
    assert!(close(figures(&all)["command-time-p50"], 80.0));
}

#[test]
fn pieces_count_once_and_in_the_window_only() {
    let piece = |number, at| Heard { vehicle: 1, kind: Kind::Log, number, bytes: 125_000, at };
    let all = [
        piece(0, at(1_100)),
        piece(0, at(1_200)),
        piece(1, at(1_999)),
        piece(2, at(2_000)),
        piece(3, at(999)),
    ];
    assert!(close(figures(&all)["log-goodput"], 2.0), "two pieces of a megabit in one second");
}

fn outcome() -> Outcome {
    let spec = serde_json::json!({
        "name": "a", "subject": "s", "label": "s", "link": { "name": "l", "profile": "clean", "trace": null },
        "workload": load(), "block": 1, "seed": SEED, "realtime": false, "attempt": 1, "folder": "/nowhere",
    });
    Outcome {
        spec: serde_json::from_value(spec).unwrap(),
        facts: Facts {
            title: String::new(),
            version: String::new(),
            setup: String::new(),
            manner: Manner::NewestFirst,
        },
        stage: Stage::default(),
        notes: Vec::new(),
        faults: Vec::new(),
        failures: Vec::new(),
        connected_ms: Some(70.0),
        shed: [Shed::default(); 2],
        cost: crate::compare::cell::Cost { cpu_ms: 120.0, memory_kib: 4_000 },
        traffic: [6_000, 4_000]
            .map(|offered_bytes| crate::compare::cell::Traffic { offered_bytes, ..Default::default() }),
        rival: Vec::new(),
        link_sha256: String::new(),
        netem: serde_json::Value::Null,
    }
}

#[test]
fn cost_is_per_what_arrived_and_was_in_time() {
    // 30 states each way; of telemetry none is in time, and the copies do not count.
    let mut all = arrive(Kind::Control, |_, _| Some(at(60)));
    all.extend(arrive(Kind::Control, |_, _| Some(at(60))));
    all.extend(arrive(Kind::Telemetry, |_, _| Some(at(800))));
    let load = load();
    let figures = Run::new(&load, SEED, true, &all).figures_with_cost(&outcome());
    assert!(close(figures["wire-up"], 2.0) && close(figures["wire-down"], 4.0 / 3.0));
    assert!(close(figures["wire-both"], 10.0 / 6.0));
    assert!(close(figures["cpu"], 4_000.0), "{}", figures["cpu"]);
    assert!(close(figures["memory"], 4_000.0) && close(figures["connected"], 70.0));
    let mut nothing = outcome();
    nothing.connected_ms = None;
    let figures = Run::new(&load, SEED, true, &[]).figures_with_cost(&nothing);
    for name in ["wire-up", "wire-down", "wire-both", "cpu", "connected"] {
        assert!(figures[name].is_infinite(), "{name}");
    }
    nothing.spec.is_virtual = true;
    let figures = Run::new(&load, SEED, true, &[]).figures_with_cost(&nothing);
    assert!(!figures.contains_key("cpu") && !figures.contains_key("memory"));
}

#[test]
fn a_parked_vehicle_has_its_cost_per_second_and_nothing_per_message() {
    let parked = Workload {
        control_hz: 0.0,
        telemetry_hz: 0.0,
        snapshot_hz: 0.0,
        commands_hz: 0.0,
        log: false,
        ..load()
    };
    let outcome = outcome();
    let figures = Run::new(&parked, SEED, false, &[]).figures_with_cost(&outcome);
    let seconds = parked.seconds + 7.0;
    assert!(close(figures["wire-rate-up"], outcome.traffic[0].offered_bytes as f64 / seconds));
    assert!(close(figures["cpu-rate"], outcome.cost.cpu_ms / seconds));
    assert!(!figures.contains_key("wire-up") && !figures.contains_key("cpu"));
}

#[test]
fn pictures_count_while_they_are_of_use() {
    let load = Workload { camera_mbits: 0.08, ..load() };
    let due = Schedule::new(&load, SEED).of(Kind::Camera);
    let heard = |(number, due): (&u32, &Duration)| {
        let late = if number % 2 == 0 { 400 } else { 600 };
        let at = *due + Duration::from_millis(late);
        Heard { vehicle: 1, kind: Kind::Camera, number: *number, bytes: 1_000, at }
    };
    let all: Vec<_> = due.iter().map(heard).collect();
    let share = due.len().div_ceil(2) as f64 / due.len() as f64;
    assert!(close(Run::new(&load, SEED, true, &all).figures()["camera-within-500"], share));
}

#[test]
fn halves_are_fair_and_one_that_takes_all_is_not() {
    // A megabit in the second of the transfer.
    let log = [Heard { vehicle: 1, kind: Kind::Log, number: 0, bytes: 125_000, at: at(1_500) }];
    let load = load();
    let of = |log: &[Heard], rival: u64| {
        let outcome = Outcome { rival: [vec![0; 9], vec![rival]].concat(), ..outcome() };
        Run::new(&load, SEED, true, log).figures_with_cost(&outcome)
    };
    let halves = of(&log, 125_000);
    assert!(close(halves["rival-goodput"], 1.0) && close(halves["fairness"], 1.0));
    assert!(close(of(&log, 0)["fairness"], 0.5) && close(of(&[], 125_000)["fairness"], 0.5));
    assert!(close(of(&log, 375_000)["fairness"], 0.8), "a quarter and three");
    assert!(!of(&[], 0).contains_key("fairness"), "nobody sent anything");
    assert!(!halves.contains_key("wire-up") && !halves.contains_key("cpu"), "they share link and process");
    assert!(close(halves["connected"], 70.0));
}

#[test]
fn the_table_has_every_figure_once_and_no_other() {
    let load = Workload { map: true, camera_mbits: 1.0, ..load() };
    let mut all = arrive(Kind::Command, |_, _| Some(at(1)));
    all.push(heard(Kind::Log, 0, at(1_500)));
    let run = Run::new(&load, SEED, true, &all);
    let mut figures = run.figures_with_cost(&outcome());
    assert!(OF_FLEETS.iter().all(|name| !figures.contains_key(*name)), "one vehicle is no fleet");
    figures.extend(run.figures_with_cost(&Outcome { rival: vec![1; 10], ..outcome() }));
    let fleet = Workload { vehicles: 2, ..load.clone() };
    figures.extend(Run::new(&fleet, SEED, true, &all).figures_with_cost(&outcome()));
    let named: Vec<_> = metrics().into_iter().map(|metric| metric.name).collect();
    let mut sorted = named.clone();
    sorted.sort();
    assert_eq!(sorted, figures.keys().cloned().collect::<Vec<_>>());
    assert!(HEADLINES.iter().all(|name| named.iter().any(|other| other == name)));
}

#[test]
fn what_was_never_due_is_told_apart() {
    let mut all = arrive(Kind::Control, |_, _| Some(at(20)));
    all.extend(arrive(Kind::Ack, |_, _| Some(at(20))));
    let good = figures(&all);
    all.push(heard(Kind::Control, 30, at(100)));
    all.push(heard(Kind::Ack, 5_000, at(100)));
    all.push(heard(Kind::Log, 5_000, at(100)));
    assert_eq!(Run::new(&load(), SEED, true, &all).never_due(), 2);
    assert_eq!(figures(&all), good);
}

/// Two vehicles, ten states a second each: what the first sends takes 60 ms, what the second sends 120 ms, and of its control
/// every second is lost.
fn two_vehicles() -> (Workload, Vec<Heard>) {
    let load = Workload { vehicles: 2, ..load() };
    let mut all = Vec::new();
    for (vehicle, way) in [(1, at(60)), (2, at(120))] {
        let schedule = Schedule::new(&load, seed_of(SEED, vehicle));
        let due = schedule.of(Kind::Control).into_iter();
        let due = due.filter(|(number, _)| vehicle == 1 || number % 2 == 1);
        all.extend(due.map(|(number, due)| Heard { vehicle, ..heard(Kind::Control, number, due + way) }));
        let commands = schedule.of(Kind::Command).into_iter();
        let answers = commands.map(|(number, due)| heard(Kind::Ack, number, due + 2 * way));
        all.extend(answers.map(|answer| Heard { vehicle, ..answer }));
    }
    // The same numbers: other pieces of another vehicle.
    for vehicle in [1, 2, 2] {
        all.push(Heard { vehicle, bytes: 125_000, ..heard(Kind::Log, 0, at(1_500)) });
    }
    (load, all)
}

#[test]
fn a_fleets_figures_are_those_of_all_vehicles_put_together() {
    let (load, all) = two_vehicles();
    let run = Run::new(&load, SEED, true, &all);
    let figures = run.figures_with_cost(&outcome());
    // 30 states each. Of the first all are there within 100 ms; of the second none, and within 150 ms every second one, the others
    // with the next, 100 ms later.
    assert!(close(figures["control-on-time-100"], 0.5), "{}", figures["control-on-time-100"]);
    assert!(close(figures["control-on-time-150"], 45.0 / 60.0), "{}", figures["control-on-time-150"]);
    assert!(close(figures["control-on-time-100-worst-vehicle"], 0.0));
    // While files are transferred the first's age goes from 60 to 160 ms, the second's from 120 to 320: as much time in each.
    let mean = figures["control-age-mean-under-load"];
    assert!(close(mean, f64::midpoint(110.0, 220.0)), "{mean}");
    // The second's, whose first state is lost: 100 ms later the next is due, which takes 120.
    assert!(close(figures["control-gap"], 220.0), "{}", figures["control-gap"]);
    assert!(close(figures["log-goodput"], 2.0), "a megabit of each in one second");
    let counts = [1, 2].map(|vehicle| Schedule::new(&load, seed_of(SEED, vehicle)).of(Kind::Command).len());
    let within = counts[0] as f64 / (counts[0] + counts[1]) as f64;
    assert!(close(figures["command-within-200"], within) && close(figures["commands-never"], 0.0));
    assert_eq!(run.command_times().len(), counts[0] + counts[1]);
    // 4,000 bytes went down, 45 states of 100 arrived; 6,000 went up, with every answer and two pieces.
    assert!(close(figures["wire-down"], 4_000.0 / 4_500.0), "{}", figures["wire-down"]);
    let up = (counts[0] + counts[1]) as f64 * 100.0 + 250_000.0;
    assert!(close(figures["wire-up"], 6_000.0 / up), "{}", figures["wire-up"]);
    assert!(close(figures["cpu"], 120.0 / 30.0 * 1e3), "of 30 states on time: {}", figures["cpu"]);
    assert!(close(figures["memory-per-vehicle"], 2_000.0) && close(figures["memory"], 4_000.0));
    assert!(close(figures["cpu-rate-per-vehicle"], 6.0) && close(figures["cpu-rate"], 12.0));
    assert_eq!(run.never_due(), 0);
}

#[test]
fn the_worst_vehicle_is_the_one_with_the_fewest_states_on_time() {
    let load = Workload { vehicles: 3, ..load() };
    let mut all = Vec::new();
    for (vehicle, late_from) in [(1, 27), (2, 30), (3, 21)] {
        let due = Schedule::new(&load, seed_of(SEED, vehicle)).of(Kind::Control).into_iter();
        let way = |number| if number < late_from { at(20) } else { at(900) };
        all.extend(
            due.map(|(number, due)| Heard { vehicle, ..heard(Kind::Control, number, due + way(number)) }),
        );
    }
    let figures = Run::new(&load, SEED, true, &all).figures();
    assert!(close(figures["control-on-time-100-worst-vehicle"], 21.0 / 30.0), "{figures:?}");
    assert!(close(figures["control-on-time-100"], (27.0 + 30.0 + 21.0) / 90.0));
    all.retain(|heard| heard.vehicle != 2);
    let figures = Run::new(&load, SEED, true, &all).figures();
    assert!(
        close(figures["control-on-time-100-worst-vehicle"], 0.0),
        "one of whom nothing is heard is the worst"
    );
}

#[test]
fn who_is_no_vehicle_of_the_run_was_never_due() {
    let (load, mut all) = two_vehicles();
    let good = Run::new(&load, SEED, true, &all).figures();
    all.push(Heard { vehicle: 3, ..heard(Kind::Control, 0, at(10)) });
    let run = Run::new(&load, SEED, true, &all);
    assert_eq!((run.never_due(), run.figures()), (1, good));
}
