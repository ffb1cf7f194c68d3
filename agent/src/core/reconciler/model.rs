//! A world that does its worst to the reconciler: old and doubled copies of what is desired, two gateways that know
//! nothing of each other, crashes, reboots, a disk that forgets what was not synced, commands that meddle, emergency
//! stops. The world knows true time.

use std::collections::{BTreeMap, BTreeSet};

use carriageway_proto::{BootId, DesiredValue, Stamp};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// An operator wants something else of a path.
    Change {
        gateway: usize,
        path: usize,
        value: i64,
        ttl: Option<u64>,
    },
    /// Nothing is wanted of a path any more.
    Drop {
        gateway: usize,
        path: usize,
    },
    /// A gateway makes a copy of all that is wanted, by a floor that is `behind` the vehicle's clock.
    Copy {
        gateway: usize,
        behind: u64,
    },
    /// One of the copies ever made reaches the vehicle.
    Deliver {
        copy: prop::sample::Index,
    },
    Read {
        path: usize,
    },
    Command {
        path: usize,
        value: i64,
    },
    Latch {
        latched: bool,
    },
    Pass {
        millis: u64,
    },
    Sync {
        writes: usize,
    },
    Finish,
    Crash {
        survivors: usize,
        reboot: bool,
        down: u64,
    },
}

const PATHS: usize = 3;
const GATEWAYS: usize = 2;

/// The vehicle is mostly at the first.
fn gateway() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => Just(1)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ttl = prop_oneof![Just(None), Just(Some(400_u64)), Just(Some(5_000))];
    let meddling = prop_oneof![
        3 => (0..PATHS).prop_map(|path| Step::Read { path }),
        2 => (0..PATHS, 0..3_i64).prop_map(|(path, value)| Step::Command { path, value }),
        1 => any::<bool>().prop_map(|latched| Step::Latch { latched }),
        2 => Just(Step::Finish),
    ];
    let step = prop_oneof![
        4 => (gateway(), 0..PATHS, 0..3_i64, ttl)
            .prop_map(|(gateway, path, value, ttl)| Step::Change { gateway, path, value, ttl }),
        1 => (gateway(), 0..PATHS).prop_map(|(gateway, path)| Step::Drop { gateway, path }),
        5 => (gateway(), 0..300_u64).prop_map(|(gateway, behind)| Step::Copy { gateway, behind }),
        8 => any::<prop::sample::Index>().prop_map(|copy| Step::Deliver { copy }),
        6 => meddling,
        4 => (1..800_u64).prop_map(|millis| Step::Pass { millis }),
        6 => (1..5_usize).prop_map(|writes| Step::Sync { writes }),
        2 => (0..4_usize, any::<bool>(), 0..2_000_u64)
            .prop_map(|(survivors, reboot, down)| Step::Crash { survivors, reboot, down }),
    ];
    prop::collection::vec(step, 1..120)
}

/// One version of one path.
#[derive(Clone)]
struct Version {
    value: i64,
    born: u64,
    ttl: Option<u64>,
}

/// What one gateway knows: the version of all, and the one that each path is to have now.
#[derive(Default)]
struct Gateway {
    version: u64,
    desired: BTreeMap<usize, u64>,
}

struct World {
    /// True milliseconds, and how far the vehicle's clock is behind them.
    time: u64,
    offset: u64,
    boot: u8,
    reconciler: Reconciler,
    buckets: ClassMap<Bucket>,
    disk: Past,
    unsynced: Vec<Output>,
    /// Every version ever.
    versions: BTreeMap<(usize, u64), Version>,
    gateways: [Gateway; GATEWAYS],
    copies: Vec<Input>,
    /// The vehicle's own state, and what it moves to.
    values: [i64; PATHS],
    moving: Vec<(Actuation, usize, i64)>,
    latched: bool,
    acted: BTreeSet<(usize, u64)>,
    /// Versions that were told to be done with.
    told: BTreeSet<(usize, u64)>,
    /// Paths whose last version here is older than a command.
    commanded: BTreeSet<usize>,
    delivered: BTreeMap<usize, u64>,
}

fn name(path: usize) -> SignalPath {
    format!("Vehicle.Thing{path}").parse().unwrap()
}

fn number_of(path: &SignalPath) -> usize {
    path.as_str().strip_prefix("Vehicle.Thing").unwrap().parse().unwrap()
}

impl World {
    fn new() -> Self {
        let now = Moment::from_micros(50_000_000);
        let policy = PolicyTable::defaults();
        let judge = Judge::new(BootId::from_bytes([0; 16]), now, now);
        Self {
            time: 1_050_000,
            offset: 1_000_000,
            boot: 0,
            reconciler: Reconciler::recover(judge, policy, Past::default(), false),
            buckets: ClassMap::from_fn(|class| Bucket::full(&policy[class], now)),
            disk: Past::default(),
            unsynced: Vec::new(),
            versions: BTreeMap::new(),
            gateways: Default::default(),
            copies: Vec::new(),
            values: [0; PATHS],
            moving: Vec::new(),
            latched: false,
            acted: BTreeSet::new(),
            told: BTreeSet::new(),
            commanded: BTreeSet::new(),
            delivered: BTreeMap::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment::from_micros((self.time - self.offset) * 1_000)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Change { gateway, path, value, ttl } => {
                let version = self.next_version(gateway);
                self.versions.insert((path, version), Version { value, born: self.time, ttl });
                self.gateways[gateway].desired.insert(path, version);
            }
            Step::Drop { gateway, path } => {
                self.next_version(gateway);
                self.gateways[gateway].desired.remove(&path);
            }
            Step::Copy { gateway, behind } => self.copy(gateway, behind),
            Step::Deliver { copy } if !self.copies.is_empty() => {
                let input = copy.get(&self.copies).clone();
                self.deliver(input);
            }
            Step::Deliver { .. } => {}
            Step::Read { path } => self.read(path),
            Step::Command { path, value } => self.command(path, value),
            Step::Latch { latched } => {
                self.latched = latched;
                self.reconciler.handle(self.now(), Input::Latched(latched));
            }
            Step::Pass { millis } => self.time += millis,
            Step::Sync { writes } => self.sync(writes)?,
            Step::Finish => self.finish(),
            Step::Crash { survivors, reboot, down } => self.crash(survivors, reboot, down),
        }
        self.settle()
    }

    /// Above what the vehicle reports. Each gateway gives out numbers of its own, so that one says one thing.
    fn next_version(&mut self, gateway: usize) -> u64 {
        let known = self.gateways[gateway].version.max(self.reconciler.version);
        let round = known / GATEWAYS as u64 + 1;
        self.gateways[gateway].version = round * GATEWAYS as u64 + gateway as u64;
        self.gateways[gateway].version
    }

    fn copy(&mut self, gateway: usize, behind: u64) {
        let Gateway { version, desired } = &self.gateways[gateway];
        let clock = self.now() - Duration::from_millis(behind);
        let stamp = Stamp { boot: BootId::from_bytes([self.boot; 16]), clock };
        let wanted = |(path, version): (&usize, &u64)| {
            let Version { value, born, ttl } = self.versions[&(*path, *version)].clone();
            let left = ttl.map(|ttl| Duration::from_millis(ttl.saturating_sub(self.time - born)));
            // A gateway never forwards what has expired.
            left.is_none_or(|left| !left.is_zero()).then(|| {
                let value = Value::Int(value);
                let value = DesiredValue { path: name(*path), value, version: *version, stamp, ttl: left };
                Wanted { value, class: Some(Class::Comfort) }
            })
        };
        let values = desired.iter().filter_map(wanted).collect();
        self.copies.push(Input::Desired { version: *version, values });
    }

    fn deliver(&mut self, input: Input) {
        let Input::Desired { values, version } = &input else { panic!("only what is desired is copied") };
        // An older one than the vehicle knows of says nothing to it.
        let counts = *version >= self.reconciler.version;
        for Wanted { value, .. } in values.iter().filter(|_| counts) {
            let path = number_of(&value.path);
            let last = self.delivered.entry(path).or_default();
            if value.version > *last {
                *last = value.version;
                self.commanded.remove(&path);
            }
        }
        self.reconciler.handle(self.now(), input);
    }

    fn read(&mut self, path: usize) {
        let reading = (name(path), Value::Int(self.values[path]));
        self.reconciler.handle(self.now(), Input::Readings(vec![reading]));
    }

    fn command(&mut self, path: usize, value: i64) {
        self.moving.retain(|(_, other, _)| *other != path);
        self.values[path] = value;
        let agrees =
            self.delivered.get(&path).is_some_and(|version| self.versions[&(path, *version)].value == value);
        if !agrees {
            self.commanded.insert(path);
        }
        self.reconciler.handle(
            self.now(),
            Input::Commanded { path: name(path), value: Value::Int(value), moving: None },
        );
    }

    fn finish(&mut self) {
        for (actuation, path, value) in std::mem::take(&mut self.moving) {
            self.values[path] = value;
            self.reconciler.handle(self.now(), Input::Finished { actuation, result: Ok(()) });
        }
    }

    fn sync(&mut self, writes: usize) -> Result<(), TestCaseError> {
        for _ in 0..writes.min(self.unsynced.len()) {
            let write = self.unsynced.remove(0);
            self.persist(&write);
            if let Output::Decide { id, .. } = write {
                self.reconciler.handle(self.now(), Input::Written(id));
            }
            self.settle()?;
        }
        Ok(())
    }

    fn persist(&mut self, write: &Output) {
        match write {
            Output::Decide { path, version, .. } => {
                let kept = self.disk.decided.entry(path.clone()).or_default();
                *kept = (*kept).max(*version);
            }
            Output::Forget { path, floor } => {
                self.disk.decided.remove(path);
                self.disk.floor = self.disk.floor.max(*floor);
            }
            Output::Apply { .. } | Output::Report(_) | Output::Wait(_) => panic!("no write"),
        }
    }

    fn crash(&mut self, survivors: usize, reboot: bool, down: u64) {
        for write in std::mem::take(&mut self.unsynced).iter().take(survivors) {
            self.persist(write);
        }
        self.moving.clear();
        self.commanded.clear();
        self.delivered.clear();
        self.time += down;
        if reboot {
            self.boot += 1;
            self.offset = self.time - down / 2;
        }
        let judge = Judge::new(BootId::from_bytes([self.boot; 16]), self.now(), self.now());
        self.reconciler =
            Reconciler::recover(judge, PolicyTable::defaults(), self.disk.clone(), self.latched);
        self.buckets = ClassMap::from_fn(|_| Bucket::empty(self.now()));
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        loop {
            match self.reconciler.poll(self.now(), &mut self.buckets) {
                Output::Wait(_) => return Ok(()),
                Output::Apply { actuation, target } => self.act(actuation, &target)?,
                Output::Report(report) => self.hear(&report),
                write @ (Output::Decide { .. } | Output::Forget { .. }) => self.unsynced.push(write),
            }
        }
    }

    fn act(&mut self, actuation: Actuation, target: &Target) -> Result<(), TestCaseError> {
        let path = number_of(&target.path);
        let version = self.reconciler.paths[&target.path].wanted.value.version;
        let Version { value, born, ttl } = self.versions[&(path, version)].clone();
        prop_assert_eq!(&target.value, &Value::Int(value));
        let age = self.time - born;
        prop_assert!(ttl.is_none_or(|ttl| age <= ttl), "FRESH: {path} acted {age} ms after its change");
        let newest = self.acted.range((path, 0)..=(path, u64::MAX)).next_back().map(|(_, version)| *version);
        prop_assert!(newest < Some(version), "ONCE: {path} acted for {version} after {newest:?}");
        self.acted.insert((path, version));
        prop_assert_eq!(self.disk.decided.get(&target.path), Some(&version), "the decision first");
        prop_assert!(!self.told.contains(&(path, version)), "{path} acted after its end was told");
        prop_assert!(!self.commanded.contains(&path), "{path} fights a newer command");
        prop_assert!(!self.latched, "ESTOP: {path} acted while the vehicle is held");
        self.moving.retain(|(_, other, _)| *other != path);
        self.moving.push((actuation, path, value));
        self.reconciler.handle(self.now(), Input::Applied { actuation, applied: Applied::Moving });
        Ok(())
    }

    fn hear(&mut self, report: &StateReport) {
        let ended = |status| !matches!(status, SyncStatus::Pending | SyncStatus::Applying);
        for state in report.paths.iter().filter(|state| ended(state.status)) {
            self.told.insert((number_of(&state.path), state.version));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn once_per_version_and_fresh_under_copies_crashes_and_reboots(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
        // Liveness: once the faults stop, everything that is desired comes to rest, and says so.
        let gateway = 0;
        world.next_version(gateway);
        world.take(&Step::Copy { gateway, behind: 0 })?;
        let newest = world.copies.pop().unwrap();
        let Input::Desired { values, .. } = &newest else { panic!("only what is desired is copied") };
        let wanted = values.len();
        world.deliver(newest);
        let mut last = None;
        for _ in 0..30 {
            for step in [Step::Sync { writes: 100 }, Step::Pass { millis: 200 }, Step::Finish] {
                world.take(&step)?;
            }
            for path in 0..PATHS {
                world.read(path);
            }
            let now = world.now();
            world.reconciler.tell_anew();
            if let Output::Report(report) = world.reconciler.poll(now, &mut world.buckets) {
                last = Some(report);
            }
        }
        let report = last.expect("it reports");
        prop_assert_eq!(report.version, world.gateways[gateway].version);
        prop_assert!((wanted..=world.gateways[gateway].desired.len()).contains(&report.paths.len()));
        for state in report.paths {
            prop_assert!(!matches!(state.status, SyncStatus::Pending | SyncStatus::Applying), "{state:?}");
            if state.status == SyncStatus::InSync {
                let value = Value::Int(world.values[number_of(&state.path)]);
                prop_assert_eq!(state.reported, Some(value));
            }
        }
        prop_assert!(world.reconciler.is_idle());
    }
}
