//! Made-up runs: a good one is clean, and whatever is lost, stuck, taken back or unasked for is found.

use std::collections::BTreeMap;

use carriageway_simulator::checker::What;
use serde_json::{Value as Json, json};

use super::Options;
use super::evidence::{Evidence, Remains, judge};
use super::operators::{Answer, Asked, Try};
use super::report::Report;
use crate::journal;
use crate::stage::Stage;

/// 2026-01-01T00:00:00Z, in microseconds since 1970.
const START: u64 = 1_767_225_600_000_000;

const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";

/// A step: its phase, when it was in milliseconds after the start, and whether it is on disk.
type Step = (&'static str, u64, bool);

const DONE: [Step; 3] = [("CREATED", 100, true), ("DISPATCHED", 110, true), ("SUCCEEDED", 160, true)];

fn date(millis: u64) -> String {
    format!("2026-01-01T00:00:{:02}.{:03}Z", millis / 1_000, millis % 1_000)
}

fn record(id: &str, steps: &[Step]) -> Json {
    let timeline = steps
        .iter()
        .map(|(phase, at, durable)| json!({ "phase": phase, "at": date(*at), "durable": durable }));
    let last = steps.last().unwrap().0;
    let is_terminal = !matches!(last, "CREATED" | "QUEUED" | "DISPATCHED" | "RECEIVED" | "EXECUTING");
    json!({
        "id": id, "accepted_at": date(steps[0].1), "phase": last, "terminal": is_terminal, "durable": true,
        "timeline": timeline.collect::<Vec<_>>(),
    })
}

/// A request that was answered with this record.
fn answered(at: u64, id: &str, steps: &[Step]) -> Try {
    let answer = Answer::Accepted { id: id.into(), record: record(id, steps) };
    Try { sent: START + (at - 5) * 1_000, done: START + at * 1_000, answer }
}

fn said(at: u64, fields: &Json) -> String {
    json!({ "timestamp": date(at), "fields": fields }).to_string()
}

fn applying(at: u64, path: &str, value: &str) -> String {
    said(at, &json!({ "message": "applying", "path": path, "value": value }))
}

/// One command that a vehicle carries out, and a gateway that is killed meanwhile.
struct Run {
    asked: Asked,
    log: Vec<String>,
}

impl Run {
    fn good() -> Self {
        let asked = Asked {
            vehicle: "v".into(),
            key: "k".into(),
            class: "body",
            path: WINDOW,
            value: 50.5,
            ttl_ms: 5_000,
            tries: vec![answered(120, "a", &DONE[..2])],
            records: [("a".to_owned(), record("a", &DONE))].into(),
        };
        let log = vec![
            said(130, &json!({ "message": "command", "key": "k", "phase": "RECEIVED" })),
            applying(131, WINDOW, "50.5"),
            said(150, &json!({ "message": "command", "key": "k", "phase": "SUCCEEDED" })),
        ];
        Self { asked, log }
    }

    fn judged(&self) -> Evidence {
        let entry = journal::Entry {
            path: WINDOW.into(),
            value: "50.5".into(),
            phase: Some("SUCCEEDED".into()),
            reason: None,
            detail: None,
        };
        let process = |at: u64, began| (START + at * 1_000, "gateway".to_owned(), began);
        let remains = Remains {
            asked: std::slice::from_ref(&self.asked),
            lives: &[process(0, true), process(200, false), process(300, true)],
            vehicles: vec![("v".into(), self.log.join("\n"), BTreeMap::from([("k".to_owned(), entry)]))],
            until: START + 50_000_000,
        };
        judge(remains).unwrap()
    }

    fn is_clean(&self) -> bool {
        let stage = Stage { build: "debug".into(), ..Stage::default() };
        let options = Options { kills: 1, vehicles: 1, rate: 1, seed: 1, keep: None, json: None };
        Report::of(&options, stage, std::slice::from_ref(&self.asked), &self.judged()).is_clean()
    }
}

#[test]
fn a_good_run_is_clean() {
    let run = Run::good();
    let evidence = run.judged();
    assert!(evidence.violations.is_empty(), "{:?}", evidence.violations);
    assert_eq!((evidence.effects, evidence.unwitnessed), (1, 0));
    assert!(run.is_clean());
}

#[test]
fn a_record_that_never_ends_is_found() {
    let mut run = Run::good();
    run.asked.records.insert("a".into(), record("a", &DONE[..2]));
    let stuck = run.judged().records.stuck;
    assert_eq!(stuck, ["k of v, record a is DISPATCHED"]);
    assert!(!run.is_clean());
}

#[test]
fn a_record_that_a_repeat_replaced_is_lost() {
    let mut run = Run::good();
    run.asked.tries.push(answered(400, "b", &[("CREATED", 390, true)]));
    let again = [("CREATED", 390, true), ("SUCCEEDED", 420, true)];
    run.asked.records = [("b".to_owned(), record("b", &again))].into();
    let evidence = run.judged();
    let found: Vec<_> = evidence.violations.iter().map(|one| one.invariant).collect();
    assert_eq!(found, ["KEY", "LIVENESS"], "accepted twice by one gateway, and the first never ended");
    assert_eq!(evidence.records.lost, ["k of v, record a"]);
    assert!(!run.is_clean());
}

#[test]
fn an_end_that_was_shown_on_disk_cannot_be_taken_back() {
    let mut run = Run::good();
    run.asked.tries.push(answered(180, "a", &DONE));
    assert!(run.is_clean());
    let other = [DONE[0], DONE[1], ("UNKNOWN", 20_000, true)];
    run.asked.records.insert("a".into(), record("a", &other));
    let evidence = run.judged();
    assert!(evidence.violations.is_empty(), "the checker cannot see it: {:?}", evidence.violations);
    let said = "k of v, record a was shown SUCCEEDED on disk and is UNKNOWN without that";
    assert_eq!(evidence.records.contradicted, [said]);
    assert!(!run.is_clean());
}

#[test]
fn an_end_that_was_not_on_disk_may_become_another() {
    let mut run = Run::good();
    run.asked.tries.push(answered(180, "a", &[DONE[0], DONE[1], ("SUCCEEDED", 160, false)]));
    run.asked.records.insert("a".into(), record("a", &[DONE[0], DONE[1], ("UNKNOWN", 20_000, true)]));
    assert!(run.is_clean());
}

#[test]
fn an_end_that_waits_for_the_disk_is_believed() {
    let mut run = Run::good();
    run.asked.records.insert("a".into(), record("a", &[DONE[0], DONE[1], ("SUCCEEDED", 160, false)]));
    assert!(run.is_clean());
}

#[test]
fn an_end_whose_first_word_comes_after_a_restart_is_believed_and_one_without_a_word_is_not() {
    let mut run = Run::good();
    run.log[2] = said(155, &json!({ "message": "command, told late", "key": "k", "phase": "SUCCEEDED" }));
    assert!(run.is_clean());
    run.log.pop();
    let found: Vec<_> = run.judged().violations.iter().map(|one| one.invariant).collect();
    assert_eq!(found, ["ACK-TRUTH"], "the gateway knows what the vehicle never said");
}

#[test]
fn what_nobody_asked_for_is_found() {
    for (path, value) in [(WINDOW, "7.25"), (WINDOW, "true"), ("Vehicle.Other", "50.5"), ("no path", "x")] {
        let mut run = Run::good();
        run.log.push(applying(170, path, value));
        let evidence = run.judged();
        let found: Vec<_> = evidence.violations.iter().map(|one| one.invariant).collect();
        assert_eq!(found, ["FRESH"], "{path} = {value}");
        assert_eq!((evidence.effects, evidence.unwitnessed), (2, 1));
        assert!(!run.is_clean());
    }
}

#[test]
fn what_was_answered_as_durable_is_on_the_disk_before_its_acceptance() {
    let events = Run::good().judged().events;
    let place = |test: fn(&What) -> bool| events.iter().position(|event| test(&event.what)).unwrap();
    let stored = place(|what| matches!(what, What::Stored { phase, .. } if &**phase == "DISPATCHED"));
    assert!(stored < place(|what| matches!(what, What::Accepted { .. })));
}
