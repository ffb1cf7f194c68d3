//! A plan: what is compared on which links under which load, how often, and what is claimed before any of it is run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cell::Link;
use super::workload::Workload;

/// A plan as it stands in its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// For people.
    pub title: String,
    /// How often everything is run, each time with another seed.
    pub blocks: u32,
    /// The first block's seed; the others count up.
    #[serde(default = "one")]
    pub first_seed: u64,
    /// The subject that differences are taken to. It is run twice in every block, the second time as `A/A`: the
    /// difference between the two is what chance and machine do.
    pub reference: String,
    /// Run without files in every block: the floor of the link.
    pub floor: String,
    /// All subjects, the reference among them.
    pub subjects: Vec<String>,
    /// The links.
    pub link: Vec<PlannedLink>,
    /// The load.
    #[serde(default)]
    pub workload: Workload,
    /// What is claimed before any run.
    #[serde(default)]
    pub claim: Vec<Claim>,
    /// In virtual time, instead of between namespaces.
    #[serde(default, rename = "virtual")]
    pub is_virtual: bool,
}

/// A link of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLink {
    /// A built-in profile, or the path of a file, from where the plan is.
    pub profile: String,
    /// What tables call it; the profile's name where nothing is said.
    pub name: Option<String>,
    /// Recorded capacity in the profile's place: the files of up and down, from where the plan is.
    pub trace: Option<[PathBuf; 2]>,
}

/// A claim: on each of its links, `better` is better than `than` by this metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A subject.
    pub better: String,
    /// Another one.
    pub than: String,
    /// A metric's name.
    pub metric: String,
    /// Names of links; all where nothing is said.
    #[serde(default)]
    pub links: Vec<String>,
}

/// How the second run of the reference is called.
pub const CONTROL: &str = "A/A";

/// How the run without files is called.
pub const FLOOR: &str = "floor";

const fn one() -> u64 {
    1
}

impl PlannedLink {
    /// What tables call it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.profile)
    }

    /// The link of a cell, with paths from `folder`.
    pub fn link(&self, folder: &std::path::Path) -> Link {
        let is_file = self.profile.ends_with(".toml");
        let profile =
            if is_file { folder.join(&self.profile).display().to_string() } else { self.profile.clone() };
        let trace = self.trace.as_ref().map(|files| files.clone().map(|file| folder.join(file)));
        Link { name: self.name().to_owned(), profile, trace }
    }
}
