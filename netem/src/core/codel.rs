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

/// Where the controller is in the pseudocode of section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Watching,
    /// The packet before this one was the first to be dropped: this one goes, whatever its delay.
    Entered,
    Dropping,
    /// The packet before this one was dropped at its time; whether the next drop is planned depends on this one.
    Dropped,
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

    /// Whether the packet at the head is to be dropped: it waited for `sojourn`, and `behind` bytes wait after it. After a yes
    /// comes the packet behind it, at the same `now`; there is one, for a drop leaves more than an MTU behind.
    pub(super) fn drops(&mut self, now: Moment, sojourn: Duration, behind: u64, mtu: u32) -> bool {
        let ripe = self.is_ripe(now, sojourn, behind, mtu);
        match self.phase {
            Phase::Watching => {
                if ripe {
                    self.start_dropping(now);
                }
                ripe
            }
            Phase::Entered => {
                self.phase = Phase::Dropping;
                false
            }
            Phase::Dropping | Phase::Dropped if !ripe => {
                self.phase = Phase::Watching;
                false
            }
            Phase::Dropping => self.drops_when_due(now),
            Phase::Dropped => {
                self.drop_next = self.control_law(self.drop_next);
                self.drops_when_due(now)
            }
        }
    }

    fn drops_when_due(&mut self, now: Moment) -> bool {
        let due = now >= self.drop_next;
        self.phase = if due { Phase::Dropped } else { Phase::Dropping };
        self.count += u32::from(due);
        due
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
        self.phase = Phase::Entered;
    }

    fn control_law(&self, from: Moment) -> Moment {
        from + self.interval.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);
    const MAX_PACKET: u32 = 1_500;

    /// What waits: when it came, and its bytes.
    type Waiting = (Moment, u32);

    /// The pseudocode of RFC 8289, sections 5.4 to 5.7, name by name.
    #[derive(Default)]
    struct Rfc {
        queue: VecDeque<Waiting>,
        first_above_time: Option<Moment>,
        drop_next: Moment,
        count: u32,
        lastcount: u32,
        dropping: bool,
    }

    impl Rfc {
        fn dodequeue(&mut self, now: Moment) -> (Option<Waiting>, bool) {
            let Some(p) = self.queue.pop_front() else {
                self.first_above_time = None;
                return (None, false);
            };
            let sojourn_time = now.since(p.0);
            let bytes: u32 = self.queue.iter().map(|(_, size)| size).sum();
            if sojourn_time < TARGET || bytes <= MAX_PACKET {
                self.first_above_time = None;
                return (Some(p), false);
            }
            let Some(first_above_time) = self.first_above_time else {
                self.first_above_time = Some(now + INTERVAL);
                return (Some(p), false);
            };
            (Some(p), now >= first_above_time)
        }

        fn control_law(t: Moment, count: u32) -> Moment {
            t + INTERVAL.div_f64(f64::from(count).sqrt())
        }

        /// How many it drops, and what it gives out.
        fn dequeue(&mut self, now: Moment) -> (usize, Option<Waiting>) {
            let mut drops = 0;
            let (mut p, mut ok_to_drop) = self.dodequeue(now);
            if self.dropping {
                if !ok_to_drop {
                    self.dropping = false;
                }
                while now >= self.drop_next && self.dropping {
                    drops += 1;
                    self.count += 1;
                    (p, ok_to_drop) = self.dodequeue(now);
                    if ok_to_drop {
                        self.drop_next = Self::control_law(self.drop_next, self.count);
                    } else {
                        self.dropping = false;
                    }
                }
            } else if ok_to_drop {
                drops += 1;
                (p, _) = self.dodequeue(now);
                self.dropping = true;
                let delta = self.count.wrapping_sub(self.lastcount);
                self.count = 1;
                if delta > 1 && now.since(self.drop_next) < 16 * INTERVAL {
                    self.count = delta;
                }
                self.drop_next = Self::control_law(now, self.count);
                self.lastcount = self.count;
            }
            (drops, p)
        }
    }

    fn dequeue(queue: &mut VecDeque<Waiting>, codel: &mut CoDel, now: Moment) -> (usize, Option<Waiting>) {
        let mut drops = 0;
        while let Some((since, size)) = queue.pop_front() {
            let behind = queue.iter().map(|(_, size)| u64::from(*size)).sum();
            if !codel.drops(now, now.since(since), behind, MAX_PACKET) {
                return (drops, Some((since, size)));
            }
            drops += 1;
        }
        (drops, None)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// Loads that change, so that the queue stands, drains and stands again.
        #[test]
        fn it_drops_what_the_rfc_drops(
            phases in prop::collection::vec((100_usize..1_500, 1_u64..6, 1_u64..40), 1..6),
            sizes in prop::collection::vec(40_u32..1_500, 1..50),
        ) {
            let (mut rfc, mut queue) = (Rfc::default(), VecDeque::new());
            let mut codel = CoDel::new(TARGET, INTERVAL);
            let (mut now, mut number) = (Moment::ZERO, 0);
            for (steps, arrivals, gap) in phases {
                for step in 0..steps {
                    now = now + Duration::from_millis(gap) / 4;
                    // One leaves per step; between one and two come, or now and then none.
                    let come = if step % 7 < arrivals as usize { 2 } else { usize::from(step % 3 == 0) };
                    for _ in 0..come {
                        let packet = (now, sizes[number % sizes.len()]);
                        number += 1;
                        rfc.queue.push_back(packet);
                        queue.push_back(packet);
                    }
                    prop_assert_eq!(dequeue(&mut queue, &mut codel, now), rfc.dequeue(now), "at {:?}", now);
                    // What is planned shows much later, if at all.
                    let planned = (codel.phase != Phase::Watching, codel.count, codel.last_count, codel.drop_next);
                    prop_assert_eq!(planned, (rfc.dropping, rfc.count, rfc.lastcount, rfc.drop_next), "at {:?}", now);
                }
            }
        }
    }
}
