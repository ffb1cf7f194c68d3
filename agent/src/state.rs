//! The shell around the reconciler: from messages to the vehicle and the journal, and reports back.

use carriageway_proto::{Class, Desired, Message, Moment, PolicyTable, StateReport};
use carriageway_transport::link::{Link, SendError};
use tracing::{debug, error, info};

use crate::core::executor::{self, Executor};
use crate::core::reconciler::{Input, Output, Past, Reconciler, Wanted};
use crate::core::vehicle::{Applied, Vehicle};
use crate::journal::Journal;

/// What is desired of the vehicle, and the report that waits for its lane.
pub(crate) struct State {
    reconciler: Reconciler,
    /// One place: an older report is worth nothing.
    report: Option<StateReport>,
    /// Reports that no frame holds.
    unsendable: u64,
}

impl State {
    /// Takes up what the journal holds, beside an `executor` that has taken up its own.
    pub(crate) fn recover(now: Moment, executor: &mut Executor, policy: &PolicyTable, past: Past) -> Self {
        // Nobody knows when the desired state moved these.
        for path in past.decided.keys() {
            executor.handle(now, executor::Input::TakenOver(path.clone()));
        }
        let reconciler = Reconciler::recover(executor.judge(), *policy, past, executor.is_latched());
        Self { reconciler, report: None, unsendable: 0 }
    }

    pub(crate) fn handle(&mut self, now: Moment, input: Input) {
        self.reconciler.handle(now, input);
    }

    pub(crate) fn on_desired(&mut self, now: Moment, desired: Desired, vehicle: &impl Vehicle) {
        let Desired { version, values } = desired;
        info!(version, paths = values.len(), "desired state");
        let wanted = |value: carriageway_proto::DesiredValue| {
            let class = vehicle.class_of(&value.path);
            Wanted { value, class }
        };
        let values = values.into_iter().map(wanted).collect();
        self.reconciler.handle(now, Input::Desired { version, values });
    }

    /// Does all that the reconciler wants done. True where the vehicle has taken a target, which the executor
    /// has been told.
    pub(crate) fn act(
        &mut self,
        now: Moment,
        executor: &mut Executor,
        vehicle: &mut impl Vehicle,
        journal: &mut Journal,
    ) -> bool {
        let mut has_moved = false;
        loop {
            match self.reconciler.poll(now, executor.buckets()) {
                Output::Decide { id, path, version } => journal.decide(id, path, version),
                Output::Forget { path, floor } => journal.undesire(path, floor),
                Output::Apply { actuation, target } => {
                    debug!(path = %target.path, value = %target.value, "applying what is desired");
                    let applied = vehicle.apply(now, actuation, &target);
                    if !matches!(applied, Applied::Refused(_)) {
                        executor.handle(now, executor::Input::TakenOver(target.path));
                        has_moved = true;
                    }
                    self.reconciler.handle(now, Input::Applied { actuation, applied });
                }
                Output::Report(report) => self.report = Some(report),
                Output::Wait(_) => return has_moved,
            }
        }
    }

    /// Sends the report, if one waits and the lane has room.
    pub(crate) fn tell(&mut self, link: &Link) {
        let Some(report) = self.report.take() else { return };
        match link.send(Class::Config, Message::StateReport(report.clone()).encode(), None) {
            Ok(_) => {}
            // What is lost with its session is told anew in the next one.
            Err(SendError::Full(_) | SendError::Ended(_)) => self.report = Some(report),
            Err(SendError::TooLarge(payload)) => {
                self.unsendable += 1;
                error!(
                    bytes = payload.len(),
                    paths = report.paths.len(),
                    "a report of the desired state fits no frame and is dropped: the gateway keeps the last one"
                );
            }
        }
    }

    /// Reports that were dropped since no frame holds them: each is a fault of this agent.
    pub(crate) fn unsendable(&self) -> u64 {
        self.unsendable
    }

    pub(crate) fn is_acting(&self) -> bool {
        self.reconciler.is_acting()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.reconciler.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use carriageway_proto::{BootId, Epoch, MAX_FRAME, PathState, Stamp, SyncStatus};
    use carriageway_transport::clock::BootClock;
    use carriageway_transport::link;

    use super::*;
    use crate::core::executor::Limits;

    fn report(paths: usize) -> StateReport {
        let state = |number| PathState {
            path: format!("Vehicle.{}.N{number}", "Long".repeat(32)).parse().unwrap(),
            status: SyncStatus::Pending,
            version: 1,
            reported: None,
            reason: None,
            detail: String::new(),
        };
        StateReport { version: 1, paths: (0..paths).map(state).collect() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_fits_no_frame_is_dropped_and_counted_and_the_next_one_goes() {
        let stamp = Stamp { boot: BootId::from_bytes([3; 16]), clock: Moment::from_micros(1_000_000) };
        let clock = BootClock::following_tokio(stamp.boot, stamp.clock);
        let (link, _happenings, _driver) = link::connect(link::Config::default(), clock, Epoch::default());
        let policy = PolicyTable::defaults();
        let mut executor = Executor::recover(stamp, policy, Limits::default(), Vec::new());
        let mut state = State::recover(stamp.clock, &mut executor, &policy, Past::default());
        let large = report(MAX_FRAME / 128);
        state.report = Some(large);
        state.tell(&link);
        assert_eq!((state.unsendable(), &state.report), (1, &None));
        state.report = Some(report(128));
        state.tell(&link);
        assert_eq!((state.unsendable(), &state.report), (1, &None));
    }
}
