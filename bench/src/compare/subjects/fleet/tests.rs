//! One gateway and three vehicles on loopback: what is due to each arrives there and at no other.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Folder;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::super::{Notes, Papers, Subject, named, no_fleet, vehicle_name};
use super::*;
use crate::compare::timeline::Timeline;
use crate::compare::virtual_time::Place;
use crate::compare::workload::{Ear, Feed, Kind, Message};

/// A debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

const VEHICLES: u16 = 3;

/// What both sides of a run share.
struct Bench {
    subject: Box<dyn Subject>,
    place: TempDir,
    timeline: Timeline,
    stop: watch::Sender<bool>,
    notes: Notes,
}

impl Bench {
    fn new(name: &str) -> Self {
        // Another test may have been first; there is one then.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let place = TempDir::new().unwrap();
        let folder = Folder::new(place.path());
        folder.init(&[Ipv4Addr::LOCALHOST.to_string()], unix_now()).unwrap();
        let ids = (1..=VEHICLES).map(|number| vehicle_name(number).parse().unwrap());
        folder.vehicles(ids, unix_now()).unwrap();
        let (timeline, notes) = (Timeline::starting_now(), Notes::default());
        Self { subject: named(name).unwrap(), place, timeline, stop: watch::Sender::new(false), notes }
    }

    fn end(&self, number: u16) -> (End, mpsc::Receiver<Reach>) {
        let feed = Feed::new(self.subject.facts().manner);
        let (ready, is_ready) = mpsc::channel(1);
        let end = End {
            ear: Ear::new(self.timeline.clone(), feed.clone()).of_vehicle(number),
            feed,
            papers: Papers::of_fleet(self.place.path().to_owned(), number),
            host: Ipv4Addr::LOCALHOST,
            seed: number.into(),
            place: Place::Kernel,
            ready,
            stop: self.stop.subscribe(),
            notes: self.notes.clone(),
        };
        (end, is_ready)
    }
}

/// Once all of these have arrived: everything that has.
async fn heard(end: &End, wanted: &[(Kind, u32)]) -> BTreeSet<(Kind, u32)> {
    let mut all = BTreeSet::new();
    let waiting = async {
        while !wanted.iter().all(|one| all.contains(one)) {
            sleep(LOOK).await;
            all.extend(end.ear.take().into_iter().map(|heard| (heard.kind, heard.number)));
        }
    };
    let ended = timeout(PATIENCE, waiting).await;
    assert!(ended.is_ok(), "{}: {all:?} of {wanted:?}", end.vehicle());
    all
}

/// `listeners`: at how many places the vehicles find their gateway.
async fn each_has_its_own(name: &str, listeners: usize) {
    let bench = Bench::new(name);
    let (gateway, ready): (Vec<_>, Vec<_>) = (1..=VEHICLES).map(|number| bench.end(number)).unzip();
    let mut work = JoinSet::new();
    work.spawn(bench.subject.serve(gateway.clone()));
    let (mut vehicles, mut places) = (Vec::new(), BTreeSet::new());
    for (number, mut ready) in (1..).zip(ready) {
        let reach = timeout(PATIENCE, ready.recv()).await.expect("it listens in time").expect("it says so");
        places.insert((reach.udp, reach.tcp));
        let (vehicle, mut connected) = bench.end(number);
        work.spawn(bench.subject.drive(vehicle.clone(), reach));
        timeout(PATIENCE, connected.recv()).await.expect("it connects in time").expect("it says so");
        vehicles.push(vehicle);
    }
    assert_eq!(places.len(), listeners);
    // Only now: each finds its own among all.
    for (number, (vehicle, gateway)) in (1..).zip(vehicles.iter().zip(&gateway)) {
        gateway.feed.offer(Message::new(Kind::Command, number));
        vehicle.feed.offer(Message::new(Kind::Telemetry, number));
    }
    for (number, (vehicle, gateway)) in (1..).zip(vehicles.iter().zip(&gateway)) {
        let down = [(Kind::Command, number)];
        assert_eq!(heard(vehicle, &down).await, BTreeSet::from(down), "{number}");
        let up = [(Kind::Ack, number), (Kind::Telemetry, number)];
        assert_eq!(heard(gateway, &up).await, BTreeSet::from(up), "{number}");
    }
    bench.stop.send_replace(true);
    while let Some(ended) = timeout(PATIENCE, work.join_next()).await.expect("all stop in time") {
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn our_quic_has_one_listener() {
    each_has_its_own("quic-cubic", 1).await;
}

#[tokio::test]
async fn our_websocket_has_one_listener() {
    each_has_its_own("websocket", 1).await;
}

#[tokio::test]
async fn tcp_on_two_connections_has_one_listener() {
    each_has_its_own("tcp-two-cubic", 1).await;
}

#[tokio::test]
async fn a_plain_websocket_has_one_listener() {
    each_has_its_own("ws-plain", 1).await;
}

#[tokio::test]
async fn events_and_posts_have_one_listener() {
    each_has_its_own("sse-post", 1).await;
}

#[tokio::test]
async fn quinn_has_one_listener() {
    each_has_its_own("quinn-cubic", 1).await;
    each_has_its_own("abl-quic-datagram-cubic-split", 1).await;
}

#[tokio::test]
async fn udp_has_a_socket_for_each() {
    each_has_its_own("udp", VEHICLES.into()).await;
}

#[cfg(feature = "peer-grpc")]
#[tokio::test]
async fn grpc_has_a_server_for_each() {
    each_has_its_own("grpc-best", VEHICLES.into()).await;
}

#[cfg(feature = "peer-moq")]
#[tokio::test]
async fn media_over_quic_has_one_listener() {
    each_has_its_own("moq-cubic", 1).await;
}

#[cfg(feature = "peer-webrtc")]
#[tokio::test]
async fn webrtc_has_a_gateway_for_each() {
    each_has_its_own("webrtc", VEHICLES.into()).await;
}

#[cfg(feature = "peer-mqtt")]
#[tokio::test]
async fn mqtt_has_one_broker() {
    each_has_its_own("mqtt-qos0", 1).await;
    each_has_its_own("mqtt-qos1", 1).await;
}

#[cfg(feature = "peer-mqtt-quic")]
#[tokio::test]
async fn mqtt_over_quic_has_one_broker() {
    each_has_its_own("mqtt-quic", 1).await;
}

#[test]
fn who_is_unknown_or_shows_nothing_is_let_in_by_the_gateway_of_one_vehicle_alone() {
    let bench = Bench::new("tcp");
    let fleet = Fleet::new((1..=2).map(|number| bench.end(number).0).collect(), |end| end.seed);
    assert!(fleet.whose(None).is_err());
    let chain = |number| {
        use rustls::pki_types::pem::PemObject as _;
        let [chain, _] = Papers::of_fleet(bench.place.path().to_owned(), number).vehicle();
        CertificateDer::pem_file_iter(chain).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(fleet.whose(Some(&chain(2))).unwrap().1, 2);
    let told = fleet.whose(Some(&chain(3))).err().unwrap().to_string();
    assert_eq!(told, "bench-3 is no vehicle of this gateway");
    let alone = Fleet::new(vec![bench.end(1).0], |end| end.seed);
    assert_eq!(alone.whose(None).unwrap().1, 1);
}

#[test]
fn who_has_no_fleet_says_why() {
    for name in super::super::names() {
        let has_none = name.starts_with("zenoh");
        assert_eq!(no_fleet(name).is_some(), has_none, "{name}");
    }
    assert_eq!(no_fleet("pigeon"), None, "which is told elsewhere");
}
