//! The limits of the watchdog, and which of them are refused.

use std::time::Duration;

use carriageway_proto::control::ROAD_VEHICLE;

/// A vehicle at 50 km/h goes 28 m in two seconds: nobody needs to be without control for longer.
pub const LONGEST_WATCHDOG: Duration = Duration::from_secs(2);

/// Older control than this drives a vehicle that is no longer where the operator saw it.
pub const LONGEST_AGE: Duration = Duration::from_secs(1);

/// Control states that must fit into the limit, so that losing two in a row stops nobody.
const SENDS_PER_LIMIT: u32 = 3;

/// Limits as asked for; [`Limits::checked`] makes them ones that hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whether this vehicle can be driven at all.
    pub enabled: bool,
    /// What its control says it is the control of.
    pub data_id: u32,
    /// Time between two control states, as senders are expected to keep it.
    pub send_period: Duration,
    /// Without accepted control for so long, the throttle is let go.
    pub soft_limit: Duration,
    /// Without accepted control for so long, the safe state is entered.
    pub watchdog: Duration,
    /// The oldest control that is followed, as an upper bound of its age.
    pub age_limit: Duration,
}

impl Default for Asked {
    /// The limits of INVARIANTS: 150 ms, 500 ms and 250 ms, fed at 20 Hz.
    fn default() -> Self {
        Self {
            enabled: true,
            data_id: ROAD_VEHICLE,
            send_period: Duration::from_millis(50),
            soft_limit: Duration::from_millis(150),
            watchdog: Duration::from_millis(500),
            age_limit: Duration::from_millis(250),
        }
    }
}

/// Limits that were checked: the watchdog is on, and its senders can feed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits(Asked);

/// Limits that would go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct BadLimit {
    /// Which, by its name in [`Asked`].
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Limits {
    /// The first of `asked` that would go wrong, or limits to work with.
    pub fn checked(asked: Asked) -> Result<Self, BadLimit> {
        let bad = |field, what: String| Err(BadLimit { field, what });
        let Asked { send_period, soft_limit, watchdog, age_limit, .. } = asked;
        if send_period.is_zero() {
            return bad("send_period", "0 is no period; senders of Carriageway keep 50 ms".into());
        }
        if watchdog.is_zero() {
            return bad(
                "watchdog",
                "0 would switch the watchdog off, which cannot be; 500 ms is usual".into(),
            );
        }
        if watchdog > LONGEST_WATCHDOG {
            let longest = LONGEST_WATCHDOG.as_millis();
            return bad("watchdog", format!("at most {longest} ms: a vehicle without control must stop"));
        }
        if send_period * SENDS_PER_LIMIT > watchdog {
            let (period, limit) = (send_period.as_millis(), watchdog.as_millis());
            let (shortest, longest) = (period * 3, limit / 3);
            return bad(
                "watchdog",
                format!(
                    "control every {period} ms cannot feed a watchdog of {limit} ms, two losses in a row would stop \
                     the vehicle: raise watchdog_ms to {shortest} or more, or send_period_ms to {longest} or less"
                ),
            );
        }
        if soft_limit.is_zero() || soft_limit >= watchdog {
            let what = "it must be above 0 and below watchdog_ms; 150 ms is usual";
            return bad("soft_limit", what.into());
        }
        if age_limit.is_zero() || age_limit > LONGEST_AGE {
            let longest = LONGEST_AGE.as_millis();
            return bad("age_limit", format!("it must be above 0 and at most {longest} ms; 250 ms is usual"));
        }
        Ok(Self(asked))
    }

    /// What works but wears: a soft limit that single losses reach.
    pub fn doubt(self) -> Option<String> {
        let Asked { send_period, soft_limit, .. } = self.0;
        (send_period * SENDS_PER_LIMIT > soft_limit).then(|| {
            let (period, limit) = (send_period.as_millis(), soft_limit.as_millis());
            format!(
                "control every {period} ms reaches the soft limit of {limit} ms after two losses in a row and \
                 lets the throttle go; {} ms would ride them out",
                period * 3
            )
        })
    }

    /// What was asked for.
    pub fn values(self) -> Asked {
        self.0
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::checked(Asked::default()).expect("the defaults are good")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn refused(change: fn(&mut Asked)) -> BadLimit {
        let mut asked = Asked::default();
        change(&mut asked);
        Limits::checked(asked).unwrap_err()
    }

    #[test]
    fn no_watchdog_is_off_too_long_or_starved() {
        assert_eq!(refused(|asked| asked.watchdog = Duration::ZERO).field, "watchdog");
        assert_eq!(refused(|asked| asked.watchdog = ms(2_001)).field, "watchdog");
        assert_eq!(refused(|asked| asked.send_period = Duration::ZERO).field, "send_period");
        assert_eq!(refused(|asked| asked.soft_limit = Duration::ZERO).field, "soft_limit");
        assert_eq!(refused(|asked| asked.soft_limit = ms(500)).field, "soft_limit");
        assert_eq!(refused(|asked| asked.age_limit = Duration::ZERO).field, "age_limit");
        assert_eq!(refused(|asked| asked.age_limit = ms(1_001)).field, "age_limit");
        let starved = refused(|asked| asked.send_period = ms(167));
        assert!(starved.to_string().contains("raise watchdog_ms to 501"), "{starved}");
        assert!(Limits::checked(Asked { send_period: ms(166), ..Asked::default() }).is_ok());
    }

    #[test]
    fn a_soft_limit_that_two_losses_reach_is_doubted() {
        assert_eq!(Limits::default().doubt(), None);
        let slow = Limits::checked(Asked { send_period: ms(60), ..Asked::default() }).unwrap();
        assert!(slow.doubt().is_some_and(|doubt| doubt.contains("180 ms would ride them out")));
    }
}
