//! A world that does its worst to driving: frames late, doubled, damaged and out of order, leases of two
//! gateways, clocks that drift and jump, a disk that takes its time, restarts. It knows true time and
//! judges what moved the vehicle by what really happened, not by how the vehicle came to it.

use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{BootId, ControlState};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const MS: u64 = 1_000;

#[derive(Clone, Debug)]
enum Step {
    /// Some gateway says who may drive: the next token, or news of one granted before, ended where `ttl` is 0.
    Lease {
        newer: bool,
        which: Index,
        ttl: u64,
        behind: u64,
    },
    /// An operator asks to re-arm, by one of the nonces ever told.
    Rearm {
        which: Index,
        newest: bool,
        behind: u64,
    },
    /// Operators send so many frames, this far apart, each arriving at once or kept for later.
    Drive {
        which: Index,
        frames: u32,
        apart: u64,
        neutral: bool,
        behind: u64,
    },
    /// The newest operator sends one that takes so long, while nothing else comes.
    Late {
        neutral: bool,
        millis: u64,
    },
    /// All that arming needs, one after the other; whatever is in the way of it still is.
    Arm {
        newer: bool,
        apart: u64,
        frames: u32,
    },
    /// One of the frames ever sent arrives, perhaps damaged.
    Deliver {
        which: Index,
        damaged: bool,
    },
    Pass {
        millis: u64,
    },
    Sync,
    FailDisk,
    Stop,
    Restart {
        reboot: bool,
    },
    Backwards {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let behind = || prop_oneof![3 => Just(0_u64), 1 => 0..300_u64];
    let often = prop_oneof![
        2 => (any::<bool>(), index(), prop_oneof![1 => Just(0_u64), 4 => 200..4_000_u64], behind())
            .prop_map(|(newer, which, ttl, behind)| Step::Lease { newer, which, ttl, behind }),
        4 => (index(), prop::bool::weighted(0.8), behind())
            .prop_map(|(which, newest, behind)| Step::Rearm { which, newest, behind }),
        8 => (index(), 1..9_u32, prop_oneof![5 => 5..60_u64, 1 => 100..200_u64], any::<bool>(), behind())
            .prop_map(|(which, frames, apart, neutral, behind)| Step::Drive { which, frames, apart, neutral, behind }),
        3 => (index(), any::<bool>()).prop_map(|(which, damaged)| Step::Deliver { which, damaged }),
        3 => (any::<bool>(), 1..499_u64).prop_map(|(neutral, millis)| Step::Late { neutral, millis }),
        2 => prop_oneof![3 => 1..200_u64, 2 => 200..480_u64, 1 => 480..2_500_u64].prop_map(|millis| Step::Pass { millis }),
        4 => Just(Step::Sync),
        4 => (prop::bool::weighted(0.3), prop_oneof![4 => 10..60_u64, 1 => 140..160_u64], 4..7_u32)
            .prop_map(|(newer, apart, frames)| Step::Arm { newer, apart, frames }),
    ];
    let seldom = prop_oneof![
        1 => Just(Step::FailDisk),
        4 => Just(Step::Stop),
        2 => any::<bool>().prop_map(|reboot| Step::Restart { reboot }),
        1 => (1..300_u64).prop_map(|millis| Step::Backwards { millis }),
    ];
    prop::collection::vec(prop_oneof![12 => often, 1 => seldom], 1..120)
}

/// A frame with when it was really made; its steering says which one it is.
#[derive(Clone, Debug)]
struct Sent {
    frame: ControlFrame,
    born: u64,
}

/// A lease as it was granted, and what the vehicle has heard of it.
#[derive(Clone, Copy, Debug, Default)]
struct Granted {
    /// True end of the longest life that was delivered.
    until: u64,
    ended: bool,
    delivered: bool,
    durable: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "what is true of a world, each by itself")]
struct World {
    /// True microseconds; the vehicle's clock is `ahead` of them and runs at `rate` parts per thousand.
    time: u64,
    rate: u64,
    base: (u64, u64),
    boot: u8,
    drive: Drive,
    leases: Vec<Granted>,
    frames: Vec<Sent>,
    counters: Vec<u32>,
    nonces: Vec<NonZeroU64>,
    told: Option<DriveState>,
    keeping: Option<Token>,
    disk: Option<Token>,
    disk_is_bad: bool,
    stopped: bool,
    releasing: bool,
    /// The clock went backwards: what no note witnessed, a restart within the boot forgets.
    jumped: bool,
    /// Since the last halt: whether the nonce in force was named by a re-arm, and neutral frames since.
    rearmed: bool,
    row: Vec<u64>,
    armed: bool,
    /// By the vehicle's clock.
    fed: u64,
    followed: std::collections::BTreeMap<Token, u32>,
}

impl World {
    fn new(rate: u64) -> Self {
        let time = 100_000 * MS;
        let mut world = Self {
            time,
            rate,
            base: (time, 50_000 * MS),
            boot: 1,
            drive: Drive::recover(stamp(1, 50_000 * MS), Limits::default(), None, false, 1),
            leases: Vec::new(),
            frames: Vec::new(),
            counters: Vec::new(),
            nonces: Vec::new(),
            told: None,
            keeping: None,
            disk: None,
            disk_is_bad: false,
            stopped: false,
            releasing: false,
            jumped: false,
            rearmed: false,
            row: Vec::new(),
            armed: false,
            fed: 0,
            followed: std::collections::BTreeMap::new(),
        };
        world.settle().expect("nothing has happened");
        world
    }

    fn clock(&self) -> u64 {
        self.base.1 + (self.time - self.base.0) * self.rate / 1_000
    }

    /// A floor under the vehicle's clock, so many milliseconds behind it.
    fn floor(&self, behind: u64) -> Stamp {
        stamp(self.boot, self.clock().saturating_sub(behind * MS))
    }

    fn give(&mut self, input: Input) -> Result<(), TestCaseError> {
        self.drive.handle(Moment::from_micros(self.clock()), input);
        self.settle().map(drop)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Lease { newer, which, ttl, behind } => self.lease(newer, Some(which), ttl, behind),
            Step::Rearm { which, newest, behind } => self.rearm(Some(which).filter(|_| !newest), behind),
            Step::Drive { which, frames, apart, neutral, behind } => {
                // Mostly the newest; an operator who was taken over does not know it yet.
                let before = usize::from(which.index(8) == 0);
                self.drive_on(before, frames, apart, neutral, behind)
            }
            Step::Arm { newer, apart, frames } => {
                self.lease(newer, None, 3_000, 0)?;
                self.sync()?;
                self.rearm(None, 0)?;
                self.drive_on(0, frames, apart, true, 0)?;
                self.sync()
            }
            Step::Deliver { which, damaged } if !self.frames.is_empty() => {
                // Mostly one of the last: what is older was overtaken.
                let back = which.index(6).min(self.frames.len() - 1);
                let sent = self.frames[self.frames.len() - 1 - back].clone();
                self.deliver(&sent, damaged)
            }
            Step::Late { neutral, millis } if !self.leases.is_empty() => {
                let sent = self.send(self.leases.len(), neutral, 0);
                self.pass(millis * MS)?;
                self.deliver(&sent, false)
            }
            Step::Deliver { .. } | Step::Late { .. } => Ok(()),
            Step::Pass { millis } => self.pass(millis * MS),
            Step::Sync => self.sync(),
            Step::FailDisk => {
                self.disk_is_bad = true;
                Ok(())
            }
            Step::Stop => {
                (self.stopped, self.releasing) = (true, false);
                self.give(Input::EmergencyStop)?;
                prop_assert!(!self.armed, "ESTOP");
                Ok(())
            }
            Step::Restart { reboot } => self.restart(reboot),
            Step::Backwards { millis } => {
                self.base = (self.time, self.clock() - millis * MS);
                let was = self.armed;
                self.settle()?;
                prop_assert!(!was || !self.armed, "nobody drives by a clock that went backwards");
                (self.fed, self.jumped) = (0, true);
                Ok(())
            }
        }
    }

    fn drive_on(
        &mut self,
        before: usize,
        frames: u32,
        apart: u64,
        neutral: bool,
        behind: u64,
    ) -> Result<(), TestCaseError> {
        for _ in 0..if self.leases.is_empty() { 0 } else { frames } {
            let number = self.leases.len() - before.min(self.leases.len() - 1);
            let sent = self.send(number, neutral, behind);
            self.deliver(&sent, false)?;
            self.pass(apart * MS)?;
        }
        Ok(())
    }

    fn lease(
        &mut self,
        newer: bool,
        which: Option<Index>,
        ttl: u64,
        behind: u64,
    ) -> Result<(), TestCaseError> {
        if newer || self.leases.is_empty() {
            self.leases.push(Granted::default());
            self.counters.push(0);
        }
        let which = which.filter(|_| !newer);
        let index = which.map_or(self.leases.len() - 1, |which| which.index(self.leases.len()));
        let granted = &mut self.leases[index];
        granted.delivered = true;
        granted.ended |= ttl == 0;
        granted.until = granted.until.max(self.time + ttl * MS);
        let token = token(index);
        let lease = Lease {
            token,
            operator: String::new(),
            stamp: self.floor(behind),
            ttl: Duration::from_millis(ttl),
        };
        self.give(Input::Lease(lease))
    }

    fn rearm(&mut self, which: Option<Index>, behind: u64) -> Result<(), TestCaseError> {
        let (Some(last), false) = (self.nonces.last().copied(), self.leases.is_empty()) else {
            return Ok(());
        };
        let nonce = which.map_or(last, |which| *which.get(&self.nonces));
        let is_fresh = behind < 200;
        let was = self.drive.drive_state();
        let token = token(self.leases.len() - 1);
        let rearm = Rearm { token, nonce, stamp: self.floor(behind), ttl: Duration::from_millis(200) };
        self.drive.handle(Moment::from_micros(self.clock()), Input::Rearm(rearm));
        if was.nonce == Some(nonce) && is_fresh && self.drive.drive_state().phase == DrivePhase::Arming {
            self.settle()?;
            (self.rearmed, self.row) = (true, Vec::new());
            return Ok(());
        }
        let phase = self.drive.drive_state().phase;
        prop_assert!(
            phase != DrivePhase::Arming || was.phase == DrivePhase::Arming,
            "a bad re-arm was taken"
        );
        self.settle().map(drop)
    }

    fn send(&mut self, number: usize, neutral: bool, behind: u64) -> Sent {
        let token = token(number - 1);
        self.counters[number - 1] += 1;
        let counter = self.counters[number - 1];
        // The brake says which frame it is.
        let mark = self.frames.len() as f32 / 65_536.0;
        let controls = Controls::new(0.0, if neutral { 0.0 } else { 0.5 }, mark).expect("within range");
        let states = vec![ControlState::seal(ROAD_VEHICLE, token, counter, controls)];
        let sent = Sent { frame: ControlFrame { token, stamp: self.floor(behind), states }, born: self.time };
        self.frames.push(sent.clone());
        sent
    }

    fn deliver(&mut self, sent: &Sent, damaged: bool) -> Result<(), TestCaseError> {
        let mut frame = sent.frame.clone();
        if damaged {
            frame.states[0].throttle = 1.0;
        } else if frame.states[0].throttle == 0.0 {
            self.row.push(self.time);
        }
        let (before, fed) = (self.drive.counts().accepted, self.clock());
        self.give(Input::Control(frame))?;
        if self.drive.counts().accepted > before {
            prop_assert!(!damaged, "damaged control was accepted");
            self.judge(sent)?;
            self.fed = fed;
        }
        Ok(())
    }

    /// FENCE and FRESH, in true time.
    fn judge(&mut self, sent: &Sent) -> Result<(), TestCaseError> {
        let (token, counter) = (sent.frame.token, sent.frame.states[0].counter);
        let index = usize::try_from(token.number()).expect("few") - 1;
        let newest = self.leases.iter().rposition(|lease| lease.delivered).expect("one was");
        let lease = self.leases[index];
        prop_assert_eq!(index, newest, "FENCE: not the newest token");
        prop_assert!(lease.durable, "FENCE: the token is not on the disk");
        prop_assert!(!lease.ended && self.time <= lease.until, "FENCE: its lease is over");
        let age = self.time - sent.born;
        prop_assert!(age <= 250 * MS, "FRESH: {age} us old");
        let last = self.followed.insert(token, counter).unwrap_or(0);
        prop_assert!(counter > last, "a copy or an older one: {counter} after {last}");
        Ok(())
    }

    /// Every deadline in its moment.
    fn pass(&mut self, micros: u64) -> Result<(), TestCaseError> {
        let end = self.time + micros;
        while let Some(due) = self.settle()? {
            // The first true microsecond at which the vehicle's clock shows it.
            let left = due.as_micros().saturating_sub(self.base.1);
            let at = (self.base.0 + (left * 1_000).div_ceil(self.rate)).max(self.time + 1);
            if at > end {
                break;
            }
            self.time = at;
        }
        self.time = end;
        self.settle().map(drop)
    }

    fn sync(&mut self) -> Result<(), TestCaseError> {
        if let Some(token) = self.keeping.take() {
            if self.disk_is_bad {
                self.give(Input::KeepFailed(token))?;
            } else {
                self.disk = Some(token);
                self.leases[usize::try_from(token.number()).expect("few") - 1].durable = true;
                self.give(Input::Kept(token))?;
            }
        }
        if self.releasing {
            self.releasing = false;
            self.stopped = self.disk_is_bad;
            self.give(if self.disk_is_bad { Input::ReleaseFailed } else { Input::Released })?;
        }
        Ok(())
    }

    fn restart(&mut self, reboot: bool) -> Result<(), TestCaseError> {
        if reboot || std::mem::take(&mut self.jumped) {
            self.boot += 1;
            self.base = (self.time, 7_000 * MS);
        }
        (self.keeping, self.releasing, self.disk_is_bad) = (None, false, false);
        for lease in &mut self.leases {
            // What the vehicle has heard is what its disk says. Ends are for gateways to remember.
            (lease.delivered, lease.until) = (false, 0);
            lease.ended = false;
        }
        if let Some(token) = self.disk {
            self.leases[usize::try_from(token.number()).expect("few") - 1].delivered = true;
        }
        // It takes longer than any frame stays fresh.
        self.time += 300 * MS;
        self.followed.clear();
        (self.armed, self.rearmed) = (false, false);
        let here = stamp(self.boot, self.clock());
        let seed = u64::from(self.boot) * 1_000 + self.time;
        self.drive = Drive::recover(here, Limits::default(), self.disk, self.stopped, seed);
        self.settle().map(drop)
    }

    fn settle(&mut self) -> Result<Option<Moment>, TestCaseError> {
        let now = Moment::from_micros(self.clock());
        loop {
            match self.drive.poll(now) {
                Output::Wait(due) => {
                    let silence = self.clock().saturating_sub(self.fed);
                    prop_assert!(!self.armed || silence < 500 * MS, "WATCHDOG: {silence} us");
                    return Ok(due);
                }
                Output::Halt(_) => (self.armed, self.rearmed) = (false, false),
                Output::Arm => self.arm()?,
                Output::Control(_) => prop_assert!(self.armed, "control in the safe state"),
                Output::Keep(token) => {
                    prop_assert!(self.keeping.replace(token).is_none(), "one at a time");
                }
                Output::Release => self.releasing = true,
                Output::Tell(state) => {
                    let again =
                        self.told.is_some_and(|told| told.nonce == state.nonce && told.cause == state.cause);
                    if let Some(nonce) = state.nonce.filter(|_| !again) {
                        prop_assert!(!self.nonces.contains(&nonce), "a nonce comes twice");
                        self.nonces.push(nonce);
                    }
                    self.told = Some(state);
                }
            }
        }
    }

    fn arm(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(self.rearmed, "WATCHDOG: armed without a re-arm of its own");
        prop_assert!(!self.stopped, "ESTOP: armed while it is latched");
        prop_assert!(self.row.len() >= 5, "WATCHDOG: only {} neutral frames", self.row.len());
        let last = &self.row[self.row.len() - 5..];
        prop_assert!(last.windows(2).all(|two| two[1] - two[0] <= 151 * MS), "a gap in {last:?}");
        self.armed = true;
        self.fed = self.clock();

        Ok(())
    }
}

fn stamp(boot: u8, micros: u64) -> Stamp {
    Stamp { boot: BootId::from_bytes([boot; 16]), clock: Moment::from_micros(micros) }
}

fn token(index: usize) -> Token {
    Token::granted(index as u64 + 1).expect("not zero")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn watchdog_and_fence_hold_whatever_happens(rate in 999_u64..=1_001, steps in steps()) {
        let mut world = World::new(rate);
        for step in &steps {
            world.take(step)?;
        }
    }
}
