//! Dates for people, from the boot clock's moments.

use std::time::{Duration, SystemTime};

use carriageway_proto::Moment;
use carriageway_transport::clock::BootClock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::types::millis;

/// One instant on both clocks: what dates and ages are told by.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    date: SystemTime,
    now: Moment,
}

impl Wall {
    /// Both clocks, read now.
    #[expect(clippy::disallowed_methods, reason = "dates for people; no decision hangs on them")]
    pub fn read(clock: &BootClock) -> Self {
        Self { date: SystemTime::now(), now: clock.now() }
    }

    /// The instant by the boot clock.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The date of `moment` by the wall clock of now, RFC 3339 in UTC with milliseconds.
    pub fn date(&self, moment: Moment) -> String {
        let date = self.date - self.now.since(moment) + self.now.until(moment);
        let date = OffsetDateTime::from(date);
        let whole = date.nanosecond() / 1_000_000 * 1_000_000;
        date.replace_nanosecond(whole).ok().and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default()
    }

    /// How long ago `moment` was.
    pub fn age_ms(&self, moment: Moment) -> u64 {
        millis(self.now.since(moment))
    }

    /// Seconds since the Unix epoch.
    pub fn unix(&self) -> u64 {
        self.date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_date_to_the_millisecond() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_micros(1_790_000_000_123_456);
        let wall = Wall { date, now: Moment::from_micros(50_000_000) };
        assert_eq!(wall.date(Moment::from_micros(49_000_000)), "2026-09-21T14:13:19.123Z");
        assert_eq!(wall.age_ms(Moment::from_micros(49_000_000)), 1_000);
        assert_eq!(wall.unix(), 1_790_000_000);
    }
}
