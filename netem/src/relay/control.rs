//! Orders to a running relay, one per line, answered in one line each: `ok`, `error: ...`, or JSON for `status`.

use std::time::Duration;

use super::{Gone, Rebinding, Relay};
use crate::profile::{Profile, units};

/// What can be said, for help texts.
pub const ORDERS: &str = "udp drop | udp pass | outage TIME | hold TIME | outage end | nat-rebind [silent|reset] | \
    profile NAME | status";

/// Longest order in bytes.
pub const LONGEST_ORDER: usize = 1024;

/// One order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// `udp drop`, `udp pass`
    BlockUdp(bool),
    /// `outage 5s`, `outage end`
    Outage(Duration),
    /// `hold 5s`
    Hold(Duration),
    /// `nat-rebind`, `nat-rebind reset`
    Rebind(Rebinding),
    /// `profile tunnel`
    Profile(Box<Profile>),
    /// `status`
    Status,
}

impl Order {
    /// Reads a line; the error is a line that says what can be said.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["udp", "drop"] => Ok(Self::BlockUdp(true)),
            ["udp", "pass"] => Ok(Self::BlockUdp(false)),
            ["outage", "end"] => Ok(Self::Outage(Duration::ZERO)),
            ["outage", time] => units::duration(time).map(Self::Outage),
            ["hold", time] => units::duration(time).map(Self::Hold),
            ["nat-rebind"] | ["nat-rebind", "silent"] => Ok(Self::Rebind(Rebinding::Silent)),
            ["nat-rebind", "reset"] => Ok(Self::Rebind(Rebinding::Reset)),
            ["profile", name] => Profile::find(name)
                .map(|profile| Self::Profile(Box::new(profile)))
                .map_err(|error| error.to_string()),
            ["status"] => Ok(Self::Status),
            _ => Err(format!("`{}` is no order; say one of: {ORDERS}", line.trim())),
        }
    }
}

impl Relay {
    /// Carries out one line and gives the line of the answer.
    pub fn answer(&self, line: &str) -> String {
        match Order::parse(line).map(|order| self.carry_out(order)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(gone)) => format!("error: {gone}"),
            Err(error) => format!("error: {error}"),
        }
    }

    fn carry_out(&self, order: Order) -> Result<String, Gone> {
        let done = match order {
            Order::BlockUdp(blocked) => self.block_udp(blocked),
            Order::Outage(length) => self.outage(length),
            Order::Hold(length) => self.hold(length),
            Order::Rebind(how) => self.rebind_nat(how),
            Order::Profile(profile) => self.set_profile(*profile),
            Order::Status => return self.stats().map(|stats| stats.to_json().to_string()),
        };
        done.map(|()| "ok".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        assert_eq!(Order::parse("udp drop\n"), Ok(Order::BlockUdp(true)));
        assert_eq!(Order::parse(" outage  5s"), Ok(Order::Outage(Duration::from_secs(5))));
        assert_eq!(Order::parse("nat-rebind reset"), Ok(Order::Rebind(Rebinding::Reset)));
        assert!(Order::parse("upd drop").unwrap_err().contains("udp drop | udp pass"));
        assert!(Order::parse("outage 5").unwrap_err().contains("`40ms`"));
    }
}
