//! Brings the vehicle's state to what is desired of it, with at most one actuation per path and version.
//!
//! 1. *Decide.* A version of a path that is too old, by its stamp and ttl, is EXPIRED; what holds already is
//!    IN_SYNC; what the vehicle must not do now is GIVEN_UP. Everything else is to be applied, as the rate of
//!    its class allows, which it shares with commands.
//! 2. *Record.* The decision is made durable before anything follows from it: from here on no restart and no
//!    copy of the desired state makes another one for this version.
//! 3. *Act.* Age and rate are judged again, then the vehicle gets the target: APPLYING, until it reports the
//!    end. A vehicle that never does has five minutes.
//! 4. *Watch.* What held and does not any more is DIVERGED, be it by a command or by itself, and nothing is
//!    done about it: whoever changed it may have meant it. A newer version starts again. Where the vehicle
//!    cannot read a path, what it last said to have reached is believed.
//!
//! Desired state reaches no path of the classes drive and safety: those need a lease, or a person. After an
//! emergency stop nothing is begun until it is re-armed; what comes meanwhile is GIVEN_UP for its version.
//!
//! What came of a version before a restart is not known: its path is IN_SYNC if it holds, else GIVEN_UP.
//! The actuation of a path that is not desired any more comes to its end. Gateways that know
//! nothing of each other may bring an older version back: what was taken in and was then dropped or replaced
//! has ended, decided on or not.

mod io;
#[cfg(test)]
mod model;
mod past;
mod path;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use carriageway_proto::rate::Bucket;
use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{
    Class, ClassMap, MAX_FRAME, Moment, PolicyTable, Reason, SignalPath, StateReport, SyncStatus, Value,
};

pub use io::{Input, Output, Past, Wanted};
use path::{Decision, Path, Rest, Stage, is_value, number};

use crate::core::executor::WriteId;
use crate::core::freshness::Judge;
use crate::core::vehicle::{Actuation, Applied, Refusal, Target};

/// Numbers of actuations and writes begin here: the executor counts its own from 1.
const FIRST: u64 = 1 << 63;

/// A vehicle has at most so long to report an end, as with a command.
const LONGEST_ACTUATION: Duration = Duration::from_mins(5);

/// Least time between two reports: readings come at 20 Hz, and a value that flutters is no news.
const PACE: Duration = Duration::from_millis(200);

/// Least time between two reports of which only the values differ: those flow as signals anyway.
const VALUES_PACE: Duration = Duration::from_secs(1);

/// Values remembered of paths; a vehicle has some hundred. Beyond it what was last reached is believed.
const MOST_READINGS: usize = 1_024;

/// Largest report with everything in it, in bytes: the largest frame less its own fields.
const LARGEST_REPORT: usize = MAX_FRAME - 4 * 1_024;

/// What the vehicle last said of a path.
#[derive(Clone, Debug)]
struct Reading {
    value: Value,
    /// Nothing has moved the path since.
    is_current: bool,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Nothing,
    Values,
    Status,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Reconciler {
    judge: Judge,
    policy: PolicyTable,
    past: Past,
    /// Of [`Past::decided`], what is not desired any more.
    dropped: BTreeSet<SignalPath>,
    /// The newest version of all that was taken in.
    version: u64,
    paths: BTreeMap<SignalPath, Path>,
    readings: BTreeMap<SignalPath, Reading>,
    /// What the vehicle moves, by commands, too, and until when it may report the end.
    moving: BTreeMap<Actuation, (Moment, SignalPath)>,
    outputs: VecDeque<Output>,
    news: News,
    reported_at: Option<Moment>,
    latched: bool,
    stopping: bool,
    last_write: u64,
    last_actuation: u64,
}

impl Reconciler {
    /// Takes up what the journal holds. `judge` is the executor's: it has seen what the clock has shown.
    pub fn recover(judge: Judge, policy: PolicyTable, past: Past, latched: bool) -> Self {
        let version = past.decided.values().copied().max().unwrap_or(0).max(past.floor);
        Self {
            judge,
            policy,
            past,
            dropped: BTreeSet::new(),
            version,
            paths: BTreeMap::new(),
            readings: BTreeMap::new(),
            moving: BTreeMap::new(),
            outputs: VecDeque::new(),
            news: News::Nothing,
            reported_at: None,
            latched,
            stopping: false,
            last_write: 0,
            last_actuation: 0,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.judge.note(now);
        match input {
            Input::Desired { version, values } => self.on_desired(version, values),
            Input::Readings(values) => {
                for (path, value) in values {
                    self.on_reading(path, value);
                }
            }
            Input::Commanded { path, value, moving } => {
                self.on_commanded(&path, &value, moving);
                self.moving.extend(moving.map(|actuation| (actuation, (now + LONGEST_ACTUATION, path))));
            }
            Input::Latched(latched) => self.latched = latched,
            Input::Established => self.tell_anew(),
            Input::Written(id) => self.on_written(id, true),
            Input::WriteFailed(id) => self.on_written(id, false),
            Input::Applied { actuation, applied } => self.on_applied(actuation, applied),
            Input::Finished { actuation, result } => {
                let rest = result.map_or_else(Rest::given_up, |()| Rest::in_sync());
                self.on_end(actuation, rest);
            }
            Input::Stopping => self.stopping = true,
        }
    }

    /// What is to be done next, taking what is left of the rates from `buckets`. Call it, and do what it
    /// says, until it says [`Output::Wait`].
    pub fn poll(&mut self, now: Moment, buckets: &mut ClassMap<Bucket>) -> Output {
        self.judge.note(now);
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        self.give_up_overdue(now);
        let mut wake_at = self.moving.values().map(|(until, _)| *until).min();
        let undecided = |path: &&Path| matches!(path.stage, Stage::Waiting | Stage::Ready);
        let open: Vec<SignalPath> =
            self.paths.values().filter(undecided).map(|path| path.wanted.value.path.clone()).collect();
        for path in open {
            match self.look_at(now, &path, buckets) {
                Ok(Some(output)) => return output,
                Ok(None) => {}
                Err(wait) => wake_at = [wake_at, Some(now + wait)].into_iter().flatten().min(),
            }
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        match self.report_due() {
            Some(due) if due <= now => self.report(now),
            due => Output::Wait([wake_at, due].into_iter().flatten().min()),
        }
    }

    /// True while the vehicle has a target whose end it has not reported.
    pub fn is_acting(&self) -> bool {
        !self.moving.is_empty()
    }

    /// True when nothing is under way: a restart now would leave nothing unclear.
    pub fn is_idle(&self) -> bool {
        let under_way = |path: &Path| matches!(path.stage, Stage::Recording { .. } | Stage::Ready);
        self.moving.is_empty() && !self.paths.values().any(under_way)
    }
}

// What is wanted, and what is known.
impl Reconciler {
    fn on_desired(&mut self, version: u64, values: Vec<Wanted>) {
        self.tell_anew();
        // The report says which is the newest. A path that is newer than all of them is nonsense, and taking it
        // would make the vehicle deaf to what follows.
        if version < self.version || values.iter().any(|wanted| wanted.value.version > version) {
            return;
        }
        let is_newer = version > self.version;
        self.version = version;
        let mut kept = BTreeMap::new();
        for wanted in values {
            let path = wanted.value.path.clone();
            let known = self.paths.remove(&path);
            kept.insert(path, self.take_up(known, wanted));
        }
        let left_out = std::mem::replace(&mut self.paths, kept);
        self.dropped.retain(|path| !self.paths.contains_key(path));
        if is_newer {
            self.end_dropped(left_out);
        } else {
            self.go_on_with(left_out);
        }
    }

    /// What holds at `path`, unless it is about to change.
    fn settled(&self, path: &SignalPath) -> Option<&Value> {
        self.current(path).filter(|_| !self.is_moving(path))
    }

    fn is_moving(&self, path: &SignalPath) -> bool {
        self.moving.values().any(|(_, moving)| moving == path)
    }

    fn current(&self, path: &SignalPath) -> Option<&Value> {
        self.readings.get(path).filter(|reading| reading.is_current).map(|reading| &reading.value)
    }

    fn on_reading(&mut self, path: SignalPath, value: Value) {
        let is_moving = self.is_moving(&path);
        if let Some(wanted) = self.paths.get_mut(&path) {
            let before = wanted.status();
            if !is_moving {
                wanted.read(&value);
            }
            // A report since the path was last moved may have said that nobody knows.
            let is_told = |reading: &Reading| reading.value == value && reading.is_current;
            let changed = !self.readings.get(&path).is_some_and(is_told);
            let news = if wanted.status() == before { News::Values } else { News::Status };
            if changed || news == News::Status {
                self.news = self.news.max(news);
            }
        }
        if self.readings.contains_key(&path) || self.readings.len() < MOST_READINGS {
            self.readings.insert(path, Reading { value, is_current: true });
        }
    }

    /// Until the vehicle says what holds now, nobody knows.
    fn moved(&mut self, path: &SignalPath) {
        if let Some(reading) = self.readings.get_mut(path) {
            reading.is_current = false;
        }
        self.moving.retain(|_, (_, other)| other != path);
    }

    /// A command has the path now: a newer wish than what was desired of it so far.
    fn on_commanded(&mut self, path: &SignalPath, value: &Value, moving: Option<Actuation>) {
        self.moved(path);
        let is_readable = self.readings.contains_key(path);
        let Some(wanted) = self.paths.get(path) else { return };
        let agrees = is_value(&wanted.wanted.value.value, value);
        if let Some(actuation) = moving.filter(|_| agrees) {
            // It does not hold yet, and its end is this path's, where that is awaited.
            if let Stage::Applying(_) = wanted.stage {
                self.set_stage(path, Stage::Applying(actuation));
            }
            return;
        }
        let rest =
            if agrees && !is_readable { Rest::in_sync() } else { Rest::diverged("a command changed it") };
        match &wanted.stage {
            Stage::Resting(rest) if rest.status != SyncStatus::InSync || agrees => {}
            Stage::Waiting => self.decide(path, Decision::Rest(rest)),
            Stage::Recording { write, .. } => {
                let then = Decision::Rest(rest);
                self.set_stage(path, Stage::Recording { write: *write, then });
            }
            Stage::Ready | Stage::Applying(_) | Stage::Resting(_) => {
                self.set_stage(path, Stage::Resting(rest));
            }
        }
    }
}

// From decision to rest.
impl Reconciler {
    /// Decides on `path`, or acts as decided; or says how long to wait for the rate.
    fn look_at(
        &mut self,
        now: Moment,
        path: &SignalPath,
        buckets: &mut ClassMap<Bucket>,
    ) -> Result<Option<Output>, Duration> {
        let wanted = &self.paths[path];
        let is_ready = wanted.stage == Stage::Ready;
        let class = match self.obstacle(now, &wanted.wanted) {
            Ok(class) => class,
            Err(rest) if is_ready => {
                self.set_stage(path, Stage::Resting(rest));
                return Ok(None);
            }
            Err(rest) => {
                self.decide(path, Decision::Rest(rest));
                return Ok(None);
            }
        };
        if self.stopping {
            return Ok(None);
        }
        if is_ready {
            buckets[class].take(&self.policy[class], now)?;
            return Ok(Some(self.apply(now, path, class)));
        }
        buckets[class].check(&self.policy[class], now)?;
        self.decide(path, Decision::Act);
        Ok(None)
    }

    /// The class to act in, or why nothing is to be done.
    fn obstacle(&self, now: Moment, wanted: &Wanted) -> Result<Class, Rest> {
        let Wanted { value, class } = wanted;
        let ttl = value.ttl.filter(|_| !sabotage::on(Sabotage::DesiredTooOldActed));
        if let Some(too_old) = self.judge.too_old(now, value.stamp, ttl) {
            return Err(Rest::expired(too_old));
        }
        if self.settled(&value.path).is_some_and(|reading| is_value(&value.value, reading)) {
            return Err(Rest::in_sync());
        }
        let give_up = |reason, why: &str| Err(Rest::given_up(Refusal::new(reason, why)));
        match class {
            None => give_up(Reason::Unsupported, "the vehicle takes no desired state for this"),
            Some(Class::Drive | Class::Safety) => {
                give_up(Reason::NotPermitted, "driving is commanded under a lease, not desired")
            }
            Some(Class::Session | Class::Bulk) => {
                give_up(Reason::Unsupported, "the vehicle takes it in a class that takes no targets")
            }
            Some(_) if self.latched => give_up(
                Reason::NotPermitted,
                "an emergency stop holds the vehicle; desire it anew once it is re-armed",
            ),
            Some(class @ (Class::Body | Class::Comfort | Class::Config | Class::Diagnostics)) => Ok(*class),
        }
    }

    fn decide(&mut self, path: &SignalPath, then: Decision) {
        if then == Decision::Act && sabotage::on(Sabotage::DesiredNotRecorded) {
            return self.set_stage(path, Stage::Ready);
        }
        let id = self.record(path, self.paths[path].wanted.value.version);
        self.set_stage(path, Stage::Recording { write: id, then });
    }

    fn on_written(&mut self, id: WriteId, durable: bool) {
        let is_it = |path: &&Path| matches!(path.stage, Stage::Recording { write, .. } if write == id);
        let Some(wanted) = self.paths.values().find(is_it) else { return };
        let (path, stage) = (wanted.wanted.value.path.clone(), wanted.stage.clone());
        let Stage::Recording { then, .. } = stage else { return };
        let stage = match then {
            Decision::Rest(rest) => Stage::Resting(rest),
            Decision::Act if durable => Stage::Ready,
            Decision::Act => {
                let why = "the vehicle's journal cannot be written";
                Stage::Resting(Rest::given_up(Refusal::new(Reason::Busy, why)))
            }
        };
        self.set_stage(&path, stage);
    }

    fn apply(&mut self, now: Moment, path: &SignalPath, class: Class) -> Output {
        let actuation = Actuation(number(&mut self.last_actuation));
        let value = self.paths[path].wanted.value.value.clone();
        self.moving.insert(actuation, (now + LONGEST_ACTUATION, path.clone()));
        self.set_stage(path, Stage::Applying(actuation));
        Output::Apply { actuation, target: Target { class, path: path.clone(), value } }
    }

    fn on_applied(&mut self, actuation: Actuation, applied: Applied) {
        match applied {
            Applied::Moving => self.take_over(actuation),
            Applied::Done => self.on_end(actuation, Rest::in_sync()),
            Applied::Refused(refusal) => {
                // What moved the path before goes on, and what was read of it stays as true as it was.
                let Some((_, path)) = self.moving.remove(&actuation) else { return };
                self.end(&path, actuation, Rest::given_up(refusal));
            }
        }
    }

    /// The vehicle moves the path by `actuation` now, and by nothing else.
    fn take_over(&mut self, actuation: Actuation) {
        let Some((until, path)) = self.moving.remove(&actuation) else { return };
        self.moved(&path);
        self.moving.insert(actuation, (until, path));
    }

    fn on_end(&mut self, actuation: Actuation, rest: Rest) {
        let Some((_, path)) = self.moving.remove(&actuation) else { return };
        // It was read on its way.
        self.moved(&path);
        self.end(&path, actuation, rest);
    }

    fn end(&mut self, path: &SignalPath, actuation: Actuation, rest: Rest) {
        if self.paths.get(path).is_some_and(|wanted| wanted.stage == Stage::Applying(actuation)) {
            self.set_stage(path, Stage::Resting(rest));
        }
    }

    fn give_up_overdue(&mut self, now: Moment) {
        let is_over = |entry: (&Actuation, &(Moment, SignalPath))| (entry.1.0 <= now).then_some(*entry.0);
        for actuation in self.moving.iter().filter_map(is_over).collect::<Vec<_>>() {
            self.on_end(actuation, Rest::unclear("the vehicle did not report an end"));
        }
    }

    fn set_stage(&mut self, path: &SignalPath, stage: Stage) {
        let wanted = self.paths.get_mut(path).expect("the caller has looked it up");
        let before = wanted.status();
        wanted.stage = stage;
        if wanted.status() != before {
            self.news = News::Status;
        }
    }
}

// Telling.
impl Reconciler {
    fn tell_anew(&mut self) {
        self.news = News::Status;
        self.reported_at = None;
    }

    fn report_due(&self) -> Option<Moment> {
        let pace = match self.news {
            News::Nothing => return None,
            News::Values => VALUES_PACE,
            News::Status => PACE,
        };
        Some(self.reported_at.map_or(Moment::ZERO, |last| last + pace))
    }

    fn report(&mut self, now: Moment) -> Output {
        (self.news, self.reported_at) = (News::Nothing, Some(now));
        let state = |path: &Path| path.state(self.current(&path.wanted.value.path));
        let mut report =
            StateReport { version: self.version, paths: self.paths.values().map(state).collect() };
        if size(&report) > LARGEST_REPORT {
            // Long texts; how it stands with each path always fits.
            for state in &mut report.paths {
                state.reported = None;
                state.detail.clear();
            }
        }
        Output::Report(report)
    }
}

/// An upper bound of a report's size on the wire, in bytes.
fn size(report: &StateReport) -> usize {
    let text = |value: &Option<Value>| match value {
        Some(Value::Text(text)) => text.len(),
        Some(Value::Bool(_) | Value::Int(_) | Value::Float(_)) | None => 0,
    };
    // Numbers, tags and lengths of one path take less than 64 bytes.
    report
        .paths
        .iter()
        .map(|state| state.path.as_str().len() + text(&state.reported) + state.detail.len() + 64)
        .sum()
}
