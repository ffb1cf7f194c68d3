//! A host's boot clock: what a node sees of the time that only the world knows.

use carriageway_proto::{BootId, Moment, Stamp};

use crate::chance::Chance;

const MILLION: u64 = 1_000_000;

/// A host with a clock of its own rate.
#[derive(Debug)]
pub(crate) struct Host {
    boot: BootId,
    /// Readings per true second, in microseconds: within one per mille of a million.
    rate: u64,
    /// At this true time the clock showed `shown`.
    since: u64,
    shown: u64,
    /// Its processes stand still until then.
    pub(crate) suspended_until: u64,
    /// The clock went backwards in this boot.
    pub(crate) has_jumped: bool,
}

impl Host {
    /// A host that runs since a while before true time 0, with a clock off by `ppm`.
    pub(crate) fn new(ppm: i64, chance: &mut Chance) -> Self {
        let rate = MILLION.checked_add_signed(ppm).expect("a clock is off by a per mille at most");
        let mut host = Self {
            boot: BootId::from_bytes([0; 16]),
            rate,
            since: 0,
            shown: 0,
            suspended_until: 0,
            has_jumped: false,
        };
        host.reboot(0, chance);
        host.shown = chance.between(60, 100_000) * MILLION;
        host
    }

    /// Boots anew: another boot id, and the clock starts over.
    pub(crate) fn reboot(&mut self, now: u64, chance: &mut Chance) {
        self.boot = BootId::from_bytes(chance.bytes());
        self.since = now;
        self.shown = 0;
        self.has_jumped = false;
    }

    /// What the clock shows at true time `now`.
    pub(crate) fn read(&self, now: u64) -> Moment {
        Moment::from_micros(self.shown + now.saturating_sub(self.since) * self.rate / MILLION)
    }

    /// The first true time at which the clock shows `moment`, not before `now`.
    pub(crate) fn when(&self, moment: Moment, now: u64) -> u64 {
        let ahead = moment.as_micros().saturating_sub(self.shown).min(1 << 42);
        (self.since + (ahead * MILLION).div_ceil(self.rate)).max(now)
    }

    /// The reading with its boot.
    pub(crate) fn stamp(&self, now: u64) -> Stamp {
        Stamp { boot: self.boot, clock: self.read(now) }
    }

    /// Which boot this is.
    pub(crate) fn boot(&self) -> BootId {
        self.boot
    }

    /// The clock goes backwards, which no boot clock should.
    pub(crate) fn jump_back(&mut self, now: u64, by: u64) {
        self.shown = self.read(now).as_micros().saturating_sub(by).max(1);
        self.since = now;
        self.has_jumped = true;
    }

    /// The host sleeps until `until`. Its boot clock does not.
    pub(crate) fn suspend(&mut self, now: u64, until: u64) {
        // Of two that overlap the longer counts.
        self.suspended_until = self.suspended_until.max(until);
        if carriageway_proto::sabotage::on(carriageway_proto::sabotage::Sabotage::ClockStopsInSuspend) {
            self.shown = self.read(now).as_micros().saturating_sub(until - now).max(1);
            self.since = now;
        }
    }
}
