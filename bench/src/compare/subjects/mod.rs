//! What is compared: each subject is one file or folder, and one way to carry the workload between a vehicle and its gateway.

mod common;
mod fleet;
#[cfg(feature = "peer-grpc")]
mod grpc;
#[cfg(feature = "peer-moq")]
mod moq;
#[cfg(feature = "peer-mqtt")]
mod mqtt;
#[cfg(feature = "peer-mqtt-quic")]
mod mqtt_quic;
mod ours;
mod quinn;
mod sse;
mod tcp;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "peer-moq", feature = "peer-mqtt", feature = "peer-mqtt-quic"))]
mod topics;
mod udp;
#[cfg(feature = "peer-webrtc")]
mod webrtc;
mod websocket;
#[cfg(feature = "peer-zenoh")]
mod zenoh;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use carriageway_transport::quic::Congestion;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::sync::{mpsc, watch};

use self::common::Congestion as Kernel;
use self::quinn::{Controller, Quinn};
use self::tcp::Tcp;
#[cfg(feature = "peer-zenoh")]
pub use self::zenoh::{Vehicle as ZenohVehicle, run_vehicle as run_zenoh_vehicle};
use super::virtual_time::Place;
use super::workload::{Ear, Feed, Manner};

/// Has the kernel use CUBIC on a socket: its default nearly everywhere. Fails where it does not.
pub(super) fn use_cubic(socket: &SockRef<'_>) -> Result<()> {
    common::Tuning { congestion: Kernel::Cubic, is_best: false }.tune(socket).map(drop)
}

/// One way to carry the workload.
pub trait Subject: Send + Sync {
    /// What it is.
    fn facts(&self) -> Facts;

    /// The gateway's end of each vehicle, of which there is at least one, on one thread: listens, says at each where its vehicle
    /// finds it by [`End::ready`], and works until [`End::stopped`].
    fn serve(&self, ends: Vec<End>) -> Work;

    /// Why it carries no more than one vehicle; `None` where it does.
    fn no_fleet(&self) -> Option<&'static str> {
        None
    }

    /// The vehicle's end: connects to `reach`, says so by [`End::ready`], and works until [`End::stopped`]. It connects
    /// again where it is cut off, as its users would have it.
    fn drive(&self, end: End, reach: Reach) -> Work;

    /// Whether it takes clock and sockets from [`End::place`] alone, and so runs in virtual time.
    fn has_virtual_time(&self) -> bool {
        false
    }
}

/// What an end does, on a runtime of one thread in its own namespace.
pub type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What a subject is, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What it is, in a few words.
    pub title: String,
    /// Library and version, or program.
    pub version: String,
    /// How it is set up, where that is not its default.
    pub setup: String,
    /// How what is due waits for it.
    pub manner: Manner,
}

/// Where a vehicle finds its gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The UDP port, if it listens on one.
    pub udp: u16,
    /// The TCP port, if it listens on one.
    pub tcp: u16,
    /// A second port of the same protocol, where the subject uses two connections that end apart.
    pub second: u16,
}

/// One end of the link, as its subject sees it.
#[derive(Clone)]
pub struct End {
    /// What is to be sent.
    pub feed: Feed,
    /// What arrives is told here.
    pub ear: Ear,
    /// Certificates and keys.
    pub papers: Papers,
    /// The gateway's address, for both ends.
    pub host: Ipv4Addr,
    /// Draws what the subject leaves to chance.
    pub seed: u64,
    /// Where its clock and its sockets come from. Subjects that know of none but the kernel's leave it alone.
    pub place: Place,
    pub(super) ready: mpsc::Sender<Reach>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) notes: Notes,
}

impl End {
    /// It listens there; or, at the vehicle, is connected. Only the first time counts.
    pub fn ready(&self, reach: Reach) {
        // Nobody listens after the first.
        let _later = self.ready.try_send(reach);
    }

    /// Returns when the run is over. Cancel safe.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that nobody is left who could say it: as good as said.
        let _said = stop.wait_for(|stop| *stop).await;
    }

    /// Something that the run should say of itself, such as the congestion control that the kernel answered.
    pub fn note(&self, what: impl Into<String>) {
        self.notes.add(what.into());
    }

    /// What its vehicle is called, as in its certificate.
    pub fn vehicle(&self) -> &str {
        &self.papers.vehicle
    }

    /// An address of the gateway.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.host, port).into()
    }
}

/// What runs say of themselves; each is kept once.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, what: String) {
        let mut notes = self.0.lock().expect("no holder of the notes panics");
        // As many as a run has to say; a subject that says something else each time says it no more.
        if notes.len() < 64 && !notes.contains(&what) {
            notes.push(what);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no holder of the notes panics").clone()
    }
}

/// Certificates and keys of one vehicle and its gateway, in PEM.
#[derive(Clone, Debug)]
pub struct Papers {
    folder: PathBuf,
    vehicle: String,
    is_of_fleet: bool,
}

impl Papers {
    /// Of a vehicle alone.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, vehicle: VEHICLE.into(), is_of_fleet: false }
    }

    /// Of one of several vehicles, by its number, counted from one.
    pub(super) fn of_fleet(folder: PathBuf, number: u16) -> Self {
        Self { folder, vehicle: vehicle_name(number), is_of_fleet: true }
    }

    /// Whether the gateway has other vehicles and tells them apart by their certificates.
    pub const fn is_of_fleet(&self) -> bool {
        self.is_of_fleet
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The gateway's chain and key; the certificate is good for the address of the testbed and for loopback.
    pub fn gateway(&self) -> [PathBuf; 2] {
        [self.folder.join("server.pem"), self.folder.join("server.key")]
    }

    /// The vehicle's chain and key.
    pub fn vehicle(&self) -> [PathBuf; 2] {
        let of = |kind: &str| self.folder.join(format!("vehicles/{}.{kind}", self.vehicle));
        [of("pem"), of("key")]
    }

    /// A folder for what the run needs on disk; it goes with the run.
    pub fn place(&self) -> &std::path::Path {
        &self.folder
    }
}

/// The vehicle of every run, and the first of several.
pub(super) const VEHICLE: &str = "bench-1";

/// What a vehicle is called, by its number, counted from one.
pub(super) fn vehicle_name(number: u16) -> String {
    format!("bench-{number}")
}

/// A subject and the name that plans know it by.
type Entry = (&'static str, fn() -> Box<dyn Subject>);

/// All subjects of this build, in the order of tables.
const ALL: &[Entry] = &[
    ("quic-cubic", || Box::new(ours::Ours::quic(Congestion::Cubic))),
    ("quic-newreno", || Box::new(ours::Ours::quic(Congestion::NewReno))),
    ("quic-bbr", || Box::new(ours::Ours::quic(Congestion::Bbr))),
    ("websocket", || Box::new(ours::Ours::websocket())),
    ("ws-plain", || Box::new(websocket::WebSocket::plain())),
    ("ws-best", || Box::new(websocket::WebSocket::best())),
    ("tcp", || Box::new(Tcp::default_practice())),
    ("tcp-best", || Box::new(Tcp::one(Kernel::Bbr))),
    ("tcp-two-bbr", || Box::new(Tcp::two(Kernel::Bbr))),
    ("tcp-two-cubic", || Box::new(Tcp::two(Kernel::Cubic))),
    ("sse-post", || Box::new(sse::Sse)),
    ("quinn-cubic", || Box::new(Quinn::stock(Controller::Cubic))),
    ("quinn-bbr", || Box::new(Quinn::stock(Controller::Bbr))),
    ("quinn-best-cubic", || Box::new(Quinn::datagrams(Controller::Cubic, false))),
    ("quinn-best-bbr", || Box::new(Quinn::datagrams(Controller::Bbr, false))),
    ("udp", || Box::new(udp::Udp)),
    // One factor at a time: all with the newest first and small buffers.
    ("abl-tcp-cubic-one", || Box::new(Tcp::one(Kernel::Cubic))),
    ("abl-tcp-cubic-split", || Box::new(Tcp::two(Kernel::Cubic))),
    ("abl-tcp-bbr-one", || Box::new(Tcp::one(Kernel::Bbr))),
    ("abl-tcp-bbr-split", || Box::new(Tcp::two(Kernel::Bbr))),
    ("abl-quic-stream-cubic-one", || Box::new(Quinn::stream(Controller::Cubic, false))),
    ("abl-quic-stream-cubic-split", || Box::new(Quinn::stream(Controller::Cubic, true))),
    ("abl-quic-stream-bbr-one", || Box::new(Quinn::stream(Controller::Bbr, false))),
    ("abl-quic-stream-bbr-split", || Box::new(Quinn::stream(Controller::Bbr, true))),
    ("abl-quic-datagram-cubic-one", || Box::new(Quinn::datagrams(Controller::Cubic, false))),
    ("abl-quic-datagram-cubic-split", || Box::new(Quinn::datagrams(Controller::Cubic, true))),
    ("abl-quic-datagram-bbr-one", || Box::new(Quinn::datagrams(Controller::Bbr, false))),
    ("abl-quic-datagram-bbr-split", || Box::new(Quinn::datagrams(Controller::Bbr, true))),
    #[cfg(feature = "peer-grpc")]
    ("grpc", || Box::new(grpc::Grpc::as_it_is())),
    #[cfg(feature = "peer-grpc")]
    ("grpc-best", || Box::new(grpc::Grpc::best())),
    #[cfg(feature = "peer-moq")]
    ("moq-cubic", || Box::new(moq::Moq(Controller::Cubic))),
    #[cfg(feature = "peer-moq")]
    ("moq-bbr", || Box::new(moq::Moq(Controller::Bbr))),
    #[cfg(feature = "peer-mqtt")]
    ("mqtt-qos0", || Box::new(mqtt::Mqtt::at_most_once())),
    #[cfg(feature = "peer-mqtt")]
    ("mqtt-qos1", || Box::new(mqtt::Mqtt::at_least_once())),
    #[cfg(feature = "peer-mqtt-quic")]
    ("mqtt-quic", || Box::new(mqtt_quic::MqttQuic)),
    #[cfg(feature = "peer-webrtc")]
    ("webrtc", || Box::new(webrtc::WebRtc)),
    #[cfg(feature = "peer-zenoh")]
    ("zenoh-tcp", || Box::new(zenoh::Zenoh::tcp())),
    #[cfg(feature = "peer-zenoh")]
    ("zenoh-quic", || Box::new(zenoh::Zenoh::quic())),
    #[cfg(feature = "peer-zenoh")]
    ("zenoh-quic-mixed", || Box::new(zenoh::Zenoh::mixed())),
];

/// Subjects that need a library of their own, with the feature that brings it.
const FEATURES: &[(&str, &str)] = &[
    ("grpc", "peer-grpc"),
    ("grpc-best", "peer-grpc"),
    ("moq-cubic", "peer-moq"),
    ("moq-bbr", "peer-moq"),
    ("mqtt-qos0", "peer-mqtt"),
    ("mqtt-qos1", "peer-mqtt"),
    ("mqtt-quic", "peer-mqtt-quic"),
    ("webrtc", "peer-webrtc"),
    ("zenoh-tcp", "peer-zenoh"),
    ("zenoh-quic", "peer-zenoh"),
    ("zenoh-quic-mixed", "peer-zenoh"),
];

/// The names of all subjects of this build.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// The subject of this name.
pub fn named(name: &str) -> Result<Box<dyn Subject>> {
    let entry = ALL.iter().find(|(known, _)| *known == name);
    let (_, make) = entry.with_context(|| absence(name))?;
    Ok(make())
}

/// Why the subject of this name carries no more than one vehicle; `None` where it does, or where there is no such subject.
pub fn no_fleet(name: &str) -> Option<&'static str> {
    named(name).ok().and_then(|subject| subject.no_fleet())
}

/// Why there is no subject of this name, and what helps.
fn absence(name: &str) -> String {
    if let Some((_, feature)) = FEATURES.iter().find(|(known, _)| *known == name) {
        return format!("the subject {name:?} is not in this build; build with `--features {feature}`");
    }
    let there = names().collect::<Vec<_>>().join(", ");
    format!("no subject is named {name:?} in this build; there are {there}")
}
