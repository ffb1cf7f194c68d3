//! Every rule is shown to bite on a log that breaks it, and to hold still on one that does not.

use super::*;

fn at(at: u64, node: &str, what: What) -> Event {
    Event { at, node: node.into(), what }
}

fn accepted(now: u64, key: &str, print: u64, ttl: u64) -> Event {
    let (vehicle, key, id) = ("v".into(), Name::from(key), Name::from(format!("{key}-{now}")));
    let (class, path) = ("body".into(), "Vehicle.Door".into());
    at(now, "g", What::Accepted { vehicle, key, id, class, path, print, born: now, ttl, queued: false })
}

fn seen(now: u64, key: &str, print: u64) -> Event {
    at(now, "v", What::Seen { key: key.into(), print })
}

fn durable(now: u64, key: &str, verdict: Option<&str>) -> Event {
    at(now, "v", What::Durable { key: key.into(), verdict: verdict.map(Name::from), print: Some(7) })
}

fn effect(now: u64, key: &str, print: u64) -> Event {
    let (class, path) = ("body".into(), "Vehicle.Door".into());
    at(now, "v", What::Effect { key: key.into(), class, path, print, token: 0, order: 0 })
}

fn said(now: u64, class: &str, key: &str, phase: &str, reason: Option<&str>) -> Event {
    let (key, class, phase) = (key.into(), class.into(), phase.into());
    at(now, "v", What::Said { key, class, phase, reason: reason.map(Name::from), print: Some(7) })
}

fn phase(now: u64, key: &str, of: u64, phase: &str) -> Event {
    let id = Name::from(format!("{key}-{of}"));
    let (vehicle, key, phase) = ("v".into(), key.into(), phase.into());
    at(now, "g", What::Phase { vehicle, key, id, phase, durable: true, waited: 0 })
}

fn ordered(now: u64, key: &str, token: u64, order: u64) -> [Event; 3] {
    let mut acts = effect(now, key, 7);
    if let What::Effect { token: own, order: place, .. } = &mut acts.what {
        (*own, *place) = (token, order);
    }
    [accepted(now, key, 7, 9), durable(now, key, None), acts]
}

fn lease(token: u64, until: Option<u64>) -> What {
    What::Lease { vehicle: "v".into(), token, operator: "ada".into(), until }
}

fn rules() -> Rules {
    Rules { rates: [("body".into(), (1, 2))].into(), duplicate_windows: [("body".into(), 500)].into() }
}

/// Which invariants the log breaks, after a trip through its written form.
fn broken(events: impl IntoIterator<Item = Event>) -> Vec<&'static str> {
    let lines: Vec<_> = events.into_iter().map(|event| serde_json::to_string(&event).unwrap()).collect();
    let violations = check(&lines.join("\n"), &rules()).unwrap();
    violations.iter().map(|violation| violation.invariant).collect()
}

fn good() -> Vec<Event> {
    vec![
        accepted(0, "k", 7, 100),
        phase(1, "k", 0, "QUEUED"),
        seen(10, "k", 7),
        durable(20, "k", None),
        said(20, "body", "k", "RECEIVED", None),
        effect(21, "k", 7),
        durable(30, "k", Some("SUCCEEDED")),
        said(30, "body", "k", "SUCCEEDED", None),
        phase(40, "k", 0, "SUCCEEDED"),
        at(200, "v", What::Forgot { key: "k".into() }),
    ]
}

#[test]
fn a_good_log_is_good() {
    assert_eq!(broken(good()), [""; 0]);
    assert!(check("{", &rules()).is_err(), "what is no log is said so");
}

#[test]
fn late_unasked_and_repeated_effects_are_found() {
    let mut late = good();
    late[5].at = 101;
    late[6].at = 102;
    assert_eq!(broken(late), ["FRESH"]);
    assert_eq!(broken([effect(5, "x", 1)]), ["FRESH"]);
    let again = |gateway: &str| {
        let accepted = Event { node: gateway.into(), ..accepted(300, "k", 7, 900) };
        good().into_iter().chain([accepted, durable(301, "k", None), effect(900, "k", 7)])
    };
    assert_eq!(broken(again("h")), ["ONCE"]);
    assert_eq!(broken(again("g")), ["KEY", "ONCE"], "one that remembers it accepts it once");
    let asked = |until| {
        let (vehicle, key, id) = ("v".into(), "x".into(), "".into());
        let (class, path) = ("body".into(), "Vehicle.Door".into());
        at(1, "g", What::Asked { vehicle, key, id, class, path, print: 7, until })
    };
    let acts = || [durable(2, "x", None), effect(5, "x", 7)];
    assert_eq!(broken([asked(5)].into_iter().chain(acts())), [""; 0], "it may have been accepted");
    assert_eq!(broken([asked(4)].into_iter().chain(acts())), ["FRESH"]);
    let (vehicle, key, class, why) = ("v".into(), "x".into(), "body".into(), Refused::Busy);
    let refused = at(1, "g", What::Refused { vehicle, key, class, print: 7, why });
    assert_eq!(broken([asked(5), refused].into_iter().chain(acts())), ["FRESH"], "it was refused");
    let mut other = good();
    other[5] = effect(21, "k", 8);
    assert!(broken(other).contains(&"FRESH"), "not what the journal intends");
    let mut early = good();
    early.swap(3, 5);
    assert!(broken(early).contains(&"ONCE"));
}

#[test]
fn lies_are_found() {
    let without = |index: usize| {
        let mut log = good();
        log.remove(index);
        broken(log)
    };
    assert_eq!(without(6), ["ACK-TRUTH", "ACK-TRUTH"], "SUCCEEDED without the journal, from both");
    let denied = good().into_iter().take(8).chain([phase(40, "k", 0, "EXPIRED")]);
    assert_eq!(broken(denied), ["ACK-TRUTH"]);
    let falls = good().into_iter().chain([phase(50, "k", 0, "UNKNOWN")]);
    assert_eq!(broken(falls), ["ACK-TRUTH"]);
    let mut refused = good();
    refused.insert(4, said(20, "body", "k", "REJECTED", None));
    assert!(broken(refused).contains(&"ACK-TRUTH"), "acted after it was refused");
}

#[test]
fn keys_and_entries_are_kept() {
    let other = Event { at: 5, ..accepted(0, "k", 8, 100) };
    assert_eq!(broken([accepted(0, "k", 7, 100), other, phase(6, "k", 0, "EXPIRED")]), ["KEY"]);
    let mut young = good();
    young[9].at = 99;
    assert_eq!(broken(young), ["DEDUP-BOUND"]);
    let copy = [seen(50, "k", 8), said(50, "body", "k", "SUCCEEDED", None)];
    assert_eq!(broken(good().into_iter().take(9).chain(copy)), ["KEY"]);
}

#[test]
fn an_end_is_told_once_the_disk_has_it_or_for_a_reason() {
    let put = |now: u64, phase: &str| {
        let (id, phase) = ("k-0".into(), phase.into());
        at(now, "g", What::Stored { vehicle: "v".into(), id, phase, left: false })
    };
    let told = |now: u64, end: &str, is_durable: bool, held: u64| {
        let mut event = phase(now, "k", 0, end);
        if let What::Phase { durable, waited, .. } = &mut event.what {
            (*durable, *waited) = (is_durable, held);
        }
        event
    };
    let after = |rest: &[Event]| {
        broken([accepted(0, "k", 7, 9_000_000), put(1, "QUEUED")].into_iter().chain(rest.iter().cloned()))
    };
    let failed = at(2, "g", What::DiskFailed);
    assert_eq!(after(&[put(2, "EXPIRED"), told(3, "EXPIRED", true, 0)]), [""; 0]);
    assert_eq!(after(&[told(3, "EXPIRED", true, 0)]), ["ACK-TRUTH"], "it says that the disk has it");
    assert_eq!(after(&[told(3, "EXPIRED", false, 749_999)]), ["ACK-TRUTH"], "it had no reason");
    assert_eq!(after(&[told(3, "EXPIRED", false, 750_000)]), [""; 0]);
    assert_eq!(after(&[failed.clone(), told(3, "EXPIRED", false, 0)]), [""; 0]);
    assert_eq!(after(&[failed, put(3, "QUEUED"), told(4, "EXPIRED", false, 0)]), ["ACK-TRUTH"]);
    let again = |is_durable| {
        let known = [put(2, "EXPIRED"), told(3, "EXPIRED", is_durable, 750_000), at(4, "g", What::Died)];
        let other = [put(5, "UNKNOWN"), told(6, "UNKNOWN", true, 0)];
        after(&[&known[usize::from(!is_durable)..], &other].concat())
    };
    assert_eq!(again(false), [""; 0], "its end was not on the disk");
    assert_eq!(again(true), ["ACK-TRUTH"], "its end was on the disk");
}

#[test]
fn order_fence_rate_and_debounce_are_found() {
    let far = 10_000_000;
    let both = |first: (u64, u64), second: (u64, u64)| {
        let leases = (1..3).map(|token| at(0, "g", lease(token, None)));
        let acts = ordered(1, "a", first.0, first.1).into_iter().chain(ordered(far, "b", second.0, second.1));
        let ends = [phase(far + 1, "a", 1, "UNKNOWN"), phase(far + 1, "b", far, "UNKNOWN")];
        broken(leases.chain(acts).chain(ends))
    };
    assert_eq!(both((1, 5), (1, 6)), [""; 0]);
    assert_eq!(both((1, 5), (1, 4)), ["ORDER"]);
    assert_eq!(both((2, 5), (1, 6)), ["ORDER"], "which FENCE finds, too");
    assert_eq!(both((3, 5), (3, 6)), ["FENCE", "FENCE"], "never granted");
    let quick = (0..3).flat_map(|n| ordered(n * 600, &format!("k{n}"), 0, 0));
    assert_eq!(broken(quick), ["RATE"]);
    assert_eq!(broken((0..2).flat_map(|n| ordered(n * 400, &format!("k{n}"), 0, 0))), ["DEBOUNCE"]);
}

#[test]
fn stops_and_watchdogs_are_kept() {
    let stop = [said(0, "safety", "s", "REJECTED", Some("BUSY"))];
    assert_eq!(broken(stop), ["ESTOP"]);
    let latched = |first: What| {
        let stopped = [durable(0, "s", Some("SUCCEEDED")), said(1, "safety", "s", "SUCCEEDED", None)];
        broken(stopped.into_iter().chain([
            at(2, "v", What::Died),
            at(3, "v", What::Began),
            at(4, "v", first),
        ]))
    };
    assert_eq!(latched(What::Stopped), [""; 0]);
    assert_eq!(latched(What::Seen { key: "k".into(), print: 1 }), ["ESTOP"]);
    let armed = at(0, "v", What::Driving { armed: true, limit: 500_000, nonce: 0, token: 0 });
    let fed = at(400_000, "v", What::Controlled { token: 0, print: 0 });
    let later = |at| Event { at, node: "v".into(), what: What::Stopped };
    assert_eq!(broken([armed.clone(), fed.clone(), later(920_000)]), [""; 0]);
    assert_eq!(broken([armed, fed, later(920_001)]), ["WATCHDOG"]);
}

fn steered(now: u64, operator: &str, token: u64, counter: u64, neutral: bool) -> Event {
    let (vehicle, operator, print) = ("v".into(), operator.into(), token * 1_000 + counter);
    at(now, "world", What::Steered { vehicle, operator, token, counter, print, neutral })
}

fn controlled(now: u64, token: u64, counter: u64) -> Event {
    at(now, "v", What::Controlled { token, print: token * 1_000 + counter })
}

fn driving(now: u64, armed: bool, nonce: u64) -> Event {
    at(now, "v", What::Driving { armed, limit: 500_000, nonce, token: 0 })
}

/// A lease, a re-arm and five neutral states: the vehicle is armed.
fn armed() -> Vec<Event> {
    let durable = |node: &str| at(1, node, What::TokenDurable { vehicle: "v".into(), token: 1 });
    let mut log = vec![
        driving(0, false, 77),
        durable("g"),
        at(2, "g", lease(1, Some(2_000_000))),
        at(3, "v", What::LeaseHeard { token: 1, ended: false }),
        durable("v"),
        at(5, "v", What::Rearmed { token: 1, nonce: 77 }),
    ];
    for counter in 1..6 {
        log.extend([steered(10, "ada", 1, counter, true), controlled(11, 1, counter)]);
    }
    log.push(driving(12, true, 0));
    log
}

#[test]
fn a_drive_by_the_book_is_good() {
    let goes_on = [steered(20, "ada", 1, 6, false), controlled(30, 1, 6), driving(40, false, 78)];
    assert_eq!(broken(armed().into_iter().chain(goes_on)), [""; 0]);
}

#[test]
fn only_the_lease_in_force_steers() {
    let then = |events: &[Event]| broken(armed().into_iter().chain(events.iter().cloned()));
    let heard = |token, ended| at(20, "v", What::LeaseHeard { token, ended });
    assert_eq!(then(&[heard(2, false), steered(21, "ada", 1, 6, false), controlled(22, 1, 6)]), ["FENCE"]);
    assert_eq!(then(&[heard(1, true), steered(21, "ada", 1, 6, false), controlled(22, 1, 6)]), ["FENCE"]);
    let acts = |now| {
        let [asked, intends, mut acts] = ordered(now, "d", 1, 1);
        if let What::Effect { class, .. } = &mut acts.what {
            *class = "drive".into();
        }
        [driving(100, false, 78), asked, intends, acts, phase(now, "d", now, "UNKNOWN")]
    };
    assert_eq!(then(&acts(2_005_000)), [""; 0]);
    assert_eq!(then(&acts(2_005_001)), ["FENCE"], "after its end");
    assert_eq!(then(&[steered(20, "eve", 1, 6, false), controlled(21, 1, 6)]), ["FENCE"]);
    let grants = |token, operator: &str| {
        let (vehicle, operator) = ("v".into(), operator.into());
        at(20, "g", What::Lease { vehicle, token, operator, until: None })
    };
    assert_eq!(then(&[grants(1, "eve")]), ["FENCE"], "one token for two");
    assert_eq!(then(&[grants(2, "eve")]), ["FENCE"], "not on the disk");
    assert_eq!(then(&[at(20, "v", What::Died), at(21, "v", What::Began), driving(21, false, 79)]), ["FENCE"]);
}

#[test]
fn only_good_control_feeds_and_arms() {
    let without = |index: usize| {
        let mut log = armed();
        log.remove(index);
        broken(log)
    };
    assert_eq!(without(5), ["WATCHDOG"; 6], "no re-arm: nothing counts, and nothing arms");
    assert_eq!(without(7), ["WATCHDOG"], "four states");
    assert_eq!(without(6), ["WATCHDOG"; 2], "a state that nobody made, so four");
    let then = |events: &[Event]| broken(armed().into_iter().chain(events.iter().cloned()));
    assert_eq!(then(&[controlled(20, 1, 5)]), ["WATCHDOG"], "a copy");
    let old = [steered(20, "ada", 1, 6, false), controlled(251_021, 1, 6)];
    assert_eq!(then(&old), ["FRESH"]);
    let rearmed = at(30, "v", What::Rearmed { token: 1, nonce: 77 });
    assert_eq!(then(&[driving(20, false, 78), rearmed]), ["WATCHDOG"], "another safe state was meant");
    let asleep = [at(20, "v", What::Suspended { until: 900_000 }), driving(919_000, false, 78)];
    assert_eq!(then(&asleep), [""; 0]);
    let asleep = [at(20, "v", What::Suspended { until: 900_000 }), driving(920_001, false, 78)];
    assert_eq!(then(&asleep), ["WATCHDOG"]);
}

#[test]
fn a_stop_is_released_by_a_rearm_alone_and_for_good() {
    let stopped = || vec![at(0, "v", What::Stopped), said(1, "safety", "s", "SUCCEEDED", None)];
    let rearmed = at(2, "v", What::Rearmed { token: 1, nonce: 0 });
    let release = [at(3, "v", What::ReleaseDurable { key: "s".into() }), at(4, "v", What::Released)];
    let with = |events: Vec<Event>| {
        let good = [at(0, "g", lease(1, None)), durable(0, "s", Some("SUCCEEDED"))];
        broken(good.into_iter().chain(stopped()).chain(events))
    };
    let released = || [rearmed.clone()].into_iter().chain(release.clone()).collect::<Vec<_>>();
    assert_eq!(with(released()), [""; 0]);
    assert_eq!(with(release.to_vec()), ["ESTOP"]);
    assert_eq!(with(vec![rearmed.clone(), release[1].clone()]), ["ESTOP"], "not on the disk");
    let again = [at(5, "v", What::Died), at(6, "v", What::Began), at(7, "v", What::Stopped)];
    assert_eq!(with(released().into_iter().chain(again).collect()), ["ESTOP"]);
    assert_eq!(with(vec![driving(5, true, 0)]), ["ESTOP"]);
    let goes_on = [at(13, "v", What::Stopped), steered(14, "ada", 1, 6, false), controlled(15, 1, 6)];
    assert_eq!(broken(armed().into_iter().chain(goes_on)), ["ESTOP"]);
}

#[test]
fn lanes_signals_and_epochs_rise() {
    let arrives = |epoch, number| {
        at(9, "g", What::Delivered { vehicle: "v".into(), epoch, lane: "bulk up 1".into(), number })
    };
    assert_eq!(broken([arrives(1, 1), arrives(1, 3), arrives(2, 4)]), [""; 0]);
    assert_eq!(broken([arrives(1, 1), arrives(1, 1)]), ["LANE"]);
    let settled = |number, fate| {
        at(10, "v", What::Settled { vehicle: "v".into(), lane: "bulk up 1".into(), number, fate })
    };
    assert_eq!(broken([arrives(1, 1), settled(1, LaneFate::Lost { sent: false })]), ["LANE"]);
    assert_eq!(broken([settled(1, LaneFate::Acknowledged)]), ["LANE"]);
    let late = |at_most: u64| {
        let (vehicle, lane) = ("v".into(), "bulk up 1".into());
        let handed = at(0, "v", What::Handed { vehicle, lane, number: 1, expires: Some(at_most) });
        let mut acknowledged = settled(1, LaneFate::Acknowledged);
        acknowledged.at = 2_000_000;
        [handed, arrives(1, 1), acknowledged]
    };
    assert_eq!(broken(late(1_000_000)), [""; 0]);
    assert_eq!(broken(late(999_999)), ["LANE"], "sent on after it had expired");
    let asleep = at(0, "v", What::Suspended { until: 1_000_000 });
    assert_eq!(broken([asleep].into_iter().chain(late(5))), [""; 0], "its sender could not give it up");
    let gap = at(10, "g", What::Gap { vehicle: "v".into(), epoch: 1, class: "bulk".into(), frames: 1 });
    let expired = settled(1, LaneFate::Expired { sent: true });
    assert_eq!(broken([expired.clone(), gap, arrives(1, 2)]), [""; 0]);
    assert_eq!(broken([expired, arrives(1, 2)]), ["LANE"]);
    let shown =
        |number| at(1, "g", What::Shown { vehicle: "v".into(), path: "Vehicle.Speed".into(), number });
    assert_eq!(broken([shown(1), shown(3), shown(2)]), ["LATEST"]);
    let lives = |epoch, resumed| at(1, "v", What::Established { vehicle: "v".into(), epoch, resumed });
    assert_eq!(broken([lives(1, false), lives(1, true), lives(2, false)]), [""; 0]);
    assert_eq!(broken([lives(2, false), lives(2, false)]), ["OWNER"]);
    let kept = [at(1, "v", What::EpochDurable { epoch: 5 }), at(1, "v", What::Died), lives(5, false)];
    assert_eq!(broken(kept), ["OWNER"]);
}

#[test]
fn offline_durable_bound_drain_and_the_end_are_checked() {
    let (vehicle, key, class) = (Name::from("v"), Name::from("k"), Name::from("body"));
    let refused = What::Refused { vehicle: vehicle.clone(), key, class, print: 7, why: Refused::Offline };
    assert_eq!(broken([at(0, "g", refused), durable(1, "k", None), effect(2, "k", 1)]), ["OFFLINE"]);
    let mut queued = accepted(0, "k", 7, 100);
    if let What::Accepted { queued, .. } = &mut queued.what {
        *queued = true;
    }
    let stored = at(
        0,
        "g",
        What::Stored { vehicle: vehicle.clone(), id: "k-0".into(), phase: "QUEUED".into(), left: false },
    );
    assert_eq!(broken([stored, queued.clone()]), [""; 0]);
    assert_eq!(broken([queued]), ["DURABLE"]);
    assert_eq!(broken([at(0, "g", What::Held { what: "x".into(), count: 2, limit: 1 })]), ["BOUND"]);
    let draining = at(0, "g", What::Draining { until: 10 });
    assert_eq!(
        broken([draining, at(11, "g", What::Held { what: "x".into(), count: 0, limit: 1 })]),
        ["DRAIN"]
    );
    let ends = at(99_000_000, "g", What::Healed);
    assert_eq!(broken([accepted(0, "k", 7, 100), ends]), ["LIVENESS"]);
    let rested = |sessions| {
        let (online, outcomes, is_shown) = (true, 0, true);
        at(1, "g", What::Rested { vehicle: vehicle.clone(), sessions, online, outcomes, is_shown })
    };
    assert_eq!(broken([rested(1)]), [""; 0]);
    assert_eq!(broken([rested(2)]), ["LIVENESS"]);
}
