//! One vehicle's agent: its link, executor, journal and vehicle, in one task.

mod bulk;
mod driving;
mod status;

use std::future::Future;
use std::time::Duration;

use carriageway_proto::message::BadMessage;
use carriageway_proto::{Class, CloseCode, Message, Moment, PolicyTable};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::Ended;
use carriageway_transport::link::{Fate, Happening, Happenings, Link, SendError, Ticket};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use self::bulk::Bulk;
use self::driving::Driving;
pub use self::status::{Handle, Status, Strays};
use crate::core::drive;
use crate::core::executor::{Counts, Executor, Input, Limits, Output, WriteId};
use crate::core::outbox::Outbox;
use crate::core::reconciler;
use crate::core::vehicle::{Applied, Refusal, Vehicle};
use crate::journal::{self, Journal, Loaded};
use crate::state::State;
use crate::upload::{self, Piece, Upload};

/// After it was told to stop, an agent gives what is under way this long to end and its answers to arrive.
const DRAIN: Duration = Duration::from_secs(5);

/// While a target is being reached, the vehicle is asked this often whether it has been.
const PROGRESS: Duration = Duration::from_millis(50);

/// After its goodbye, the link gets this long to end: its own deadline is two seconds.
const FAREWELL: Duration = Duration::from_secs(3);

/// How an agent works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Rates and numbers under way, per class.
    pub policies: PolicyTable,
    /// How much is remembered.
    pub limits: Limits,
    /// Time between two looks at the vehicle's signals: 50 ms unless told otherwise.
    pub signal_interval: Duration,
    /// The watchdog's limits, and whether the vehicle can be driven from afar. One without
    /// [`Vehicle::drivable`] cannot.
    pub drive: drive::Limits,
}

impl Default for Config {
    fn default() -> Self {
        let (policies, limits) = (PolicyTable::defaults(), Limits::default());
        let drive = drive::Limits::default();
        Self { policies, limits, signal_interval: Duration::from_millis(50), drive }
    }
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop; `clean` where nothing was left under way and every answer had arrived.
    Stopped {
        /// Nothing will be UNKNOWN after a restart.
        clean: bool,
    },
    /// The session is over for good: the gateway refused this vehicle.
    Refused(Ended),
    /// The boot clock went backwards, which it never should: no age can be told by it any more (FRESH). The vehicle is in its
    /// safe state where it was driven. A new agent can tell ages again.
    ClockWentBack,
}

/// One vehicle's agent. See the crate's documentation for how to build one.
pub struct Agent<V> {
    config: Config,
    clock: BootClock,
    vehicle: V,
    journal: Journal,
    link: Link,
    happenings: Happenings,
    executor: Executor,
    state: State,
    driving: Driving,
    outbox: Outbox<Ticket>,
    uploads: mpsc::Receiver<Upload>,
    bulk: Bulk,
    strays: Strays,
    status: watch::Sender<Status>,
}

/// What woke the agent.
enum Wake {
    Happening(Option<Happening>),
    Written(WriteId, journal::Outcome),
    Tick,
    Upload(Option<Upload>),
    Piece(Option<Piece>),
    Stop,
}

impl<V: Vehicle> Agent<V> {
    /// Ties `vehicle` to a session. `loaded` is what the vehicle's `journal` held; `link` and
    /// `happenings` are the two ends of the session's connecting side.
    pub fn new(
        config: Config,
        clock: BootClock,
        mut vehicle: V,
        (journal, loaded): (Journal, Loaded),
        (link, happenings): (Link, Happenings),
    ) -> (Self, Handle) {
        let mut executor = Executor::recover(clock.stamp(), config.policies, config.limits, loaded.records);
        let state = State::recover(clock.now(), &mut executor, &config.policies, loaded.desired);
        let is_drivable = vehicle.drivable().is_some();
        let driving = Driving::new(&clock, config.drive, is_drivable, loaded.token, executor.is_latched());
        let (sender, uploads) = mpsc::channel(upload::QUEUE);
        let agent = Self {
            config,
            clock,
            vehicle,
            journal,
            link,
            happenings,
            executor,
            state,
            driving,
            outbox: Outbox::default(),
            uploads,
            bulk: Bulk::default(),
            strays: Strays::default(),
            status: watch::Sender::new(Status::default()),
        };
        let status = agent.status.subscribe();
        (agent, Handle { uploads: sender, status })
    }

    /// Works until `stop` is ready or the session is over for good. After `stop` it lets what is under way
    /// come to an end, within five seconds, and says goodbye; meanwhile new commands are refused, and an
    /// emergency stop is carried out. It also ends by itself where the boot clock goes backwards.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> End {
        tokio::pin!(stop);
        let mut stopping: Option<Moment> = None;
        let mut is_lost = false;
        let mut look_at = self.clock.now();
        let mut asked_at = look_at;
        loop {
            self.act();
            let now = self.clock.now();
            if self.driving.has_lost_its_clock() && !is_lost {
                error!("the boot clock went backwards: no age can be told any more, the agent ends");
                is_lost = true;
                stopping = Some(self.begin_to_stop(now));
            }
            if stopping.is_some_and(|deadline| self.is_idle() || now >= deadline) {
                return self.farewell().await;
            }
            let is_acting = self.executor.is_acting() || self.state.is_acting();
            let progress_at = is_acting.then(|| asked_at + PROGRESS);
            let due = progress_at.into_iter().chain(stopping).chain(self.driving.due());
            let wake_at = due.fold(look_at, Moment::min);
            let wake = tokio::select! {
                biased;
                () = &mut stop, if stopping.is_none() => Wake::Stop,
                wake = self.next(wake_at) => wake,
            };
            match wake {
                Wake::Stop => stopping = Some(self.begin_to_stop(now)),
                Wake::Tick => {
                    self.drive_on(); // before the vehicle is asked for anything
                    let now = self.clock.now();
                    asked_at = now;
                    self.progress(now);
                    if now >= look_at {
                        self.look(now);
                        look_at = next_look(look_at, now, self.config.signal_interval);
                    }
                }
                Wake::Happening(None) => {
                    return self.over(Ended::Failed("the session's task is gone".into()), stopping.is_some());
                }
                Wake::Happening(Some(Happening::Ended(ended))) => {
                    return self.over(ended, stopping.is_some());
                }
                Wake::Happening(Some(happening)) => self.on_happening(happening),
                Wake::Written(id, outcome) => self.on_written(id, outcome),
                Wake::Upload(upload) => self.bulk = Bulk::of(upload),
                Wake::Piece(piece) => self.on_piece(piece),
            }
        }
    }

    /// Nothing new is begun from here on. Until when what is under way may last.
    fn begin_to_stop(&mut self, now: Moment) -> Moment {
        self.executor.handle(now, Input::Stopping);
        self.state.handle(now, reconciler::Input::Stopping);
        self.driving.handle(now, drive::Input::Stopping);
        now + DRAIN
    }

    async fn next(&mut self, tick: Moment) -> Wake {
        let Self { happenings, journal, clock, uploads, bulk, .. } = self;
        let may_start = bulk.upload.is_none() && !uploads.is_closed();
        let may_go_on = bulk.upload.is_some() && bulk.stuck.is_none() && !bulk.is_whole;
        // In this order: a flood of messages must not keep the vehicle from being looked at.
        tokio::select! {
            biased;
            () = clock.sleep_until_or_back(tick) => Wake::Tick,
            (id, outcome) = journal.written() => Wake::Written(id, outcome),
            happening = happenings.recv() => Wake::Happening(happening),
            upload = uploads.recv(), if may_start => Wake::Upload(upload),
            piece = bulk.next(), if may_go_on => Wake::Piece(piece),
        }
    }

    /// Does all that driving and the executor want done, then sends what is to be told.
    fn act(&mut self) {
        loop {
            self.drive_on();
            let now = self.clock.now();
            match self.executor.poll(now) {
                Output::Stop(actuation) => {
                    warn!("emergency stop");
                    self.vehicle.stop(now, actuation);
                    self.state.handle(now, reconciler::Input::Latched(true));
                    self.driving.handle(now, drive::Input::EmergencyStop);
                }
                Output::Released(released) => self.on_released(now, released),
                Output::Apply { actuation, target } => {
                    debug!(path = %target.path, value = %target.value, "applying");
                    let applied = self.vehicle.apply(now, actuation, &target);
                    if !matches!(applied, Applied::Refused(_)) {
                        let moving = (applied == Applied::Moving).then_some(actuation);
                        let (path, value) = (target.path, target.value);
                        self.state.handle(now, reconciler::Input::Commanded { path, value, moving });
                    }
                    self.executor.handle(now, Input::Applied { actuation, applied });
                }
                Output::Write { id, record } => self.journal.put(id, record),
                Output::Tell { class, outcome } => {
                    info!(key = %outcome.key, %class, phase = %outcome.phase, detail = outcome.detail, "command");
                    if let Err(outcome) = self.outbox.push(class, outcome) {
                        self.executor.handle(now, Input::Untold(outcome));
                    }
                }
                Output::Forget(key) => self.journal.forget(key),
                Output::Wait(_) if self.pursue(now) => {}
                Output::Wait(_) => break,
            }
        }
        self.tell_drive_state();
        for class in Class::ALL {
            self.tell_late(class);
            self.tell(class);
        }
        self.state.tell(&self.link);
    }

    /// Does what the desired state asks for. True where the executor may have something to say to that.
    fn pursue(&mut self, now: Moment) -> bool {
        let Self { state, executor, vehicle, journal, .. } = self;
        state.act(now, executor, vehicle, journal)
    }

    /// Queues what could not be told so far, as far as it keeps nothing up.
    fn tell_late(&mut self, class: Class) {
        while self.outbox.has_room(class)
            && let Some(outcome) = self.executor.next_owed(class)
        {
            debug!(key = %outcome.key, %class, phase = %outcome.phase, "command, told late");
            self.outbox.push(class, outcome).expect("there is room");
        }
    }

    fn tell(&mut self, class: Class) {
        while let Some(outcome) = self.outbox.next(class) {
            let payload = Message::Outcome(outcome.clone()).encode();
            match self.link.send(class, payload, None) {
                Ok(ticket) => self.outbox.sent(class, ticket),
                Err(SendError::Full(_) | SendError::Ended(_)) => return,
                Err(SendError::TooLarge(_)) => unreachable!("an outcome is cut to half a kilobyte"),
            }
        }
    }

    /// Asks the vehicle for ended actuations.
    fn progress(&mut self, now: Moment) {
        while let Some(ended) = self.vehicle.progress(now) {
            let (actuation, result) = (ended.actuation, ended.result);
            self.state.handle(now, reconciler::Input::Finished { actuation, result: result.clone() });
            self.executor.handle(now, Input::Finished { actuation, result });
        }
    }

    /// Asks the vehicle for new values.
    fn look(&mut self, now: Moment) {
        let mut changed = Vec::new();
        self.vehicle.observe(now, &mut changed);
        if !changed.is_empty() {
            self.state.handle(now, reconciler::Input::Readings(changed.clone()));
            self.link.signals(changed);
        }
        self.show();
    }

    fn show(&self) {
        let status = Status {
            commands: self.executor.counts(),
            remembered: self.executor.remembered(),
            answers: self.outbox.len() + self.executor.owed(),
            dropped_reports: self.state.unsendable(),
            is_broken: self.executor.is_broken(),
            strays: self.strays,
            driving: Some(self.driving.state()),
            drive: self.driving.counts(),
        };
        self.status.send_if_modified(|shown| std::mem::replace(shown, status) != status);
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Established { session, epoch, resumed } => {
                info!(%session, %epoch, resumed, "session established");
                // OWNER: durable before anything of this session but an emergency stop is acted upon.
                if !resumed {
                    self.journal.begin_session(epoch);
                    self.state.handle(self.clock.now(), reconciler::Input::Established);
                }
                self.driving.tell_again();
            }
            Happening::Moved { transport, why } => info!(%transport, why, "carried by"),
            Happening::Message { class, payload } => self.on_message(class, Message::decode(payload)),
            Happening::Gap { class, frames } => {
                self.strays.expire(frames);
                info!(%class, frames, "messages expired on their way here");
            }
            Happening::Signals(updates) => self.strays.ignored += updates.len() as u64,
            // The session lets control through of its own connections only.
            Happening::Control(frame) => self.driving.handle(self.clock.now(), drive::Input::Control(frame)),
            Happening::Settled { ticket, fate } => self.on_settled(ticket, fate),
            Happening::Ended(_) => unreachable!("the caller has taken it"),
        }
    }

    fn on_message(&mut self, lane: Class, message: Result<Message, BadMessage>) {
        let input = match message {
            Ok(Message::Command(command)) => Input::Command { lane, command },
            Ok(Message::Cancel(cancel)) => Input::Cancel { lane, cancel },
            Ok(Message::Desired(desired)) if lane == Class::Config => {
                return self.state.on_desired(self.clock.now(), desired, &self.vehicle);
            }
            Err(BadMessage::Command { key, reason, detail }) => {
                Input::Unreadable { lane, key, refusal: Refusal { reason, detail } }
            }
            Ok(Message::Lease(lease)) => {
                info!(token = %lease.token, operator = lease.operator, ttl = ?lease.ttl, "lease");
                return self.driving.handle(self.clock.now(), drive::Input::Lease(lease));
            }
            Ok(Message::Rearm(rearm)) => {
                return self.driving.handle(self.clock.now(), drive::Input::Rearm(rearm));
            }
            Ok(
                Message::Outcome(_)
                | Message::Chunk(_)
                | Message::DriveState(_)
                | Message::Desired(_)
                | Message::StateReport(_),
            ) => {
                self.strays.ignored += 1;
                return debug!(%lane, "a message that is no command");
            }
            Err(BadMessage::Unreadable(why)) => {
                self.strays.unreadable += 1;
                return warn!(%lane, why, "a message that cannot be read");
            }
        };
        self.executor.handle(self.clock.now(), input);
    }

    fn on_settled(&mut self, ticket: Ticket, fate: Fate) {
        let arrived = fate == Fate::Acknowledged;
        self.driving.settled(ticket);
        let is_bulk = self.bulk.settled(ticket, arrived);
        // Whatever settled: the lane may be full of an upload that was given up and forgotten.
        if let Some(piece) = self.bulk.stuck.take() {
            self.on_piece(Some(piece));
        }
        if is_bulk {
            return;
        }
        if arrived {
            if let Some(key) = self.outbox.arrived(&ticket) {
                self.executor.handle(self.clock.now(), Input::Arrived(key));
            }
        } else if let Err(outcome) = self.outbox.lost(&ticket) {
            self.executor.handle(self.clock.now(), Input::Untold(outcome));
        }
    }

    fn on_written(&mut self, id: WriteId, outcome: journal::Outcome) {
        if id == journal::TOKEN {
            self.driving.on_kept(self.clock.now(), outcome.is_ok());
        }
        let input = match outcome {
            Ok(()) => {
                self.state.handle(self.clock.now(), reconciler::Input::Written(id));
                Input::Written(id)
            }
            Err(why) => {
                if !self.executor.is_broken() {
                    error!("{why}; from here on only the emergency stop is carried out");
                }
                self.state.handle(self.clock.now(), reconciler::Input::WriteFailed(id));
                Input::WriteFailed(id)
            }
        };
        self.executor.handle(self.clock.now(), input);
    }

    fn on_piece(&mut self, piece: Option<Piece>) {
        let (Some(piece), Some(upload)) = (piece, &self.bulk.upload) else {
            self.bulk = Bulk::default(); // whoever uploaded gave it up
            return;
        };
        match self.link.send(Class::Bulk, piece.message(&upload.name).encode(), None) {
            Ok(ticket) => self.bulk.sent(ticket, &piece),
            Err(SendError::Full(_) | SendError::Ended(_)) => self.bulk.stuck = Some(piece),
            Err(SendError::TooLarge(_)) => unreachable!("a piece fits the bulk lane"),
        }
    }

    /// Nothing is under way, and no answer that could arrive soon: without a connection the journal keeps it.
    fn is_idle(&self) -> bool {
        let is_told = self.outbox.is_empty() && self.executor.owed() == 0 && self.driving.is_told();
        self.executor.is_idle() && self.state.is_idle() && (is_told || self.link.silent_for().is_none())
    }

    async fn farewell(mut self) -> End {
        self.link.close(CloseCode::Normal, "the agent stops", None);
        self.uploads.close();
        self.bulk = Bulk::default();
        let deadline = self.clock.now() + FAREWELL;
        loop {
            // The link takes no answers any more, but a stop must not be lost to a goodbye.
            self.act();
            match self.next(deadline).await {
                Wake::Happening(None | Some(Happening::Ended(_))) => break,
                Wake::Happening(Some(happening)) => self.on_happening(happening),
                Wake::Written(id, outcome) => self.on_written(id, outcome),
                Wake::Tick => {
                    warn!("the link did not end in time");
                    break;
                }
                Wake::Stop | Wake::Upload(_) | Wake::Piece(_) => {}
            }
        }
        let clean = self.executor.is_idle() && self.state.is_idle();
        if self.driving.has_lost_its_clock() { End::ClockWentBack } else { End::Stopped { clean } }
    }

    fn over(&mut self, ended: Ended, stopping: bool) -> End {
        self.driving.handle(self.clock.now(), drive::Input::Stopping);
        self.act(); // nobody is left who could drive it
        let Counts { acted, refused, .. } = self.executor.counts();
        info!(acted, refused, "session over: {ended}");
        if self.driving.has_lost_its_clock() {
            return End::ClockWentBack;
        }
        if stopping { End::Stopped { clean: self.is_idle() } } else { End::Refused(ended) }
    }
}

/// The next look after `last`, on the same grid; looks that were missed are not made up for.
fn next_look(last: Moment, now: Moment, interval: Duration) -> Moment {
    let next = last + interval;
    if next > now { next } else { now + interval }
}
