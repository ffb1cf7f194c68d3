//! One connection's heartbeat: round trip, liveness, and when to worry.

use std::time::Duration;

use carriageway_proto::Moment;
use carriageway_proto::frame::{Echo, Heartbeat};
use carriageway_proto::time::micros;

/// The knobs of liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The connecting side sends a heartbeat this often; the accepting side answers each at once.
    pub interval: Duration,
    /// Least and most patience beyond the interval before silence is suspicious; in between, four
    /// smoothed round trips.
    pub patience: (Duration, Duration),
    /// Silence after which the connection is given up.
    pub dead_after: Duration,
}

impl Default for Config {
    /// A blocked network is noticed within 1.5 s; a connection is given up with QUIC's idle timeout.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            patience: (Duration::from_millis(500), Duration::from_secs(2)),
            dead_after: Duration::from_secs(15),
        }
    }
}

/// Which side drives the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends at the interval.
    Connecting,
    /// Answers at once.
    Accepting,
}

/// How a connection fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Heard from lately.
    Good,
    /// Silent beyond the interval and patience.
    Suspect,
    /// Silent beyond recovery.
    Dead,
}

/// The heartbeat of one connection.
#[derive(Debug)]
pub struct Pulse {
    config: Config,
    role: Role,
    sequence: u64,
    /// When the heartbeat of `sequence` was sent.
    sent_at: Option<Moment>,
    next_at: Moment,
    /// The peer's newest heartbeat, and whether it is answered yet.
    heard: Option<(u64, Moment)>,
    owes_answer: bool,
    last_heard: Moment,
    /// Smoothed round trip and its variation, RFC 6298.
    rtt: Option<(Duration, Duration)>,
    least_rtt: Option<Duration>,
}

impl Pulse {
    /// A pulse that starts at `now`.
    pub fn new(config: Config, role: Role, now: Moment) -> Self {
        Self {
            config,
            role,
            sequence: 0,
            sent_at: None,
            next_at: now,
            heard: None,
            owes_answer: false,
            last_heard: now,
            rtt: None,
            least_rtt: None,
        }
    }

    /// The heartbeat to send now, if one is due.
    pub fn due(&mut self, now: Moment) -> Option<Heartbeat> {
        let is_due = self.owes_answer || (self.role == Role::Connecting && now >= self.next_at);
        if !is_due {
            return None;
        }
        self.owes_answer = false;
        self.sequence += 1;
        self.sent_at = Some(now);
        self.next_at = now + self.config.interval;
        let echo =
            self.heard.map(|(sequence, arrived)| Echo { sequence, held_us: micros(now.since(arrived)) });
        Some(Heartbeat { sequence: self.sequence, echo })
    }

    /// Takes in any sign of life.
    pub fn heard(&mut self, now: Moment) {
        self.last_heard = now;
    }

    /// Takes in a heartbeat.
    pub fn received(&mut self, heartbeat: Heartbeat, now: Moment) {
        self.heard = Some((heartbeat.sequence, now));
        self.owes_answer = self.role == Role::Accepting;
        let (Some(echo), Some(sent_at)) = (heartbeat.echo, self.sent_at) else { return };
        if echo.sequence == self.sequence {
            let held = Duration::from_micros(echo.held_us);
            self.sample(now.since(sent_at).saturating_sub(held));
        }
    }

    /// How the connection fares.
    pub fn health(&self, now: Moment) -> Health {
        let silence = now.since(self.last_heard);
        if silence >= self.config.dead_after {
            Health::Dead
        } else if silence >= self.suspicious_after() {
            Health::Suspect
        } else {
            Health::Good
        }
    }

    /// When to look again: at the next heartbeat, and at the next change of health. A heartbeat that is
    /// overdue waits for room and not for time.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        let change = match self.health(now) {
            Health::Good => self.last_heard + self.suspicious_after(),
            Health::Suspect | Health::Dead => self.last_heard + self.config.dead_after,
        };
        let beat = (self.role == Role::Connecting).then_some(self.next_at);
        beat.into_iter().chain([change]).filter(|at| *at > now).min()
    }

    /// Smoothed round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(smoothed, _)| smoothed)
    }

    /// Variation of the round trip.
    pub fn jitter(&self) -> Option<Duration> {
        self.rtt.map(|(_, variation)| variation)
    }

    /// Quickest round trip so far.
    pub fn least_rtt(&self) -> Option<Duration> {
        self.least_rtt
    }

    /// When anything last came in.
    pub fn last_heard(&self) -> Moment {
        self.last_heard
    }

    fn suspicious_after(&self) -> Duration {
        let (least, most) = self.config.patience;
        let patience = self.rtt().map_or(most, |rtt| (rtt * 4).clamp(least, most));
        self.config.interval + patience
    }

    fn sample(&mut self, rtt: Duration) {
        self.least_rtt = Some(self.least_rtt.map_or(rtt, |least| least.min(rtt)));
        self.rtt = Some(match self.rtt {
            None => (rtt, rtt / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + rtt) / 8, (variation * 3 + smoothed.abs_diff(rtt)) / 4)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn both_sides_learn_the_round_trip() {
        let start = Moment::from_micros(1);
        let mut vehicle = Pulse::new(Config::default(), Role::Connecting, start);
        let mut gateway = Pulse::new(Config::default(), Role::Accepting, start);
        let first = vehicle.due(start).unwrap();
        gateway.received(first, start + ms(30));
        let answer = gateway.due(start + ms(30)).unwrap();
        vehicle.received(answer, start + ms(70));
        assert_eq!(vehicle.rtt(), Some(ms(70)));
        let second = vehicle.due(start + ms(1_000)).unwrap();
        gateway.received(second, start + ms(1_030));
        assert_eq!(gateway.rtt(), Some(ms(70)), "less the 930 ms that the vehicle held it");
        assert_eq!(gateway.due(start + ms(1_030)).map(|beat| beat.sequence), Some(2));
        assert_eq!(gateway.due(start + ms(1_031)), None, "one answer each");
    }

    #[test]
    fn silence_is_suspected_and_then_final() {
        let start = Moment::ZERO;
        let mut pulse = Pulse::new(Config::default(), Role::Connecting, start);
        pulse.sample(ms(50));
        assert_eq!(pulse.health(start + ms(1_499)), Health::Good);
        assert_eq!(pulse.health(start + ms(1_500)), Health::Suspect);
        assert_eq!(pulse.health(start + ms(15_000)), Health::Dead);
        pulse.heard(start + ms(2_000));
        assert_eq!(pulse.health(start + ms(2_100)), Health::Good, "it came back");
    }
}
