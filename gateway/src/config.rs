//! The gateway's configuration: a TOML file, then environment variables, then flags; every value has a
//! default, and a key that nobody knows is refused with its file and line.

mod check;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use carriageway_proto::{Class, Policy, PolicyTable};
use carriageway_transport::settings::{self, SettingsError};
use serde::{Deserialize, Serialize};

pub use carriageway_transport::daemon::{Log, LogFormat};
pub use carriageway_transport::quic::Congestion;
pub use check::Problem;

/// Environment variables begin with this: `CARRIAGEWAY_GATEWAY__LISTEN__TCP` sets `listen.tcp`.
pub const ENV_PREFIX: &str = "CARRIAGEWAY_GATEWAY";

/// Everything that can be configured. Paths are relative to the working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The gateway's identity, and whose vehicles it accepts.
    pub tls: Tls,
    /// Whose tokens it accepts.
    pub auth: Auth,
    /// What it holds at most.
    pub limits: Limits,
    /// How fast operators may command.
    pub commands: Commands,
    /// What outlives the gateway's process.
    pub store: Store,
    /// How it stops.
    pub drain: Drain,
    /// Leases to drive.
    pub lease: Lease,
    /// Changes to the policy of single classes, by the class's name.
    pub classes: BTreeMap<String, ClassOverride>,
    /// QUIC connections.
    pub quic: Quic,
    /// What it logs.
    pub log: Log,
    /// The file that was loaded, for the places in what [`check`](Config::check) finds.
    #[serde(skip)]
    file: Option<PathBuf>,
}

/// Where the gateway listens. Port 0 takes a free one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// QUIC, one socket for each address. For IPv6 add `[::]:4433`; a socket serves one family only.
    pub udp: Vec<SocketAddr>,
    /// HTTPS: API, page, WebSocket.
    pub tcp: SocketAddr,
    /// Plain HTTP for health and metrics, without authentication: never to be reached from outside.
    pub internal: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let public = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4433));
        Self { udp: vec![public], tcp: public, internal: (Ipv4Addr::LOCALHOST, 9464).into() }
    }
}

/// Files in PEM, where `certs init` puts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The server's certificate chain, its own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose vehicles are accepted.
    pub ca: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self { cert: "certs/server.pem".into(), key: "certs/server.key".into(), ca: "certs/ca.pem".into() }
    }
}

/// Whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The public key that verifies tokens, in PEM: ECDSA P-256 (ES256) or Ed25519 (EdDSA).
    pub public_key: PathBuf,
    /// What a token's `aud` must hold.
    pub audience: String,
    /// What its `iss` must be, where set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { public_key: "certs/operator.pub".into(), audience: "carriageway".into(), issuer: None }
    }
}

/// What the gateway holds at most; beyond it, it refuses the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Vehicles with a session.
    pub vehicles: u32,
    /// Open TCP connections, vehicles on WebSocket among them.
    pub tcp_connections: u32,
    /// Bytes of a request's body.
    pub body_bytes: u32,
    /// Commands remembered with their outcome.
    pub command_records: u32,
    /// Open event streams.
    pub event_streams: u32,
    /// Events kept for streams that come back.
    pub event_backlog: u32,
    /// QUIC handshakes under way.
    pub pending_handshakes: u32,
    /// Milliseconds that a TLS handshake, or the hello after it, may take.
    pub handshake_ms: u32,
    /// Milliseconds that a request's head and body may take to arrive.
    pub request_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vehicles: 10_000,
            // Every vehicle may come by WebSocket at once where UDP is blocked, and must find a place.
            tcp_connections: 16_384,
            body_bytes: 64 * 1024,
            command_records: 100_000,
            event_streams: 256,
            event_backlog: 4_096,
            pending_handshakes: 2_048,
            handshake_ms: 5_000,
            request_ms: 10_000,
        }
    }
}

impl Limits {
    /// [`handshake_ms`](Self::handshake_ms) as a duration.
    pub fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms.into())
    }

    /// [`request_ms`](Self::request_ms) as a duration.
    pub fn request(&self) -> Duration {
        Duration::from_millis(self.request_ms.into())
    }
}

/// How fast operators may command, all classes but safety together; takes of leases and changes of desired state
/// count, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// Commands per second of one operator over time.
    pub operator_rate: u32,
    /// Commands of one operator at once after a pause.
    pub operator_burst: u32,
}

impl Default for Commands {
    fn default() -> Self {
        Self { operator_rate: 100, operator_burst: 1_000 }
    }
}

/// What outlives the gateway's process: command records, desired states, lease tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The file, which no two gateways may share. It and its directory are made where they are missing.
    pub path: PathBuf,
    /// Bytes that the file may have; what exceeds them is refused as by a full disk.
    pub max_bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        // Two hundred thousand records of a few KiB each.
        Self { path: "state/gateway.db".into(), max_bytes: 1 << 30 }
    }
}

/// How the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// Milliseconds from the signal to the end, whatever is still open. At least 2000: the goodbyes take 1500.
    pub deadline_ms: u32,
    /// Milliseconds after which vehicles are told to come back.
    pub retry_after_ms: u32,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline_ms: 10_000, retry_after_ms: 1_000 }
    }
}

impl Drain {
    /// [`deadline_ms`](Self::deadline_ms) as a duration.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }

    /// [`retry_after_ms`](Self::retry_after_ms) as a duration.
    pub fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms.into())
    }
}

/// Leases to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lease {
    /// Milliseconds that a lease lives after its grant or renewal, 1000 to 10000. Its holder renews it four times as
    /// often.
    pub ttl_ms: u32,
}

impl Default for Lease {
    fn default() -> Self {
        Self { ttl_ms: 2_000 }
    }
}

impl Lease {
    /// [`ttl_ms`](Self::ttl_ms) as a duration.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms.into())
    }
}

/// What is different for one class; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassOverride {
    /// Order among lanes: higher goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Milliseconds that a command lives if it names no ttl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u32>,
    /// Milliseconds from one command to the next of the same target: what comes between is held, and the
    /// newest of it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_window_ms: Option<u32>,
    /// Executions per second over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Executions at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Commands under way to one vehicle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Frames waiting in one lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_frames: Option<u32>,
    /// Bytes waiting in one lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u32>,
    /// Whether commands may wait for a vehicle that is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_offline: Option<bool>,
}

impl ClassOverride {
    /// The policy with these changes.
    fn onto(self, policy: Policy) -> Policy {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Policy {
            priority: self.priority.unwrap_or(policy.priority),
            ttl: self.ttl_ms.map(millis).or(policy.ttl),
            duplicate_window: self.duplicate_window_ms.map_or(policy.duplicate_window, millis),
            rate_per_second: self.rate_per_second.or(policy.rate_per_second),
            burst: self.burst.unwrap_or(policy.burst),
            in_flight: self.in_flight.unwrap_or(policy.in_flight),
            queue_frames: self.queue_frames.unwrap_or(policy.queue_frames),
            queue_bytes: self.queue_bytes.unwrap_or(policy.queue_bytes),
            queue_offline: self.queue_offline.unwrap_or(policy.queue_offline),
        }
    }

    /// How this policy would be written down, whole.
    fn of(policy: &Policy) -> Self {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            priority: Some(policy.priority),
            ttl_ms: policy.ttl.map(millis),
            duplicate_window_ms: Some(millis(policy.duplicate_window)),
            rate_per_second: policy.rate_per_second,
            burst: Some(policy.burst),
            in_flight: Some(policy.in_flight),
            queue_frames: Some(policy.queue_frames),
            queue_bytes: Some(policy.queue_bytes),
            queue_offline: Some(policy.queue_offline),
        }
    }
}

/// QUIC connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quic {
    /// Who decides how fast this side may send.
    pub congestion: Congestion,
    /// A file with 32 bytes in hexadecimal, kept across restarts so that vehicles notice a restart at
    /// once. Without it they notice at the idle timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
}

impl Default for Quic {
    fn default() -> Self {
        Self { congestion: Congestion::default(), secret: Some("certs/quic.secret".into()) }
    }
}

impl Config {
    /// Reads the file, if any, then the environment, then `overrides` (`("listen.tcp", "127.0.0.1:0")`);
    /// later ones win. Says nothing about whether the values make sense: see [`check`](Self::check).
    pub fn load(file: Option<&Path>, overrides: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let config: Self = settings::load(file, ENV_PREFIX, overrides)?;
        Ok(Self { file: file.map(Path::to_owned), ..config })
    }

    /// The policy of every class: the defaults with this configuration's changes. Changes to classes
    /// that do not exist are left out; [`check`](Self::check) reports them.
    pub fn policies(&self) -> PolicyTable {
        let mut table = PolicyTable::defaults();
        for (class, policy) in table.iter_mut() {
            let change = self.classes.get(class.name()).copied().unwrap_or_default();
            *policy = change.onto(*policy);
        }
        table
    }

    /// The same configuration with every value in force written out, the classes' defaults included.
    #[must_use]
    pub fn effective(&self) -> Self {
        let policies = self.policies();
        let written = |class: Class| (class.name().to_owned(), ClassOverride::of(&policies[class]));
        Self { classes: Class::ALL.map(written).into(), ..self.clone() }
    }
}

/// Of these variables' names, those that look like settings but are not read: one underscore of
/// [`ENV_PREFIX`]'s two is missing.
pub fn unread(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let looks_alike = |name: &String| {
        let rest = name.strip_prefix(ENV_PREFIX).and_then(|rest| rest.strip_prefix('_'));
        rest.is_some_and(|rest| !rest.starts_with('_'))
    };
    names.into_iter().filter(looks_alike).collect()
}

#[cfg(test)]
mod tests;
