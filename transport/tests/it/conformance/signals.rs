//! Signals: latest wins, whatever else is going on.

use std::collections::BTreeMap;

use bytes::Bytes;
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{
    BootId, Class, ControlFrame, ControlState, Controls, Moment, SignalPath, Stamp, Token, Value,
};
use carriageway_transport::link::Happening;

use super::rig::{Rig, Side};

fn path(n: usize) -> SignalPath {
    format!("Vehicle.Test.Signal{n}").parse().unwrap()
}

/// Reads updates until every path shows `last`; asserts that no value ever goes back.
async fn watch_until(side: &mut Side, paths: usize, last: i64) {
    let mut shown: BTreeMap<SignalPath, i64> = BTreeMap::new();
    while shown.len() < paths || shown.values().any(|value| *value != last) {
        let updates = side
            .until(|happening| match happening {
                Happening::Signals(updates) => Some(updates),
                _ => None,
            })
            .await;
        for update in updates {
            let Value::Int(value) = update.value else { panic!("another kind of value") };
            let before = shown.insert(update.path.clone(), value);
            assert!(before.is_none_or(|before| before < value), "{} went back", update.path);
        }
    }
}

/// LATEST: never an older value after a newer one; the last one arrives; what was replaced is
/// counted.
pub(super) async fn only_the_newest_value_counts(rig: &Rig) {
    let mut world = rig.session().await;
    let link = world.near.link.clone();
    for value in 1..=2_000 {
        link.signals((0..20).map(|n| (path(n), Value::Int(value))));
        if value % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    watch_until(&mut world.far, 20, 2_000).await;
    let status = link.status().session;
    let replaced = status.drops.iter().find(|drop| drop.reason == "signal_replaced").unwrap();
    assert!(replaced.count > 0, "40,000 values through a rate cap");
    assert_eq!(status.queued_signals, 0);
}

/// A full bulk lane does not hold signals up.
pub(super) async fn signals_pass_a_saturated_bulk_lane(rig: &Rig) {
    let mut world = rig.session().await;
    while world.near.link.send(Class::Bulk, Bytes::from(vec![0; 4_000]), None).is_ok() {}
    world.near.link.signals([(path(0), Value::Int(1))]);
    watch_until(&mut world.far, 1, 1).await;
    let queued = world.near.link.status().session.queued_frames[Class::Bulk];
    assert!(queued > 0, "the signal waited for the whole bulk lane");
}

/// Control reaches the peer beside a full bulk lane, is never queued, and is counted where newer control
/// took its place.
pub(super) async fn control_is_latest_wins_and_passes_bulk(rig: &Rig) {
    let mut world = rig.session().await;
    let link = world.near.link.clone();
    while link.send(Class::Bulk, Bytes::from(vec![0; 4_000]), None).is_ok() {}
    for counter in 1..=500 {
        link.control(control(counter));
        if counter % 25 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&500) {
        let counter = world
            .far
            .until(|happening| match happening {
                Happening::Control(frame) => Some(frame.states[0].counter),
                _ => None,
            })
            .await;
        seen.push(counter);
    }
    let drops = link.status().session.drops;
    let replaced = drops.iter().find(|drop| drop.reason == "control_replaced").unwrap().count;
    assert!(replaced > 0, "500 states at once");
    assert!(seen.len() as u64 + replaced <= 500, "one copy of each on one connection: {} seen", seen.len());
}

fn control(counter: u32) -> ControlFrame {
    let state = ControlState::seal(ROAD_VEHICLE, Token::FIRST, counter, Controls::NEUTRAL);
    let stamp = Stamp { boot: BootId::from_bytes([1; 16]), clock: Moment::ZERO };
    ControlFrame { token: Token::FIRST, stamp, states: vec![state] }
}
