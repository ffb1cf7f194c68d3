//! What the hub does by itself as time passes: deadlines, presence, figures; and the drain.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::{Class, ClassMap, CloseCode, Epoch, Moment, SessionId, VehicleId};
use carriageway_transport::core::connection::Transport;
use carriageway_transport::link::{Link, Status};

use super::room::{Meter, Room};
use super::sessions::observation;
use super::{Hub, State};
use crate::core::registry::Presence;
use crate::core::{commands, lease, registry, shadow};

/// What has no deadline of its own, such as the way to a vehicle that commands wait for, is looked at this
/// often.
const TICK: Duration = Duration::from_millis(100);

/// Least time between two looks at deadlines: what the clock's timers can tell apart.
const GRAIN: Duration = Duration::from_millis(1);

/// A vehicle that control was passed on to within this time is being driven. Twice the watchdog's limit:
/// what ends the driving has reached the vehicle by then, and the vehicle its safe state.
const DRIVEN: Duration = Duration::from_secs(1);

/// Presence and figures are read this often, in ticks: well within a heartbeat.
const SWEEP_EVERY: u32 = 5;

/// Who is looked at in a sweep.
struct Watched {
    vehicle: VehicleId,
    session: SessionId,
    epoch: Epoch,
    link: Link,
    meter: Arc<Meter>,
}

impl Hub {
    /// Takes in what the disk says; never returns, whatever breaks.
    pub async fn keep_disk(self) {
        loop {
            self.0.answers.left().await;
            self.survive("disk", || self.hear_disk());
        }
    }

    /// Keeps time for the hub; never returns, whatever breaks. Deadlines of commands are kept exactly.
    pub async fn keep_time(self) {
        let mut round = 0_u32;
        let mut look_at = self.now() + TICK;
        loop {
            // However far the clock has gone back.
            look_at = look_at.min(self.now() + TICK);
            let wake = self.sleep_until(look_at);
            tokio::select! {
                () = self.0.clock.sleep_until(wake) => {}
                () = self.0.alarm.notified() => continue,
            }
            self.survive("tick", || self.tick());
            if self.now() < look_at {
                continue;
            }
            look_at = self.now() + TICK;
            round = round.wrapping_add(1);
            if round.is_multiple_of(SWEEP_EVERY) {
                self.survive("sweep", || self.sweep());
            }
        }
    }

    /// Does it. A panic is a broken invariant of ours, which was logged where it happened: it is
    /// counted, and the others go on.
    pub(super) fn survive<T>(&self, task: &'static str, act: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(act));
        if done.is_err() {
            tracing::error!(task, "the hub goes on after a panic");
            self.0.metrics.dropped("panic", task, 1);
        }
        done.ok()
    }

    /// When to look again: at the next deadline of a command, at `latest` at the latest.
    fn sleep_until(&self, latest: Moment) -> Moment {
        let mut state = self.state();
        let now = self.now();
        let due = state.commands.wakes_at().map_or(latest, |due| due.max(now + GRAIN));
        state.sleeps_until = due.min(latest);
        state.sleeps_until
    }

    fn tick(&self) {
        let mut state = self.state();
        let now = self.now();
        Self::look_for_the_awaited(now, &mut state);
        if state.commands.wakes_at().is_some_and(|wake| wake <= now) {
            state.commands.handle(now, commands::Input::Tick);
        }
        state.leases.handle(now, lease::Input::Tick);
        self.pump(now, &mut state);
    }

    /// Reads every link outside the lock, then takes in what was seen.
    fn sweep(&self) {
        let watched = self.state().watched();
        let mut seen = Vec::with_capacity(watched.len());
        let mut silences = Vec::with_capacity(watched.len());
        for watched in &watched {
            let read = self.survive("link", || (watched.link.status(), watched.link.silent_for()));
            let Some((status, silent)) = read else {
                self.give_up(&watched.vehicle, (watched.session, watched.epoch), &watched.link);
                continue;
            };
            watched.meter.count(&status.session.drops, &self.0.metrics);
            silences.push((watched, silent));
            seen.push(status);
        }
        let mut state = self.state();
        let now = self.now();
        for (watched, silent) in silences {
            let input = observation(now, &watched.vehicle, watched.session, silent);
            state.registry.handle(now, input);
        }
        state.registry.handle(now, registry::Input::Tick);
        let State { rooms, ring, .. } = &mut *state;
        for event in rooms.values_mut().flat_map(|room| &mut room.pacers).filter_map(|pacer| pacer.due(now)) {
            ring.push(now, event);
        }
        self.pump(now, &mut state);
        let State { rooms, registry, leases, shadows, .. } = &mut *state;
        rooms.retain(|vehicle, _| registry.knows(vehicle));
        leases.forget(|vehicle| registry.knows(vehicle));
        shadows.forget(|vehicle| registry.knows(vehicle));
        state.shadows.handle(now, shadow::Input::Tick);
        self.pump(now, &mut state);
        state.waiters.retain(|_, waiter| waiter.receiver_count() > 0);
        self.figures(now, &state);
        drop(state);
        self.link_figures(&seen);
    }

    fn figures(&self, now: Moment, state: &State) {
        let metrics = &self.0.metrics;
        for presence in Presence::ALL {
            let count = state.registry.views(now).filter(|(_, view)| view.presence == presence).count();
            metrics.vehicles(presence.name(), count);
        }
        metrics.sessions.set(i64::try_from(state.registry.sessions()).unwrap_or(i64::MAX));
        metrics.unfinished.set(i64::try_from(state.commands.unfinished()).unwrap_or(i64::MAX));
        metrics.leases.set(i64::try_from(state.leases.living(now)).unwrap_or(i64::MAX));
        metrics.queued_commands.set(i64::try_from(state.commands.queued()).unwrap_or(i64::MAX));
        metrics.loose_ends.set(i64::try_from(state.commands.loose_ends()).unwrap_or(i64::MAX));
        metrics.store_broken.set(i64::from(state.commands.is_disk_broken()));
        metrics.records.set(i64::try_from(state.commands.len()).unwrap_or(i64::MAX));
    }

    fn link_figures(&self, seen: &[Status]) {
        for transport in [Transport::Quic, Transport::WebSocket, Transport::Memory] {
            let connections = seen.iter().flat_map(|status| &status.session.connections);
            let count = connections.filter(|connection| connection.transport == transport).count();
            self.0.metrics.connections(transport.name(), count);
        }
        let mut queued = ClassMap::<(usize, usize)>::default();
        for status in seen {
            for class in Class::ALL {
                queued[class].0 += status.session.queued_frames[class];
                queued[class].1 += status.session.queued_bytes[class];
            }
        }
        for (class, (frames, bytes)) in queued.iter() {
            self.0.metrics.queued(class, *frames, *bytes);
        }
    }

    /// Says goodbye to every session that has no command under way, whose vehicle is not being driven and has
    /// confirmed what it was told of its lease; or to all. Each is told to come back after a wait of its own. How
    /// many are left open.
    pub fn send_away(&self, everyone: bool) -> usize {
        let now = self.now();
        let state = self.state();
        let watched = state.watched();
        let is_busy =
            |vehicle: &VehicleId| state.commands.under_way_of(vehicle) > 0 || state.is_driven(now, vehicle);
        let (idle, busy): (Vec<_>, Vec<_>) =
            watched.into_iter().partition(|watched| everyone || !is_busy(&watched.vehicle));
        drop(state);
        // Links are read outside the lock, as in a sweep. A goodbye would overtake what their lanes still hold.
        let (leaving, unconfirmed): (Vec<_>, Vec<_>) =
            idle.into_iter().partition(|watched| everyone || !self.awaits_confirmation(&watched.link));
        let staying = busy.len() + unconfirmed.len();
        tracing::debug!(%now, leaving = leaving.len(), staying, "sending sessions away");
        for watched in leaving {
            let wait = self.jittered(self.0.settings.retry_after);
            let reason = "the gateway restarts";
            self.survive("link", || watched.link.close(CloseCode::Restarting, reason, Some(wait)));
        }
        staying
    }

    /// Whether something of the lane of leases has not been acknowledged. What is in vain there expires with the lease.
    fn awaits_confirmation(&self, link: &Link) -> bool {
        self.survive("link", || link.status().session.queued_frames[Class::Drive] > 0).unwrap_or(false)
    }

    /// Vehicles that are being driven.
    pub fn driven(&self) -> usize {
        let now = self.now();
        let state = self.state();
        state.rooms.keys().filter(|vehicle| state.is_driven(now, vehicle)).count()
    }

    /// Sessions whose task has not ended.
    pub fn sessions_open(&self) -> usize {
        self.state().rooms.values().filter(|room| room.live().is_some()).count()
    }
}

impl State {
    /// Control was passed on to it a moment ago.
    pub(super) fn is_steered(&self, now: Moment, vehicle: &VehicleId) -> bool {
        let steered = self.rooms.get(vehicle).and_then(|room| room.steered);
        steered.is_some_and(|steered| now.since(steered) < DRIVEN)
    }

    /// It is being driven: a gap in the control that came before the drain does not end its lease.
    fn is_driven(&self, now: Moment, vehicle: &VehicleId) -> bool {
        let is_held = || self.leases.lease(now, vehicle).is_some();
        self.is_steered(now, vehicle) || (self.driven.contains(vehicle) && is_held())
    }

    fn watched(&self) -> Vec<Watched> {
        let live = |(vehicle, room): (&VehicleId, &Room)| {
            let live = room.live()?;
            let (session, link, meter) = (live.session, live.link.clone(), Arc::clone(&live.meter));
            Some(Watched { vehicle: vehicle.clone(), session, epoch: live.epoch, link, meter })
        };
        self.rooms.iter().filter_map(live).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::Opened;
    use super::*;

    #[test]
    fn one_broken_session_does_not_end_the_sweep_of_the_others() {
        let hub = Hub::for_test();
        let [broken, sound] = ["broken", "sound"]
            .map(|vehicle| Opened::driven_by(&hub, &vehicle.parse().unwrap(), std::future::pending()));
        // A panic while the session's lock is held.
        hub.survive("test", || broken.link.signals(std::iter::from_fn(|| panic!("a broken invariant"))));
        hub.sweep();
        let state = hub.state();
        let lives = |opened: &Opened| state.rooms[&opened.vehicle].live().is_some();
        assert!(lives(&sound));
        let answers = hub.survive("test", || broken.link.status()).is_some();
        assert_eq!(lives(&broken), answers, "a session that cannot be asked is given up");
        assert!(hub.metrics().text().contains(r#"stage="panic",reason="test"} "#));
    }

    #[test]
    fn the_timekeeper_is_woken_for_a_deadline_that_comes_before_it_looks() {
        let hub = Hub::for_test();
        let vehicle: VehicleId = "away".parse().unwrap();
        let _opened = Opened::driven_by(&hub, &vehicle, std::future::pending());
        let later = hub.now() + Duration::from_hours(1);
        assert_eq!(hub.sleep_until(later), later, "nothing is due");
        let request = commands::Request {
            vehicle,
            key: "k".parse().unwrap(),
            class: Class::Body,
            path: "A.B".parse().unwrap(),
            value: carriageway_proto::Value::Int(1),
            ttl: Some(Duration::from_secs(30)),
            operator: "ada".into(),
            on_offline: commands::OnOffline::Queue,
            drives: Err(lease::NotDriving::NoLease),
        };
        let arrived = hub.arrival();
        let submitted = hub.submit(arrived, request);
        assert!(matches!(submitted, crate::hub::Submission::Accepted(_)), "{submitted:?}");
        assert!(hub.0.alarm.notified().now_or_never().is_some(), "the alarm rings");
        assert_eq!(
            hub.sleep_until(later),
            arrived.at() + Duration::from_secs(30),
            "its deadline, to the point"
        );
    }

    #[test]
    fn only_the_vehicles_that_are_wanted_are_looked_at() {
        let hub = Hub::for_test();
        let [one, _other] = ["one", "other"]
            .map(|vehicle| Opened::driven_by(&hub, &vehicle.parse().unwrap(), std::future::pending()));
        assert_eq!(hub.versions(|vehicle| *vehicle == one.vehicle), [(one.vehicle.clone(), 0)]);
    }
}
