use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use tempfile::tempdir;

use super::*;
use crate::compare::cell::Link;
use crate::compare::workload::{Kind, Schedule, Workload};

fn spec(profile: &str, seconds: f64) -> Spec {
    Spec {
        name: "virtual".into(),
        subject: "quic-cubic".into(),
        label: "quic-cubic".into(),
        link: Link { name: "link".into(), profile: profile.into(), trace: None },
        workload: Workload { seconds, ..Workload::default() },
        block: 1,
        seed: 7,
        late_once_ms: 10,
        realtime: false,
        is_virtual: true,
        attempt: 1,
        folder: "".into(),
    }
}

/// Of each message of a kind, its age when it first came.
fn ages(spec: &Spec, heard: &[Heard], kind: Kind) -> BTreeMap<u32, Duration> {
    let due = Schedule::new(&spec.workload, spec.seed).of(kind);
    let mut ages = BTreeMap::new();
    for heard in heard.iter().filter(|heard| heard.kind == kind) {
        ages.entry(heard.number).or_insert(heard.at.saturating_sub(due[&heard.number]));
    }
    ages
}

/// On a link of the test's own.
fn measured_on(profile: &str, seconds: f64) -> (Spec, Outcome, Vec<Heard>) {
    let place = tempdir().unwrap();
    let file = place.path().join("link.toml");
    fs::write(&file, profile).unwrap();
    let spec = spec(file.to_str().unwrap(), seconds);
    let (outcome, heard) = measure(&spec).unwrap();
    (spec, outcome, heard)
}

#[test]
fn everything_arrives_after_the_links_delay_and_within_a_timers_grain_of_it() {
    let (spec, outcome, heard) = measured_on(BOTH, 3.0);
    assert_eq!((outcome.failures.len(), outcome.faults.len()), (0, 0), "{outcome:?}");
    let all = Schedule::new(&spec.workload, spec.seed);
    let files = spec.workload.transfers();
    for kind in [Kind::Control, Kind::Telemetry, Kind::Command] {
        let ages = ages(&spec, &heard, kind);
        let due = all.of(kind);
        assert_eq!(ages.len(), due.len(), "{kind:?}");
        // The clock of arrivals shows whole microseconds.
        assert!(ages.values().all(|age| *age >= Duration::from_micros(19_999)), "{kind:?} {ages:?}");
        // Before the log is sent the link has no other delay; but telemetry may find a snapshot on its way.
        let alone = ages.iter().filter(|(number, _)| due[number] < files.start).map(|(_, age)| *age);
        let (soon, late): (Vec<_>, Vec<_>) = alone.partition(|age| *age <= Duration::from_micros(22_001));
        assert!(
            late.is_empty() || (kind == Kind::Telemetry && late.len() * 10 < soon.len()),
            "{kind:?} {late:?}"
        );
    }
    assert!(heard.iter().any(|heard| heard.kind == Kind::Log));
    assert!((40.0..200.0).contains(&outcome.connected_ms.unwrap()), "{:?}", outcome.connected_ms);
    let [up, down] = outcome.traffic;
    assert!(up.offered_packets >= up.delivered_packets && down.delivered_packets > 150, "{up:?} {down:?}");
    assert!(up.offered_bytes > down.offered_bytes, "the log goes up");
}

fn gap(heard: &[Heard], kind: Kind, within: Range<u64>) -> usize {
    let [from, until] = [within.start, within.end].map(Duration::from_millis);
    heard.iter().filter(|heard| heard.kind == kind && (from..until).contains(&heard.at)).count()
}

const BOTH: &str = "summary = 'x'\n[up]\ndelay = '20ms'\n[down]\ndelay = '20ms'\n";

#[test]
fn nothing_arrives_during_an_outage_and_the_session_goes_on() {
    // The workload starts after four seconds: the outage is from 1 s to 2 s of it.
    let outage = "outage = [{ from = '5s', length = '1s', mode = 'drop' }]\n";
    let profile = BOTH.replace("delay = '20ms'\n", &format!("delay = '20ms'\n{outage}"));
    let (_, outcome, heard) = measured_on(&profile, 4.0);
    for kind in [Kind::Control, Kind::Telemetry] {
        assert_eq!(gap(&heard, kind, 1_021..2_000), 0, "{kind:?}");
        assert!(gap(&heard, kind, 0..1_000) > 10 && gap(&heard, kind, 3_000..4_000) > 10, "{kind:?}");
    }
    assert!(outcome.netem["wires"][0]["down"]["dropped"]["outage"].as_u64().unwrap() > 0);
}

#[test]
fn events_happen_at_their_moments() {
    let events = "[[event]]\nat = '5s'\ndo = 'udp-block'\n[[event]]\nat = '6s'\ndo = 'udp-pass'\n";
    let (_, outcome, heard) = measured_on(&format!("{BOTH}{events}"), 4.0);
    assert_eq!(gap(&heard, Kind::Control, 1_021..2_000), 0);
    assert!(gap(&heard, Kind::Control, 3_000..4_000) > 10);
    let told = &outcome.netem["events"]["list"];
    assert_eq!((&told[0]["what"], &told[0]["at_us"]), (&json!("udp-block"), &json!(5_000_000)));
    assert_eq!((&told[1]["what"], &told[1]["at_us"]), (&json!("udp-pass"), &json!(6_000_000)));
}

#[test]
fn a_change_of_capacity_changes_how_fast_the_log_goes() {
    let event = "[[event]]\nat = '6s'\ndo = 'capacity'\nrate = '1 Mbit/s'\n";
    let limited = BOTH.replace("delay = '20ms'\n", "delay = '20ms'\nrate = '8 Mbit/s'\nqueue = '60 kB'\n");
    let profile = format!("{limited}{event}");
    // The log is sent from 2 s to 4 s of the workload; the link slows down at 2 s.
    let sent = |profile: &str| {
        let (_, _, heard) = measured_on(profile, 6.0);
        let meanwhile = Duration::from_secs(2)..Duration::from_secs(4);
        let log = heard.iter().filter(|heard| heard.kind == Kind::Log && meanwhile.contains(&heard.at));
        log.map(|heard| u64::from(heard.bytes)).sum::<u64>()
    };
    let (slow, fast) = (sent(&profile), sent(&limited));
    // What the slow link can carry in two seconds, and what may have been in its queue.
    let most = 2 * 1_000_000 / 8 + 60_000;
    assert!(slow > 50_000 && slow <= most, "{slow}");
    assert!(fast > most, "{fast} against {slow}");
}

#[test]
fn the_same_seed_is_the_same_run_to_the_microsecond_and_another_seed_is_another() {
    for profile in ["lossy-5", "lte-bufferbloat"] {
        let run = |seed| measure(&Spec { seed, ..spec(profile, 3.0) }).unwrap();
        let [(one, first), (two, second), (_, other)] = [run(7), run(7), run(8)];
        assert_eq!(first, second, "{profile}");
        assert_eq!((one.connected_ms, one.traffic, one.shed), (two.connected_ms, two.traffic, two.shed));
        assert_eq!((one.netem, one.link_sha256), (two.netem, two.link_sha256));
        assert_ne!(first, other, "{profile}");
    }
}

#[test]
fn what_virtual_time_does_not_have_is_refused_with_the_reason() {
    let why = |spec: &Spec| format!("{:#}", measure(spec).unwrap_err());
    assert!(why(&spec("handover-lte-wifi", 1.0)).contains("has one path, this link has 2"));
    assert!(why(&spec("nat-rebind", 1.0)).contains("and so no nat-rebind; run it between namespaces"));
    let plain = Spec { subject: "ws-plain".into(), ..spec("clean", 1.0) };
    assert!(why(&plain).contains("ws-plain brings its own sockets"));
}

#[test]
fn the_fallback_needs_no_udp_and_all_of_its_states_arrive() {
    let spec = Spec { subject: "websocket".into(), ..spec("udp-blocked", 3.0) };
    let (outcome, heard) = measure(&spec).unwrap();
    assert_eq!((outcome.failures.len(), outcome.faults.len()), (0, 0), "{outcome:?}");
    assert!(outcome.connected_ms.is_some());
    let due = Schedule::new(&spec.workload, spec.seed);
    for kind in [Kind::Control, Kind::Telemetry, Kind::Command] {
        assert_eq!(ages(&spec, &heard, kind).len(), due.of(kind).len(), "{kind:?}");
    }
    assert!(heard.iter().any(|heard| heard.kind == Kind::Log));
}

#[test]
fn the_fallback_holds_up_what_follows_a_loss_and_quic_does_not() {
    let late = |subject: &str| {
        let spec = Spec { subject: subject.into(), ..spec("lossy-5", 6.0) };
        let (outcome, heard) = measure(&spec).unwrap();
        assert!(outcome.connected_ms.is_some(), "{subject}");
        let ages = ages(&spec, &heard, Kind::Control);
        ages.values().filter(|age| **age > Duration::from_millis(90)).count()
    };
    // Every twentieth packet of 300 is lost; what comes again takes a round trip longer, and the next ones wait for it.
    let (websocket, quic) = (late("websocket"), late("quic-cubic"));
    assert!(websocket > 10 && quic < websocket / 3, "{websocket} {quic}");
}

#[test]
fn without_udp_nobody_connects_and_nothing_arrives() {
    let (outcome, heard) = measure(&spec("udp-blocked", 1.0)).unwrap();
    assert_eq!((outcome.connected_ms, heard), (None, vec![]));
    assert!(outcome.is_valid());
}
