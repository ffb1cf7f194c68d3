//! The tasks that vehicles' connections and sessions live in.
//!
//! One supervisor owns them all: a connection has a task until its hello is read, a session one for
//! its life, which drives it and reads what it says. It always takes what arrives: where the lobby is
//! full, or one vehicle has its share of it, the newest connection is turned away, so that nobody
//! who keeps silent holds up the others.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::{CloseCode, VehicleId};
use carriageway_transport::Connection;
use carriageway_transport::core::connection::Event;
use carriageway_transport::identity::Identity;
use carriageway_transport::link::Happening;
use carriageway_transport::lobby::{self, NotGreeted};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;

use crate::hub::{Entry, Hub, Opened};
use crate::metrics::Metrics;

/// Most connections that may wait for the supervisor.
const MAX_WAITING: usize = 256;

/// Most connections of one vehicle that have not said hello. A vehicle greets on two or three paths
/// at once, and what lingers of a lost one ends with the hello's deadline.
const MAX_GREETING_OF_ONE: usize = 4;

/// Most connections at once that are told why they are turned away; further ones are let go.
const MAX_LEAVING: usize = 256;

/// How long such a connection may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection whose peer has proven who it is.
pub struct Arrived {
    /// The connection.
    pub connection: Box<dyn Connection>,
    /// Whose.
    pub identity: Identity,
}

/// Where listeners put what arrives.
#[derive(Clone)]
pub struct Arrivals {
    sender: mpsc::Sender<Arrived>,
    metrics: Arc<Metrics>,
}

impl Arrivals {
    /// Hands a connection on, without waiting: one too many is closed as overloaded. False where the
    /// gateway is on its way out.
    pub fn offer(&self, arrived: Arrived) -> bool {
        match self.sender.try_send(arrived) {
            Ok(()) => true,
            Err(TrySendError::Full(mut arrived)) => {
                self.metrics.dropped("lobby", "supervisor_busy", 1);
                arrived.connection.close(CloseCode::Overloaded, TOO_MANY);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// What a connection that is turned away unheard is told.
const TOO_MANY: &str = "too many connections wait to be greeted";

/// How many and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once that have not said hello; further ones are turned away.
    pub greeting: usize,
    /// Time for a hello.
    pub hello: Duration,
}

/// The supervisor: a sender for arrivals, and the future that serves them until every sender is gone
/// and every session has ended.
pub fn supervise(hub: Hub, limits: Limits) -> (Arrivals, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let metrics = Arc::clone(hub.metrics());
    (Arrivals { sender, metrics }, run(hub, limits, receiver))
}

async fn run(hub: Hub, limits: Limits, mut arrivals: mpsc::Receiver<Arrived>) {
    let mut lobby = Lobby { hub: hub.clone(), limits, of_each: BTreeMap::new(), greetings: JoinSet::new() };
    let mut leaving: JoinSet<()> = JoinSet::new();
    let mut sessions: JoinSet<()> = JoinSet::new();
    let mut open = true;
    while open || !lobby.greetings.is_empty() || !sessions.is_empty() {
        tokio::select! {
            arrived = arrivals.recv(), if open => match arrived {
                Some(arrived) => {
                    if let Err(refused) = lobby.take_in(arrived) && leaving.len() < MAX_LEAVING {
                        leaving.spawn(turn_away(hub.clone(), refused));
                    }
                }
                None => open = false,
            },
            Some(greeted) = lobby.next() => {
                if let Some(opened) = greeted {
                    sessions.spawn(live(hub.clone(), *opened));
                }
            }
            Some(left) = leaving.join_next() => {
                survived(left);
            }
            Some(ended) = sessions.join_next() => {
                survived(ended);
            }
        }
    }
}

/// What a task came to. Its panic is caught within; the supervisor goes on whatever happens.
fn survived<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    ended.inspect_err(|error| tracing::error!(%error, "a task broke off")).ok()
}

/// The connections that have not said hello.
struct Lobby {
    hub: Hub,
    limits: Limits,
    of_each: BTreeMap<VehicleId, usize>,
    greetings: JoinSet<(VehicleId, Option<Box<Opened>>)>,
}

impl Lobby {
    /// Greets a connection; gives it back where too many are waiting.
    fn take_in(&mut self, arrived: Arrived) -> Result<(), Box<dyn Connection>> {
        let Arrived { connection, identity: Identity::Vehicle(vehicle) } = arrived;
        let of_this = self.of_each.get(&vehicle).copied().unwrap_or(0);
        let refusal = if of_this >= MAX_GREETING_OF_ONE {
            Some("too_many_of_one_vehicle")
        } else {
            (self.greetings.len() >= self.limits.greeting).then_some("full")
        };
        if let Some(reason) = refusal {
            self.hub.metrics().dropped("lobby", reason, 1);
            tracing::debug!(%vehicle, reason, "turned away from the lobby");
            return Err(connection);
        }
        self.of_each.insert(vehicle.clone(), of_this + 1);
        let (hub, patience) = (self.hub.clone(), self.limits.hello);
        self.greetings.spawn(async move {
            let greeting = AssertUnwindSafe(greet(hub.clone(), patience, &vehicle, connection));
            let greeted = greeting.catch_unwind().await.unwrap_or_else(|_| {
                broke_off(&hub, &vehicle, "greeting");
                None
            });
            (vehicle, greeted)
        });
        Ok(())
    }

    /// What the next greeting that ends has come to; `None` while nobody is greeted. Cancel safe.
    async fn next(&mut self) -> Option<Option<Box<Opened>>> {
        let (vehicle, greeted) = survived(self.greetings.join_next().await?)?;
        if let Some(count) = self.of_each.get_mut(&vehicle) {
            *count -= 1;
            if *count == 0 {
                self.of_each.remove(&vehicle);
            }
        }
        Some(greeted)
    }
}

/// A task that panicked has broken an invariant of ours; the panic was logged, the others go on.
fn broke_off(hub: &Hub, vehicle: &VehicleId, task: &'static str) {
    tracing::error!(%vehicle, task, "a vehicle's task broke off");
    hub.metrics().dropped("panic", task, 1);
}

/// Closes a connection as overloaded, and lets it take the word along.
async fn turn_away(hub: Hub, mut connection: Box<dyn Connection>) {
    connection.close(CloseCode::Overloaded, TOO_MANY);
    let ended = async { while !matches!(poll_fn(|cx| connection.poll_event(cx)).await, Event::Ended(_)) {} };
    tokio::select! {
        () = ended => {}
        () = hub.clock().sleep_until(hub.clock().now() + FAREWELL) => {}
    }
}

async fn greet(
    hub: Hub,
    patience: Duration,
    vehicle: &VehicleId,
    connection: Box<dyn Connection>,
) -> Option<Box<Opened>> {
    let greeted = match lobby::greet(connection, hub.clock(), patience).await {
        Ok(greeted) => greeted,
        Err(why) => {
            tracing::debug!(%vehicle, %why, "no hello");
            hub.metrics().hello(match why {
                NotGreeted::Silent(_) => "handshake_timeout",
                NotGreeted::Violation(_) => "protocol_violation",
                NotGreeted::Version(_) => "version_mismatch",
                NotGreeted::Ended(_) => "ended",
            });
            return None;
        }
    };
    match hub.admit(vehicle, greeted) {
        Entry::Attached => None,
        Entry::Opened(opened) => Some(opened),
        Entry::Refused { greeted, code, retry_after } => {
            tracing::info!(%vehicle, %code, "refused");
            lobby::refuse(greeted, hub.clock(), code, "the gateway takes no more sessions now", retry_after)
                .await;
            None
        }
    }
}

/// Drives a session and reads it, until it ends, or breaks off and is given up.
async fn live(hub: Hub, mut opened: Opened) {
    if AssertUnwindSafe(lived(&hub, &mut opened)).catch_unwind().await.is_err() {
        broke_off(&hub, &opened.vehicle, "session");
    }
    hub.closed(&opened);
}

async fn lived(hub: &Hub, opened: &mut Opened) {
    let driver = std::mem::replace(&mut opened.driver, Box::pin(std::future::ready(())));
    let mut connectivity = opened.link.connectivity();
    let reading = async {
        loop {
            tokio::select! {
                happening = opened.happenings.recv() => match happening {
                    Some(happening) => {
                        let last = matches!(happening, Happening::Ended(_));
                        hub.happened(opened, happening);
                        if last {
                            break;
                        }
                    }
                    None => break,
                },
                Ok(()) = connectivity.changed() => hub.observe(&opened.vehicle),
            }
        }
    };
    tokio::join!(driver, reading);
}

#[cfg(test)]
mod tests {

    use super::*;

    #[tokio::test]
    async fn a_session_that_panics_is_over_and_the_hub_knows() {
        let hub = Hub::for_test();
        let vehicle = "truck".parse().unwrap();
        let opened = Opened::driven_by(&hub, &vehicle, async { panic!("a broken invariant") });
        assert_eq!(hub.sessions_open(), 1);
        live(hub.clone(), opened).await;
        assert_eq!(hub.sessions_open(), 0, "another session of the vehicle may come");
        assert!(hub.metrics().text().contains(r#"stage="panic",reason="session"} 1"#));
    }
}
