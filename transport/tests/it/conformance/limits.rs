//! BOUND: every queue has a limit and a named policy; a slow reader slows only itself.

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode, PolicyTable};
use carriageway_transport::core::connection::Ended;
use carriageway_transport::link::{Config, Happening, SendError};

use super::rig::Rig;

/// Each lane refuses the newest beyond its limits and gives it back.
pub(super) async fn every_lane_is_bounded(rig: &Rig) {
    let world = rig.session_with(Config { max_signal_paths: 10, ..Config::default() }).await;
    world.fault.cut();
    let link = &world.near.link;
    let table = PolicyTable::defaults();
    for class in Class::ALL {
        let payload = Bytes::from(vec![1; 600]);
        let mut taken = 0;
        let refused = loop {
            match link.send(class, payload.clone(), None) {
                Ok(_) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, SendError::Full(payload), "{class} gives it back");
        let by_bytes = table[class].queue_bytes / 600;
        assert_eq!(taken, table[class].queue_frames.min(by_bytes), "{class}");
    }
    let bulk = Bytes::from(vec![0; 4_097]);
    assert!(matches!(link.send(Class::Bulk, bulk, None), Err(SendError::TooLarge(_))));
    for n in 0..12 {
        link.signals([(format!("Vehicle.S{n}").parse().unwrap(), true.into_value())]);
    }
    let status = link.status().session;
    assert_eq!(status.queued_signals, 10);
    let count = |reason| status.drops.iter().find(|drop| drop.reason == reason).unwrap().count;
    assert_eq!(count("signal_too_many_paths"), 2);
    assert_eq!(count("lane_full"), Class::ALL.len() as u64);
}

trait IntoValue {
    fn into_value(self) -> carriageway_proto::Value;
}

impl IntoValue for bool {
    fn into_value(self) -> carriageway_proto::Value {
        carriageway_proto::Value::Bool(self)
    }
}

/// A side that does not read holds up its own peer's lane, another session's not; nothing is lost.
pub(super) async fn a_slow_reader_slows_only_itself(rig: &Rig) {
    let mut slow = rig.session().await;
    let mut other = rig.session().await;
    slow.near_only_sends();
    let chunk = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[0; 2_000]].concat());
    let mut sent = 0;
    while slow.near.link.send(Class::Bulk, chunk(sent), None).is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
    }
    other.near.link.send(Class::Body, Bytes::from_static(b"hello"), None).unwrap();
    assert_eq!(other.far.message().await.1, "hello");
    let held = slow.near.link.status().session.queued_bytes[Class::Bulk];
    assert!(held <= PolicyTable::defaults()[Class::Bulk].queue_bytes as usize);
    for n in 0..sent {
        assert_eq!(slow.far.message().await.1, chunk(n), "in order once it reads");
    }
}

/// Either side can end a session, and the other learns the code and the words.
pub(super) async fn every_close_code_arrives(rig: &Rig) {
    for code in [CloseCode::Normal, CloseCode::GoingAway, CloseCode::Restarting, CloseCode::TakenOver] {
        let mut world = rig.session().await;
        world.far.link.close(code, "because", None);
        assert_eq!(world.far.ended().await, Ended::ByUs);
        let said = Ended::ByPeer { code, reason: "because".into() };
        if code.reconnects() {
            world.near.link.connectivity().wait_for(|now| now.carrier.is_none()).await.unwrap();
        } else {
            assert_eq!(world.near.ended().await, said);
        }
    }
    let mut world = rig.session().await;
    world.near.link.close(CloseCode::Normal, "parked", None);
    let said = Ended::ByPeer { code: CloseCode::Normal, reason: "parked".into() };
    assert_eq!(world.far.ended().await, said, "a vehicle that says goodbye is gone at once");
    let refused = world.near.link.send(Class::Body, Bytes::new(), None);
    assert_eq!(refused, Err(SendError::Ended(Bytes::new())));
    world.near.until(|happening| matches!(happening, Happening::Ended(Ended::ByUs)).then_some(())).await;
}
