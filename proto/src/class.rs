//! Command classes and their policy, as data.

use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;
use std::time::Duration;

use crate::wire;

/// A class of traffic. Each has a lane of its own; the order here is the order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Hello, heartbeats, acknowledgements, leases, drain.
    Session,
    /// Emergency stop and safe state.
    Safety,
    /// Mode, gear, arm and disarm.
    Drive,
    /// Doors, windows, lights, horn.
    Body,
    /// Climate and seats.
    Comfort,
    /// Settings and desired state.
    Config,
    /// Read-outs and log requests.
    Diagnostics,
    /// Log upload, map and update blocks.
    Bulk,
}

impl Class {
    /// Every class, most urgent first.
    pub const ALL: [Self; 8] = [
        Self::Session,
        Self::Safety,
        Self::Drive,
        Self::Body,
        Self::Comfort,
        Self::Config,
        Self::Diagnostics,
        Self::Bulk,
    ];

    /// The name, as in configuration, HTTP and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Safety => "safety",
            Self::Drive => "drive",
            Self::Body => "body",
            Self::Comfort => "comfort",
            Self::Config => "config",
            Self::Diagnostics => "diagnostics",
            Self::Bulk => "bulk",
        }
    }

    /// True of the classes an operator may send commands in.
    pub const fn is_command(self) -> bool {
        !matches!(self, Self::Session | Self::Bulk)
    }

    const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::ALL.into_iter().find(|class| class.name() == text).ok_or_else(|| UnknownClass(text.into()))
    }
}

/// A text that names no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no class is named {0:?}; there are session, safety, drive, body, comfort, config, diagnostics, bulk"
)]
pub struct UnknownClass(pub String);

impl From<Class> for wire::Class {
    fn from(class: Class) -> Self {
        match class {
            Class::Session => Self::Session,
            Class::Safety => Self::Safety,
            Class::Drive => Self::Drive,
            Class::Body => Self::Body,
            Class::Comfort => Self::Comfort,
            Class::Config => Self::Config,
            Class::Diagnostics => Self::Diagnostics,
            Class::Bulk => Self::Bulk,
        }
    }
}

impl TryFrom<i32> for Class {
    type Error = i32;

    /// The class of a wire number; the number itself where it is none of ours.
    fn try_from(number: i32) -> Result<Self, i32> {
        match wire::Class::try_from(number) {
            Ok(wire::Class::Session) => Ok(Self::Session),
            Ok(wire::Class::Safety) => Ok(Self::Safety),
            Ok(wire::Class::Drive) => Ok(Self::Drive),
            Ok(wire::Class::Body) => Ok(Self::Body),
            Ok(wire::Class::Comfort) => Ok(Self::Comfort),
            Ok(wire::Class::Config) => Ok(Self::Config),
            Ok(wire::Class::Diagnostics) => Ok(Self::Diagnostics),
            Ok(wire::Class::Bulk) => Ok(Self::Bulk),
            Ok(wire::Class::Unspecified) | Err(_) => Err(number),
        }
    }
}

/// One value for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClassMap<T>([T; 8]);

impl<T> ClassMap<T> {
    /// The map that holds `make(class)` for each class.
    pub fn from_fn(make: impl FnMut(Class) -> T) -> Self {
        Self(Class::ALL.map(make))
    }

    /// Each class with its value, most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Class, &T)> {
        Class::ALL.into_iter().zip(&self.0)
    }

    /// Each class with its value to change, most urgent first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Class, &mut T)> {
        Class::ALL.into_iter().zip(&mut self.0)
    }
}

impl<T> Index<Class> for ClassMap<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        &self.0[class.index()]
    }
}

impl<T> IndexMut<Class> for ClassMap<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        &mut self.0[class.index()]
    }
}

/// What holds for one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Strict order among lanes that wait for the same connection: higher goes first.
    pub priority: i32,
    /// The ttl of a command that names none; `None`: does not expire by itself.
    pub ttl: Option<Duration>,
    /// A repeat of the same target within this window is the same wish.
    pub duplicate_window: Duration,
    /// Executions per second that a vehicle allows over time; `None`: unlimited.
    pub rate_per_second: Option<u32>,
    /// Executions at once after a pause, on top of the rate.
    pub burst: u32,
    /// Commands of this class under way to one vehicle.
    pub in_flight: u32,
    /// Frames that may wait in one lane, sent but unacknowledged ones included.
    pub queue_frames: u32,
    /// Bytes that may wait in one lane, sent but unacknowledged ones included.
    pub queue_bytes: u32,
    /// Whether a command may wait at the gateway for a vehicle that is not connected.
    pub queue_offline: bool,
}

/// The policy of every class.
pub type PolicyTable = ClassMap<Policy>;

impl PolicyTable {
    /// The table that holds where configuration says nothing.
    pub fn defaults() -> Self {
        Self::from_fn(default_policy)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const KIB: u32 = 1024;

fn default_policy(class: Class) -> Policy {
    let ordinary = Policy {
        priority: 0,
        ttl: None,
        duplicate_window: Duration::from_millis(500),
        rate_per_second: Some(10),
        burst: 20,
        in_flight: 16,
        queue_frames: 64,
        queue_bytes: 64 * KIB,
        queue_offline: true,
    };
    match class {
        Class::Session => Policy { priority: 70, rate_per_second: None, queue_offline: false, ..ordinary },
        // Never debounced, never rate-limited, never shed: the queue's bound is all that holds it.
        Class::Safety => Policy {
            priority: 60,
            ttl: Some(2 * SECOND),
            duplicate_window: Duration::ZERO,
            rate_per_second: None,
            queue_offline: false,
            ..ordinary
        },
        Class::Drive => Policy {
            priority: 50,
            ttl: Some(Duration::from_millis(500)),
            duplicate_window: Duration::ZERO,
            // What somebody wanted of a vehicle that moved on must not move it later.
            queue_offline: false,
            ..ordinary
        },
        Class::Body => Policy { priority: 40, ttl: Some(5 * SECOND), ..ordinary },
        Class::Comfort => Policy { priority: 30, ttl: Some(30 * SECOND), ..ordinary },
        Class::Config => Policy { priority: 10, ttl: Some(24 * 3_600 * SECOND), ..ordinary },
        Class::Diagnostics => Policy { priority: 20, ttl: Some(60 * SECOND), ..ordinary },
        // Enough chunks to fill a fast link; the window of unacknowledged bytes is bounded apart.
        Class::Bulk => Policy {
            priority: 0,
            rate_per_second: None,
            queue_frames: 1_024,
            queue_bytes: 512 * KIB,
            queue_offline: false,
            ..ordinary
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for class in Class::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(Class::try_from(wire::Class::from(class) as i32), Ok(class));
        }
        assert_eq!(Class::try_from(0), Err(0), "an absent class is no class");
        assert_eq!(Class::try_from(99), Err(99));
        assert!("horn".parse::<Class>().is_err());
    }

    #[test]
    fn the_defaults_put_bulk_last_and_safety_above_every_command() {
        let table = PolicyTable::defaults();
        for class in Class::ALL {
            assert!(table[class].priority >= table[Class::Bulk].priority);
            assert!(!class.is_command() || table[class].priority <= table[Class::Safety].priority);
            assert!(!class.is_command() || table[class].ttl.is_some(), "{class} would never expire");
        }
        let queued = Class::ALL.into_iter().filter(|class| table[*class].queue_offline);
        let expected = [Class::Body, Class::Comfort, Class::Config, Class::Diagnostics];
        assert!(queued.eq(expected), "what moves or stops a vehicle is never kept for later");
        assert_eq!(table[Class::Safety].rate_per_second, None);
        assert_eq!(table[Class::Drive].ttl, Some(Duration::from_millis(500)));
    }
}
