//! The agent's configuration: a TOML file, then environment variables, then flags; every value has a default,
//! and a key that nobody knows is refused with its file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carriageway_transport::settings::{self, SettingsError};
use serde::{Deserialize, Serialize};

use carriageway_proto::PolicyTable;

use super::classes::{self, ClassOverride};
use super::drive::DriveConfig;

pub use carriageway_transport::daemon::{Log, LogFormat};
pub use carriageway_transport::quic::Congestion;

/// Environment variables begin with this: `CARRIAGEWAY_AGENT__GATEWAY__HOST` sets `gateway.host`.
pub const ENV_PREFIX: &str = "CARRIAGEWAY_AGENT";

/// Fastest look at the vehicle, per second: above it a look costs more than its signals are worth.
const MOST_LOOKS: f64 = 100.0;

/// Everything that can be configured. Paths are relative to the working directory. Which vehicle this is,
/// stands in its certificate and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway is.
    pub gateway: Gateway,
    /// Who this vehicle is, and which gateway it trusts.
    pub tls: Tls,
    /// How to get there.
    pub transport: Choice,
    /// The congestion controller of QUIC: `cubic`, `newreno` or `bbr`. On TCP it is cubic.
    pub congestion: Congestion,
    /// Milliseconds that QUIC is tried alone before WebSocket joins the race.
    pub head_start_ms: u32,
    /// Looks at the vehicle's signals per second, 0.1 to 100.
    pub signal_hz: f64,
    /// The journal's file. It is what keeps a command from being executed twice and an emergency stop latched:
    /// keep it across restarts.
    pub journal: PathBuf,
    /// Driving from afar: whether, and the watchdog over it.
    pub drive: DriveConfig,
    /// Changes to the policy of single classes, by the class's name.
    pub classes: BTreeMap<String, ClassOverride>,
    /// What is logged.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway: Gateway::default(),
            tls: Tls::default(),
            transport: Choice::Auto,
            congestion: Congestion::Cubic,
            head_start_ms: 500,
            signal_hz: 20.0,
            journal: "carriageway-agent.db".into(),
            drive: DriveConfig::default(),
            classes: BTreeMap::new(),
            log: Log::default(),
        }
    }
}

/// Where the gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// A name or an address.
    pub host: String,
    /// QUIC.
    pub udp_port: u16,
    /// WebSocket.
    pub tcp_port: u16,
    /// The name that its certificate must be for; `host` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { host: "localhost".into(), udp_port: 4433, tcp_port: 4433, server_name: None }
    }
}

impl Gateway {
    /// The name that its certificate must be for.
    pub fn certified_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The authorities whose gateways are trusted.
    pub ca: PathBuf,
    /// This vehicle's certificate chain, its own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        let [ca, cert, key] =
            ["ca.pem", "vehicle.pem", "vehicle.key"].map(|file| Path::new("certs").join(file));
        Self { ca, cert, key }
    }
}

/// How to get to the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// QUIC, and WebSocket where QUIC does not get through.
    #[default]
    Auto,
    /// QUIC or nothing.
    Quic,
    /// WebSocket or nothing.
    WebSocket,
}

/// A value that would go wrong later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Problem {
    /// With its place: the line of `file` that gives this value, or the table where it would stand.
    #[must_use]
    pub fn placed(self, file: Option<&Path>) -> Self {
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        let line = text.as_deref().and_then(|text| settings::line_of(text, &self.key));
        match (file, line) {
            (Some(file), Some(line)) => {
                Self { key: format!("{}:{line}: {}", file.display(), self.key), ..self }
            }
            (_, None) | (None, _) => self,
        }
    }
}

impl Config {
    /// Loads it: `file` where there is one, over it variables that begin with [`ENV_PREFIX`], over those
    /// `overrides`, dotted keys with their values.
    pub fn load(file: Option<&Path>, overrides: Vec<(String, String)>) -> Result<Self, SettingsError> {
        settings::load(file, ENV_PREFIX, overrides)
    }

    /// Time between two looks at the vehicle.
    pub fn signal_interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.signal_hz.clamp(0.1, MOST_LOOKS))
    }

    /// The first value that would go wrong later, files aside.
    pub fn check(&self) -> Result<(), Problem> {
        let problem = |key: &str, what: &str| Err(Problem { key: key.into(), what: what.into() });
        if self.gateway.host.trim().is_empty() {
            return problem("gateway.host", "it is empty; give the gateway's name or address");
        }
        if self.gateway.udp_port == 0 && self.transport != Choice::WebSocket {
            return problem("gateway.udp_port", "0 is no port; the gateway's default is 4433");
        }
        if self.gateway.tcp_port == 0 && self.transport != Choice::Quic {
            return problem("gateway.tcp_port", "0 is no port; the gateway's default is 4433");
        }
        if !(0.1..=MOST_LOOKS).contains(&self.signal_hz) {
            return problem("signal_hz", "it must be 0.1 to 100 per second; 20 is usual");
        }
        if self.head_start_ms > 10_000 {
            return problem("head_start_ms", "more than ten seconds without a fallback; 500 is usual");
        }
        if self.journal.as_os_str().is_empty() {
            return problem("journal", "it is empty; name a file in a directory that survives restarts");
        }
        self.drive.limits()?;
        classes::check(&self.classes)
    }

    /// What works and wears, for the log.
    pub fn doubt(&self) -> Option<String> {
        self.drive.limits().ok()?.doubt().map(|doubt| format!("drive.soft_limit_ms: {doubt}"))
    }

    /// The policy of every class: the defaults with this configuration's changes.
    pub fn policies(&self) -> PolicyTable {
        classes::policies(&self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config::default().signal_interval(), Duration::from_millis(50));
    }

    #[test]
    fn flags_win_and_unknown_keys_are_refused() {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let overrides =
            vec![set("gateway.host", "gw.example"), set("transport", "websocket"), set("signal_hz", "1")];
        let config = Config::load(None, overrides).unwrap();
        assert_eq!((config.gateway.certified_name(), config.transport), ("gw.example", Choice::WebSocket));
        assert!(Config::load(None, vec![set("vehicle.id", "truck-7")]).is_err(), "the certificate says that");
        assert!(Config::load(None, vec![set("congestion", "vegas")]).is_err());
    }

    #[test]
    fn a_value_is_found_on_its_line() {
        let text = "signal_hz = 1\n[drive]\n# slow\nwatchdog_ms = 100\n[classes.body]\nburst = 0\n";
        let line = |key| settings::line_of(text, key);
        assert_eq!(
            [line("signal_hz"), line("drive.watchdog_ms"), line("classes.body.burst")],
            [Some(1), Some(4), Some(6)]
        );
        let absent = [line("journal"), line("drive.soft_limit_ms"), line("gateway.host")];
        assert_eq!(absent, [None, Some(2), None], "where its table stands, if that does");
    }

    #[test]
    fn what_would_go_wrong_later_is_named() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(wrong(|c| c.gateway.host.clear()), "gateway.host");
        assert_eq!(wrong(|c| c.gateway.udp_port = 0), "gateway.udp_port");
        assert_eq!(wrong(|c| c.gateway.tcp_port = 0), "gateway.tcp_port");
        assert_eq!(wrong(|c| c.signal_hz = 0.0), "signal_hz");
        assert_eq!(wrong(|c| c.signal_hz = f64::NAN), "signal_hz");
        assert_eq!(wrong(|c| c.head_start_ms = 60_000), "head_start_ms");
        assert_eq!(wrong(|c| c.journal.clear()), "journal");
    }
}
