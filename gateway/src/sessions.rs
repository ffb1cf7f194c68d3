//! The tasks that vehicles' connections and sessions live in.
//!
//! One supervisor owns them all: a connection has a task until its hello is read, a session one for
//! its life, which drives it and reads what it says.

use std::time::Duration;

use carriageway_transport::Connection;
use carriageway_transport::identity::Identity;
use carriageway_transport::link::Happening;
use carriageway_transport::lobby::{self, NotGreeted};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::hub::{Entry, Hub, Opened};

/// Most connections that may wait for the supervisor.
const MAX_WAITING: usize = 256;

/// A connection whose peer has proven who it is.
pub struct Arrived {
    /// The connection.
    pub connection: Box<dyn Connection>,
    /// Whose.
    pub identity: Identity,
}

/// Where listeners put what arrives.
pub type Arrivals = mpsc::Sender<Arrived>;

/// How many and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once that have not said hello; further ones wait at the listener.
    pub greeting: usize,
    /// Time for a hello.
    pub hello: Duration,
}

/// The supervisor: a sender for arrivals, and the future that serves them until every sender is gone
/// and every session has ended.
pub fn supervise(hub: Hub, limits: Limits) -> (Arrivals, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (sender, run(hub, limits, receiver))
}

async fn run(hub: Hub, limits: Limits, mut arrivals: mpsc::Receiver<Arrived>) {
    let mut greetings: JoinSet<Option<Box<Opened>>> = JoinSet::new();
    let mut sessions: JoinSet<()> = JoinSet::new();
    let mut open = true;
    while open || !greetings.is_empty() || !sessions.is_empty() {
        tokio::select! {
            arrived = arrivals.recv(), if open && greetings.len() < limits.greeting => match arrived {
                Some(arrived) => {
                    greetings.spawn(greet(hub.clone(), limits.hello, arrived));
                }
                None => open = false,
            },
            Some(greeted) = greetings.join_next() => {
                if let Some(opened) = survived(greeted).flatten() {
                    sessions.spawn(live(hub.clone(), *opened));
                }
            }
            Some(ended) = sessions.join_next() => {
                survived(ended);
            }
        }
    }
}

/// A task that panicked has broken an invariant of ours; the panic was logged, the others go on.
fn survived<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    ended.inspect_err(|error| tracing::error!(%error, "a task broke off")).ok()
}

async fn greet(hub: Hub, patience: Duration, arrived: Arrived) -> Option<Box<Opened>> {
    let Identity::Vehicle(vehicle) = arrived.identity;
    let greeted = match lobby::greet(arrived.connection, hub.clock(), patience).await {
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
    match hub.admit(&vehicle, greeted) {
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

/// Drives a session and reads it, until it ends.
async fn live(hub: Hub, mut opened: Opened) {
    let driver = std::mem::replace(&mut opened.driver, Box::pin(std::future::ready(())));
    let mut connectivity = opened.link.connectivity();
    let reading = async {
        loop {
            tokio::select! {
                happening = opened.happenings.recv() => match happening {
                    Some(happening) => {
                        let last = matches!(happening, Happening::Ended(_));
                        hub.happened(&opened, happening);
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
    hub.closed(&opened);
}
