//! Changes to the policy of single classes, in the vehicle's configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::{Class, MAX_FRAME, Policy, PolicyTable};
use serde::{Deserialize, Serialize};

use super::config::Problem;

/// Nobody means the same press a minute later.
const LONGEST_WINDOW_MS: u32 = 60_000;

/// What is different for one class; what is absent stays as it is. A command's ttl is the gateway's to
/// configure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassOverride {
    /// Order among lanes: higher goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Executions per second over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Executions at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Milliseconds in which a second command for what another has just brought about has nothing to do; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_window_ms: Option<u32>,
    /// Commands under way in this vehicle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Frames waiting in one lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_frames: Option<u32>,
    /// Bytes waiting in one lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u32>,
}

impl ClassOverride {
    fn onto(self, policy: Policy) -> Policy {
        Policy {
            priority: self.priority.unwrap_or(policy.priority),
            rate_per_second: self.rate_per_second.or(policy.rate_per_second),
            burst: self.burst.unwrap_or(policy.burst),
            duplicate_window: self
                .duplicate_window_ms
                .map_or(policy.duplicate_window, |millis| Duration::from_millis(millis.into())),
            in_flight: self.in_flight.unwrap_or(policy.in_flight),
            queue_frames: self.queue_frames.unwrap_or(policy.queue_frames),
            queue_bytes: self.queue_bytes.unwrap_or(policy.queue_bytes),
            ..policy
        }
    }

    /// The field that would go wrong later, and why.
    fn check(self, class: Class) -> Result<(), (&'static str, &'static str)> {
        let safety = PolicyTable::defaults()[Class::Safety].priority;
        let nothing = "0 lets nothing through; give it at least 1, or remove the line";
        let counts = [
            ("rate_per_second", self.rate_per_second),
            ("burst", self.burst),
            ("in_flight", self.in_flight),
            ("queue_frames", self.queue_frames),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return Err((field, nothing));
        }
        if self.queue_bytes.is_some_and(|bytes| (bytes as usize) < MAX_FRAME) {
            return Err(("queue_bytes", "the largest frame would never fit; give it at least 65536"));
        }
        if class == Class::Safety && self.rate_per_second.is_some() {
            return Err(("rate_per_second", "an emergency stop must never be held back; remove the line"));
        }
        if class == Class::Safety && self.duplicate_window_ms.is_some() {
            return Err(("duplicate_window_ms", "an emergency stop is never a duplicate; remove the line"));
        }
        if self.duplicate_window_ms > Some(LONGEST_WINDOW_MS) {
            return Err(("duplicate_window_ms", "more than 60000 is no repeat any more, but another wish"));
        }
        let beside = class == Class::Session || class == Class::Safety;
        if !beside && self.priority.is_some_and(|priority| priority >= safety) {
            return Err(("priority", "it would compete with an emergency stop; stay below safety's, 60"));
        }
        Ok(())
    }
}

/// The policy of every class: the defaults with these changes. Names of no class are left out; [`check`]
/// reports them.
pub fn policies(changes: &BTreeMap<String, ClassOverride>) -> PolicyTable {
    let mut table = PolicyTable::defaults();
    for (class, policy) in table.iter_mut() {
        *policy = changes.get(class.name()).copied().unwrap_or_default().onto(*policy);
    }
    table
}

/// The first change that would go wrong later.
pub fn check(changes: &BTreeMap<String, ClassOverride>) -> Result<(), Problem> {
    for (name, change) in changes {
        let Ok(class) = name.parse::<Class>() else {
            let names = Class::ALL.map(Class::name).join(", ");
            let what = format!("there is no such class; use one of {names}");
            return Err(Problem { key: format!("classes.{name}"), what });
        };
        let wrong =
            |(field, what): (_, &str)| Problem { key: format!("classes.{name}.{field}"), what: what.into() };
        change.check(class).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;

    fn load(key: &str, value: &str) -> Config {
        Config::load(None, vec![(key.into(), value.into())]).unwrap()
    }

    #[test]
    fn a_class_is_changed_where_it_says_so_and_nowhere_else() {
        let (mut table, changed) =
            (super::PolicyTable::defaults(), load("classes.body.burst", "2").policies());
        assert_ne!(table, changed);
        table[super::Class::Body].burst = 2;
        assert_eq!(table, changed);
        let changed = load("classes.body.duplicate_window_ms", "0").policies();
        assert!(changed[super::Class::Body].duplicate_window.is_zero());
    }

    #[test]
    fn a_change_that_would_go_wrong_later_is_named() {
        for (key, value) in [
            ("classes.body.burst", "0"),
            ("classes.body.in_flight", "0"),
            ("classes.body.queue_bytes", "100"),
            ("classes.body.priority", "60"),
            ("classes.safety.rate_per_second", "5"),
            ("classes.safety.duplicate_window_ms", "5"),
            ("classes.body.duplicate_window_ms", "60001"),
        ] {
            assert_eq!(load(key, value).check().unwrap_err().key, key);
        }
        assert_eq!(load("classes.horn.burst", "1").check().unwrap_err().key, "classes.horn");
    }
}
