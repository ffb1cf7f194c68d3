//! Stories of an executor with a journal and a vehicle.

mod cancel;
mod life;
mod memory;
mod order;
mod owed;
mod refusals;
mod stops;

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::{BootId, Command, Outcome, Phase, Reason, SignalPath, Value};

use super::*;
use crate::core::vehicle::{Applied, EMERGENCY_STOP, Refusal, Target};

const BOOT: BootId = BootId::from_bytes([1; 16]);
const WINDOW: &str = "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::ZERO + ms(millis)
}

fn path(text: &str) -> SignalPath {
    text.parse().unwrap()
}

fn command(key: &str, value: i64, stamped: u64) -> Command {
    Command {
        key: key.parse().unwrap(),
        class: Class::Body,
        path: path(WINDOW),
        value: Value::Int(value),
        stamp: Stamp { boot: BOOT, clock: at(stamped) },
        ttl: ms(5_000),
        operator: "ada".into(),
        token: None,
        order: 0,
    }
}

fn emergency_stop(key: &str, stamped: u64) -> Command {
    Command {
        class: Class::Safety,
        path: path(EMERGENCY_STOP),
        value: Value::Bool(true),
        ttl: ms(2_000),
        ..command(key, 0, stamped)
    }
}

/// An executor with a journal that obeys at once unless told otherwise, and a vehicle that does what it is told.
struct Bench {
    executor: Executor,
    now: Moment,
    disk: BTreeMap<CommandKey, Record>,
    /// Writes that wait, while the journal holds still.
    held: Vec<(WriteId, Record)>,
    holding: bool,
    failing: bool,
    /// Whoever asked cannot be reached.
    deaf: bool,
    answer: Applied,
    acted: Vec<(Actuation, Target)>,
    stops: Vec<Actuation>,
    told: Vec<Outcome>,
}

/// Keeps a key no longer than its copies could be fresh.
const FORGETFUL: Limits = Limits { admitted: 320, refused: 64, remember: Duration::ZERO };

impl Bench {
    fn new() -> Self {
        Self::with(FORGETFUL, Vec::new(), BOOT, at(10_000))
    }

    fn with(limits: Limits, journal: Vec<Record>, boot: BootId, now: Moment) -> Self {
        let disk = journal.iter().map(|record| (record.key().clone(), record.clone())).collect();
        let here = Stamp { boot, clock: now };
        let executor = Executor::recover(here, PolicyTable::defaults(), limits, journal);
        let (held, acted, stops, told) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (holding, failing, deaf, answer) = (false, false, false, Applied::Moving);
        Self { executor, now, disk, held, holding, failing, deaf, answer, acted, stops, told }
    }

    /// What is left after the power went: only what was durable.
    fn restart(self, boot: BootId, now: Moment) -> Self {
        let mut next = Self::with(FORGETFUL, self.disk.into_values().collect(), boot, now);
        next.run();
        next
    }

    fn give(&mut self, command: Command) -> &mut Self {
        let lane = command.class;
        self.put(Input::Command { lane, command })
    }

    fn put(&mut self, input: Input) -> &mut Self {
        self.executor.handle(self.now, input);
        self.run();
        self
    }

    fn finish(&mut self) -> &mut Self {
        let (actuation, _) = *self.acted.last().as_ref().expect("something acted");
        self.put(Input::Finished { actuation: *actuation, result: Ok(()) })
    }

    fn release(&mut self) {
        self.holding = false;
        for (id, record) in std::mem::take(&mut self.held) {
            self.disk.insert(record.key().clone(), record);
            self.put(Input::Written(id));
        }
    }

    fn run(&mut self) {
        loop {
            match self.executor.poll(self.now) {
                Output::Wait(_) => {
                    let Some(outcome) =
                        Class::ALL.into_iter().find_map(|class| self.executor.next_owed(class))
                    else {
                        return;
                    };
                    self.hear(outcome);
                }
                Output::Stop(actuation) => self.stops.push(actuation),
                Output::Apply { actuation, target } => {
                    self.acted.push((actuation, target));
                    let applied = self.answer.clone();
                    self.executor.handle(self.now, Input::Applied { actuation, applied });
                }
                Output::Write { id, record } => self.write(id, *record),
                Output::Tell { outcome, .. } => self.hear(outcome),
                Output::Forget(key) => drop(self.disk.remove(&key)),
                Output::Released(released) => panic!("nobody asked for it: {released}"),
            }
        }
    }

    fn hear(&mut self, outcome: Outcome) {
        if outcome.phase.is_terminal() && !self.deaf {
            self.executor.handle(self.now, Input::Arrived(outcome.key.clone()));
        }
        self.told.push(outcome);
    }

    fn write(&mut self, id: WriteId, record: Record) {
        if self.failing {
            self.executor.handle(self.now, Input::WriteFailed(id));
        } else if self.holding {
            self.held.push((id, record));
        } else {
            self.disk.insert(record.key().clone(), record);
            self.executor.handle(self.now, Input::Written(id));
        }
    }

    fn phases(&self, key: &str) -> Vec<Phase> {
        self.told.iter().filter(|outcome| outcome.key.as_str() == key).map(|outcome| outcome.phase).collect()
    }

    fn last(&self) -> (Phase, Option<Reason>) {
        let outcome = self.told.last().expect("something was told");
        (outcome.phase, outcome.reason)
    }
}
