//! From a plan's file to a plan, with every complaint at its line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{BUILT_IN, Complaint, Known, Plan, Step};

/// Longest file that is worth reading: a hundred times the ones that come with the program.
const LONGEST_FILE: u64 = 1 << 20;

/// A plan's text and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file's name without its ending: what results are called after.
    pub name: String,
    /// What complaints call it.
    pub file: String,
    /// The TOML.
    pub text: String,
    /// Where its links' files are looked up.
    pub folder: PathBuf,
}

/// Why there is no such plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Neither a built-in name nor a file.
    #[error(
        "{name}: no such plan; `carriageway-bench list` shows those that come with the program ({known}), or give the path of a .toml file"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be read.
    #[error("{path}: cannot be read: {why}; check the path and its permissions", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The file is read but cannot be run. One line each.
    #[error("{}", lines(.0))]
    Broken(Vec<Mistake>),
}

/// What is wrong with a plan's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What complaints call the file.
    pub file: String,
    /// Counted from one.
    pub line: usize,
    /// What stands there, as in `link.profile`; may be empty.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, message } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "{file}:{line}: {key}{colon}{message}")
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

impl Found {
    /// The plan of this name that comes with the program; or the file at this path, from here or from the crate's folder. Plans
    /// that come with the program are found by `plans/NAME.toml`, too, where there is no such file.
    pub fn find(name: &str) -> Result<Self, PlanError> {
        if let Some(found) = BUILT_IN.iter().find(|plan| plan.name == name) {
            return Ok(Self::built_in(found));
        }
        let path = Path::new(name);
        let known = || BUILT_IN.map(|plan| plan.name).join(", ");
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(PlanError::Unknown { name: name.into(), known: known() });
        }
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        for path in [path, &ours] {
            match read(path) {
                Ok(text) => return Ok(Self::at(path, text)),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(PlanError::Unreadable { path: path.into(), why }),
            }
        }
        let embedded =
            BUILT_IN.iter().find(|plan| path == Path::new("plans").join(format!("{}.toml", plan.name)));
        embedded.map(Self::built_in).ok_or_else(|| PlanError::Unknown { name: name.into(), known: known() })
    }

    fn built_in(plan: &super::BuiltIn) -> Self {
        Self {
            name: plan.name.into(),
            file: format!("plans/{}.toml", plan.name),
            text: plan.text.into(),
            folder: PathBuf::new(),
        }
    }

    fn at(path: &Path, text: String) -> Self {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Self { name: super::stem(path), file: path.display().to_string(), text, folder }
    }

    /// The plan, checked; the paths of its files are from here.
    pub fn plan(&self, known: &Known) -> Result<Plan, PlanError> {
        let plan: Plan = toml::from_str(&self.text)
            .map_err(|error| PlanError::Broken(vec![self.syntax(error.span(), error.message())]))?;
        let plan = plan.located(&self.folder);
        let complaints = plan.check(known);
        if complaints.is_empty() {
            return Ok(plan);
        }
        Err(PlanError::Broken(complaints.iter().map(|complaint| self.mistake(complaint)).collect()))
    }

    fn mistake(&self, complaint: &Complaint) -> Mistake {
        let Complaint { place, message } = complaint;
        let tree = DeTable::parse(&self.text).ok();
        let start = tree.map_or(0, |tree| start_of(tree.get_ref(), place.steps()));
        Mistake {
            file: self.file.clone(),
            line: self.line(start),
            key: place.to_string(),
            message: message.clone(),
        }
    }

    /// Of what the reader of TOML says: the key is that of the line, if it speaks of one that is there.
    fn syntax(&self, at: Option<Range<usize>>, message: &str) -> Mistake {
        let line = self.line(at.map_or(0, |range| range.start));
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let key = source.split_once('=').map_or("", |(key, _)| key.trim());
        let key = if message.starts_with("missing field") { "" } else { key };
        let message = format!("{}; see `carriageway-bench list quick` for a whole plan", message.trim_end());
        Mistake { file: self.file.clone(), line, key: key.into(), message: message.replace('\n', "; ") }
    }

    fn line(&self, start: usize) -> usize {
        self.text.get(..start).unwrap_or_default().matches('\n').count() + 1
    }
}

/// Where the thing at the end of these steps begins; of the last that is there, where one is not.
fn start_of(table: &DeTable<'_>, steps: &[Step]) -> usize {
    let mut start = 0;
    let mut table = Some(table);
    let mut array = None;
    for step in steps {
        let next = match step {
            Step::Key(key) => table.and_then(|table| table.get(*key)),
            Step::Nth(index) => array.and_then(|array: &toml::de::DeArray<'_>| array.get(*index)),
        };
        let Some(value) = next else { break };
        start = value.span().start;
        (table, array) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(inner) => (None, Some(inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => (None, None),
        };
    }
    start
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other("more than a mebibyte is no plan"));
    }
    Ok(text)
}
