//! The hub's way to its store.

use std::sync::Arc;

use carriageway_proto::Moment;

use super::{Hub, State, kept};
use crate::core::commands::{Input, Keep, Write, WriteId};
use crate::store::{Change, Outcome, StoreError};

/// How the store is. Its default is a sound one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why command records cannot be written just now.
    pub commands: Option<String>,
    /// Why the last lease's token could not be written: the lease was refused.
    pub tokens: Option<String>,
    /// Why the last desired state could not be written: the change was refused.
    pub desired: Option<String>,
    /// Commands whose end was told and is not on disk: after a crash it may be told otherwise.
    pub ends_not_durable: usize,
}

impl Hub {
    /// Hands a write to the store. How it went comes back on the store's thread.
    pub(super) fn persist(&self, now: Moment, state: &mut State, Write { id, keeps }: Write) {
        let boot = self.0.clock.boot();
        let changes = keeps.iter().map(|keep| match keep {
            Keep::Put(kept) => {
                Change::Command { id: kept.record.id.to_bytes(), document: kept::write(kept, boot) }
            }
            Keep::Forget(id) => Change::ForgetCommand(id.to_bytes()),
        });
        let inner = Arc::downgrade(&self.0);
        let then = move |outcome: Outcome| {
            if let Some(inner) = inner.upgrade() {
                let hub = Self(inner);
                hub.survive("store", || hub.written(now, id, outcome));
            }
        };
        if let Err(error) = self.0.store.write(changes.collect(), then) {
            self.failed(now, state, id, &error);
        }
    }

    fn written(&self, begun: Moment, id: WriteId, outcome: Outcome) {
        let mut state = self.state();
        let now = self.now();
        match outcome {
            Ok(()) => {
                self.0.metrics.store_written(now.since(begun));
                if state.commands.is_disk_broken() {
                    tracing::info!("the store can be written again");
                }
                state.commands.handle(now, Input::Persisted(id));
            }
            Err(error) => self.failed(now, &mut state, id, &error),
        }
        self.pump(now, &mut state);
    }

    /// The disk took nothing: it is tried again after a pause, and whoever waits is told.
    fn failed(&self, now: Moment, state: &mut State, id: WriteId, error: &StoreError) {
        if !state.commands.is_disk_broken() {
            tracing::error!(%error, "the store cannot be written; commands are kept in memory meanwhile");
        }
        self.0.metrics.store_failures.inc();
        state.broken = Some(error.to_string());
        state.commands.handle(now, Input::PersistFailed(id));
        for waiter in state.waiters.values() {
            waiter.send_replace(());
        }
    }

    /// How the store is.
    pub fn store_health(&self) -> StoreHealth {
        let commands = self.store_fault();
        let state = self.state();
        let of = |kind| state.unkept.get(kind).cloned();
        let (tokens, desired) = (of("token"), of("desired"));
        StoreHealth { commands, tokens, desired, ends_not_durable: state.commands.loose_ends() }
    }

    /// Why the store takes no command records just now; `None`: it does.
    pub fn store_fault(&self) -> Option<String> {
        let state = self.state();
        let why = || state.broken.clone().unwrap_or_default();
        state.commands.is_disk_broken().then(why)
    }

    /// Whether everything that is to be on disk is there.
    pub fn is_settled(&self) -> bool {
        self.state().commands.is_settled()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;
    use std::time::Instant;

    use carriageway_proto::{Class, Outcome, Phase, PolicyTable, Value, VehicleId};
    use carriageway_transport::clock::BootClock;

    use super::*;
    use crate::core::commands::{CommandId, Commands, Limits, OnOffline, Output, Reach, Request};
    use crate::core::lease::NotDriving;
    use crate::store::{Sqlite, Store};

    const COMMANDS: u64 = 2_000;

    /// The command service on a real disk, and a vehicle whose answer comes when its command is on disk: an end
    /// never shares its command's write.
    struct Bench {
        commands: Commands,
        store: Store,
        clock: BootClock,
        done: (mpsc::Sender<WriteId>, mpsc::Receiver<WriteId>),
        durable: BTreeSet<CommandId>,
        ended: BTreeSet<CommandId>,
    }

    impl Bench {
        fn submit(&mut self, n: u64) -> CommandId {
            let id = CommandId::from_bytes(u128::from(n).to_be_bytes());
            let request = Request {
                vehicle: "truck".parse().unwrap(),
                key: format!("k{n}").parse().unwrap(),
                class: Class::Body,
                path: format!("Vehicle.Body.T{n}").parse().unwrap(),
                value: Value::Int(1),
                ttl: None,
                operator: "ada".into(),
                on_offline: OnOffline::Fail,
                drives: Err(NotDriving::NoLease),
            };
            let now = self.clock.now();
            let arrived = self.commands.arrival(now);
            self.commands.submit(now, arrived, id, request, Reach::Connected);
            self.pump();
            id
        }

        fn pump(&mut self) {
            while let Some(output) = self.commands.poll() {
                let now = self.clock.now();
                match output {
                    Output::Dispatch(id) => self.commands.handle(now, Input::Sent(id)),
                    Output::Durable(id) => {
                        self.durable.insert(id);
                        self.obey(now, id);
                    }
                    Output::Changed(change) if change.phase.is_terminal() => {
                        self.ended.insert(change.id);
                    }
                    Output::Changed(_) | Output::Cancel(_) => {}
                    Output::Persist(Write { id, keeps }) => {
                        let boot = self.clock.boot();
                        let document = |keep: &Keep| match keep {
                            Keep::Put(kept) => {
                                let (id, document) = (kept.record.id.to_bytes(), kept::write(kept, boot));
                                Change::Command { id, document }
                            }
                            Keep::Forget(id) => Change::ForgetCommand(id.to_bytes()),
                        };
                        let done = self.done.0.clone();
                        let then = move |outcome: crate::store::Outcome| {
                            outcome.unwrap();
                            // The last write may outlive the measurement.
                            let _unheard = done.send(id);
                        };
                        self.store.write(keeps.iter().map(document).collect(), then).unwrap();
                    }
                }
            }
        }

        fn obey(&mut self, now: Moment, id: CommandId) {
            let record = self.commands.record(id).unwrap();
            let (vehicle, key): (VehicleId, _) = (record.request.vehicle.clone(), record.request.key.clone());
            let (detail, fingerprint) = (String::new(), None);
            let outcome = Outcome { key, phase: Phase::Succeeded, reason: None, detail, fingerprint };
            self.commands.handle(now, Input::Outcome(vehicle, outcome));
        }
    }

    /// Requests that wait for their outcome, so many at once: until their command is on disk, and until its
    /// end is. Run by name, with `--nocapture`.
    #[test]
    #[ignore = "a measurement, not a test"]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "a measurement in real time, for people"
    )]
    fn ended_commands_per_second() {
        for at_once in [1, 16, 128, 512] {
            for awaits_end in [false, true] {
                let directory = tempfile::tempdir_in(".").unwrap();
                let (disk, _) = Sqlite::open(&directory.path().join("gateway.db")).unwrap();
                let mut policies = PolicyTable::defaults();
                policies[Class::Body].rate_per_second = None;
                policies[Class::Body].in_flight = u32::MAX;
                let limits =
                    Limits { operator_rate: 1_000_000, operator_burst: 1_000_000, ..Limits::default() };
                let mut bench = Bench {
                    commands: Commands::new(limits, policies),
                    store: Store::start(disk).unwrap(),
                    clock: BootClock::system().unwrap(),
                    done: mpsc::channel(),
                    durable: BTreeSet::new(),
                    ended: BTreeSet::new(),
                };
                let begun = Instant::now();
                let (mut sent, mut open) = (0, BTreeSet::new());
                while sent < COMMANDS || !open.is_empty() {
                    while sent < COMMANDS && open.len() < at_once {
                        open.insert(bench.submit(sent));
                        sent += 1;
                    }
                    let write = bench.done.1.recv().unwrap();
                    bench.commands.handle(bench.clock.now(), Input::Persisted(write));
                    bench.pump();
                    let is_over = |id: &CommandId| {
                        bench.durable.contains(id) && (!awaits_end || bench.ended.contains(id))
                    };
                    open.retain(|id| !is_over(id));
                }
                let rate = COMMANDS as f64 / begun.elapsed().as_secs_f64();
                let until = if awaits_end { "end" } else { "command" };
                println!("{at_once} at once, until the {until} is on disk: {rate:.0} per second");
            }
        }
    }
}
