//! The boot clock: the only clock that decides anything.
//!
//! `CLOCK_BOOTTIME` goes on while the computer is suspended, which tokio's timers and Rust's
//! `Instant` do not. It is comparable between processes of one boot, which the boot id names.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use carriageway_proto::{BootId, Moment, Stamp};
use rustix::time::{ClockId, clock_gettime};

/// Where Linux names the current boot, as a UUID.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Longest single sleep. Timers stand still during a suspend, so a sleep that spans one is late by
/// at most this much after the computer wakes.
const SLICE: Duration = Duration::from_secs(1);

/// Reads the boot clock of this host. Cheap to clone and to read.
#[derive(Clone, Debug)]
pub struct BootClock {
    boot: BootId,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Kernel,
    /// tokio's time, which tests can pause: what it showed at the start, the moment that stands for it, and how
    /// many microseconds the clock has been set back since.
    Tokio(tokio::time::Instant, Moment, Arc<AtomicU64>),
}

/// Why the clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel does not tell its boot id.
    #[error("cannot read the boot id from {BOOT_ID}: {0}; is /proc mounted?")]
    Unreadable(#[source] std::io::Error),
    /// It says something that is no UUID.
    #[error("{BOOT_ID} holds {0:?}, which is no boot id")]
    NoBootId(String),
}

impl BootClock {
    /// The kernel's `CLOCK_BOOTTIME`, with the boot id from `/proc/sys/kernel/random/boot_id`.
    pub fn system() -> Result<Self, ClockError> {
        let text = std::fs::read_to_string(Path::new(BOOT_ID)).map_err(ClockError::Unreadable)?;
        let boot = parse_boot_id(&text).ok_or_else(|| ClockError::NoBootId(text.trim().into()))?;
        Ok(Self { boot, source: Source::Kernel })
    }

    /// A clock that shows `start` now and follows tokio's time, which tests pause and advance. It
    /// must be made within a runtime.
    pub fn following_tokio(boot: BootId, start: Moment) -> Self {
        Self { boot, source: Source::Tokio(tokio_now(), start, Arc::default()) }
    }

    /// Sets this clock and its clones back, as no boot clock ever should be: for tests of what follows from it. It
    /// must be one that follows tokio.
    pub fn set_back(&self, by: Duration) {
        match &self.source {
            Source::Tokio(_, _, behind) => {
                behind.fetch_add(carriageway_proto::time::micros(by), Ordering::Relaxed);
            }
            Source::Kernel => unreachable!("nobody sets the kernel's boot clock"),
        }
    }

    /// Time since the host's boot, suspends included, in whole microseconds.
    pub fn now(&self) -> Moment {
        match &self.source {
            Source::Kernel => kernel_now(),
            Source::Tokio(origin, start, behind) => {
                let behind = Duration::from_micros(behind.load(Ordering::Relaxed));
                *start + tokio_now().saturating_duration_since(*origin) - behind
            }
        }
    }

    /// The boot that [`BootClock::now`] counts from.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Now, with the boot it belongs to.
    pub fn stamp(&self) -> Stamp {
        Stamp { boot: self.boot, clock: self.now() }
    }

    /// Returns once `moment` has come by this clock; at once if it has. After a suspend that spans
    /// `moment` it returns within a second of waking. Cancel safe.
    pub async fn sleep_until(&self, moment: Moment) {
        loop {
            let left = self.now().until(moment);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(SLICE)).await;
        }
    }

    /// Like [`Self::sleep_until`], but returns also where the clock went backwards meanwhile: whoever waits for a
    /// moment would wait the longer for it by as much.
    pub async fn sleep_until_or_back(&self, moment: Moment) {
        let mut latest = self.now();
        loop {
            let left = latest.until(moment);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(SLICE)).await;
            let now = self.now();
            if now < latest {
                return;
            }
            latest = now;
        }
    }
}

fn kernel_now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    Moment::from_micros(seconds * 1_000_000 + micros)
}

#[expect(
    clippy::disallowed_methods,
    reason = "follows the time that tests pause; never the production clock"
)]
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The 16 bytes of a UUID in its textual form.
fn parse_boot_id(text: &str) -> Option<BootId> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(BootId::from_bytes(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_only_rises_and_keeps_its_boot() {
        let clock = BootClock::system().unwrap();
        let earlier = clock.stamp();
        let later = clock.stamp();
        assert_eq!(earlier.boot, BootClock::system().unwrap().boot());
        assert!(later.clock >= earlier.clock && earlier.clock > Moment::ZERO);
    }

    #[test]
    fn a_boot_id_is_a_uuid() {
        let id = parse_boot_id("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n").unwrap();
        assert_eq!(id.to_string(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        for bad in
            ["", "0f1e", "+f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "zz1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"]
        {
            assert_eq!(parse_boot_id(bad), None, "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_at_its_moment_and_not_before() {
        let clock = BootClock::following_tokio(BootId::from_bytes([1; 16]), Moment::from_micros(7));
        let due = clock.now() + Duration::from_millis(2_500);
        clock.sleep_until(due).await;
        assert!(clock.now() >= due && due + Duration::from_millis(2) >= clock.now());
        clock.sleep_until(Moment::ZERO).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_shows_it_in_every_clone_and_ends_a_sleep() {
        let clock = BootClock::following_tokio(BootId::from_bytes([1; 16]), Moment::from_micros(10_000_000));
        let clone = clock.clone();
        clone.set_back(Duration::from_millis(3));
        assert_eq!(clock.now(), Moment::from_micros(9_997_000));
        let due = clock.now() + Duration::from_secs(1);
        clock.sleep_until_or_back(due).await;
        assert!(clock.now() >= due, "it had gone back before");
        let due = clock.now() + Duration::from_mins(1);
        let set_back = async { clone.set_back(Duration::from_secs(5)) };
        tokio::join!(clock.sleep_until_or_back(due), set_back);
        assert!(clock.now() < due, "nobody waits the longer for it");
    }
}
