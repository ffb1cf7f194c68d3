//! One vehicle's desired and reported state.

use std::collections::BTreeMap;
use std::time::Duration;

use carriageway_proto::scan::MAX_VALUES;
use carriageway_proto::{
    BootId, Desired, DesiredValue, Epoch, Message, Moment, PathState, SignalPath, Stamp, StateReport,
    SyncStatus, Value,
};

use super::words::{Condition, Edit, PatchRefusal, PathView, View, Wish};

/// Most bytes of what is desired of one vehicle: one lane message holds it with room to spare.
const MAX_BYTES: usize = 48 * 1024;

/// Versions claimed by vehicles must stay below this, so that there is always a next one.
const VERSION_LIMIT: u64 = 1 << 62;

/// No host's boot: a wish with this stamp is of an age that nobody knows.
const NO_BOOT: BootId = BootId::from_bytes([0; 16]);

/// One vehicle's place.
#[derive(Debug)]
pub(super) struct Place {
    /// What is on disk, stamped by this host's clock.
    desired: Desired,
    /// No version at or below it is given out any more.
    highest: u64,
    pending: Option<Desired>,
    /// The disk holds wishes as valid that nobody knows the age of.
    owes_doubt: bool,
    session: Option<Epoch>,
    /// The version of the newest report, and over which session it came.
    answered: Option<(Epoch, u64)>,
    reported: BTreeMap<SignalPath, Reported>,
    flight: Flight,
    /// Wishes that were over when it was last looked.
    expired: usize,
    /// When the next one may end; `None`: none will.
    look_at: Option<Moment>,
}

#[derive(Debug)]
struct Reported {
    at: Moment,
    state: PathState,
}

/// Where the newest message to the vehicle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// It has all of it.
    Landed,
    /// It is to have a newer one.
    Due,
    /// One is under way.
    Aloft,
    /// One is under way, and a newer one is to follow.
    AloftAndDue,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            desired: Desired { version: 0, values: Vec::new() },
            highest: 0,
            pending: None,
            owes_doubt: false,
            session: None,
            answered: None,
            reported: BTreeMap::new(),
            flight: Flight::Due,
            expired: 0,
            look_at: Some(Moment::ZERO),
        }
    }
}

impl Place {
    /// Of a vehicle with a state on disk.
    pub(super) fn after(desired: Desired) -> Self {
        Self { highest: desired.version, desired, ..Self::default() }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.desired.version > 0 || self.pending.is_some()
    }

    /// The state after a change, which is pending now; `None` where nothing changes.
    pub(super) fn patch(
        &mut self,
        now: Stamp,
        condition: &Condition,
        edits: &BTreeMap<SignalPath, Edit>,
    ) -> Result<Option<Desired>, PatchRefusal> {
        let version = self.desired.version;
        match condition {
            Condition::Versions(versions) if !versions.contains(&version) => {
                return Err(PatchRefusal::Precondition { version });
            }
            Condition::Any | Condition::Versions(_) => {}
        }
        if self.pending.is_some() {
            return Err(PatchRefusal::Busy);
        }
        let desired = edited(&self.desired, self.highest + 1, now, edits);
        if desired.values == self.desired.values {
            return Ok(None);
        }
        if desired.values.len() > MAX_VALUES {
            return Err(PatchRefusal::TooManyPaths);
        }
        if Message::Desired(desired.clone()).encode().len() > MAX_BYTES {
            return Err(PatchRefusal::TooLarge);
        }
        self.highest = desired.version;
        self.pending = Some(desired.clone());
        Ok(Some(desired))
    }

    /// The clock went backwards: what is valid for a while only may be older than its stamp says, and is over.
    pub(super) fn doubt(&mut self) {
        let pending = self.pending.iter_mut().flat_map(|pending| &mut pending.values);
        let valid = |wish: &&mut DesiredValue| wish.ttl.is_some() && wish.stamp.boot != NO_BOOT;
        for wish in self.desired.values.iter_mut().chain(pending).filter(valid) {
            wish.stamp.boot = NO_BOOT;
            self.owes_doubt = true;
        }
        self.look_at = Some(Moment::ZERO);
    }

    /// What is to be written so that a restart doubts what this process does, unless a change is under way.
    pub(super) fn keep_doubt(&mut self) -> Option<Desired> {
        let is_due = self.owes_doubt && self.pending.is_none();
        is_due.then(|| self.pending.insert(self.desired.clone()).clone())
    }

    /// Whether what is pending says of the state on disk what became of it, and changes nothing.
    pub(super) fn is_pending_doubt(&self, version: u64) -> bool {
        let is_same = |pending: &Desired| pending.version == version;
        version == self.desired.version && self.pending.as_ref().is_some_and(is_same)
    }

    /// The pending change is made, or given up. False if another one, or none, is pending.
    pub(super) fn take_pending(&mut self, version: u64, kept: bool) -> bool {
        let is_doubt = self.is_pending_doubt(version);
        let Some(pending) = self.pending.take_if(|pending| pending.version == version) else { return false };
        if is_doubt {
            self.owes_doubt = !kept || pending != self.desired;
        } else if kept {
            self.desired = pending;
            self.expired = 0;
            self.look_at = Some(Moment::ZERO);
            self.is_to_be_sent();
        }
        true
    }

    fn is_to_be_sent(&mut self) {
        self.flight = match self.flight {
            Flight::Landed | Flight::Due => Flight::Due,
            Flight::Aloft | Flight::AloftAndDue => Flight::AloftAndDue,
        };
    }

    pub(super) fn came(&mut self, epoch: Epoch) {
        if self.session.replace(epoch) != Some(epoch) {
            // What was under way in another session is not any more.
            self.flight = Flight::Due;
        }
        self.is_to_be_sent();
    }

    pub(super) fn left(&mut self, epoch: Epoch) {
        if self.session == Some(epoch) {
            self.session = None;
        }
    }

    pub(super) fn forget(&mut self) {
        self.session = None;
        self.answered = None;
        self.reported.clear();
    }

    /// Whether a message is to be sent now and none is under way.
    pub(super) fn is_due(&self) -> bool {
        self.flight == Flight::Due && self.session.is_some() && self.desired.version > 0
    }

    /// Whether a message takes off now.
    pub(super) fn take_off(&mut self) -> bool {
        let goes = self.is_due();
        if goes {
            self.flight = Flight::Aloft;
        }
        goes
    }

    /// What was under way has arrived, or never will.
    pub(super) fn settled(&mut self, arrived: bool) {
        self.flight = match (self.flight, arrived) {
            (Flight::Aloft, true) => Flight::Landed,
            (Flight::Aloft, false) | (Flight::AloftAndDue, _) => Flight::Due,
            (Flight::Landed | Flight::Due, _) => self.flight,
        };
    }

    /// Takes in a report; false where it is older than one before, or of another session.
    pub(super) fn hear(&mut self, now: Moment, epoch: Epoch, report: StateReport) -> bool {
        let is_older = self.answered.is_some_and(|(over, version)| over == epoch && report.version < version);
        if self.session != Some(epoch) || is_older {
            return false;
        }
        self.answered = Some((epoch, report.version));
        if report.version < VERSION_LIMIT {
            self.highest = self.highest.max(report.version);
        }
        let desired = &self.desired.values;
        let is_kept = |path: &SignalPath| {
            desired.iter().any(|wish| wish.path == *path)
                || report.paths.iter().any(|said| said.path == *path)
        };
        self.reported.retain(|path, _| is_kept(path));
        for state in report.paths {
            self.reported.insert(state.path.clone(), Reported { at: now, state });
        }
        true
    }

    /// Whether a wish has ended since this was last asked.
    pub(super) fn expire(&mut self, now: Stamp) -> bool {
        if self.look_at.is_none_or(|at| now.clock < at) {
            return false;
        }
        let wishes = &self.desired.values;
        let expired = wishes.iter().filter(|wish| left_of(wish, now).is_none()).count();
        self.look_at =
            wishes.iter().filter_map(|wish| left_of(wish, now)?).min().map(|left| now.clock + left);
        std::mem::replace(&mut self.expired, expired) < expired
    }

    /// What is valid at `now`, stamped by the vehicle's clock.
    pub(super) fn message(&self, now: Stamp, theirs: Stamp) -> Desired {
        let still = |wish: &DesiredValue| {
            let ttl = left_of(wish, now)?;
            Some(DesiredValue { stamp: theirs, ttl, ..wish.clone() })
        };
        Desired {
            version: self.desired.version,
            values: self.desired.values.iter().filter_map(still).collect(),
        }
    }

    pub(super) fn view(&self, now: Stamp, signal: impl Fn(&SignalPath) -> Option<(Value, Moment)>) -> View {
        let wishes = self.desired.values.iter().map(|wish| (&wish.path, Some(wish)));
        let mut paths: BTreeMap<_, _> = self.reported.keys().map(|path| (path, None)).collect();
        paths.extend(wishes);
        let paths = paths.into_iter().map(|(path, wish)| self.path_view(now, path, wish, &signal)).collect();
        let answered = self.answered.map_or(0, |(_, version)| version);
        View { version: self.desired.version, answered, paths }
    }

    fn path_view(
        &self,
        now: Stamp,
        path: &SignalPath,
        wish: Option<&DesiredValue>,
        signal: impl Fn(&SignalPath) -> Option<(Value, Moment)>,
    ) -> PathView {
        let said = self.reported.get(path);
        let told = said.and_then(|said| Some((said.state.reported.clone()?, said.at)));
        let newer = signal(path).filter(|(_, at)| told.as_ref().is_none_or(|(_, told)| at > told));
        let meant = said
            .map(|said| &said.state)
            .filter(|state| wish.is_some_and(|wish| wish.version == state.version));
        PathView {
            path: path.clone(),
            wish: wish.map(|wish| wish_view(wish, now)),
            reported: newer.or(told),
            status: wish.map(|wish| status(wish, now, meant)),
            reason: meant.and_then(|state| state.reason),
            detail: meant.map(|state| state.detail.clone()).unwrap_or_default(),
        }
    }
}

/// How far a wish has come: what the vehicle said of it, unless its time was over before that.
fn status(wish: &DesiredValue, now: Stamp, said: Option<&PathState>) -> SyncStatus {
    let status = said.map_or(SyncStatus::Pending, |state| state.status);
    match status {
        SyncStatus::Pending if left_of(wish, now).is_none() => SyncStatus::Expired,
        SyncStatus::Pending
        | SyncStatus::Applying
        | SyncStatus::InSync
        | SyncStatus::Diverged
        | SyncStatus::GivenUp
        | SyncStatus::Expired => status,
    }
}

fn wish_view(wish: &DesiredValue, now: Stamp) -> Wish {
    let since = (wish.stamp.boot == now.boot).then_some(wish.stamp.clock);
    Wish {
        value: wish.value.clone(),
        version: wish.version,
        since,
        until: since.and_then(|since| Some(since + wish.ttl?)),
        is_expired: left_of(wish, now).is_none(),
    }
}

/// For how long a wish is still valid, `Some(None)`: without end; `None`: it is over, or nobody knows
/// how long it has been.
#[expect(clippy::option_option, reason = "the two have nothing in common: over, and without end")]
fn left_of(wish: &DesiredValue, now: Stamp) -> Option<Option<Duration>> {
    let Some(ttl) = wish.ttl else { return Some(None) };
    let age = wish.stamp.age(now.boot, now.clock)?;
    Some(Some(ttl.checked_sub(age).filter(|left| !left.is_zero())?))
}

fn edited(before: &Desired, version: u64, now: Stamp, edits: &BTreeMap<SignalPath, Edit>) -> Desired {
    let mut values: BTreeMap<_, _> =
        before.values.iter().map(|wish| (wish.path.clone(), wish.clone())).collect();
    for (path, edit) in edits {
        match edit {
            Edit::Set { value, valid_for } => {
                let (value, ttl) = (value.clone(), *valid_for);
                let wish = DesiredValue { path: path.clone(), value, version, stamp: now, ttl };
                values.insert(path.clone(), wish);
            }
            Edit::Remove => {
                values.remove(path);
            }
        }
    }
    Desired { version, values: values.into_values().collect() }
}
