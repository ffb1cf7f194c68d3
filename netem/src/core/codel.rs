//! Controlled delay: drops from the head of a queue whose delay does not fall (RFC 8289, section 5).

use std::time::Duration;

use super::moment::Moment;

/// The controller's state; one call per packet that leaves the queue.
#[derive(Clone, Debug)]
pub(super) struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the delay will have been above target for a whole interval.
    first_above: Option<Moment>,
    phase: Phase,
    count: u32,
    last_count: u32,
    drop_next: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Watching,
    Dropping,
}

impl CoDel {
    pub(super) const fn new(target: Duration, interval: Duration) -> Self {
        Self {
            target,
            interval,
            first_above: None,
            phase: Phase::Watching,
            count: 0,
            last_count: 0,
            drop_next: Moment::ZERO,
        }
    }

    /// Whether the packet at the head is to be dropped: it waited for `sojourn`, and `behind` bytes wait after it.
    pub(super) fn drops(&mut self, now: Moment, sojourn: Duration, behind: u64, mtu: u32) -> bool {
        let ripe = self.is_ripe(now, sojourn, behind, mtu);
        match self.phase {
            Phase::Dropping if !ripe => {
                self.phase = Phase::Watching;
                false
            }
            Phase::Dropping => {
                let due = now >= self.drop_next;
                if due {
                    self.count += 1;
                    self.drop_next = self.control_law(self.drop_next);
                }
                due
            }
            Phase::Watching => {
                if ripe {
                    self.start_dropping(now);
                }
                ripe
            }
        }
    }

    /// Whether the delay has been above target for an interval.
    fn is_ripe(&mut self, now: Moment, sojourn: Duration, behind: u64, mtu: u32) -> bool {
        if sojourn < self.target || behind <= u64::from(mtu) {
            self.first_above = None;
            return false;
        }
        match self.first_above {
            None => {
                self.first_above = Some(now + self.interval);
                false
            }
            Some(moment) => now >= moment,
        }
    }

    /// Starts near the drop rate that worked last time, if that was recent.
    fn start_dropping(&mut self, now: Moment) {
        let delta = self.count.saturating_sub(self.last_count);
        let recent = now.since(self.drop_next) < self.interval * 16;
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = self.control_law(now);
        self.phase = Phase::Dropping;
    }

    fn control_law(&self, from: Moment) -> Moment {
        from + self.interval.div_f64(f64::from(self.count).sqrt())
    }
}
