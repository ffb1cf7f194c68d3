//! What a plan's runs come to: the tables and curves that reports draw and comparisons read.

use serde::{Deserialize, Serialize};

use super::subjects::Facts;
use super::workload::Workload;
use crate::stage::Stage;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Larger.
    Higher,
    /// Smaller.
    Lower,
}

/// One figure of merit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name, as in files: `control-on-time-100`.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// `ms`, `share`, `Mbit/s`, `bytes/byte` and so on.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
}

/// A figure and how sure it is: the median of blocks and a bootstrap 95 % interval over blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One figure of one label on one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The link's name.
    pub link: String,
    /// The subject, or the floor, the oracle, the control.
    pub label: String,
    /// The metric's name.
    pub metric: String,
    /// Block by block: the block's number and its figure. Infinite is written as null: what never came.
    pub blocks: Vec<(u32, Option<f64>)>,
    /// Over blocks; `None` where it is infinite.
    pub estimate: Option<Estimate>,
    /// The difference to the plan's reference, within blocks: this minus that. `None` where there is none to take.
    pub difference: Option<Estimate>,
    /// Of a headline claim: the p value after Holm's correction.
    pub holm_p: Option<f64>,
}

/// A distribution of one label on one link, pooled over blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The link's name.
    pub link: String,
    /// The label.
    pub label: String,
    /// What of: `control-age`, `command-time`.
    pub of: String,
    /// Milliseconds and the share of all that was at most that, rising. What never came keeps it below one.
    pub points: Vec<(f64, f64)>,
}

/// A claim that was written into the plan before any run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In words, made from the plan.
    pub claim: String,
    /// The link's name.
    pub link: String,
    /// The difference, in the metric's unit, positive where the claim points.
    pub difference: Option<Estimate>,
    /// After Holm's correction over all claims of the plan.
    pub holm_p: Option<f64>,
    /// Whether it holds at five per cent.
    pub holds: bool,
}

/// Everything that a report says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Analysis {
    /// The plan's title.
    pub title: String,
    /// The plan's text as it was run.
    pub plan: String,
    /// Where and by what.
    pub stage: Stage,
    /// The load.
    pub workload: Workload,
    /// The label that differences are taken to.
    pub reference: String,
    /// Labels in the order of tables, with what they are.
    pub labels: Vec<(String, Facts)>,
    /// Links in the order of tables, with their digest of each block.
    pub links: Vec<(String, Vec<String>)>,
    /// All metrics.
    pub metrics: Vec<Metric>,
    /// All figures.
    pub rows: Vec<Row>,
    /// Distributions.
    pub curves: Vec<Curve>,
    /// The plan's claims.
    pub verdicts: Vec<Verdict>,
    /// Cells that count, and of those that were void, how often and why.
    pub valid: usize,
    /// Name of the cell, and its faults.
    pub void: Vec<(String, Vec<String>)>,
    /// What subjects said of themselves, and what went wrong with them: label, link, words.
    pub remarks: Vec<(String, String, String)>,
}
