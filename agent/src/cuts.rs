//! Measures on the real clock how soon a vehicle is in its safe state once its link is cut: a whole agent on its
//! session, over a connection in memory, with a vehicle that notes when it was told what.
//!
//! `cargo run --release -p carriageway-agent --example watchdog -- 1000 10 1` makes a thousand cuts, ten vehicles at a
//! time, beside one thread that never rests.

use std::time::Duration;

use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{
    Class, ControlFrame, ControlState, Controls, DrivePhase, DriveState, Epoch, Lease, Message, Moment,
    Rearm, SafeCause, SessionId, SignalPath, Stamp, Token, Value,
};
use carriageway_transport::clock::BootClock;
use carriageway_transport::link::{self, Happening, Happenings, Link};
use carriageway_transport::lobby;
use carriageway_transport::memory::{self, Scissors};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::agent::{Agent, Config};
use crate::core::vehicle::{Actuation, Applied, Drivable, Progress, Refusal, Target, Vehicle};
use crate::journal::{Journal, Loaded};

/// Time between two control states: 50 Hz, as a wheel and pedals send them.
const PERIOD: Duration = Duration::from_millis(20);

/// States sent under way before a cut.
const STATES: u32 = 5;

/// Whatever takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Something that has to happen did not.
    #[error("{0} within ten seconds; the machine is overloaded, or the agent is broken")]
    Overdue(&'static str),
    /// The session ended.
    #[error("the session ended while {0}")]
    Ended(&'static str),
}

/// Cuts the link of one vehicle `cuts` times while it is driven under the limits of `config`. For each cut, how
/// long after the last control that it followed the vehicle was told to halt.
pub async fn measure(config: Config, clock: BootClock, cuts: u32) -> Result<Vec<Duration>, CutError> {
    // One halt per cut is read before the next cut.
    let (noted, mut silences) = mpsc::channel(1);
    let vehicle = Noting { clock: clock.clone(), followed: None, noted };
    let (link, happenings, driver) = link::connect(link::Config::default(), clock.clone(), Epoch::NONE);
    let (agent, _handle) = Agent::new(
        config,
        clock.clone(),
        vehicle,
        (Journal::volatile(), Loaded::default()),
        (link.clone(), happenings),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    tasks.spawn(async { drop(agent.run(async { drop(stopped.await) }).await) });
    let mut measured = Vec::new();
    for number in 1..=u64::from(cuts) {
        let mut operator = Operator::greet(&link, &clock, number, &mut tasks).await?;
        operator.drive().await?;
        operator.scissors.cut();
        measured.push(in_time("no halt came", silences.recv()).await?.ok_or(CutError::Ended("halting"))?);
    }
    drop(stop);
    Ok(measured)
}

async fn in_time<T>(what: &'static str, future: impl Future<Output = T>) -> Result<T, CutError> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| CutError::Overdue(what))
}

/// A vehicle that notes how long it went without control before it was halted.
struct Noting {
    clock: BootClock,
    followed: Option<Moment>,
    noted: mpsc::Sender<Duration>,
}

impl Vehicle for Noting {
    fn observe(&mut self, _: Moment, _: &mut Vec<(SignalPath, Value)>) {}

    fn apply(&mut self, _: Moment, _: Actuation, _: &Target) -> Applied {
        let reason = carriageway_proto::Reason::Unsupported;
        Applied::Refused(Refusal::new(reason, "this vehicle only drives"))
    }

    fn stop(&mut self, _: Moment, _: Actuation) {}

    fn progress(&mut self, _: Moment) -> Option<Progress> {
        None
    }

    fn drivable(&mut self) -> Option<&mut dyn Drivable> {
        Some(self)
    }
}

impl Drivable for Noting {
    fn halt(&mut self, _: Moment, cause: SafeCause) {
        let halted = self.clock.now();
        if let (SafeCause::ControlLost, Some(followed)) = (cause, self.followed.take()) {
            // Nobody waits for it where the measurement was given up.
            let _ = self.noted.try_send(halted.since(followed));
        }
    }

    fn arm(&mut self, _: Moment) {}

    fn control(&mut self, _: Moment, controls: Controls) {
        // Without throttle it is neutral, or the soft limit's doing.
        if controls.throttle() > 0.0 {
            self.followed = Some(self.clock.now());
        }
    }
}

/// The gateway's end of one session, with the operator behind it.
struct Operator {
    gateway: Link,
    happenings: Happenings,
    scissors: Scissors,
    token: Token,
    counter: u32,
}

impl Operator {
    async fn greet(
        vehicle: &Link,
        clock: &BootClock,
        number: u64,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, CutError> {
        let (ours, theirs, scissors) = memory::pair(memory::INDEPENDENT);
        vehicle.open(Box::new(theirs), "next".into()).await;
        let greeted = lobby::greet(Box::new(ours), clock, PATIENCE).await;
        let greeted = greeted.map_err(|_| CutError::Ended("greeting"))?;
        let id = SessionId::from_bytes(u128::from(number).to_be_bytes());
        let config = link::Config::default();
        let (gateway, happenings, driver) =
            link::accept(config, clock.clone(), id, Epoch::new(number), greeted);
        tasks.spawn(driver);
        let token = Token::granted(number).ok_or(CutError::Ended("counting leases"))?;
        Ok(Self { gateway, happenings, scissors, token, counter: 0 })
    }

    /// Takes the lease, arms the vehicle and drives a little.
    async fn drive(&mut self) -> Result<(), CutError> {
        let token = self.token;
        let stamp = self.floor().await?;
        let lease = Lease { token, operator: "cuts".into(), stamp, ttl: Duration::from_secs(30) };
        self.send(&Message::Lease(lease))?;
        let safe = self.state(|state| state.token == Some(token) && state.nonce.is_some()).await?;
        let (stamp, nonce) = (self.floor().await?, safe.nonce.ok_or(CutError::Ended("re-arming"))?);
        self.send(&Message::Rearm(Rearm { token, nonce, stamp, ttl: Duration::from_secs(1) }))?;
        self.state(|state| state.phase == DrivePhase::Arming).await?;
        while self.told_within(PERIOD).await?.is_none_or(|state| state.phase != DrivePhase::Armed) {
            self.control(Controls::NEUTRAL).await?;
        }
        let going = Controls::new(0.0, 0.5, 0.0).expect("within range");
        for _ in 0..STATES {
            self.control(going).await?;
            tokio::time::sleep(PERIOD).await;
        }
        Ok(())
    }

    fn send(&self, message: &Message) -> Result<(), CutError> {
        let sent = self.gateway.send(Class::Drive, message.encode(), None);
        sent.map(drop).map_err(|_| CutError::Ended("sending"))
    }

    async fn control(&mut self, controls: Controls) -> Result<(), CutError> {
        self.counter += 1;
        let states = vec![ControlState::seal(ROAD_VEHICLE, self.token, self.counter, controls)];
        let stamp = self.floor().await?;
        self.gateway.control(ControlFrame { token: self.token, stamp, states });
        Ok(())
    }

    async fn floor(&mut self) -> Result<Stamp, CutError> {
        loop {
            if let Some(stamp) = self.gateway.peer_clock() {
                return Ok(stamp);
            }
            in_time("no word came", self.happenings.recv()).await?.ok_or(CutError::Ended("greeting"))?;
        }
    }

    async fn state(&mut self, fits: impl Fn(&DriveState) -> bool) -> Result<DriveState, CutError> {
        loop {
            let state = self.told_within(PATIENCE).await?.ok_or(CutError::Overdue("no drive state came"))?;
            if fits(&state) {
                return Ok(state);
            }
        }
    }

    async fn told_within(&mut self, time: Duration) -> Result<Option<DriveState>, CutError> {
        let told = async {
            loop {
                match self.happenings.recv().await {
                    Some(Happening::Message { payload, .. }) => {
                        if let Ok(Message::DriveState(state)) = Message::decode(payload) {
                            return Ok(state);
                        }
                    }
                    Some(Happening::Ended(_)) | None => return Err(CutError::Ended("driving")),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(time, told).await.ok().transpose()
    }
}
