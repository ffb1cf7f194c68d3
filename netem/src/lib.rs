//! A link emulator: one model of a cellular link, in virtual time for tests, in real time between sockets or namespaces.
//!
//! - [`core`] is the model, pure; it builds without the feature `shell`,
//! - [`profile`] names links: `lte-edge`, `tunnel` and others, or a TOML file,
//! - [`testbed`] puts kernels' own TCP and UDP on the model, between network namespaces,
//! - [`relay`] passes UDP and TCP through the model in user space, without privileges.

pub mod core;

#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod digest;
#[cfg(feature = "shell")]
pub mod drawing;
#[cfg(feature = "shell")]
pub mod json;
#[cfg(feature = "shell")]
pub mod lateness;
#[cfg(feature = "shell")]
mod orders;
#[cfg(feature = "shell")]
mod poller;
#[cfg(feature = "shell")]
pub mod profile;
#[cfg(feature = "shell")]
pub mod realtime;
#[cfg(feature = "shell")]
pub mod relay;
#[cfg(feature = "shell")]
pub mod testbed;
