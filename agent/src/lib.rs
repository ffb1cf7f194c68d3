//! The vehicle side of Carriageway: what runs in the vehicle, watches it and carries out commands.
//!
//! A vehicle's software implements [`Vehicle`]: which values it has to tell, how it brings about a target
//! state, and how it enters its safe state. [`Agent`] does the rest: it keeps the session with the gateway,
//! judges each command's age by the vehicle's own clock, journals it before it acts, and answers with a
//! truthful outcome; and it brings about what is desired of the vehicle as a lasting state. [`core::sim`] holds a vehicle that needs no hardware.
//!
//! # Implementing a vehicle
//!
//! ```
//! use carriageway_agent::core::vehicle::{Actuation, Applied, Progress, Refusal, Target, Vehicle};
//! use carriageway_proto::{Class, Moment, Reason, SignalPath, Value};
//!
//! /// A trailer with one light.
//! #[derive(Default)]
//! struct Trailer {
//!     light: bool,
//!     told: Option<bool>,
//!     stopped: Vec<Actuation>,
//! }
//!
//! const LIGHT: &str = "Vehicle.Trailer.Light.IsOn";
//!
//! impl Vehicle for Trailer {
//!     fn observe(&mut self, _now: Moment, changed: &mut Vec<(SignalPath, Value)>) {
//!         if self.told != Some(self.light) {
//!             self.told = Some(self.light);
//!             changed.push((LIGHT.parse().expect("a VSS path"), Value::Bool(self.light)));
//!         }
//!     }
//!
//!     fn apply(&mut self, _now: Moment, _actuation: Actuation, target: &Target) -> Applied {
//!         match (target.class, target.path.as_str(), &target.value) {
//!             (Class::Body, LIGHT, Value::Bool(on)) => {
//!                 self.light = *on;
//!                 Applied::Done
//!             }
//!             _ => Applied::Refused(Refusal::new(Reason::Unsupported, "this trailer has one light")),
//!         }
//!     }
//!
//!     fn stop(&mut self, _now: Moment, actuation: Actuation) {
//!         self.stopped.push(actuation); // it cannot move by itself: it stands
//!     }
//!
//!     fn progress(&mut self, _now: Moment) -> Option<Progress> {
//!         self.stopped.pop().map(|actuation| Progress { actuation, result: Ok(()) })
//!     }
//! }
//!
//! let mut trailer = Trailer::default();
//! let target = Target { class: Class::Body, path: LIGHT.parse()?, value: Value::Bool(true) };
//! assert_eq!(trailer.apply(Moment::ZERO, Actuation(1), &target), Applied::Done);
//! # Ok::<(), carriageway_proto::value::BadPath>(())
//! ```
//!
//! # Running its agent
//!
//! ```no_run
//! # use carriageway_agent::core::sim::{Simulated as Trailer, road::Road};
//! use carriageway_agent::agent::{Agent, Config};
//! use carriageway_agent::journal::{Keeper, Sqlite};
//! use carriageway_transport::{client, clock::BootClock, dialer::Network};
//!
//! # async fn example(network: Network) -> Result<(), Box<dyn std::error::Error>> {
//! let clock = BootClock::system()?;
//! let keeper = Keeper::start(Sqlite::open("/var/lib/trailer/journal.db".as_ref())?)?;
//! let journal = keeper.open("trailer-1".parse()?).await?;
//! let epoch = journal.1.epoch;
//! // `network` says where the gateway is and holds the vehicle's certificate; the seed spreads retries.
//! let (link, happenings, session) =
//!     client::start(client::Config::default(), clock.clone(), Box::new(network), epoch, 7);
//! # let trailer = Trailer::new(std::sync::Arc::new(Road::tiergarten()), 1, clock.now());
//! # #[cfg(any())]
//! let trailer = Trailer::default();
//! let (agent, handle) = Agent::new(Config::default(), clock, trailer, journal, (link, happenings));
//! // Both run until the signal to stop, and a little longer: for what is under way, and for the goodbye.
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! let (end, _) = tokio::join!(agent.run(stop), session);
//! println!("{end:?}, {:?}", handle.status());
//! # Ok(())
//! # }
//! ```
//!
//! `handle` also uploads files, behind everything else: [`Handle::upload`].
//!
//! # What must be kept
//!
//! The journal's file, for as long as any command in it could still be alive: it is what keeps a command from
//! being executed twice, and a version of the desired state from being brought about twice. It also holds an
//! emergency stop: once stopped, the vehicle is stopped again at every start of its agent until somebody re-arms it
//! under a lease, and the highest lease token, so that no older holder comes back.
//! [`Journal::volatile`] keeps nothing and is for simulations.
//!
//! # The clock
//!
//! Every age is judged by the host's boot clock. Where that goes backwards, which it never should, nobody can tell an age any
//! more: the vehicle stops if it is driven, and the agent ends with [`End::ClockWentBack`]. A new agent, on
//! the same journal, can tell ages again; the daemon ends with an error, for its supervisor to start it anew.
//!
//! # Driving from afar
//!
//! A vehicle that can be driven implements [`Drivable`] and returns itself from
//! [`Vehicle::drivable`]. [`core::drive`] judges control, keeps the watchdog and the latched safe state.
//!
//! # The feature `shell`
//!
//! `agent`, `daemon`, `journal` and `upload` come with it; it is on by default. Without it only [`core`] is there,
//! which has no I/O.
//!
// What is not there cannot be linked to: those links then lead to the paragraph that says so.
#![cfg_attr(
    feature = "shell",
    doc = "[`Handle::upload`]: agent::Handle::upload
[`Journal::volatile`]: journal::Journal::volatile
[`End::ClockWentBack`]: agent::End::ClockWentBack"
)]
#![cfg_attr(
    not(feature = "shell"),
    doc = "[`Agent`]: #the-feature-shell
[`Handle::upload`]: #the-feature-shell
[`Journal::volatile`]: #the-feature-shell
[`End::ClockWentBack`]: #the-feature-shell"
)]

pub mod core;

#[cfg(feature = "shell")]
pub mod agent;
#[cfg(feature = "shell")]
pub mod daemon;
#[cfg(feature = "shell")]
pub mod journal;
#[cfg(feature = "shell")]
mod state;
#[cfg(feature = "shell")]
pub mod upload;

pub use crate::core::vehicle::{Drivable, Vehicle};
#[cfg(feature = "shell")]
pub use agent::Agent;
