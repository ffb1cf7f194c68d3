//! A plan: what is compared on which links under which load, how often, and what is claimed before any of it is run.

mod built_in;
mod check;
mod reader;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cell::{AFTER, Link, SETTLE, late_once_ms};
use super::workload::Workload;
pub use built_in::{BUILT_IN, BuiltIn};
pub use check::{Complaint, Known, Place, Step};
pub use reader::{Found, Mistake, PlanError};

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
    /// How late the emulator may be once before a run is void, in milliseconds. More than it is where nothing is said is for machines
    /// whose host leaves them standing for moments: what is said of the last thousandth means less then.
    #[serde(default = "late_once_ms")]
    pub late_once_ms: u16,
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

/// What a cell takes beside its workload and the time before and after: certificates, namespaces, the end of its process.
const OVERHEAD: Duration = Duration::from_secs(1);

/// How much faster virtual time passes, about, on one processor: quinn's cryptography is real.
const VIRTUAL_SPEED: u32 = 200;

impl Plan {
    /// What runs in every block on every link, in the order of tables: all subjects, the reference's second run, the floor.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(String::as_str).chain([CONTROL, FLOOR])
    }

    /// How many cells it has.
    pub fn cells(&self) -> usize {
        self.blocks as usize * self.link.len() * self.labels().count()
    }

    /// How long one cell takes, about, if it is not void.
    pub fn cell_time(&self) -> Duration {
        let link = SETTLE + self.workload.length() + AFTER;
        if self.is_virtual { link / VIRTUAL_SPEED } else { link + OVERHEAD }
    }

    /// How long all take, about, if none is void.
    pub fn time(&self) -> Duration {
        self.cell_time() * u32::try_from(self.cells()).unwrap_or(u32::MAX)
    }

    /// Of a block, counted from one, on a link, counted from zero in the order of the plan.
    ///
    /// Another link has other weather in the same block, and blocks of plans whose first seeds are neighbours share theirs.
    pub fn seed(&self, block: u32, link: usize) -> u64 {
        (self.first_seed + u64::from(block) - 1) * SEEDS_PER_BLOCK + link as u64
    }

    /// The same with the paths of its files from `folder`, so that it means the same wherever it stands.
    #[must_use]
    pub fn located(mut self, folder: &Path) -> Self {
        for link in &mut self.link {
            let Link { name: _, profile, trace } = link.link(folder);
            if link.is_file() {
                link.name = Some(link.name().to_owned());
            }
            (link.profile, link.trace) = (profile, trace);
        }
        self
    }

    /// The same with recorded capacity on every link, which are called after the file of the way up: that alone where there is
    /// one link, beside the link's own name where there are more.
    #[must_use]
    pub fn on_trace(mut self, files: &[PathBuf; 2]) -> Self {
        let recorded = stem(&files[0]);
        let is_alone = self.link.len() == 1;
        let renamed = |name: &str| if is_alone { recorded.clone() } else { format!("{name} on {recorded}") };
        for claim in &mut self.claim {
            claim.links = claim.links.iter().map(|name| renamed(name)).collect();
        }
        for link in &mut self.link {
            link.name = Some(renamed(link.name()));
            link.trace = Some(files.clone());
        }
        self
    }
}

/// Seeds of a block: more than a plan has links.
const SEEDS_PER_BLOCK: u64 = 1_000;

/// A name as part of a file's name.
pub fn file_name(name: &str) -> String {
    name.to_lowercase().replace(['/', ' '], "-")
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl PlannedLink {
    /// What tables call it.
    pub fn name(&self) -> &str {
        let profile = Path::new(&self.profile);
        let own = if self.is_file() { profile.file_stem().and_then(|stem| stem.to_str()) } else { None };
        self.name.as_deref().unwrap_or_else(|| own.unwrap_or(&self.profile))
    }

    /// The link of a cell, with paths from `folder`.
    pub fn link(&self, folder: &Path) -> Link {
        let profile = if self.is_file() {
            folder.join(&self.profile).display().to_string()
        } else {
            self.profile.clone()
        };
        let trace = self.trace.as_ref().map(|files| files.clone().map(|file| folder.join(file)));
        Link { name: self.name().to_owned(), profile, trace }
    }

    /// Whether its profile is a file and not one that comes with the program.
    fn is_file(&self) -> bool {
        Path::new(&self.profile).extension().is_some_and(|extension| extension == "toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        toml::from_str(text).unwrap()
    }

    const TEXT: &str = "title = 't'\nblocks = 2\nfirst-seed = 5\nreference = 'a'\nfloor = 'a'\nsubjects = ['a', 'b']\n\
        [[link]]\nprofile = 'links/mine.toml'\n[[link]]\nprofile = 'tunnel'\ntrace = ['x.up', '/x.down']\n\
        [[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = 'm'\nlinks = ['tunnel']\n";

    #[test]
    fn every_block_and_link_has_a_seed_of_its_own() {
        let plan = plan(TEXT);
        assert_eq!((plan.seed(1, 0), plan.seed(1, 1), plan.seed(2, 0)), (5_000, 5_001, 6_000));
        assert_eq!(plan.cells(), 2 * 2 * 4);
    }

    #[test]
    fn files_are_found_from_the_plans_folder_and_nothing_else_changes() {
        let located = plan(TEXT).located(Path::new("/plans"));
        assert_eq!(
            (located.link[0].profile.as_str(), located.link[0].name()),
            ("/plans/links/mine.toml", "mine")
        );
        assert_eq!((located.link[1].profile.as_str(), located.link[1].name()), ("tunnel", "tunnel"));
        assert_eq!(located.link[1].trace, Some(["/plans/x.up".into(), "/x.down".into()]));
        assert_eq!(located.clone().located(Path::new("/elsewhere")), located);
    }

    #[test]
    fn a_recorded_link_is_called_after_its_file() {
        let files = ["/traces/lte.up".into(), "/traces/lte.down".into()];
        let recorded = plan(TEXT).on_trace(&files);
        let names: Vec<_> = recorded.link.iter().map(PlannedLink::name).collect();
        assert_eq!(names, ["mine on lte", "tunnel on lte"]);
        assert_eq!(recorded.claim[0].links, ["tunnel on lte"]);
        assert!(recorded.link.iter().all(|link| link.trace.as_ref() == Some(&files)));
        let mut alone = plan(TEXT);
        alone.link.truncate(1);
        assert_eq!(alone.on_trace(&files).link[0].name(), "lte");
    }
}
