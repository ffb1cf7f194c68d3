//! Withdrawing a command: it works until the vehicle has it, and not after.

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Cancel, Class, CommandKey, Moment, Phase, Reason, Stamp};

use super::record::{Wish, life};
use super::{Entry, Executor, LONGEST_TTL, Output, Record, Stage, Verdict};

impl Executor {
    pub(super) fn on_cancel(&mut self, now: Moment, lane: Class, cancel: Cancel) {
        // Not answered: an answer would be taken for the end of some command.
        if lane != cancel.class || !lane.is_command() {
            self.counts.refused += 1;
            return;
        }
        let Some(entry) = self.entries.get(&cancel.key) else { return self.withdraw_unknown(now, cancel) };
        if !entry.record.is_meant_by(&cancel) {
            return self.refuse_cancel(&cancel);
        }
        match entry.stage {
            Stage::Intending(_) | Stage::Ready => self.withdraw(&cancel.key),
            Stage::Acting(_) | Stage::Settling { .. } | Stage::Settled => self.tell_again(&cancel.key),
        }
    }

    fn withdraw(&mut self, key: &CommandKey) {
        self.counts.canceled += 1;
        self.ready.retain(|ready| ready != key);
        self.settle(key, Verdict::canceled(), false);
        if sabotage::on(Sabotage::CanceledActed) {
            self.ready.push_back(key.clone());
        }
    }

    /// The command that is meant, if it ever comes, finds its key taken; what has the key goes on.
    fn refuse_cancel(&mut self, cancel: &Cancel) {
        self.counts.refused += 1;
        // Without a fingerprint an answer would be taken for the end of what has the key.
        if cancel.fingerprint.is_some() {
            let verdict = Verdict::rejected(Reason::KeyConflict, "this key was used with another command");
            let fingerprint = cancel.fingerprint;
            let outcome =
                carriageway_proto::Outcome { fingerprint, ..verdict.outcome_of_unread(&cancel.key) };
            self.outputs.push_back(Output::Tell { class: cancel.class, outcome });
        }
    }

    /// The command has not come, and may yet: its key is remembered so that it does not act then. For how
    /// long it could pass for fresh is not known, so for as long as any can. An emergency stop is never
    /// withdrawn, not even before it comes.
    fn withdraw_unknown(&mut self, now: Moment, cancel: Cancel) {
        if cancel.class == Class::Safety {
            self.counts.refused += 1;
            return;
        }
        if self.entries.tally(cancel.class).withdrawn >= self.limits.refused {
            self.counts.unanswered += 1;
            return;
        }
        self.counts.canceled += 1;
        let key = cancel.key.clone();
        let record = Record {
            wish: Wish::Withdrawn(cancel),
            received: Stamp { boot: self.judge.boot(), clock: now },
            keep_for: life(LONGEST_TTL),
            acted: None,
            released: false,
            verdict: None,
        };
        self.entries.insert(Entry { record, stage: Stage::Settled, admitted: false });
        self.settle(&key, Verdict::canceled(), false);
    }

    /// Says how far `key` has come, if that is durable.
    pub(super) fn tell_again(&mut self, key: &CommandKey) {
        let entry = self.entries.get(key).expect("the caller has looked it up");
        let phase = match entry.stage {
            // What is not durable yet is told when it is.
            Stage::Intending(_) | Stage::Settling { acted: false, .. } => None,
            Stage::Ready => Some(Phase::Received),
            Stage::Acting(_) | Stage::Settling { acted: true, .. } => Some(Phase::Executing),
            Stage::Settled => entry.record.verdict.as_ref().map(|verdict| verdict.phase),
        };
        if let Some(phase) = phase {
            self.tell_as(key, phase);
        }
    }
}
