//! How the vehicle is driven from afar, in its configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Problem;
use crate::core::drive::{Asked, Limits};

/// The watchdog over control, and what control is accepted. It cannot be switched off; `enabled = false` switches
/// driving off instead: then no re-arm leads out of the safe state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriveConfig {
    /// Whether this vehicle can be driven from afar.
    pub enabled: bool,
    /// Milliseconds between two control frames, as operators' programs are expected to send them.
    pub send_period_ms: u32,
    /// Milliseconds without accepted control until the throttle is let go.
    pub soft_limit_ms: u32,
    /// Milliseconds without accepted control until the safe state; at least three send periods.
    pub watchdog_ms: u32,
    /// The oldest control that is followed, in milliseconds, as an upper bound of its age.
    pub age_limit_ms: u32,
    /// What control must say that it is the control of.
    pub data_id: u32,
}

impl Default for DriveConfig {
    fn default() -> Self {
        let Asked { enabled, data_id, send_period, soft_limit, watchdog, age_limit } = Asked::default();
        let millis =
            |duration: Duration| u32::try_from(duration.as_millis()).expect("the defaults are short");
        Self {
            enabled,
            send_period_ms: millis(send_period),
            soft_limit_ms: millis(soft_limit),
            watchdog_ms: millis(watchdog),
            age_limit_ms: millis(age_limit),
            data_id,
        }
    }
}

impl DriveConfig {
    /// The limits, or the first value that would go wrong.
    pub fn limits(&self) -> Result<Limits, Problem> {
        let millis = |count: u32| Duration::from_millis(count.into());
        Limits::checked(Asked {
            enabled: self.enabled,
            data_id: self.data_id,
            send_period: millis(self.send_period_ms),
            soft_limit: millis(self.soft_limit_ms),
            watchdog: millis(self.watchdog_ms),
            age_limit: millis(self.age_limit_ms),
        })
        .map_err(|bad| Problem { key: format!("drive.{}_ms", bad.field), what: bad.what })
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;

    fn wrong(key: &str, value: &str) -> String {
        let config = Config::load(None, vec![(key.into(), value.into())]).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_would_leave_a_vehicle_without_its_watchdog_is_refused() {
        for (key, value) in [
            ("drive.watchdog_ms", "0"),
            ("drive.watchdog_ms", "5000"),
            ("drive.send_period_ms", "0"),
            ("drive.soft_limit_ms", "500"),
            ("drive.age_limit_ms", "2000"),
        ] {
            assert!(wrong(key, value).starts_with(key), "{}", wrong(key, value));
        }
        let starved = wrong("drive.send_period_ms", "200");
        assert!(
            starved.contains("drive.watchdog_ms") && starved.contains("raise watchdog_ms to 600"),
            "{starved}"
        );
    }
}
