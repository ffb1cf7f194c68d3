//! A world that does its worst to the executor: copies, delays, crashes, reboots, a disk that forgets what
//! was not synced or fails for good, a clock that goes backwards, withdrawals, leases that change hands, commands
//! out of order. The world knows true time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use carriageway_proto::{BootId, Cancel, Command, Outcome, Phase, Reason, SignalPath, Token, Value};
use proptest::prelude::*;

use super::*;
use crate::core::vehicle::{Applied, EMERGENCY_STOP, Target};

#[derive(Clone, Debug)]
enum Step {
    /// An operator wants something new.
    Wish {
        class: Class,
        ttl: u64,
        path: u8,
        value: i64,
    },
    /// The gateway stamps a copy of some wish, by a floor that is `behind` the vehicle's clock.
    Copy {
        wish: prop::sample::Index,
        behind: u64,
    },
    /// One of the copies ever made reaches the vehicle.
    Deliver {
        copy: prop::sample::Index,
    },
    /// Somebody withdraws a wish, or whatever has its key.
    Cancel {
        wish: prop::sample::Index,
        exactly: bool,
    },
    /// The lease goes to the next token, or is renewed, or ends.
    Lease {
        grant: bool,
        millis: u64,
    },
    /// Something that is no command moves a path.
    TakeOver {
        path: u8,
    },
    Pass {
        millis: u64,
    },
    Sync {
        writes: usize,
    },
    Finish {
        which: prop::sample::Index,
    },
    Arrive,
    Crash {
        survivors: usize,
        reboot: bool,
        down: u64,
    },
    Backwards {
        millis: u64,
    },
    FailDisk,
    /// The vehicle was re-armed.
    Release,
}

fn meddling() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(wish, exactly)| Step::Cancel { wish, exactly }),
        2 => (any::<bool>(), 0..3_000_u64).prop_map(|(grant, millis)| Step::Lease { grant, millis }),
        1 => (0..3_u8).prop_map(|path| Step::TakeOver { path }),
        1 => (1..2_000_u64).prop_map(|millis| Step::Backwards { millis }),
    ]
}

fn steps(with_bad_disk: bool) -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![
        6 => Just(Class::Body),
        2 => Just(Class::Comfort),
        3 => Just(Class::Drive),
        1 => Just(Class::Safety),
    ];
    let ttl = prop_oneof![Just(300_u64), Just(2_000), Just(6_000)];
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (class, ttl, 0..3_u8, 0..2_i64)
            .prop_map(|(class, ttl, path, value)| Step::Wish { class, ttl, path, value }),
        5 => meddling(),
        6 => (index(), 0..400_u64).prop_map(|(wish, behind)| Step::Copy { wish, behind }),
        12 => index().prop_map(|copy| Step::Deliver { copy }),
        5 => (1..1_500_u64).prop_map(|millis| Step::Pass { millis }),
        8 => (1..6_usize).prop_map(|writes| Step::Sync { writes }),
        5 => index().prop_map(|which| Step::Finish { which }),
        3 => Just(Step::Arrive),
        2 => (0..4_usize, any::<bool>(), 0..3_000_u64)
            .prop_map(|(survivors, reboot, down)| Step::Crash { survivors, reboot, down }),
        2 => any::<bool>().prop_map(move |fail| if fail && with_bad_disk { Step::FailDisk } else { Step::Release }),
    ];
    prop::collection::vec(step, 1..120)
}

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
        self.effects.values_mut().for_each(|effect| effect.stands = false);
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

    /// A stop on the disk that holds the latch.
    fn holding(&self) -> Option<&Record> {
        self.disk.values().find(|record| record.holds_the_latch() && record.may_have_acted())
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        loop {
            match self.executor.poll(self.here().clock) {
                Output::Wait(_) => {
                    prop_assert!(self.executor.entries.are_counted());
                    return Ok(());
                }
                Output::Stop(actuation) => self.moving.push(actuation),
                Output::Apply { actuation, target } => self.act(actuation, &target)?,
                Output::Write { id, record } => {
                    if let Some(Verdict { reason: Some(Reason::Duplicate), detail, .. }) = &record.verdict {
                        self.is_duplicate(record.key(), detail)?;
                    }
                    self.unsynced.push((id, *record));
                }
                Output::Tell { outcome, .. } => self.hear(&outcome)?,
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

    fn act(&mut self, actuation: Actuation, target: &Target) -> Result<(), TestCaseError> {
        let (_, key) = self.executor.acting[&actuation].clone();
        let own = self.executor.entries[&key].record.command().expect("only a command acts").clone();
        prop_assert_eq!(&Target::from(&own), target);
        self.in_order_and_alone(&own)?;
        let wish = self.wishes.iter().find(|wish| wish.command.key == key).expect("somebody wished it");
        let Wish { command, born } = wish;
        let age = Duration::from_millis(self.time - born);
        prop_assert!(age <= command.ttl, "FRESH: {} acted {age:?} after its birth", command.key);
        let times = self.executed.entry(command.key.clone()).or_default();
        *times += 1;
        prop_assert_eq!(*times, 1, "ONCE: {}", &command.key);
        prop_assert_eq!(
            self.disk.get(&command.key).map(|record| &record.verdict),
            Some(&None),
            "intent first"
        );
        for phase in self.told.get(&command.key).into_iter().flatten() {
            prop_assert!(!phase.is_terminal(), "{} acted after {phase} was told", command.key);
        }
        self.moving.push(actuation);
        self.acted_at.insert(key.clone(), self.time);
        let effect =
            LastEffect { key: Some(key), value: own.value.clone(), at: self.time, stands: !self.jumped };
        self.effects.insert(own.path.clone(), effect);
        self.executor.handle(self.here().clock, Input::Applied { actuation, applied: Applied::Moving });
        Ok(())
    }

    /// ORDER, FENCE and DEBOUNCE of a command that is about to act.
    fn in_order_and_alone(&mut self, own: &Command) -> Result<(), TestCaseError> {
        let drives = own.class == Class::Drive;
        if drives {
            let (newest, until) = self.lease.expect("FENCE: nobody has a lease");
            prop_assert!(own.token == Some(newest) && self.here().clock < until, "FENCE: {}", own.key);
        }
        if own.order > 0 {
            let place = (own.token, own.order);
            let last = self.acted.insert(own.class, place);
            prop_assert!(last < Some(place), "ORDER: {} acted after {last:?}", own.key);
        }
        if let Some(last) = self.effects.get(&own.path).filter(|last| last.stands && !drives) {
            let same = last.value == own.value && self.is_of_class(last.key.as_ref(), own.class);
            let early = self.time - last.at < 500;
            prop_assert!(!(same && early), "DEBOUNCE: {} acted after {:?}", own.key, last.key);
        }
        Ok(())
    }

    fn is_of_class(&self, key: Option<&CommandKey>, class: Class) -> bool {
        self.wishes.iter().any(|wish| Some(&wish.command.key) == key && wish.command.class == class)
    }

    /// A lone command is never held back: a duplicate is one of what was brought about a moment ago.
    fn is_duplicate(&mut self, key: &CommandKey, detail: &str) -> Result<(), TestCaseError> {
        if !self.duplicates.insert(key.clone()) || self.jumped {
            return Ok(());
        }
        let named = detail.strip_prefix("already brought about by command ").expect("it names the other");
        let wish =
            |key: &str| &self.wishes.iter().find(|wish| wish.command.key.as_str() == key).unwrap().command;
        let (own, other) = (wish(key.as_str()), wish(named));
        prop_assert_eq!((own.class, &own.path, &own.value), (other.class, &other.path, &other.value));
        let at = self.acted_at.get(&other.key).expect("DEBOUNCE: of what never acted");
        prop_assert!(self.time - at < 500, "DEBOUNCE: {key} was alone");
        Ok(())
    }

    fn hear(&mut self, outcome: &Outcome) -> Result<(), TestCaseError> {
        let key = &outcome.key;
        if outcome.reason == Some(Reason::Duplicate) {
            self.is_duplicate(key, &outcome.detail)?;
        }
        if outcome.phase == Phase::Succeeded {
            let durable = self.disk.get(key).and_then(|record| record.verdict.as_ref());
            prop_assert_eq!(
                durable.map(|verdict| verdict.phase),
                Some(Phase::Succeeded),
                "ACK-TRUTH: {}",
                key
            );
        }
        let is_stop = |wish: &Wish| wish.command.key == *key && wish.command.class == Class::Safety;
        let is_released = self.disk.get(key).is_some_and(|record| record.released);
        self.latched |= outcome.phase == Phase::Succeeded && !is_released && self.wishes.iter().any(is_stop);
        let known = !self.forgotten.contains(key);
        let refused = matches!(outcome.phase, Phase::Expired | Phase::Rejected | Phase::Canceled);
        prop_assert!(
            !(refused && known && self.executed.contains_key(key)),
            "{key} acted, then {}",
            outcome.phase
        );
        if known {
            self.told.entry(key.clone()).or_default().insert(outcome.phase);
        }
        if outcome.phase.is_terminal() {
            self.unarrived.insert(key.clone());
        }
        Ok(())
    }
}

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
