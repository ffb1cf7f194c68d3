//! The connecting side, complete: a session and what keeps it connected.

use std::collections::BTreeMap;
use std::future::Future;

use carriageway_proto::{Epoch, Moment};
use tokio::task::{JoinError, JoinSet};

use crate::Connection;
use crate::clock::BootClock;
use crate::core::connection::Ended;
use crate::core::keeper::{self, Choice, Input, Keeper, Output};
use crate::dialer::Dial;
use crate::link::{self, Happenings, Link};

/// The knobs of a client.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The session.
    pub session: link::Config,
    /// When to dial what.
    pub keeper: keeper::Config,
}

type Dialed = (Choice, Result<Box<dyn Connection>, String>);

/// Starts a session and keeps it connected by `dial` until it is over. `highest` is the highest epoch
/// this peer has ever held, `seed` draws the jitter of its retries. The future does all the work and
/// says how it ended.
pub fn start(
    config: Config,
    clock: BootClock,
    dial: Box<dyn Dial>,
    highest: Epoch,
    seed: u64,
) -> (Link, Happenings, impl Future<Output = Ended> + Send) {
    let (link, happenings, driver) = link::connect(config.session, clock.clone(), highest);
    let keeper = Keeper::new(config.keeper, link.connectivity().borrow().clone(), seed);
    let keep =
        Keep { link: link.clone(), keeper, clock, dial, dialing: JoinSet::new(), connected: BTreeMap::new() };
    let work = async move {
        // The driver outlives the keeper by the goodbye.
        let (ended, ()) = tokio::join!(keep.run(), driver);
        ended
    };
    (link, happenings, work)
}

/// Carries out what the keeper decides.
struct Keep {
    link: Link,
    keeper: Keeper,
    clock: BootClock,
    dial: Box<dyn Dial>,
    dialing: JoinSet<Dialed>,
    connected: BTreeMap<Choice, Box<dyn Connection>>,
}

impl Keep {
    async fn run(mut self) -> Ended {
        let mut connectivity = self.link.connectivity();
        loop {
            let wait = match self.carry_out().await {
                Ok(wait) => wait,
                Err(ended) => return ended,
            };
            let clock = &self.clock;
            let timer = async {
                match wait {
                    Some(moment) => clock.sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = connectivity.changed() => {
                    let now_on = connectivity.borrow_and_update().clone();
                    self.keeper.handle(self.clock.now(), Input::Connectivity(now_on));
                }
                Some(dialed) = self.dialing.join_next() => self.dialed(dialed),
                () = timer => {}
            }
        }
    }

    /// Does what the keeper wants done now; when it next needs the time, or how it all ended.
    async fn carry_out(&mut self) -> Result<Option<Moment>, Ended> {
        loop {
            match self.keeper.poll(self.clock.now()) {
                Output::Dial(choice) => {
                    tracing::debug!(transport = choice.name(), "dialing");
                    let dialing = self.dial.dial(choice);
                    self.dialing.spawn(async move { (choice, dialing.await) });
                }
                Output::Adopt(choice, why) => {
                    if let Some(connection) = self.connected.remove(&choice) {
                        tracing::info!(transport = choice.name(), why, "connected");
                        self.link.open(connection, why).await;
                    }
                }
                Output::Discard(choice) => drop(self.connected.remove(&choice)),
                Output::Wait(until) => return Ok(until),
                Output::Stop(ended) => return Err(ended),
            }
        }
    }

    fn dialed(&mut self, dialed: Result<Dialed, JoinError>) {
        let now = self.clock.now();
        match dialed {
            Ok((choice, Ok(connection))) => {
                self.connected.insert(choice, connection);
                self.keeper.handle(now, Input::Connected(choice));
            }
            Ok((choice, Err(why))) => {
                tracing::info!(transport = choice.name(), why, "could not connect");
                self.keeper.handle(now, Input::Failed(choice, why));
            }
            // Nobody cancels a dial but the end of the set it is in.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
