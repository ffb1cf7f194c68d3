//! The Carriageway session and the connections under it.
//!
//! [`core`] holds the session as a pure state machine. Around it, behind the feature `shell`:
//! connections over QUIC, WebSocket and memory, which all answer to [`Connection`]; the driver that
//! moves values between a session and its connections; the dialer and the listeners.
//!
//! A session between two sides of one process, over a connection in memory:
//!
//! ```
//! use carriageway_proto::{Class, Epoch, SessionId, SignalPath, Value};
//! use carriageway_transport::clock::BootClock;
//! use carriageway_transport::link::{self, Config, Happening};
//! use carriageway_transport::{lobby, memory};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = BootClock::system()?;
//! let mut tasks = tokio::task::JoinSet::new();
//! let (here, there, _scissors) = memory::pair(memory::INDEPENDENT);
//!
//! // The connecting side: a vehicle.
//! let (vehicle, _told, driver) = link::connect(Config::default(), clock.clone(), Epoch::NONE);
//! tasks.spawn(driver);
//! vehicle.open(Box::new(here), "first choice".into()).await;
//!
//! // The accepting side: a gateway, once it has read the hello.
//! let greeted = lobby::greet(Box::new(there), &clock, std::time::Duration::from_secs(5)).await?;
//! let id = SessionId::from_bytes([7; 16]);
//! let (_gateway, mut told, driver) = link::accept(Config::default(), clock, id, Epoch::new(1), greeted);
//! tasks.spawn(driver);
//!
//! let speed: SignalPath = "Vehicle.Speed".parse()?;
//! vehicle.signals([(speed, Value::Float(13.9))]);
//! vehicle.send(Class::Diagnostics, "a message".into(), None)?;
//! loop {
//!     match told.recv().await {
//!         Some(Happening::Message { class, payload }) => {
//!             assert_eq!((class, &payload[..]), (Class::Diagnostics, &b"a message"[..]));
//!             break;
//!         }
//!         Some(_) => {}
//!         None => panic!("the session ended"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod core;

#[cfg(feature = "shell")]
pub mod arrival;
#[cfg(feature = "shell")]
pub mod client;
#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod connection;
#[cfg(feature = "shell")]
pub mod daemon;
#[cfg(feature = "shell")]
pub mod dialer;
#[cfg(feature = "shell")]
mod driver;
#[cfg(feature = "shell")]
pub mod identity;
#[cfg(feature = "shell")]
pub mod link;
#[cfg(feature = "shell")]
pub mod lobby;
#[cfg(feature = "shell")]
pub mod memory;
#[cfg(feature = "shell")]
pub mod quic;
#[cfg(feature = "shell")]
pub mod settings;
#[cfg(feature = "shell")]
pub mod tls;
#[cfg(feature = "shell")]
pub mod websocket;

#[cfg(feature = "shell")]
pub use connection::Connection;
#[cfg(feature = "shell")]
pub use link::Link;
