//! A gateway's end of one session, and an agent on the other.

use std::sync::Arc;
use std::time::Duration;

use carriageway_agent::agent::{Agent, Config, End, Handle};
use carriageway_agent::core::sim::{Simulated, road::Road};
use carriageway_agent::journal::{Journal, Loaded};
use carriageway_proto::{
    BootId, Class, Command, Epoch, Message, Moment, Outcome, Phase, SessionId, Stamp, Value,
};
use carriageway_transport::clock::BootClock;
use carriageway_transport::link::{self, Happening, Happenings, Link};
use carriageway_transport::lobby;
use carriageway_transport::memory::{self, Scissors};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A test that waits longer has hung.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";

pub(crate) fn clock() -> BootClock {
    BootClock::following_tokio(BootId::from_bytes([3; 16]), Moment::from_micros(500_000_000))
}

/// An agent of a simulated vehicle, and the gateway's end of its session.
pub(crate) struct World {
    pub(crate) clock: BootClock,
    pub(crate) handle: Handle,
    vehicle: Link,
    gateway: Link,
    happenings: Happenings,
    scissors: Scissors,
    stop: Option<oneshot::Sender<()>>,
    agent: JoinSet<End>,
    tasks: JoinSet<()>,
    epoch: u64,
}

impl World {
    /// An agent with nothing on its journal.
    pub(crate) async fn new() -> Self {
        Self::with(clock(), (Journal::volatile(), Loaded::default())).await
    }

    pub(crate) async fn with(clock: BootClock, journal: (Journal, Loaded)) -> Self {
        let mut tasks = JoinSet::new();
        let (vehicle, theirs, driver) =
            link::connect(link::Config::default(), clock.clone(), journal.1.epoch);
        tasks.spawn(driver);
        let epoch = journal.1.epoch.number() + 1;
        let simulated = Simulated::new(Arc::new(Road::tiergarten()), 1, clock.now());
        let config = Config::default();
        let (running, handle) =
            Agent::new(config, clock.clone(), simulated, journal, (vehicle.clone(), theirs));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut agent = JoinSet::new();
        agent.spawn(running.run(async { drop(stopped.await) }));
        let (gateway, happenings, scissors) = accept(&clock, &vehicle, epoch, &mut tasks).await;
        Self { clock, handle, vehicle, gateway, happenings, scissors, stop: Some(stop), agent, tasks, epoch }
    }

    /// No connection, until the next session.
    pub(crate) fn cut(&self) {
        self.scissors.cut();
    }

    /// The gateway forgets everything, as after a crash, and the vehicle comes back to a new session.
    pub(crate) async fn new_session(&mut self) {
        self.scissors.cut();
        self.epoch += 1;
        let accepted = accept(&self.clock, &self.vehicle, self.epoch, &mut self.tasks).await;
        (self.gateway, self.happenings, self.scissors) = accepted;
    }

    /// A command for the driver's window, stamped as a gateway does.
    pub(crate) async fn window(&mut self, key: &str, position: i64) -> Command {
        Command {
            key: key.parse().unwrap(),
            class: Class::Body,
            path: WINDOW.parse().unwrap(),
            value: Value::Int(position),
            stamp: self.floor().await,
            ttl: Duration::from_secs(5),
            operator: "ada".into(),
            token: None,
            order: 0,
        }
    }

    pub(crate) async fn floor(&mut self) -> Stamp {
        loop {
            if let Some(stamp) = self.gateway.peer_clock() {
                return stamp;
            }
            self.next().await;
        }
    }

    pub(crate) fn send(&self, command: &Command) {
        self.gateway.send(command.class, Message::Command(command.clone()).encode(), None).unwrap();
    }

    /// The next thing that happens at the gateway's end.
    pub(crate) async fn next(&mut self) -> Happening {
        let next = tokio::time::timeout(PATIENCE, self.happenings.recv()).await;
        next.expect("something happens in time").expect("the session lives")
    }

    /// The next outcome, on which lane it came.
    pub(crate) async fn outcome(&mut self) -> (Class, Outcome) {
        loop {
            if let Happening::Message { class, payload } = self.next().await
                && let Ok(Message::Outcome(outcome)) = Message::decode(payload)
            {
                return (class, outcome);
            }
        }
    }

    /// Waits for the end of a command.
    pub(crate) async fn end_of(&mut self, key: &str) -> Phase {
        loop {
            let (ended, phase) = self.end_of_any().await;
            if ended == key {
                return phase;
            }
        }
    }

    /// Waits for the end of any command.
    pub(crate) async fn end_of_any(&mut self) -> (String, Phase) {
        loop {
            let (_, outcome) = self.outcome().await;
            if outcome.phase.is_terminal() {
                return (outcome.key.to_string(), outcome.phase);
            }
        }
    }

    /// Waits for a signal that fits.
    pub(crate) async fn signal(&mut self, path: &str, fits: impl Fn(&Value) -> bool) {
        loop {
            if let Happening::Signals(updates) = self.next().await
                && updates.iter().any(|update| update.path.as_str() == path && fits(&update.value))
            {
                return;
            }
        }
    }

    /// Tells the agent to stop.
    pub(crate) fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn ended(&mut self) -> End {
        let ended = tokio::time::timeout(PATIENCE, self.agent.join_next()).await;
        ended.expect("the agent ends in time").expect("there is one").expect("it does not panic")
    }

    pub(crate) fn gateway(&self) -> &Link {
        &self.gateway
    }
}

async fn accept(
    clock: &BootClock,
    vehicle: &Link,
    epoch: u64,
    tasks: &mut JoinSet<()>,
) -> (Link, Happenings, Scissors) {
    let (ours, theirs, scissors) = memory::pair(memory::INDEPENDENT);
    vehicle.open(Box::new(theirs), "test".into()).await;
    let greeted = lobby::greet(Box::new(ours), clock, PATIENCE).await.expect("the vehicle says hello");
    let id = SessionId::from_bytes([epoch as u8; 16]);
    let config = link::Config::default();
    let (gateway, happenings, driver) = link::accept(config, clock.clone(), id, Epoch::new(epoch), greeted);
    tasks.spawn(driver);
    (gateway, happenings, scissors)
}
