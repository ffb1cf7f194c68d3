//! What is to be on disk, and what follows from that it is.
//!
//! One write is under way at a time; whatever changes meanwhile is written with the next one, each record
//! once, as it is then. So every write carries all that waits, and no record waits twice.

use std::collections::BTreeMap;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Moment, Phase, Reason};

use super::record::{News, OnDisk, Stage};
use super::{CommandId, Commands, Input, Limits, OnOffline, Output, Reach, Record};

/// Records in one write, and deletions in one: some hundred KiB.
const BATCH: usize = 1_024;

/// Deletions that are written by themselves; fewer ride with the next record.
const FORGOTTEN: usize = 256;

/// Names a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Something to make durable, all or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Its name.
    pub id: WriteId,
    /// What.
    pub keeps: Vec<Keep>,
}

/// One thing to make durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Keep {
    /// This record, in place of an older one of its id.
    Put(Box<Kept>),
    /// Nothing of this id any more.
    Forget(CommandId),
}

/// A record as it is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The record.
    pub record: Record,
    /// Whether the vehicle may have it.
    pub may_have_left: bool,
}

/// A record as it was read after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// What was written down; its moments are by the clock of the boot it was written in.
    pub kept: Kept,
    /// Whether that is the boot of now.
    pub is_same_boot: bool,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    dirty: BTreeMap<u64, CommandId>,
    forgotten: Vec<CommandId>,
    /// Among them are some that were refused after a write of them failed, and are perhaps on disk all the same.
    owes_refusal: bool,
    under_way: Option<UnderWay>,
    writes: u64,
    health: Health,
}

#[derive(Debug)]
struct UnderWay {
    id: WriteId,
    entries: Vec<Entry>,
    forgotten: Vec<CommandId>,
}

/// What a write says of a record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: CommandId,
    place: u64,
    may_have_left: bool,
    is_end: bool,
    /// Steps of its timeline, without an end that waits for this write.
    steps: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Sound,
    /// A write failed; the next one is due then.
    Broken { retry_at: Moment },
    /// A write failed, and it is time for the next one.
    Trying,
}

impl Disk {
    pub(super) fn retries_at(&self) -> Option<Moment> {
        match self.health {
            Health::Broken { retry_at } => Some(retry_at),
            Health::Sound | Health::Trying => None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.health != Health::Sound
    }

    pub(super) fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.under_way.is_none() && !self.owes_refusal
    }

    pub(super) fn tick(&mut self, now: Moment) {
        if self.retries_at().is_some_and(|at| at <= now) {
            self.health = Health::Trying;
        }
    }

    /// Deletions beyond all measure are let go while the disk is broken: the rows end by their age at the
    /// next start.
    pub(super) fn forget(&mut self, record: &Record, limits: &Limits) {
        self.dirty.remove(&record.place);
        if record.disk.is_written && self.forgotten.len() < limits.records + limits.reserve {
            self.forgotten.push(record.id);
        }
    }
}

impl Commands {
    /// The record is to be written.
    pub(super) fn touch(&mut self, id: CommandId) {
        if let Some(record) = self.records.get(&id) {
            self.disk.dirty.insert(record.place, id);
        }
    }

    /// The next write, if there is something to write and none is under way.
    pub(super) fn next_write(&mut self) -> Option<Write> {
        let disk = &mut self.disk;
        let has_some = !disk.dirty.is_empty() || disk.owes_refusal || disk.forgotten.len() >= FORGOTTEN;
        let may = has_some && disk.under_way.is_none() && disk.retries_at().is_none();
        may.then(|| {
            self.disk.writes += 1;
            let id = WriteId(self.disk.writes);
            let forgotten = self.disk.forgotten.len().min(BATCH);
            let forgotten: Vec<_> = self.disk.forgotten.drain(..forgotten).collect();
            let mut keeps: Vec<_> = forgotten.iter().copied().map(Keep::Forget).collect();
            let mut entries = Vec::new();
            for _ in 0..BATCH {
                let Some((place, id)) = self.disk.dirty.pop_first() else { break };
                let Some(record) = self.records.get_mut(&id) else { continue };
                let (kept, entry) = snapshot(record, place);
                record.disk.is_written = true;
                record.disk.is_releasable |= !entry.may_have_left && !entry.is_end;
                keeps.push(Keep::Put(Box::new(kept)));
                entries.push(entry);
            }
            self.disk.under_way = Some(UnderWay { id, entries, forgotten });
            Write { id, keeps }
        })
    }

    pub(super) fn persisted(&mut self, now: Moment, write: WriteId) {
        let Some(UnderWay { entries, .. }) = self.disk.under_way.take_if(|one| one.id == write) else {
            return;
        };
        self.disk.health = Health::Sound;
        self.disk.owes_refusal &= !self.disk.forgotten.is_empty();
        for entry in entries {
            self.is_on_disk(now, entry);
        }
    }

    fn is_on_disk(&mut self, now: Moment, entry: Entry) {
        let Some(record) = self.records.get_mut(&entry.id) else { return };
        let id = entry.id;
        if entry.may_have_left || entry.is_end {
            record.disk.is_releasable = false;
        }
        record.disk.steps = record.disk.steps.max(entry.steps);
        let was_durable = std::mem::replace(&mut record.disk.is_durable, true);
        let was_untold = std::mem::take(&mut record.is_untold);
        self.show(now, id);
        if !was_durable {
            self.outputs.push_back(Output::Durable(id));
            if was_untold && self.records[&id].stage == Stage::Queued {
                self.enter(now, id);
            }
        }
        let Some(record) = self.records.get(&id) else { return };
        match record.stage.clone() {
            Stage::Leaving if entry.may_have_left => self.depart(now, id),
            Stage::Ending(news) if entry.is_end => self.end_that_is_on_disk(now, id, news),
            Stage::Held | Stage::Queued | Stage::Leaving | Stage::Away | Stage::Ending(_) | Stage::Ended => {}
        }
    }

    fn end_that_is_on_disk(&mut self, now: Moment, id: CommandId, news: News) {
        if let Some(record) = self.records.get_mut(&id) {
            record.disk.steps = record.timeline.len() + 1;
        }
        self.tell(now, id, news);
    }

    /// What was to be written stays so. What would have been accepted by it is not, and as nobody knows what a failed
    /// write left on the disk, it is deleted there as soon as the disk works again.
    pub(super) fn persist_failed(&mut self, now: Moment, write: WriteId) {
        if sabotage::on(Sabotage::FailureTakenForSuccess) {
            return self.persisted(now, write);
        }
        let Some(failed) = self.disk.under_way.take_if(|one| one.id == write) else { return };
        self.disk.health = Health::Broken { retry_at: now + self.limits.disk_pause };
        self.disk.forgotten.extend(failed.forgotten);
        for Entry { id, place, .. } in failed.entries {
            match self.records.get(&id) {
                Some(record) if record.is_untold => {
                    self.withdraw(id);
                    self.disk.owes_refusal = true;
                }
                Some(_) => drop(self.disk.dirty.insert(place, id)),
                None => {}
            }
        }
        self.show_all(now);
    }

    /// Takes in what was on disk, in the order of acceptance. Of another boot nobody knows how much time
    /// has passed: what waited has expired, what had left is unknown.
    pub fn restore(&mut self, now: Moment, restored: impl IntoIterator<Item = Restored>) {
        for one in restored {
            self.restore_one(now, one);
        }
        self.handle(now, Input::Tick);
    }

    fn restore_one(&mut self, now: Moment, Restored { kept, is_same_boot }: Restored) {
        let Kept { mut record, may_have_left } = kept;
        let latest = record.timeline.last().map_or(record.accepted, |step| step.at);
        let is_same_boot = is_same_boot || sabotage::on(Sabotage::GatewayBootsCompared);
        let is_same_boot = is_same_boot && latest <= now;
        if !is_same_boot {
            rebase(&mut record, latest, now);
        }
        self.places += 1;
        record.place = self.places;
        let is_waiting = !may_have_left && record.request.on_offline == OnOffline::Queue;
        record.stage = match record.phase().is_terminal() {
            true => Stage::Ended,
            false if is_waiting => Stage::Queued,
            false => Stage::Away,
        };
        let steps = record.timeline.len();
        record.disk = OnDisk { is_written: true, is_durable: true, is_releasable: is_waiting, steps };
        record.told = steps;
        record.due = record.next_due(latest.min(now), &self.limits);
        if record.stage == Stage::Away {
            // Its session is gone: the vehicle's next one speaks soon, or it is not known.
            record.due = record.due.min(now + self.limits.execution_grace);
        }
        let id = record.id;
        let (vehicle, target) =
            (record.request.vehicle.clone(), (record.request.class, record.request.path.clone()));
        let stage = record.stage.clone();
        self.adopt(now, record, Reach::Offline);
        if target.0 != carriageway_proto::Class::Safety && stage != Stage::Ended {
            let slots = &mut self.vehicles.get_mut(&vehicle).expect("adopted with its record").slots;
            let slot = slots.entry(target).or_default();
            let place = if stage == Stage::Away { &mut slot.away } else { &mut slot.waiting };
            let older = place.replace(id).filter(|_| stage == Stage::Queued);
            if let Some(older) = older {
                self.finish(now, older, News::of(Phase::Superseded, super::flow::superseded_by(id)));
            }
        }
        if !is_same_boot {
            self.end_of_another_boot(now, id);
        }
    }

    fn end_of_another_boot(&mut self, now: Moment, id: CommandId) {
        let phase = match self.records[&id].stage {
            Stage::Queued => Phase::Expired,
            Stage::Away => Phase::Unknown,
            Stage::Held | Stage::Leaving | Stage::Ending(_) | Stage::Ended => return,
        };
        let detail = match phase {
            Phase::Expired => "the gateway's host restarted: its age is not known; certainly not executed",
            _ => "the gateway's host restarted while it was under way; the vehicle may have acted",
        };
        self.tell(now, id, News { phase, reason: Some(Reason::AgeUnknowable), detail: detail.into() });
    }
}

/// A record as it is to be written: one that ends as soon as it is written, as ended.
fn snapshot(record: &Record, place: u64) -> (Kept, Entry) {
    let mut written = record.clone();
    if let Stage::Ending(news) = &record.stage {
        let at = written.timeline.last().map_or(record.accepted, |step| step.at);
        written.rise(at, news.clone());
    }
    let is_end = written.phase().is_terminal();
    // Nothing waits for the disk that is to go at once: what is said of it holds even if it has gone.
    let may_have_left = record.request.on_offline == OnOffline::Fail
        || !(record.stage.is_waiting() || matches!(record.stage, Stage::Ending(_)));
    let entry = Entry { id: record.id, place, may_have_left, is_end, steps: record.timeline.len() };
    (Kept { record: written, may_have_left }, entry)
}

/// Moves the record's moments so that its last one is now.
fn rebase(record: &mut Record, latest: Moment, now: Moment) {
    let shift = |moment: Moment| now - latest.since(moment);
    record.accepted = shift(record.accepted);
    for step in &mut record.timeline {
        step.at = shift(step.at);
    }
}
