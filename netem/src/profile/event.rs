//! What happens to a link while it runs, and when.

use std::time::Duration;

use crate::core::{Capacity, UdpPolicy};

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, after the start.
    pub at: Duration,
    /// If set, it happens again and again, this far apart.
    pub every: Option<Duration>,
    /// On which path, counted from zero; `None`: on all.
    pub path: Option<usize>,
    /// What.
    pub what: Happening,
}

/// What becomes of the old port when a NAT rebinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebinding {
    /// Packets to it vanish, and those of TCP connections from before it.
    #[default]
    Silent,
    /// TCP connections from before it are reset.
    Reset,
}

/// What can happen. Outages are not here: they are part of a [`Law`](crate::core::Law), so that they fall into the same slots in
/// every run.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The NAT forgets its ports and takes new ones.
    Rebind(Rebinding),
    /// The network changes its mind about UDP.
    Udp(UdpPolicy),
    /// The capacity changes. `None`: that direction stays.
    Capacity {
        /// From the vehicle.
        up: Option<Capacity>,
        /// To the vehicle.
        down: Option<Capacity>,
    },
    /// The vehicle's interface goes up or down. Testbeds only.
    Link {
        /// Up?
        up: bool,
    },
    /// The vehicle's interface gets or loses its carrier. Testbeds only.
    Carrier {
        /// Carrier?
        on: bool,
    },
    /// The vehicle's interface gets or loses its address. Testbeds only.
    Address {
        /// Address?
        present: bool,
    },
    /// The vehicle's default route moves to this path. Testbeds only.
    Prefer,
}

impl Happening {
    /// Whether it needs interfaces, which a relay does not have.
    pub const fn needs_interfaces(&self) -> bool {
        match self {
            Self::Link { .. } | Self::Carrier { .. } | Self::Address { .. } | Self::Prefer => true,
            Self::Rebind(_) | Self::Udp(_) | Self::Capacity { .. } => false,
        }
    }

    /// As files spell it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rebind(Rebinding::Silent) => "nat-rebind",
            Self::Rebind(Rebinding::Reset) => "nat-rebind-reset",
            Self::Udp(UdpPolicy::Pass) => "udp-pass",
            Self::Udp(UdpPolicy::Block) => "udp-block",
            Self::Udp(UdpPolicy::Throttle { .. }) => "udp-throttle",
            Self::Capacity { .. } => "capacity",
            Self::Link { up: true } => "link-up",
            Self::Link { up: false } => "link-down",
            Self::Carrier { on: true } => "carrier-on",
            Self::Carrier { on: false } => "carrier-off",
            Self::Address { present: true } => "add-address",
            Self::Address { present: false } => "remove-address",
            Self::Prefer => "prefer",
        }
    }
}

/// Events in the order in which they are due. Pure: somebody else has the clock.
#[derive(Clone, Debug)]
pub struct Agenda {
    /// Next occurrence of each event.
    pending: Vec<(Duration, Event)>,
}

impl Agenda {
    /// All events, none of them past.
    pub fn new(events: Vec<Event>) -> Self {
        Self { pending: events.into_iter().map(|event| (event.at, event)).collect() }
    }

    /// When the next one is due, after the start.
    pub fn next_due(&self) -> Option<Duration> {
        self.pending.iter().map(|(due, _)| *due).min()
    }

    /// The next one that is due when `elapsed` has passed since the start. Of several due at once the first written comes first.
    pub fn pop(&mut self, elapsed: Duration) -> Option<Event> {
        let due = self.next_due().filter(|due| *due <= elapsed)?;
        let index = self.pending.iter().position(|(other, _)| *other == due)?;
        let event = self.pending[index].1.clone();
        match event.every {
            Some(every) if !every.is_zero() => self.pending[index].0 = due + every,
            Some(_) | None => drop(self.pending.remove(index)),
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn event(at: u64, every: Option<Duration>, what: Happening) -> Event {
        Event { at: Duration::from_secs(at), every, path: None, what }
    }

    #[test]
    fn events_come_in_order_and_again() {
        let again = event(2, Some(Duration::from_secs(3)), Happening::Rebind(Rebinding::Silent));
        let once = event(5, None, Happening::Prefer);
        let mut agenda = Agenda::new(vec![once.clone(), again.clone()]);
        assert_eq!(agenda.pop(Duration::from_secs(1)), None);
        assert_eq!(agenda.pop(Duration::from_secs(9)), Some(again.clone()));
        assert_eq!(agenda.pop(Duration::from_secs(9)), Some(once));
        assert_eq!(agenda.pop(Duration::from_secs(9)), Some(again.clone()));
        assert_eq!(agenda.pop(Duration::from_secs(9)), Some(again));
        assert_eq!(agenda.next_due(), Some(Duration::from_secs(11)));
    }
}
