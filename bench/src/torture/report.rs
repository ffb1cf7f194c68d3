//! What came of it, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::Options;
use super::evidence::Evidence;
use super::operators::{Answer, Asked};
use crate::stage::Stage;

/// Of each kind of fault, how many are printed; all are counted.
const SHOWN: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    stage: Stage,
    seed: u64,
    vehicles: u8,
    kills: u32,
    commands: usize,
    accepted: usize,
    refused: usize,
    unanswered: usize,
    effects: usize,
    effects_of_unanswered: usize,
    /// How many records were in each phase when they were asked for last.
    ends: BTreeMap<String, usize>,
    events: usize,
    /// Records that were answered with and are gone.
    lost: Vec<String>,
    /// Records that have not ended.
    stuck: Vec<String>,
    /// Records without a step that was shown as being on the disk.
    contradicted: Vec<String>,
    violations: Vec<String>,
}

impl Report {
    pub(super) fn of(options: &Options, stage: Stage, asked: &[Asked], evidence: &Evidence) -> Self {
        let has = |test: fn(&Answer) -> bool| {
            asked.iter().filter(|one| one.tries.iter().any(|one| test(&one.answer))).count()
        };
        let accepted = has(|answer| matches!(answer, Answer::Accepted { .. }));
        let silent = |one: &&Asked| one.tries.iter().all(|one| matches!(one.answer, Answer::None));
        let unanswered = asked.iter().filter(silent).count();
        let mut ends = BTreeMap::new();
        for record in asked.iter().flat_map(|one| one.records.values()) {
            *ends.entry(record["phase"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        }
        Self {
            stage,
            seed: options.seed,
            vehicles: options.vehicles,
            kills: options.kills,
            commands: asked.len(),
            accepted,
            refused: asked.len() - accepted - unanswered,
            unanswered,
            effects: evidence.effects,
            effects_of_unanswered: evidence.unwitnessed,
            ends,
            events: evidence.events.len(),
            lost: evidence.records.lost.clone(),
            stuck: evidence.records.stuck.clone(),
            contradicted: evidence.records.contradicted.clone(),
            violations: evidence.violations.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whatever must not be, with its name.
    fn faults(&self) -> [(&'static str, &[String]); 4] {
        [
            ("accepted and lost", &self.lost),
            ("accepted and never ended", &self.stuck),
            ("shown on disk and contradicted", &self.contradicted),
            ("violations", &self.violations),
        ]
    }

    /// Nothing lost, nothing stuck, nothing taken back, nothing broken.
    pub(super) fn is_clean(&self) -> bool {
        self.faults().iter().all(|(_, those)| those.is_empty())
    }

    pub(super) fn table(&self) -> String {
        let Self { seed, vehicles, kills, commands, accepted, refused, unanswered, .. } = self;
        let mut text = format!("{}\nseed {seed}\n\n", self.stage.lines());
        let mut line = |what: &str| {
            let _infallible = writeln!(text, "{what}");
        };
        line(&format!("{kills} kills of a gateway and {vehicles} vehicles, {commands} commands"));
        line(&format!("  {accepted} accepted, {refused} refused, {unanswered} never answered"));
        let ends: Vec<_> = self.ends.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        line(&format!("  ends: {}", ends.join(", ")));
        line(&format!(
            "  {} effects, {} of them of commands whose answer died with the gateway",
            self.effects, self.effects_of_unanswered
        ));
        line(&format!("  {} events checked", self.events));
        for (what, those) in self.faults() {
            line(&format!("{what}: {}", those.len()));
            those.iter().take(SHOWN).for_each(|one| line(&format!("  {one}")));
        }
        text
    }
}
