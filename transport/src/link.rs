//! The handle on a session: what an application holds.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode, ControlFrame, Epoch, Moment, SessionId, SignalPath, Stamp, Value};
use tokio::sync::{mpsc, watch};

use crate::Connection;
use crate::clock::BootClock;
use crate::core::Session;
use crate::core::connection::ConnectionId;
use crate::driver::{Arriving, Driver, MAX_ARRIVING, MAX_UNREAD, Shared};
use crate::lobby::Greeted;

pub use crate::core::lane::{Fate, Ticket};
pub use crate::core::session::{
    Carrier, Config, ConnectionStatus, Connectivity, Drop, Happening, MAX_BULK_PAYLOAD, MAX_PAYLOAD,
    SendError, SignalUpdate,
};
pub use crate::driver::Network;

/// What a session tells its application, in order. While it is not read, the peer is not read either.
pub type Happenings = mpsc::Receiver<Happening>;

/// What a session looks like now.
#[derive(Clone, Debug)]
pub struct Status {
    /// The session itself.
    pub session: crate::core::session::Status,
    /// What the protocol under each connection knows, at most a quarter of a second old.
    pub network: BTreeMap<ConnectionId, Network>,
}

/// A handle on one session. Cheap to clone; every call is synchronous and none blocks.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arriving>,
}

impl Link {
    /// Takes in a message for a lane; it goes when a connection has room, unless `expires` comes
    /// first. What became of it is told as [`Happening::Settled`].
    pub fn send(&self, class: Class, payload: Bytes, expires: Option<Moment>) -> Result<Ticket, SendError> {
        let ticket = self.shared.session().send(class, payload, expires)?;
        self.shared.changed.notify_one();
        Ok(ticket)
    }

    /// Offers the newest values of signals; each replaces the one that waits for the same path.
    pub fn signals(&self, values: impl IntoIterator<Item = (SignalPath, Value)>) {
        let now = self.shared.clock.now();
        let mut session = self.shared.session();
        for (path, value) in values {
            session.signal(path, value, now);
        }
        drop(session);
        self.shared.changed.notify_one();
    }

    /// Offers newer control; it replaces what waits and goes on every connection.
    pub fn control(&self, frame: ControlFrame) {
        self.shared.session().control(frame, self.shared.clock.now());
        self.shared.changed.notify_one();
    }

    /// A floor under the peer's boot clock now; `None` before anything came from it.
    pub fn peer_clock(&self) -> Option<Stamp> {
        self.shared.session().peer_clock(self.shared.clock.now())
    }

    /// What the session looks like now.
    pub fn status(&self) -> Status {
        let mut session = self.shared.session().status(self.shared.clock.now());
        let network = self.shared.network();
        let (sent, received) = network.oversized();
        let oversized = |stage, count| Drop { stage, reason: "datagram_too_large", count };
        session.drops.extend([oversized("send", sent), oversized("receive", received)]);
        Status { session, network: network.each.clone() }
    }

    /// Whether and where the session is carried, and every change of it.
    pub fn connectivity(&self) -> watch::Receiver<Connectivity> {
        self.shared.connectivity.subscribe()
    }

    /// How long since anything came from the peer; `None` where no connection is up.
    pub fn silent_for(&self) -> Option<Duration> {
        self.shared.session().silent_for(self.shared.clock.now())
    }

    /// Ends the session: says goodbye on every connection and closes them. `retry_after` asks the
    /// peer to wait that long before it connects again.
    pub fn close(&self, code: CloseCode, reason: &str, retry_after: Option<Duration>) {
        self.shared.session().close(code, reason, retry_after);
        self.shared.changed.notify_one();
    }

    /// Gives the session another connection of its peer. Gives it back where too many are waiting.
    pub fn attach(&self, greeted: Greeted) -> Result<(), Box<Greeted>> {
        match self.arrivals.try_reserve() {
            Ok(place) => {
                place.send(Arriving::Greeted(greeted));
                Ok(())
            }
            Err(_) => Err(Box::new(greeted)),
        }
    }

    /// Connecting side: gives the session a connection that is up. Where the session has ended the
    /// connection is dropped.
    pub async fn open(&self, connection: Box<dyn Connection>, why: String) {
        if let Ok(place) = self.arrivals.reserve().await {
            place.send(Arriving::Opened { connection, why });
        }
    }
}

/// Starts the connecting side of a session, without a connection yet: give it some with
/// [`Link::open`]. `highest` is the highest epoch this peer has ever held. The future drives the
/// session and ends with it. [`crate::client`] does the dialing too.
pub fn connect(
    config: Config,
    clock: BootClock,
    highest: Epoch,
) -> (Link, Happenings, impl Future<Output = ()> + Send) {
    let (link, happenings, driver) = assemble(Session::connecting(config, clock.boot(), highest), clock);
    (link, happenings, driver.run())
}

/// Starts the accepting side of a session on its first connection. The future drives it and ends with
/// it.
pub fn accept(
    config: Config,
    clock: BootClock,
    id: SessionId,
    epoch: Epoch,
    first: Greeted,
) -> (Link, Happenings, impl Future<Output = ()> + Send) {
    let session = Session::accepting(config, clock.boot(), id, epoch);
    let (link, happenings, driver) = assemble(session, clock);
    let attached = link.attach(first);
    debug_assert!(attached.is_ok(), "a new session has room for its first connection");
    (link, happenings, driver.run())
}

fn assemble(session: Session, clock: BootClock) -> (Link, Happenings, Driver) {
    let shared = Arc::new(Shared::new(session, clock));
    let (arrivals, arriving) = mpsc::channel(MAX_ARRIVING);
    let (unread, happenings) = mpsc::channel(MAX_UNREAD);
    let driver = Driver::new(Arc::clone(&shared), arriving, unread);
    (Link { shared, arrivals }, happenings, driver)
}
