//! Lanes: order, exactly-once, expiry, priority.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, Epoch, SessionId};
use carriageway_transport::link::{self, Config, Fate, Happening};
use carriageway_transport::lobby;

use super::rig::{PATIENCE, Rig, Side, eventually};

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Receives `count` messages and asserts that each lane's numbers rise by one.
async fn expect_in_order(side: &mut Side, count: usize, seen: &mut BTreeMap<Class, u32>) {
    for _ in 0..count {
        let (class, payload) = side.message().await;
        let next = seen.entry(class).or_insert(0);
        assert_eq!(payload, number(*next), "{class} out of order or twice");
        *next += 1;
    }
}

/// LANE: in order and exactly once for the life of the session, on any sequence of connections.
pub(super) async fn lanes_survive_a_cut(rig: &Rig) {
    let mut world = rig.session().await;
    world.near_only_sends();
    let classes = [Class::Safety, Class::Body, Class::Config, Class::Bulk];
    let mut seen = BTreeMap::new();
    for round in 0..5u32 {
        for n in round * 10..round * 10 + 10 {
            for class in classes {
                world.near.link.send(class, number(n), None).unwrap();
            }
        }
        expect_in_order(&mut world.far, 30 + round as usize, &mut seen).await;
        world.reconnect(rig).await;
        let link = world.near.link.clone();
        eventually(|| link.status().session.resumes > u64::from(round)).await;
    }
    let left = 5 * 40 - seen.values().sum::<u32>() as usize;
    expect_in_order(&mut world.far, left, &mut seen).await;
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [50; 4]);
}

/// LANE: expired frames are reported as a gap, not delivered; nothing behind them is lost.
pub(super) async fn expired_frames_are_a_gap(rig: &Rig) {
    let mut world = rig.session().await;
    let first = world.near.link.send(Class::Body, number(0), None).unwrap();
    assert_eq!(world.near.settled(first).await, Fate::Acknowledged);
    assert_eq!(world.far.message().await, (Class::Body, number(0)));
    world.fault.stall();
    let soon = world.clock.now() + Duration::from_millis(200);
    let sent = world.near.link.send(Class::Body, number(1), Some(soon)).unwrap();
    // Given to the dark connection once nothing waits unsent: it may have left.
    let link = world.near.link.clone();
    eventually(|| link.status().session.unsent_frames[Class::Body] == 0).await;
    world.clock.sleep_until(soon + Duration::from_millis(50)).await;
    world.fault.cut();
    let late = world.near.link.send(Class::Body, number(2), Some(world.clock.now())).unwrap();
    let kept = world.near.link.send(Class::Body, number(3), None).unwrap();
    world.attach(rig).await;

    let gap = world.far.until(|happening| match happening {
        Happening::Gap { class: Class::Body, frames } => Some(frames),
        Happening::Message { payload, .. } => panic!("{payload:?} before the gap"),
        _ => None,
    });
    assert_eq!(gap.await, 1, "the one that was never sent has no number");
    assert_eq!(world.far.message().await, (Class::Body, number(3)));

    let mut fates = BTreeMap::new();
    while fates.len() < 3 {
        let (ticket, fate) = world
            .near
            .until(|happening| match happening {
                Happening::Settled { ticket, fate } => Some((ticket, fate)),
                _ => None,
            })
            .await;
        if ticket >= sent {
            fates.insert(ticket, fate);
        }
    }
    assert_eq!(fates[&sent], Fate::Expired { sent: true });
    assert_eq!(fates[&late], Fate::Expired { sent: false });
    assert_eq!(fates[&kept], Fate::Acknowledged);
}

/// An urgent message passes what waits on a saturated bulk lane.
pub(super) async fn safety_overtakes_bulk(rig: &Rig) {
    let mut world = rig.session().await;
    let chunk = Bytes::from(vec![0; 4_000]);
    let mut sent = 0;
    while world.near.link.send(Class::Bulk, chunk.clone(), None).is_ok() {
        sent += 1;
    }
    assert!(sent > 100, "the lane holds many chunks");
    // The far side does not read: all that can be under way is.
    let ticket = world.near.link.send(Class::Safety, number(0), None).unwrap();
    let mut bulk_before = 0;
    while world.far.message().await.0 == Class::Bulk {
        bulk_before += 1;
    }
    // Connections and the application's queue hold some; the lane's backlog does not stand before it.
    assert!(bulk_before < sent, "safety came after all {sent} chunks");
    assert_eq!(world.near.settled(ticket).await, Fate::Acknowledged);
}

/// After the gateway lost the session: what was sent is told lost, what never left goes on.
pub(super) async fn a_new_session_loses_nothing_unsent(rig: &Rig) {
    let mut world = rig.session().await;
    world.fault.stall();
    let sent = world.near.link.send(Class::Body, number(0), None).unwrap();
    let link = world.near.link.clone();
    eventually(|| link.status().session.unsent_frames[Class::Body] == 0).await;
    world.fault.cut();
    link.connectivity().wait_for(|now| now.carrier.is_none()).await.unwrap();
    world.far.link.close(carriageway_proto::CloseCode::Normal, "", None);
    world.far.ended().await;
    let unsent = world.near.link.send(Class::Config, number(1), None).unwrap();

    let (here, there, _fault) = rig.pair().await;
    world.near.link.open(here, "again".into()).await;
    let greeted = lobby::greet(there, &world.clock, PATIENCE).await.unwrap();
    let (id, epoch) = (SessionId::from_bytes([8; 16]), Epoch::new(2));
    let (_far, mut happenings, driver) =
        link::accept(Config::default(), world.clock.clone(), id, epoch, greeted);
    world.tasks.spawn(driver);

    let mut fates = BTreeMap::new();
    let mut epochs = Vec::new();
    while !fates.contains_key(&unsent) {
        match world.near.until(Some).await {
            Happening::Settled { ticket, fate } => {
                fates.insert(ticket, fate);
            }
            Happening::Established { epoch, resumed, .. } => epochs.push((epoch, resumed)),
            _ => {}
        }
    }
    assert_eq!(fates[&sent], Fate::Lost { sent: true });
    assert_eq!(fates[&unsent], Fate::Acknowledged);
    assert_eq!(epochs, [(epoch, false)]);
    let arrived = async {
        loop {
            if let Some(Happening::Message { class: Class::Config, payload }) = happenings.recv().await {
                return payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, arrived).await.unwrap(), number(1));
}
