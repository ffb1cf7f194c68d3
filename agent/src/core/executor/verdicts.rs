//! From intent to verdict: what is written, and what is told once it is durable.

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{CommandKey, Phase, Reason};

use super::{Executor, Output, Stage, Verdict, WriteId};

impl Executor {
    pub(super) fn on_written(&mut self, id: WriteId) {
        self.on_release_written(id);
        let Some(key) = self.writes.remove(&id) else { return };
        // Gone or further on: an older write of an entry that has been written again since.
        let Some(entry) = self.entries.get(&key) else { return };
        match entry.stage {
            Stage::Intending(write) if write == id => {
                self.entries.set_stage(&key, Stage::Ready);
                self.ready.push_back(key.clone());
                self.tell_as(&key, Phase::Received);
            }
            Stage::Settling { write, .. } if write == id => self.settled(&key),
            Stage::Intending(_)
            | Stage::Ready
            | Stage::Acting(_)
            | Stage::Settling { .. }
            | Stage::Settled => {}
        }
    }

    pub(super) fn on_write_failed(&mut self, id: WriteId) {
        self.broken = true;
        self.on_release_failed();
        let Some(key) = self.writes.remove(&id) else { return };
        let Some(entry) = self.entries.get(&key) else { return };
        match entry.stage {
            Stage::Intending(write) if write == id => {
                let why = "the vehicle's journal could not be written";
                self.settle(&key, Verdict::rejected(Reason::Busy, why), false);
            }
            Stage::Settling { write, acted } if write == id => {
                self.distrust(&key, acted);
                self.settled(&key);
            }
            Stage::Intending(_)
            | Stage::Ready
            | Stage::Acting(_)
            | Stage::Settling { .. }
            | Stage::Settled => {}
        }
    }

    /// Fixes the verdict and makes it durable; where that is not possible any more, says so.
    pub(super) fn settle(&mut self, key: &CommandKey, verdict: Verdict, acted: bool) {
        self.entries.record_mut(key).verdict = Some(verdict);
        if self.broken {
            self.distrust(key, acted);
            return self.settled(key);
        }
        let write = self.write(key);
        self.entries.set_stage(key, Stage::Settling { write, acted });
        if sabotage::on(Sabotage::VerdictBeforeDurable) {
            self.settled(key);
        }
    }

    /// ACK-TRUTH: an effect that the journal does not hold is not known. Nor is it told that a command had none
    /// where its intent is or may be on the disk without that: a restart would call it UNKNOWN. Without an intent
    /// there is that refusal on the disk or nothing, and then a copy is judged anew after a restart: what is too
    /// old stays so, any other reason may have passed.
    fn distrust(&mut self, key: &CommandKey, acted: bool) {
        let is_admitted = self.entries[key].admitted;
        let verdict = self.entries.record_mut(key).verdict.as_mut().expect("it is being settled");
        let is_too_old = verdict.phase == Phase::Expired && verdict.reason != Some(Reason::AgeUnknowable);
        let stands = !is_admitted && is_too_old;
        if stands || verdict.phase == Phase::Unknown {
            return;
        }
        let Verdict { phase, detail, .. } = verdict;
        let why = if acted {
            format!("the vehicle says {phase}, but its journal could not record it")
        } else {
            format!("not executed ({phase} {detail}), but the vehicle's journal could not record that")
        };
        *verdict = Verdict::unknown(why);
    }

    pub(super) fn settled(&mut self, key: &CommandKey) {
        self.entries.set_stage(key, Stage::Settled);
        let phase = self.entries[key].record.verdict.as_ref().expect("it is settled").phase;
        self.tell_as(key, phase);
    }

    pub(super) fn write(&mut self, key: &CommandKey) -> WriteId {
        self.last_write += 1;
        let id = WriteId(self.last_write);
        self.writes.insert(id, key.clone());
        self.outputs.push_back(Output::Write { id, record: Box::new(self.entries[key].record.clone()) });
        id
    }

    pub(super) fn tell_as(&mut self, key: &CommandKey, phase: Phase) {
        if phase.is_terminal() {
            self.owed.remove(key);
        }
        let record = &self.entries[key].record;
        let verdict = record.verdict.as_ref().filter(|verdict| verdict.phase == phase);
        let under_way = Verdict { phase, reason: None, detail: String::new() };
        let outcome = record.outcome(verdict.unwrap_or(&under_way));
        self.outputs.push_back(Output::Tell { class: record.class(), outcome });
    }
}
