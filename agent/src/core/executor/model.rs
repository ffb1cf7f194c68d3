//! A world that does its worst to the executor: copies, delays, crashes, reboots, a disk that forgets what
//! was not synced or fails for good, a clock that goes backwards, withdrawals, leases that change hands, commands
//! out of order. The world knows true time.

mod judged;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carriageway_proto::{BootId, Cancel, Command, Phase, Reason, SignalPath, Token, Value};
use proptest::prelude::*;

use self::steps::{Step, steps};
use super::*;
use crate::core::vehicle::EMERGENCY_STOP;

struct Wish {
    command: Command,
    born: u64,
}

struct LastEffect {
    key: Option<CommandKey>,
    value: Value,
    at: u64,
    /// Of the run of the executor that is going on, and not known to have failed.
    stands: bool,
}

struct World {
    /// True milliseconds, and how far the vehicle's clock is behind them.
    time: u64,
    offset: u64,
    boot: u8,
    jumped: bool,
    executor: Executor,
    disk: BTreeMap<CommandKey, Record>,
    unsynced: Vec<(WriteId, Record)>,
    disk_is_bad: bool,
    wishes: Vec<Wish>,
    copies: Vec<Command>,
    moving: Vec<Actuation>,
    executed: BTreeMap<CommandKey, usize>,
    told: BTreeMap<CommandKey, BTreeSet<Phase>>,
    unarrived: BTreeSet<CommandKey>,
    forgotten: BTreeSet<CommandKey>,
    /// The place in the order that the next copy gets, and the highest that has acted.
    order: u64,
    acted: BTreeMap<Class, (Option<Token>, u64)>,
    /// The newest token, and until when its lease lives by the vehicle's clock, as the executor was told.
    token: u64,
    lease: Option<(Token, Moment)>,
    /// The last effect on each path; `None` in place of the key: by no command.
    effects: BTreeMap<SignalPath, LastEffect>,
    /// When each command acted, and those called duplicates.
    acted_at: BTreeMap<CommandKey, u64>,
    duplicates: BTreeSet<CommandKey>,
    /// An emergency stop was told to have succeeded: no restart may release it.
    latched: bool,
    /// Releases under way: after a crash only the disk can say how far they came.
    releases: usize,
}

impl World {
    fn new() -> Self {
        let offset = 1_000_000;
        let here = Stamp { boot: BootId::from_bytes([0; 16]), clock: Moment::from_micros(50_000_000) };
        Self {
            time: offset + 50_000,
            offset,
            boot: 0,
            jumped: false,
            executor: Executor::recover(here, PolicyTable::defaults(), limits(), Vec::new()),
            disk: BTreeMap::new(),
            unsynced: Vec::new(),
            disk_is_bad: false,
            wishes: Vec::new(),
            copies: Vec::new(),
            moving: Vec::new(),
            executed: BTreeMap::new(),
            told: BTreeMap::new(),
            unarrived: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            order: 0,
            acted: BTreeMap::new(),
            token: 0,
            lease: None,
            effects: BTreeMap::new(),
            acted_at: BTreeMap::new(),
            duplicates: BTreeSet::new(),
            latched: false,
            releases: 0,
        }
    }

    fn here(&self) -> Stamp {
        let clock = Moment::from_micros((self.time - self.offset) * 1_000);
        Stamp { boot: BootId::from_bytes([self.boot; 16]), clock }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Wish { class, ttl, path, value } => self.wish(class, ttl, path, value),
            Step::Cancel { wish, exactly } => self.cancel(wish, exactly),
            Step::Lease { grant, millis } => self.change_lease(grant, millis),
            Step::TakeOver { path } => self.take_over(path),
            Step::Copy { wish, behind } => self.copy(wish, behind),
            Step::Deliver { copy } if !self.copies.is_empty() => {
                let command = copy.get(&self.copies).clone();
                self.executor.handle(self.here().clock, Input::Command { lane: command.class, command });
            }
            Step::Pass { millis } => self.time += millis,
            Step::Sync { writes } => self.sync(writes)?,
            Step::Finish { which } if !self.moving.is_empty() => {
                let actuation = self.moving.remove(which.index(self.moving.len()));
                self.executor.handle(self.here().clock, Input::Finished { actuation, result: Ok(()) });
            }
            Step::Deliver { .. } | Step::Finish { .. } => {}
            Step::Arrive => {
                for key in std::mem::take(&mut self.unarrived) {
                    self.executor.handle(self.here().clock, Input::Arrived(key));
                }
            }
            Step::Crash { survivors, reboot, down } => self.crash(survivors, reboot, down)?,
            Step::Backwards { millis } => {
                self.offset = (self.offset + millis).min(self.time);
                self.jumped = true;
            }
            Step::FailDisk => self.disk_is_bad = true,
            Step::Release => {
                self.releases += 1;
                self.executor.handle(self.here().clock, Input::Release);
            }
        }
        self.settle()
    }

    fn cancel(&mut self, wish: prop::sample::Index, exactly: bool) {
        if self.wishes.is_empty() {
            return;
        }
        let command = &wish.get(&self.wishes).command;
        let fingerprint = exactly.then(|| command.fingerprint());
        let cancel = Cancel { key: command.key.clone(), class: command.class, fingerprint };
        let lane = command.class;
        self.executor.handle(self.here().clock, Input::Cancel { lane, cancel });
    }

    fn change_lease(&mut self, grant: bool, millis: u64) {
        self.token += u64::from(grant || self.token == 0);
        let newest = Token::granted(self.token).expect("it is not zero");
        let until = self.here().clock + Duration::from_millis(millis);
        self.lease = Some((newest, until));
        let input = Input::Fence { newest: Some(newest), lease_lives_until: Some(until) };
        self.executor.handle(self.here().clock, input);
    }

    fn take_over(&mut self, path: u8) {
        let path: SignalPath = format!("Vehicle.Thing{path}").parse().unwrap();
        let nobody = LastEffect { key: None, value: Value::Int(-1), at: self.time, stands: false };
        self.effects.insert(path.clone(), nobody);
        self.executor.handle(self.here().clock, Input::TakenOver(path));
    }

    fn wish(&mut self, class: Class, ttl: u64, path: u8, value: i64) {
        let number = self.wishes.len();
        let safety = class == Class::Safety;
        let path = if safety { EMERGENCY_STOP.into() } else { format!("Vehicle.Thing{path}") };
        let command = Command {
            key: format!("k{number}").parse().unwrap(),
            class,
            path: path.parse().unwrap(),
            value: if safety { Value::Bool(true) } else { Value::Int(value) },
            stamp: self.here(),
            ttl: Duration::from_millis(ttl),
            operator: String::new(),
            token: None,
            order: 0,
        };
        self.wishes.push(Wish { command, born: self.time });
    }

    fn copy(&mut self, wish: prop::sample::Index, behind: u64) {
        if self.wishes.is_empty() {
            return;
        }
        self.order += 1;
        let Wish { command, born } = wish.get(&self.wishes);
        let left = command.ttl.saturating_sub(Duration::from_millis(self.time - born));
        if left.is_zero() {
            return; // a gateway never forwards what has expired
        }
        let Stamp { boot, clock } = self.here();
        let stamp = Stamp { boot, clock: clock - Duration::from_millis(behind) };
        // Every seventh is out of the order; a gateway that is behind gives an older token.
        let order = if self.order.is_multiple_of(7) { 0 } else { self.order };
        let token = Token::granted(self.token - u64::from(self.token > 1 && behind > 300));
        let token = token.filter(|_| command.class == Class::Drive);
        self.copies.push(Command { stamp, ttl: left, token, order, ..command.clone() });
    }

    fn sync(&mut self, writes: usize) -> Result<(), TestCaseError> {
        for _ in 0..writes.min(self.unsynced.len()) {
            let (id, record) = self.unsynced.remove(0);
            if self.disk_is_bad {
                self.executor.handle(self.here().clock, Input::WriteFailed(id));
            } else {
                self.disk.insert(record.key().clone(), record);
                self.executor.handle(self.here().clock, Input::Written(id));
            }
            self.settle()?;
        }
        Ok(())
    }

    fn crash(&mut self, survivors: usize, reboot: bool, down: u64) -> Result<(), TestCaseError> {
        for (_, record) in std::mem::take(&mut self.unsynced).into_iter().take(survivors) {
            self.disk.insert(record.key().clone(), record);
        }
        if std::mem::take(&mut self.disk_is_bad) {
            // What a bad disk could not record is gone. The copies that could tell are the old session's.
            self.told.clear();
            self.copies.clear();
            self.acted.clear();
        }
        self.nothing_stands();
        self.lease = None;
        self.moving.clear();
        self.unarrived.clear();
        self.time += down;
        // A jump that no record witnessed is forgotten by a restart, as the executor's documentation says.
        if reboot || self.jumped {
            self.jumped = false;
            self.boot += 1;
            self.offset = self.time - down / 2;
        }
        let journal = self.disk.values().cloned().collect();
        self.executor = Executor::recover(self.here(), PolicyTable::defaults(), limits(), journal);
        if std::mem::take(&mut self.releases) > 0 {
            self.latched &= self.holding().is_some();
        }
        if self.latched {
            let first = self.executor.poll(self.here().clock);
            prop_assert!(matches!(first, Output::Stop(_)), "ESTOP: first after a restart is {first:?}");
        }
        Ok(())
    }

    /// A restart, or a stop, which halts whatever moves: what was brought about need not hold any more, and may be asked for again.
    fn nothing_stands(&mut self) {
        self.effects.values_mut().for_each(|effect| effect.stands = false);
    }

    /// A stop on the disk that holds the latch.
    fn holding(&self) -> Option<&Record> {
        self.disk.values().find(|record| record.holds_the_latch() && record.may_have_acted())
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        loop {
            match self.executor.poll(self.here().clock) {
                Output::Wait(_) => {
                    let owed = || Class::ALL.into_iter().find_map(|class| self.executor.next_owed(class));
                    let Some(outcome) = (self.unarrived.len() < LATE).then(owed).flatten() else {
                        prop_assert!(self.executor.entries.are_counted());
                        return self.nothing_is_forgotten_to_be_told();
                    };
                    self.hear(&outcome)?;
                }
                Output::Stop(actuation) => {
                    self.nothing_stands();
                    self.moving.push(actuation);
                }
                Output::Apply { actuation, target } => self.act(actuation, &target)?,
                Output::Write { id, record } => {
                    if let Some(Verdict { reason: Some(Reason::Duplicate), detail, .. }) = &record.verdict {
                        self.is_duplicate(record.key(), detail)?;
                    }
                    self.unsynced.push((id, *record));
                }
                Output::Tell { outcome, .. } if self.unarrived.len() < ROOM => self.hear(&outcome)?,
                Output::Tell { outcome, .. } => {
                    self.executor.handle(self.here().clock, Input::Untold(outcome));
                }
                Output::Released(true) => {
                    let holding = self.holding();
                    prop_assert!(holding.is_none(), "ESTOP: released, but {holding:?} is on the disk");
                    (self.latched, self.releases) = (false, 0);
                }
                Output::Released(false) => prop_assert!(self.disk_is_bad, "a good disk releases"),
                Output::Forget(key) => {
                    self.disk.remove(&key);
                    self.forgotten.insert(key);
                }
            }
        }
    }
}

/// So many ends are on their way at most, and so many of them that were not told when they came about.
const ROOM: usize = 5;
const LATE: usize = 3;

fn limits() -> Limits {
    Limits { admitted: 6, refused: 3, remember: Duration::ZERO }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn once_fresh_and_true_under_copies_crashes_and_reboots(steps in steps(false)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
        while !world.unarrived.is_empty() {
            world.take(&Step::Arrive)?;
        }
        prop_assert_eq!(world.executor.owed(), 0, "everything arrives in the end");
        for (key, phases) in &world.told {
            let ends: Vec<_> = phases.iter().filter(|phase| phase.is_terminal()).collect();
            prop_assert!(ends.len() <= 1, "ACK-TRUTH: {key} was told {ends:?}");
        }
    }

    #[test]
    fn once_fresh_and_true_on_a_disk_that_fails(steps in steps(true)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
    }

    /// BOUND: no flood of distinct commands grows what is remembered.
    #[test]
    fn memory_is_bounded(count in 1..200_usize) {
        let mut world = World::new();
        for number in 0..count {
            world.wish(Class::Body, 6_000, 0, i64::try_from(number).unwrap());
            let command = world.wishes.last().expect("it was just made").command.clone();
            world.executor.handle(world.here().clock, Input::Command { lane: Class::Body, command });
            world.settle()?;
        }
        prop_assert!(world.executor.remembered() <= limits().admitted + limits().refused);
    }
}
