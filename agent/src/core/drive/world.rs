//! A drive over a bad link in virtual time: the half hour without a false stop.

use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{BootId, ControlState};
use rand_core::Rng;

use super::*;

/// Control each way: mean delay and how far it strays, in microseconds, and one loss in so many.
const DELAY: u64 = 100_000;
const JITTER: u64 = 30_000;
const ONE_LOST_IN: u64 = 20;

/// What is on its way to the vehicle, by when it arrives.
enum Letter {
    Control(ControlFrame),
    Lease(Lease),
}

struct World {
    chance: Pcg32,
    drive: Drive,
    now: u64,
    /// Letters by arrival; the number keeps those of one microsecond apart.
    under_way: std::collections::BTreeMap<(u64, u64), Letter>,
    letters: u64,
    counter: u32,
    /// When an ordered lane has its last letter: what follows comes after.
    lane_until: u64,
    last_fed: u64,
    longest_silence: u64,
    halts: Vec<(u64, SafeCause)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let here = Self::stamp(60_000_000);
        Self {
            chance: Pcg32::seed_from_u64(seed),
            drive: Drive::recover(here, Limits::default(), None, false, seed),
            now: 60_000_000,
            under_way: std::collections::BTreeMap::new(),
            letters: 0,
            counter: 0,
            lane_until: 0,
            last_fed: 0,
            longest_silence: 0,
            halts: Vec::new(),
        }
    }

    fn stamp(micros: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([1; 16]), clock: Moment::from_micros(micros) }
    }

    /// The gateway's floor under the vehicle's clock: behind by the quickest uplink seen.
    fn floor(&self) -> Stamp {
        Self::stamp(self.now - (DELAY - JITTER))
    }

    fn delay(&mut self) -> u64 {
        DELAY - JITTER + self.chance.next_u64() % (2 * JITTER + 1)
    }

    fn post(&mut self, arrives: u64, letter: Letter) {
        self.letters += 1;
        self.under_way.insert((arrives, self.letters), letter);
    }

    fn send_control(&mut self, controls: Controls) {
        self.counter += 1;
        let seal = |counter| ControlState::seal(ROAD_VEHICLE, Token::FIRST, counter, controls);
        let states = vec![seal(self.counter), seal(self.counter - 1)];
        let frame = ControlFrame { token: Token::FIRST, stamp: self.floor(), states };
        let arrives = self.now + self.delay();
        if !self.chance.next_u64().is_multiple_of(ONE_LOST_IN) {
            self.post(arrives, Letter::Control(frame));
        }
    }

    /// On a reliable lane: a loss costs a retransmission, and what follows waits.
    fn send_lease(&mut self) {
        let ttl = Duration::from_secs(2);
        let lease = Lease { token: Token::FIRST, operator: "ada".into(), stamp: self.floor(), ttl };
        let mut arrives = self.now + self.delay();
        while self.chance.next_u64().is_multiple_of(ONE_LOST_IN) {
            arrives += 3 * DELAY;
        }
        self.lane_until = self.lane_until.max(arrives);
        self.post(self.lane_until, Letter::Lease(lease));
    }

    /// Lives until `end`, with everything that arrives and every deadline in its moment.
    fn run_until(&mut self, end: u64) {
        loop {
            let due = self.settle().map_or(u64::MAX, Moment::as_micros);
            let arrival = self.under_way.keys().next().map_or(u64::MAX, |(arrives, _)| *arrives);
            let next = due.min(arrival);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if arrival <= due {
                let (_, letter) = self.under_way.pop_first().expect("it has one");
                let input = match letter {
                    Letter::Control(frame) => Input::Control(frame),
                    Letter::Lease(lease) => Input::Lease(lease),
                };
                self.drive.handle(Moment::from_micros(self.now), input);
            }
        }
    }

    fn settle(&mut self) -> Option<Moment> {
        let now = Moment::from_micros(self.now);
        loop {
            match self.drive.poll(now) {
                Output::Wait(due) => return due,
                Output::Keep(token) => self.drive.handle(now, Input::Kept(token)),
                Output::Halt(cause) => self.halts.push((self.now, cause)),
                Output::Control(controls) if controls.throttle() > 0.0 => {
                    if self.last_fed > 0 {
                        self.longest_silence = self.longest_silence.max(self.now - self.last_fed);
                    }
                    self.last_fed = self.now;
                }
                Output::Control(_) | Output::Arm | Output::Tell(_) => {}
                Output::Release => panic!("nobody has stopped it"),
            }
        }
    }

    fn phase(&self) -> DrivePhase {
        self.drive.drive_state().phase
    }

    /// Takes the lease, arms, and drives for so long at one state per `period`, in microseconds.
    fn drive(&mut self, period: u64, micros: u64) {
        self.send_lease();
        self.run_until(self.now + 1_000_000);
        let nonce = self.drive.drive_state().nonce.expect("it is safe");
        let rearm = Rearm { token: Token::FIRST, nonce, stamp: self.floor(), ttl: Duration::from_secs(1) };
        self.drive.handle(Moment::from_micros(self.now), Input::Rearm(rearm));
        let (end, mut renew_at) = (self.now + micros, self.now);
        while self.now < end {
            let is_armed = matches!(self.phase(), DrivePhase::Armed | DrivePhase::Stale);
            let going = Controls::new(0.1, 0.5, 0.0).expect("within range");
            self.send_control(if is_armed { going } else { Controls::NEUTRAL });
            if self.now >= renew_at {
                self.send_lease();
                renew_at += 500_000;
            }
            self.run_until(self.now + period);
        }
    }
}

/// Whole half hours at 5 % loss and 100 +- 30 ms, at 20 Hz and at 50 Hz. At 50 Hz frames overtake each other:
/// what was overtaken is not followed, and its state counts as lost or as recovered.
#[test]
fn half_an_hour_on_a_bad_link_has_no_false_stop() {
    for (period, seed) in [(50_000, 1), (50_000, 2), (50_000, 3), (20_000, 4)] {
        let mut world = World::new(seed);
        world.drive(period, 30 * 60 * 1_000_000);
        let counts = world.drive.counts();
        let story = format!(
            "period {period} us, seed {seed}: longest silence {} us, {counts:?}",
            world.longest_silence
        );
        assert_eq!((world.phase(), counts.halted, counts.armed), (DrivePhase::Armed, 0, 1), "{story}");
        assert_eq!(world.halts.len(), 1, "the one with which re-arming began: {:?}", world.halts);
        assert!(counts.accepted > 30 * 60 * 1_000_000 / period * 6 / 10, "{story}");
        assert!(counts.lost + counts.recovered > 0 && counts.refused.of(Refused::TooOld) == 0, "{story}");
    }
}

/// A thousand cuts of that link: the safe state comes in the very moment that the limit names.
#[test]
fn a_thousand_cuts_end_in_the_safe_state_within_the_limit() {
    let mut world = World::new(9);
    for cut in 0..1_000 {
        world.drive(50_000, 1_000_000);
        assert_eq!(world.phase(), DrivePhase::Armed, "cut {cut}");
        // What left before the cut still comes; then it is silent.
        world.run_until(world.now + DELAY + JITTER);
        let (fed, lease) = (world.last_fed, world.drive.leases().ends_at().expect("it lives").as_micros());
        world.run_until(world.now + 1_000_000);
        let (halted, cause) = *world.halts.last().expect("it was halted");
        assert_eq!(
            (halted, cause),
            (fed + 500_000, SafeCause::ControlLost),
            "cut {cut}, lease until {lease}"
        );
    }
    assert_eq!(world.drive.counts().control_lost, 1_000);
}
