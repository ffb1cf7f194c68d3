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
        let now = self.now();
        let mut state = self.state();
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
