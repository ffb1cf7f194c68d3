//! The vehicles: the real agent around the simulated vehicle, which says when it was told what.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use carriageway_agent::agent::{self, Agent, Handle};
use carriageway_agent::core::drive::{Asked, Limits};
use carriageway_agent::core::sim::{Simulated, road::Road};
use carriageway_agent::core::vehicle::{Actuation, Applied, Drivable, Progress, Target, Vehicle};
use carriageway_agent::journal::{Journal, Loaded};
use carriageway_proto::{Class, Controls, Epoch, Moment, SafeCause, SignalPath, Value};
use carriageway_transport::client;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::keeper::{self, Allowed};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::PERIOD;
use crate::local::network;

/// Numbers that control can carry: each is a steering angle that a float holds exactly. At 50 Hz they last for
/// five hours and a half.
pub(super) const NUMBERS: u32 = 1 << 20;

/// Frames whose moment is kept: what is half a minute old was lost or refused long ago.
const KEPT: usize = 2_048;

/// Stops that may wait to be read: one ends a cut.
const NOTES: usize = 64;

/// When each numbered frame was taken, for as long as it could come in.
pub(super) struct Taken(Vec<AtomicU64>);

impl Taken {
    fn new() -> Self {
        Self((0..KEPT).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, number: u32) -> &AtomicU64 {
        &self.0[number as usize % KEPT]
    }

    /// Notes that frame `number` is taken at `now`, and gives the steering that says so.
    pub(super) fn note(&self, number: u32, now: Moment) -> f32 {
        self.place(number).store(now.as_micros(), Ordering::Relaxed);
        number as f32 / NUMBERS as f32
    }

    fn age(&self, number: u32, now: Moment) -> Duration {
        now.since(Moment::from_micros(self.place(number).load(Ordering::Relaxed)))
    }
}

/// The number that `controls` carry; 0 for none.
fn number(controls: Controls) -> u32 {
    (controls.steering() * NUMBERS as f32) as u32
}

/// The vehicle was told to halt while it followed control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halted {
    /// Why.
    pub(super) cause: SafeCause,
    /// When it was done, by the vehicle's clock.
    pub(super) at: Moment,
    /// When it was last told to follow numbered control.
    pub(super) followed: Moment,
}

/// What a vehicle tells those who measure.
pub(super) struct Told {
    /// When it was last told to follow numbered control, in microseconds of the boot clock.
    followed: AtomicU64,
    /// Age of each numbered frame that it followed, in milliseconds, from the operator's hand to its actuators.
    ages: Mutex<Vec<f64>>,
}

impl Told {
    pub(super) fn followed(&self) -> Moment {
        Moment::from_micros(self.followed.load(Ordering::Relaxed))
    }

    pub(super) fn ages(&self) -> Vec<f64> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The simulated vehicle, with somebody who looks on.
struct Watched {
    vehicle: Simulated,
    clock: BootClock,
    taken: Arc<Taken>,
    told: Arc<Told>,
    halts: mpsc::Sender<Halted>,
    /// The newest numbered frame that it follows, and since when.
    follows: Option<(u32, Moment)>,
}

impl Vehicle for Watched {
    fn observe(&mut self, now: Moment, changed: &mut Vec<(SignalPath, Value)>) {
        self.vehicle.observe(now, changed);
    }

    fn apply(&mut self, now: Moment, actuation: Actuation, target: &Target) -> Applied {
        self.vehicle.apply(now, actuation, target)
    }

    fn class_of(&self, path: &SignalPath) -> Option<Class> {
        self.vehicle.class_of(path)
    }

    fn stop(&mut self, now: Moment, actuation: Actuation) {
        self.vehicle.stop(now, actuation);
    }

    fn progress(&mut self, now: Moment) -> Option<Progress> {
        self.vehicle.progress(now)
    }

    fn drivable(&mut self) -> Option<&mut dyn Drivable> {
        Some(self)
    }
}

impl Watched {
    fn driven(&mut self) -> &mut dyn Drivable {
        self.vehicle.drivable().expect("the simulated vehicle can be driven")
    }
}

impl Drivable for Watched {
    fn halt(&mut self, now: Moment, cause: SafeCause) {
        self.driven().halt(now, cause);
        let at = self.clock.now();
        if let Some((_, followed)) = self.follows.take() {
            // Nobody waits for it where the measurement was given up.
            let _unread = self.halts.try_send(Halted { cause, at, followed });
        }
    }

    fn arm(&mut self, now: Moment) {
        self.driven().arm(now);
    }

    fn control(&mut self, now: Moment, controls: Controls) {
        self.driven().control(now, controls);
        let number = number(controls);
        // The soft limit repeats the last frame's steering: that is no new frame.
        if number == 0 || self.follows.is_some_and(|(last, _)| last == number) {
            return;
        }
        self.follows = Some((number, now));
        self.told.followed.store(now.as_micros(), Ordering::Relaxed);
        let age = self.taken.age(number, self.clock.now()).as_secs_f64() * 1_000.0;
        self.told.ages.lock().unwrap_or_else(PoisonError::into_inner).push(age);
    }
}

/// A vehicle whose agent runs.
pub(super) struct Running {
    pub(super) taken: Arc<Taken>,
    pub(super) told: Arc<Told>,
    pub(super) halts: mpsc::Receiver<Halted>,
    pub(super) handle: Handle,
}

/// How to start vehicles.
pub(super) struct Vehicles<'a> {
    pub(super) folder: &'a Path,
    pub(super) clock: &'a BootClock,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Vehicles<'_> {
    /// Starts vehicle `number`, which finds its gateway at `udp` of loopback, among `agents`.
    pub(super) fn start(&self, number: u16, udp: u16, agents: &mut JoinSet<()>) -> Result<Running> {
        let clock = self.clock.clone();
        // It only uses QUIC: there is no way for TCP.
        let network = network(self.folder, number, udp, udp, self.clock)?;
        let keeper = keeper::Config { allowed: Allowed::QuicOnly, ..keeper::Config::default() };
        let config = client::Config { keeper, ..client::Config::default() };
        let seed = u64::from(number);
        let (link, happenings, session) =
            client::start(config, clock.clone(), Box::new(network), Epoch::NONE, seed);
        let (told, taken) =
            (Arc::new(Told { followed: AtomicU64::new(0), ages: Mutex::default() }), Arc::new(Taken::new()));
        let (noting, halts) = mpsc::channel(NOTES);
        let vehicle = Watched {
            vehicle: Simulated::new(Arc::new(Road::tiergarten()), seed, clock.now()),
            clock: clock.clone(),
            taken: Arc::clone(&taken),
            told: Arc::clone(&told),
            halts: noting,
            follows: None,
        };
        let journal = (Journal::volatile(), Loaded::default());
        let (agent, handle) = Agent::new(agent_config(), clock, vehicle, journal, (link, happenings));
        let mut stopped = self.stopped.clone();
        agents.spawn(async move {
            let told = async move {
                // An error means that nobody is left who could say it: as good as said.
                let _said = stopped.wait_for(|stop| *stop).await;
            };
            tokio::join!(agent.run(told), session);
        });
        Ok(Running { taken, told, halts, handle })
    }
}

/// The defaults, with the send period that the operators here keep.
pub(super) fn agent_config() -> agent::Config {
    let drive = Limits::checked(Asked { send_period: PERIOD, ..Asked::default() });
    agent::Config { drive: drive.expect("the watchdog is fed"), ..agent::Config::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_its_number_and_tells_its_age() {
        let taken = Taken::new();
        for sent in [1, 2, 12_345, NUMBERS - 1] {
            let steering = taken.note(sent, Moment::from_micros(5_000));
            let controls = Controls::new(steering, 0.3, 0.0).unwrap();
            assert_eq!(number(controls), sent);
            assert_eq!(taken.age(sent, Moment::from_micros(7_000)), Duration::from_millis(2));
        }
        assert_eq!(number(Controls::NEUTRAL), 0);
    }
}
