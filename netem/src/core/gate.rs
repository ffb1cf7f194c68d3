//! What a network refuses at its edge.

use super::counts::Cause;
use super::law::{Rate, UdpPolicy};
use super::moment::Moment;

/// What a packet carries, as far as a network tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// UDP, and so QUIC.
    Udp,
    /// TCP.
    Tcp,
    /// Anything else, ICMP for one.
    Other,
}

/// MTU and UDP policy.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    mtu: u32,
    udp: UdpGate,
}

#[derive(Clone, Debug)]
enum UdpGate {
    Open,
    Shut,
    Metered(Bucket),
}

impl Gate {
    pub(super) const fn new(mtu: u32, policy: UdpPolicy, now: Moment) -> Self {
        Self { mtu, udp: UdpGate::new(policy, now) }
    }

    pub(super) const fn set_udp(&mut self, policy: UdpPolicy, now: Moment) {
        self.udp = UdpGate::new(policy, now);
    }

    pub(super) fn admit(&mut self, now: Moment, size: u32, kind: Kind) -> Result<(), Cause> {
        if size > self.mtu {
            return Err(Cause::TooBig);
        }
        match (&mut self.udp, kind) {
            (UdpGate::Shut, Kind::Udp) => Err(Cause::Blocked),
            (UdpGate::Metered(bucket), Kind::Udp) => {
                if bucket.take(now, u64::from(size)) {
                    Ok(())
                } else {
                    Err(Cause::Throttled)
                }
            }
            (UdpGate::Open, Kind::Udp) | (_, Kind::Tcp | Kind::Other) => Ok(()),
        }
    }
}

impl UdpGate {
    const fn new(policy: UdpPolicy, now: Moment) -> Self {
        match policy {
            UdpPolicy::Pass => Self::Open,
            UdpPolicy::Block => Self::Shut,
            UdpPolicy::Throttle { rate, burst } => {
                Self::Metered(Bucket { rate, burst, level: burst, filled: now })
            }
        }
    }
}

/// A token bucket: `level` bytes may pass now.
#[derive(Clone, Debug)]
struct Bucket {
    rate: Rate,
    burst: u64,
    level: u64,
    filled: Moment,
}

impl Bucket {
    fn take(&mut self, now: Moment, bytes: u64) -> bool {
        let gained = self.rate.bytes_in(now.since(self.filled));
        // Time is spent in whole bytes, so that frequent small packets do not lose the fractions.
        let level = self.level.saturating_add(gained);
        self.filled = if level >= self.burst { now } else { self.filled + self.rate.time_for(gained) };
        self.level = level.min(self.burst);
        let passes = self.level >= bytes;
        if passes {
            self.level -= bytes;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_passes_its_rate_and_no_more() {
        let rate = Rate::from_bits_per_second(800_000).unwrap();
        let mut gate = Gate::new(1500, UdpPolicy::Throttle { rate, burst: 3_000 }, Moment::ZERO);
        let passed = (0..10_000_u64)
            .filter(|ms| gate.admit(Moment::from_millis(*ms), 1_000, Kind::Udp).is_ok())
            .count();
        assert!((1_000..=1_003).contains(&passed), "{passed} of 100 per second over 10 s");
        assert_eq!(gate.admit(Moment::from_millis(9_999), 1_000, Kind::Tcp), Ok(()));
    }

    #[test]
    fn blocked_means_udp_only() {
        let mut gate = Gate::new(1500, UdpPolicy::Block, Moment::ZERO);
        assert_eq!(gate.admit(Moment::ZERO, 100, Kind::Udp), Err(Cause::Blocked));
        assert_eq!(gate.admit(Moment::ZERO, 100, Kind::Other), Ok(()));
        assert_eq!(gate.admit(Moment::ZERO, 1501, Kind::Tcp), Err(Cause::TooBig));
    }
}
